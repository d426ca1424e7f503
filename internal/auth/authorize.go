package auth

import "github.com/quoitdb/quoit/protocol"

// need is what a command asks of who sends it.
type need uint8

const (
	undecided   need = iota // refused to all but the open
	nothing                 // it may come before anything is proved
	anyone                  // who has proved something
	reads                   // a scope that reads each of its keys
	writes                  // a scope that writes each of its keys
	scans                   // a scope that reads anything: the command gives no other keys
	sees                    // every key, or the cluster
	watches                 // a scope that reads the key, or all of the prefix
	operates                // cluster access, by its subcommand
	fromNode                // a member that is a node
	fromSource              // the node that it names as a range's source
	fromManager             // a member that is the manager
	fromMember              // one of the two
)

// needs is the one table of what each command asks for. A command that it lacks is refused.
var needs = [256]need{
	protocol.CmdAuth: nothing, protocol.CmdHello: nothing, protocol.CmdQuit: nothing, protocol.CmdReset: nothing,
	protocol.CmdChallenge: nothing, protocol.CmdProve: nothing,

	protocol.CmdPing: anyone, protocol.CmdEcho: anyone, protocol.CmdSelect: anyone, protocol.CmdClient: anyone,
	protocol.CmdCommand: anyone, protocol.CmdInfo: anyone, protocol.CmdConfig: anyone, protocol.CmdTime: anyone,
	protocol.CmdUnwatch: anyone, protocol.CmdTopology: anyone,

	protocol.CmdGet: reads, protocol.CmdMGet: reads, protocol.CmdExists: reads, protocol.CmdTTL: reads, protocol.CmdPTTL: reads,
	protocol.CmdExpireTime: reads, protocol.CmdPExpireTime: reads, protocol.CmdStrlen: reads, protocol.CmdGetV: reads, protocol.CmdType: reads,

	protocol.CmdPut: writes, protocol.CmdDel: writes, protocol.CmdMSet: writes, protocol.CmdExpire: writes, protocol.CmdPExpire: writes,
	protocol.CmdExpireAt: writes, protocol.CmdPExpireAt: writes, protocol.CmdPersist: writes, protocol.CmdIncr: writes,
	protocol.CmdIncrBy: writes, protocol.CmdDecr: writes, protocol.CmdDecrBy: writes, protocol.CmdAppend: writes,
	protocol.CmdGetDel: writes, protocol.CmdGetSet: writes, protocol.CmdSetNX: writes, protocol.CmdSetEx: writes, protocol.CmdPSetEx: writes,

	protocol.CmdScan: scans, protocol.CmdDBSize: sees, protocol.CmdWatch: watches,
	protocol.CmdCluster: operates, protocol.CmdSnapshot: operates,

	protocol.CmdRegister: fromNode, protocol.CmdHeartbeat: fromNode, protocol.CmdCommitMove: fromNode, protocol.CmdMoveDone: fromNode,
	protocol.CmdStageRange: fromSource, protocol.CmdStageData: fromNode, protocol.CmdStageSeal: fromNode,
	protocol.CmdMigrateRange: fromManager, protocol.CmdRefresh: fromMember,
}

var errAnonymous = &protocol.Error{
	Code:    protocol.NOAUTH,
	Message: "authenticate first: AUTH with a token, as quoit token create makes one",
}

// Authorize says whether p may send a request at the time now (unix milliseconds): nil,
// or what it is answered. The request has passed Limits.Check. It is all or nothing: one
// key out of scope refuses the whole request. No data has been looked at.
//
// Two things it leaves to the command: SCAN gives only keys that MayRead allows, and INFO
// only what SeesServer does. And what only the content of a message says, its sender is
// held to with SpeaksFor.
func Authorize(p *Principal, now int64, cmd protocol.Command, args [][]byte) *protocol.Error {
	if p.IsOpen() {
		return nil
	}
	return p.authorize(now, cmd, args)
}

func (p *Principal) authorize(now int64, cmd protocol.Command, args [][]byte) *protocol.Error {
	need := needs[cmd]
	if need == nothing {
		return nil
	}
	if p.Kind() == AnonymousKind {
		return errAnonymous
	}
	if err := p.Ended(now); err != nil {
		return err
	}
	switch need {
	case anyone:
		return nil
	case reads, writes:
		return p.mayTouch(need == writes, cmd, args)
	case scans:
		return allow(!p.readsNothing(), cmd, "needs a token with a scope: this one opens no key")
	case sees:
		return allow(p.SeesServer(), cmd, `needs a token that reads every key, or with access to the cluster ("read")`)
	case watches:
		return p.mayWatch(args)
	case operates:
		return p.mayOperate(cmd, args)
	}
	return allow(p.isFrom(need, args), cmd, "is for members of the cluster, and this is not the one that sends it")
}

func allow(may bool, cmd protocol.Command, why string) *protocol.Error {
	if may {
		return nil
	}
	return &protocol.Error{Code: protocol.NOPERM, Message: cmd.String() + " " + why}
}

// mayTouch looks at every key of a request.
func (p *Principal) mayTouch(write bool, cmd protocol.Command, args [][]byte) *protocol.Error {
	spec := cmd.Spec()
	n := spec.Keys(len(args))
	for i := range n {
		key := spec.Key(args, i)
		if write && !p.MayWrite(key) {
			return noScope(cmd, "write", key)
		}
		if !write && !p.MayRead(key) {
			return noScope(cmd, "read", key)
		}
	}
	return allow(n > 0, cmd, "names no key")
}

func noScope(cmd protocol.Command, verb string, key []byte) *protocol.Error {
	return allow(false, cmd, "may not "+verb+" "+shown(key)+": no scope of this token allows it")
}

func (p *Principal) mayWatch(args [][]byte) *protocol.Error {
	w, err := protocol.ParseWatch(args)
	switch {
	case err != nil:
		return protocol.AsError(err)
	case w.Prefix:
		return allow(p.CoversPrefix(w.Selector), protocol.CmdWatch,
			"may not read every key with the prefix "+shown(w.Selector)+": no scope of this token covers it whole")
	case p.MayRead(w.Selector):
		return nil
	}
	return noScope(protocol.CmdWatch, "read", w.Selector)
}

// mayOperate tells what only shows something from what changes it, by the subcommand.
func (p *Principal) mayOperate(cmd protocol.Command, args [][]byte) *protocol.Error {
	least := ClusterOperate
	if len(args) > 1 && shows(cmd, string(args[1])) {
		least = ClusterRead
	}
	return allow(p.cluster >= least, cmd, `needs a token with access to the cluster ("`+least.String()+`")`)
}

// shows says whether a subcommand changes nothing.
func shows(cmd protocol.Command, sub string) bool {
	return isASCIIFold(sub, "STATUS") || cmd == protocol.CmdCluster && isASCIIFold(sub, "PLAN")
}

func isASCIIFold(text, upper string) bool {
	if len(text) != len(upper) {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}

// isFrom says whether a message between members comes from the one that may send it.
func (p *Principal) isFrom(need need, args [][]byte) bool {
	switch need {
	case fromNode:
		return p.role == RoleNode
	case fromSource:
		const source = 4 // STAGE_RANGE move start end source
		return len(args) > source && p.SpeaksFor(string(args[source]))
	case fromManager:
		return p.role == RoleManager
	case fromMember:
		return p.role == RoleNode || p.role == RoleManager
	}
	return false
}
