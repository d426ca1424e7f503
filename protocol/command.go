package protocol

// Command is one command of the protocol; 0 is none.
type Command uint8

// The commands. What each one takes and answers is in its Spec.
const (
	CmdGet Command = iota + 1
	CmdPut
	CmdDel
	CmdMGet
	CmdMSet
	CmdExists
	CmdTTL
	CmdPTTL
	CmdExpireTime
	CmdPExpireTime
	CmdExpire
	CmdPExpire
	CmdExpireAt
	CmdPExpireAt
	CmdPersist
	CmdIncr
	CmdIncrBy
	CmdDecr
	CmdDecrBy
	CmdAppend
	CmdStrlen
	CmdGetDel
	CmdGetSet
	CmdSetNX
	CmdSetEx
	CmdPSetEx
	CmdGetV
	CmdScan
	CmdDBSize
	CmdType

	CmdPing
	CmdEcho
	CmdAuth
	CmdHello
	CmdSelect
	CmdClient
	CmdCommand
	CmdInfo
	CmdConfig
	CmdQuit
	CmdReset
	CmdTime
	CmdWatch
	CmdUnwatch

	CmdTopology
	CmdChallenge
	CmdProve
	CmdRegister
	CmdHeartbeat
	CmdRefresh
	CmdMigrateRange
	CmdStageRange
	CmdStageData
	CmdStageSeal
	CmdCommitMove
	CmdMoveDone
	CmdCluster
	CmdSnapshot

	commandEnd // one past the last
)

// Flags say what kind of command it is.
type Flags uint8

// The flags.
const (
	Write    Flags = 1 << iota // changes keys: goes through the log
	Readonly                   // reads keys and changes none
	Session                    // about this connection or this server, not about keys
	Cluster                    // a message between members: nobody else may send it
	Admin                      // an operator's: changes or shows how the cluster is run
)

// Spec describes a command.
type Spec struct {
	Name    string   // upper case
	Aliases []string // other names for the same thing, upper case
	// Arity counts the arguments, the name among them; a negative number is a
	// least number, as in Redis.
	Arity int
	Flags Flags
	// FirstKey, LastKey and KeyStep say which arguments are keys. LastKey
	// counts from the end when it is negative; all are 0 when there are none.
	FirstKey, LastKey, KeyStep int
}

// Has says whether the command has all of the flags.
func (s *Spec) Has(flags Flags) bool { return s.Flags&flags == flags }

// Spec describes the command. A Command that Lookup did not give has an empty one.
// The Spec is shared and must not be changed.
func (c Command) Spec() *Spec {
	if c >= commandEnd {
		c = 0
	}
	return &specs[c]
}

// String is the name of the command, in upper case.
func (c Command) String() string { return c.Spec().Name }

// Commands lists every command, in the order of the documentation.
func Commands() []Command {
	all := make([]Command, 0, commandEnd-1)
	for c := CmdGet; c < commandEnd; c++ {
		all = append(all, c)
	}
	return all
}

// Check looks at a request before its command sees it: the number of
// arguments, the size of each key, and of each value when it is a write. args[0]
// is the name. The error is an *Error.
func (l Limits) Check(c Command, args [][]byte) error {
	if !l.filled() {
		l.fill()
	}
	if !c.takes(args) {
		return WrongArity(c)
	}
	s := c.Spec()
	if s.FirstKey == 0 {
		return nil
	}
	for i := s.FirstKey; i <= s.lastKey(len(args)); i += s.KeyStep {
		if len(args[i]) > l.MaxKey {
			return l.CheckKey(args[i])
		}
	}
	if s.Has(Write) {
		for _, arg := range args[1:] {
			if len(arg) > l.MaxValue {
				return l.CheckValue(arg)
			}
		}
	}
	return nil
}

// takes says whether a request has as many arguments as the command wants.
// Parse functions ask too, for they must not panic when nobody called Check.
func (c Command) takes(args [][]byte) bool {
	arity := c.Spec().Arity
	return len(args) == arity || (arity < 0 && len(args) >= -arity)
}

// lastKey is the index of the last argument that may be a key, out of n.
func (s *Spec) lastKey(n int) int {
	if s.LastKey < 0 {
		return n + s.LastKey
	}
	return s.LastKey
}

// Keys is the number of keys in a request of n arguments that has passed Check,
// and Key the i-th of them: for what has to look at the keys of any command.
func (s *Spec) Keys(n int) int {
	if s.FirstKey == 0 {
		return 0
	}
	return (s.lastKey(n)-s.FirstKey)/s.KeyStep + 1
}

// Key is the i-th key of a request, 0 <= i < Keys(len(args)).
func (s *Spec) Key(args [][]byte, i int) []byte { return args[s.FirstKey+i*s.KeyStep] }

// UnknownCommand is the reply to a name that Lookup does not find.
func UnknownCommand(name []byte) *Error {
	return &Error{Code: ERR, Message: "unknown command '" + printable(name) + "'"}
}

// WrongArity is the reply to a request with too few or too many arguments.
func WrongArity(c Command) *Error {
	return &Error{Code: ERR, Message: "wrong number of arguments for '" + c.String() +
		"'; usage: " + c.Synopsis()}
}

// Synopsis is the name and what may follow it.
func (c Command) Synopsis() string {
	if usage := c.Doc().Usage; usage != "" {
		return c.String() + " " + usage
	}
	return c.String()
}

// printable shortens what a peer sent for an error message and takes out what a
// terminal would obey.
func printable(text []byte) string {
	const enough = 64
	shown := make([]byte, 0, enough+len("..."))
	for _, c := range text[:min(len(text), enough)] {
		if c < ' ' || c > '~' {
			c = '?'
		}
		shown = append(shown, c)
	}
	if len(text) > enough {
		shown = append(shown, "..."...)
	}
	return string(shown)
}
