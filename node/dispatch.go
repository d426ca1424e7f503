package node

import (
	"cmp"
	"errors"
	"strconv"
	"time"

	"github.com/quoitdb/quoit/internal/discreet"
	"github.com/quoitdb/quoit/internal/inbox"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// handler runs one command: it appends its reply to c.out, or returns an error,
// and then what it appended is taken back. args alias the read buffer. It may be
// called again for the same request after a range was held; c.progress is then
// as the first call left it.
type handler func(c *conn, args [][]byte) error

// command is one line of the dispatch table.
type command struct {
	run handler
	// keys: it needs a session, and with it a node that serves.
	keys bool
	// slow: what the batch has answered leaves first. Here, not in the handler: a reply
	// is taken back to where it began, which must not be before what has left.
	slow bool
}

// commandTable is indexed by protocol.Command, whose type is a byte: no bounds
// check stands between a request and its handler.
type commandTable [256]command

// newCommandTable is the one place that says who runs what.
func newCommandTable() *commandTable {
	t := &commandTable{
		protocol.CmdGet: {run: get}, protocol.CmdPut: {run: put}, protocol.CmdDel: {run: del},
		protocol.CmdMGet: {run: mget}, protocol.CmdMSet: {run: mset}, protocol.CmdExists: {run: exists},
		protocol.CmdTTL: {run: ttl}, protocol.CmdPTTL: {run: pttl},
		protocol.CmdExpireTime: {run: expireTime}, protocol.CmdPExpireTime: {run: pexpireTime},
		protocol.CmdExpire: {run: expire(protocol.CmdExpire)}, protocol.CmdPExpire: {run: expire(protocol.CmdPExpire)},
		protocol.CmdExpireAt: {run: expire(protocol.CmdExpireAt)}, protocol.CmdPExpireAt: {run: expire(protocol.CmdPExpireAt)},
		protocol.CmdPersist: {run: persist},
		protocol.CmdIncr:    {run: increment(protocol.CmdIncr)}, protocol.CmdIncrBy: {run: increment(protocol.CmdIncrBy)},
		protocol.CmdDecr: {run: increment(protocol.CmdDecr)}, protocol.CmdDecrBy: {run: increment(protocol.CmdDecrBy)},
		protocol.CmdAppend: {run: appendTo}, protocol.CmdStrlen: {run: strlen}, protocol.CmdGetDel: {run: getdel},
		protocol.CmdGetSet: {run: getset}, protocol.CmdSetNX: {run: setnx},
		protocol.CmdSetEx: {run: setex(protocol.ParseSetEx)}, protocol.CmdPSetEx: {run: setex(protocol.ParsePSetEx)},
		protocol.CmdGetV: {run: getv}, protocol.CmdScan: {run: scan}, protocol.CmdDBSize: {run: dbsize}, protocol.CmdType: {run: typeOf},

		protocol.CmdPing: {run: ping}, protocol.CmdEcho: {run: echo}, protocol.CmdAuth: {run: authenticate}, protocol.CmdHello: {run: hello},
		protocol.CmdSelect: {run: selectDB}, protocol.CmdClient: {run: client}, protocol.CmdCommand: {run: describe},
		protocol.CmdInfo: {run: info}, protocol.CmdConfig: {run: configGet}, protocol.CmdQuit: {run: quit},
		protocol.CmdReset: {run: reset}, protocol.CmdTime: {run: timeOfDay},
		protocol.CmdWatch: {run: watch, slow: true}, protocol.CmdUnwatch: {run: unwatch},

		protocol.CmdTopology: {run: topology}, protocol.CmdRefresh: {run: refresh},
		protocol.CmdMigrateRange: {run: moveCommand(protocol.CmdMigrateRange)}, protocol.CmdStageRange: {run: moveCommand(protocol.CmdStageRange)},
		protocol.CmdStageData: {run: moveCommand(protocol.CmdStageData)}, protocol.CmdStageSeal: {run: moveCommand(protocol.CmdStageSeal)},
		protocol.CmdChallenge: {run: challenge}, protocol.CmdProve: {run: prove},
		protocol.CmdRegister: {run: managersOwn(protocol.CmdRegister)}, protocol.CmdHeartbeat: {run: managersOwn(protocol.CmdHeartbeat)},
		protocol.CmdCommitMove: {run: managersOwn(protocol.CmdCommitMove)}, protocol.CmdMoveDone: {run: managersOwn(protocol.CmdMoveDone)},
		protocol.CmdCluster: {run: managersOwn(protocol.CmdCluster)},

		protocol.CmdSnapshot: {run: takeSnapshot, slow: true},
	}
	for _, cmd := range protocol.Commands() {
		t[cmd].keys = cmd.Spec().Flags&(protocol.Write|protocol.Readonly) != 0
	}
	return t
}

// execute runs one request and appends its reply. What has been done is always told,
// unless the connection ends: room for that is made sure of before.
func (c *conn) execute(args [][]byte) {
	if c.watch != nil {
		c.watch.request(args)
		return
	}
	if !c.reserve() {
		return
	}
	cmd, known := protocol.Lookup(args[0])
	if !known {
		c.refuse(c.orStranger(protocol.UnknownCommand(args[0])))
		return
	}
	c.tally.count(cmd)
	if err := c.srv.limits.Check(cmd, args); err != nil {
		c.refuse(c.orStranger(protocol.AsError(err)))
		return
	}
	if !c.guest.Who().IsOpen() && !c.allowed(cmd, args) {
		return
	}
	entry := &c.srv.commands[cmd]
	if entry.keys && c.session == nil && !c.attach() {
		return
	}
	if entry.slow && !c.flush() {
		c.closing = true
		return
	}
	c.progress = progress{}
	mark := len(c.out)
	if err := entry.run(c, args); err != nil {
		c.rewind(mark)
		mark = c.recoverFrom(err, entry, args, mark)
	}
	if !c.fit(mark) {
		c.answer(inbox.ErrBudget, args) // a reader's: a write's reply has its room
	}
}

// recoverFrom answers a request that did not go through at once: it is tried
// again as long as its range is held and the budget lasts. It returns where the
// request's reply now begins.
func (c *conn) recoverFrom(err error, entry *command, args [][]byte, mark int) int {
	if errors.Is(err, inbox.ErrBudget) && mark > 0 && c.flush() {
		mark = 0 // what was done before has left: there may be room now
		if err = entry.run(c, args); err == nil {
			return mark
		}
		c.rewind(mark)
	}
	var held *engine.HeldError
	for errors.As(err, &held) {
		waited := c.park(held)
		mark = len(c.out)
		if ended := c.ended(); ended != nil {
			c.refuse(ended)
			return mark
		}
		if !waited {
			c.srv.stats.tryAgain.Add(1)
			c.refuse(&protocol.Error{Code: protocol.TRYAGAIN, Message: "the key's range is changing hands; try again in a moment"})
			return mark
		}
		if err = entry.run(c, args); err == nil {
			return mark
		}
		c.rewind(mark)
	}
	c.answer(err, args)
	return mark
}

// park waits until a held range may be asked again; false when the budget of this
// batch is spent, or nobody waits for the answer any more. What the batch has done
// so far leaves first: its clients need not wait for this range.
func (c *conn) park(held *engine.HeldError) bool {
	if held.Reason == engine.HeldStaged {
		c.srv.members.hint() // the document may already say that the range is ours
	}
	if c.client.impatient || c.parkLeft <= 0 || !c.flush() {
		return false
	}
	c.srv.stats.parked.Add(1)
	began := time.Now()
	timer := time.NewTimer(c.parkLeft)
	defer timer.Stop()
	defer func() { c.parkLeft -= time.Since(began); c.srv.clock.refresh() }()
	select {
	case <-held.Resolved:
		return true
	case <-timer.C:
	case <-c.srv.stopping:
	}
	return false
}

// answer turns an error into the reply that a client can act on.
func (c *conn) answer(err error, args [][]byte) {
	var version *engine.VersionError
	switch {
	case errors.Is(err, engine.ErrNotOwned):
		c.answerNotOwned(args)
	case errors.As(err, &version):
		c.refuse(protocol.VersionMismatch(uint64(version.Current)))
	case errors.Is(err, engine.ErrNotInteger):
		c.refuse(&protocol.Error{Code: protocol.ERR, Message: "value is not an integer or out of range"})
	case errors.Is(err, engine.ErrOverflow):
		c.refuse(&protocol.Error{Code: protocol.ERR, Message: "increment or decrement would overflow"})
	case errors.Is(err, engine.ErrTooLarge):
		c.refuse(&protocol.Error{Code: protocol.TOOLARGE, Message: "the value would be larger than " + strconv.Itoa(c.srv.limits.MaxValue) + " bytes"})
	case errors.Is(err, wal.ErrNoSegment):
		c.srv.stats.readOnly.Add(1)
		c.refuse(&protocol.Error{Code: protocol.READONLY, Message: "writes are refused, reads go on: " + discreet.Text(err)})
	case errors.Is(err, engine.ErrReadOnly):
		c.srv.stats.readOnly.Add(1)
		c.srv.stats.readOnlyAt.Store(c.srv.clock.coarse())
		c.refuse(&protocol.Error{Code: protocol.READONLY, Message: "the node's disk is full: writes are refused, reads go on; free space under QUOIT_NODE_DATA or move ranges away"})
	case errors.Is(err, engine.ErrFull):
		c.srv.stats.memoryFull.Add(1)
		c.srv.stats.memoryFullAt.Store(c.srv.clock.coarse())
		c.refuse(&protocol.Error{Code: protocol.OOM, Message: "the node's memory is full (QUOIT_NODE_MAX_MEMORY): what needs more is refused, reads and deletions go on; delete keys, or move ranges away"})
	case errors.Is(err, engine.ErrCursor):
		c.refuse(&protocol.Error{Code: protocol.ERR, Message: "invalid cursor; begin with 0 and go on with what SCAN answered"})
	case errors.Is(err, inbox.ErrBudget):
		c.srv.stats.overloaded.Add(1)
		c.refuse(&protocol.Error{Code: protocol.OVERLOADED, Message: "the node holds as many bytes of requests and replies as it may (QUOIT_NODE_MAX_INFLIGHT); ask for less, or try again"})
	case errors.Is(err, wal.ErrPoisoned), errors.Is(err, wal.ErrClosed):
		c.closing = true
		c.refuse(&protocol.Error{Code: protocol.UNAVAILABLE, Message: "the node is stopping"})
	default:
		c.refuse(c.srv.replyFor(err))
	}
}

// replyFor is the reply to an error that has none of its own. What a client must not
// read of it is in the log, once in a while.
func (s *server) replyFor(err error) *protocol.Error {
	var reply *protocol.Error
	var broken *protocol.ProtocolError
	if errors.As(err, &reply) || errors.As(err, &broken) {
		return protocol.AsError(err)
	}
	text := discreet.Text(err, bucketErrors()...)
	if text != err.Error() {
		s.unexpected.Warn(s.log, "a request has failed", "err", err)
	}
	return &protocol.Error{Code: protocol.ERR, Message: text}
}

// bucketErrors are those of a bucket whose own text says enough.
func bucketErrors() []error {
	return []error{bucket.ErrInDoubt, bucket.ErrConditionFailed, bucket.ErrUnavailable, bucket.ErrNotFound}
}

// answerNotOwned sends the client to the owner of the key that is not served here.
func (c *conn) answerNotOwned(args [][]byte) {
	key := args[max(1, c.progress.key)]
	v := c.srv.state.view()
	owner := ""
	if v.owners != nil {
		owner = v.owners.Owner(ring.PositionOf(key))
	}
	switch owner {
	case "":
		c.refuse(&protocol.Error{Code: protocol.UNAVAILABLE, Message: "no node owns this key yet: " + cmp.Or(v.why, "the cluster has no active node")})
	case c.srv.about.address:
		// The document says it is ours and the engine does not serve it yet, or the
		// other way round: they meet within milliseconds.
		c.srv.stats.tryAgain.Add(1)
		c.refuse(&protocol.Error{Code: protocol.TRYAGAIN, Message: "the key's range is changing hands; try again in a moment"})
	default:
		c.srv.stats.moved.Add(1)
		c.refuse(protocol.Moved(uint64(v.topology.Epoch), owner))
	}
}

// progress is how far a request with several keys has come, so that it goes on
// there after it was parked.
type progress struct {
	done  int   // keys that need not be done again
	count int64 // the reply so far
	key   int   // the argument whose key was refused; 0 stands for the first
}
