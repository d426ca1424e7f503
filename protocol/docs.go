package protocol

// Doc describes a command for people: COMMAND DOCS and the table in docs/protocol.md are
// made from it. It is apart from Spec because the client in a browser, which every visitor
// loads, needs none of it.
type Doc struct {
	Summary string
	Usage   string // what may be written behind the name
	Reply   string // what comes back when it went well
}

// Doc is the description of the command. A Command that Lookup did not give has an empty
// one. The Doc is shared and must not be changed.
func (c Command) Doc() *Doc {
	if c >= commandEnd {
		c = 0
	}
	return &docs[c]
}

// docs is never changed.
var docs = [commandEnd]Doc{
	CmdGet: {
		Usage: "key", Reply: "value, or null",
		Summary: "The value of a key.",
	},
	CmdPut: {
		Usage: "key value [EX s | PX ms | EXAT unix-s | PXAT unix-ms | KEEPTTL] [NX | XX] [GET] [IFVERSION version]",
		Reply: "`OK`; null when NX or XX was not met; with GET the old value or null; with IFVERSION the new version",
		Summary: "Sets a key. Without KEEPTTL or a new expiry the old expiry is cleared. " +
			"IFVERSION sets it only if that is its current version, 0 meaning that it does not exist.",
	},
	CmdDel: {
		Usage: "key [key ...]", Reply: "how many existed",
		Summary: "Deletes keys.",
	},
	CmdMGet: {
		Usage: "key [key ...]", Reply: "array of values and nulls",
		Summary: "The values of several keys, all owned by this node.",
	},
	CmdMSet: {
		Usage: "key value [key value ...]", Reply: "`OK`",
		Summary: "Sets several keys, all owned by this node. Each by itself: a reader may see some of them set.",
	},
	CmdExists: {
		Usage: "key [key ...]", Reply: "how many exist; a key given twice counts twice",
		Summary: "Counts the keys that exist.",
	},
	CmdTTL: {
		Usage: "key", Reply: "seconds; -1 no expiry, -2 no such key",
		Summary: "How long a key still lives.",
	},
	CmdPTTL: {
		Usage: "key", Reply: "milliseconds; -1 no expiry, -2 no such key",
		Summary: "How long a key still lives.",
	},
	CmdExpireTime: {
		Usage: "key", Reply: "unix seconds; -1 no expiry, -2 no such key",
		Summary: "When a key expires.",
	},
	CmdPExpireTime: {
		Usage: "key", Reply: "unix milliseconds; -1 no expiry, -2 no such key",
		Summary: "When a key expires.",
	},
	CmdExpire: {
		Usage: "key seconds [NX | XX | GT | LT]", Reply: "1 set, 0 not",
		Summary: "Lets a key expire after a time; not after now deletes it. " +
			"NX: only if it has no expiry; XX: only if it has one; GT, LT: only if the new one is later, earlier (none is latest).",
	},
	CmdPExpire: {
		Usage: "key milliseconds [NX | XX | GT | LT]", Reply: "1 set, 0 not",
		Summary: "EXPIRE in milliseconds.",
	},
	CmdExpireAt: {
		Usage: "key unix-seconds [NX | XX | GT | LT]", Reply: "1 set, 0 not",
		Summary: "EXPIRE at a point in time.",
	},
	CmdPExpireAt: {
		Usage: "key unix-milliseconds [NX | XX | GT | LT]", Reply: "1 set, 0 not",
		Summary: "EXPIRE at a point in time, in milliseconds.",
	},
	CmdPersist: {
		Usage: "key", Reply: "1 removed, 0 there was none",
		Summary: "Removes the expiry of a key.",
	},
	CmdIncr: {
		Usage: "key", Reply: "the new number",
		Summary: "Adds 1 to a decimal number; no key counts as 0.",
	},
	CmdIncrBy: {
		Usage: "key number", Reply: "the new number",
		Summary: "Adds to a decimal number.",
	},
	CmdDecr: {
		Usage: "key", Reply: "the new number",
		Summary: "Subtracts 1 from a decimal number.",
	},
	CmdDecrBy: {
		Usage: "key number", Reply: "the new number",
		Summary: "Subtracts from a decimal number.",
	},
	CmdAppend: {
		Usage: "key bytes", Reply: "the new length",
		Summary: "Appends to a value; no key counts as empty.",
	},
	CmdStrlen: {
		Usage: "key", Reply: "the length; 0 when there is no such key",
		Summary: "The length of a value in bytes.",
	},
	CmdGetDel: {
		Usage: "key", Reply: "the value, or null",
		Summary: "Deletes a key and gives the value that it had.",
	},
	CmdGetSet: {
		Usage: "key value", Reply: "the old value, or null",
		Summary: "PUT key value GET.",
	},
	CmdSetNX: {
		Usage: "key value", Reply: "1 set, 0 not",
		Summary: "PUT key value NX.",
	},
	CmdSetEx: {
		Usage: "key seconds value", Reply: "`OK`",
		Summary: "PUT key value EX seconds.",
	},
	CmdPSetEx: {
		Usage: "key milliseconds value", Reply: "`OK`",
		Summary: "PUT key value PX milliseconds.",
	},
	CmdGetV: {
		Usage: "key", Reply: "array of value and version, or a null array",
		Summary: "The value of a key and its version, for IFVERSION.",
	},
	CmdScan: {
		Usage: "cursor [MATCH pattern] [COUNT n]", Reply: "array of the next cursor (0 at the end) and an array of keys",
		Summary: "The keys of this node, in ring order, page by page; begin with cursor 0. " +
			"A key that is there all the time is given at least once.",
	},
	CmdDBSize: {
		Reply:   "a number",
		Summary: "How many keys this node owns.",
	},
	CmdType: {
		Usage: "key", Reply: "`string` or `none`",
		Summary: "The type of a value: every value is a string.",
	},

	CmdPing: {
		Usage: "[message]", Reply: "`PONG`, or the message",
		Summary: "Is anybody there?",
	},
	CmdEcho: {
		Usage: "message", Reply: "the message",
		Summary: "Gives back what it gets.",
	},
	CmdAuth: {
		Usage: "[user] password", Reply: "`OK`",
		Summary: "Authenticates the connection.",
	},
	CmdHello: {
		Usage: "[2 [AUTH user password] [SETNAME name]]", Reply: "array of names and values",
		Summary: "Agrees on the protocol version. Only 2 is spoken; others get NOPROTO.",
	},
	CmdSelect: {
		Usage: "0", Reply: "`OK`",
		Summary: "There is one database.",
	},
	CmdClient: {
		Usage: "ID | GETNAME | SETNAME name | SETINFO LIB-NAME name | SETINFO LIB-VER version | PARK ON | PARK OFF", Reply: "the id, the name, or `OK`",
		Summary: "Names the connection; with PARK OFF a key whose range changes hands is answered TRYAGAIN at once, so that it holds nothing up behind it.",
	},
	CmdCommand: {
		Usage: "[COUNT | LIST | INFO [name ...] | DOCS [name ...]]", Reply: "array",
		Summary: "Describes the commands.",
	},
	CmdInfo: {
		Usage: "[section ...]", Reply: "text of `name:value` lines",
		Summary: "Describes the server.",
	},
	CmdConfig: {
		Usage: "GET pattern [pattern ...]", Reply: "array of names and values",
		Summary: "Shows settings that stock tools ask for. Nothing can be set: servers are configured by their environment.",
	},
	CmdQuit: {
		Reply:   "`OK`, and the connection is closed",
		Summary: "Ends the connection after all earlier replies.",
	},
	CmdReset: {
		Reply:   "`RESET`",
		Summary: "Makes the connection as if it were new; its authentication is gone.",
	},
	CmdTime: {
		Reply:   "array of unix seconds and microseconds",
		Summary: "The time of the server.",
	},
	CmdWatch: {
		Usage: "id KEY key | PREFIX prefix [STATE] start end version [start end version ...]",
		Reply: "none: from here on the connection carries pushes, the first of which is `watching`",
		Summary: "Tells of every change of a key, or of all keys with a prefix, in ranges of the ring, from the versions on that the client has seen. " +
			"STATE: where it has seen nothing (0), the current values first.",
	},
	CmdUnwatch: {
		Usage: "id", Reply: "push `unwatched`",
		Summary: "Ends a watch.",
	},

	CmdTopology: {
		Reply:   "the topology document",
		Summary: "Who owns what: nodes, tokens, epoch. Every node and the manager answer it.",
	},
	CmdChallenge: {
		Usage: "node | manager name nonce", Reply: "the server's nonce",
		Summary: "A member of the cluster says who it is and asks what to prove it over. See docs/security.md. Nonces are 32 bytes in lower-case hex.",
	},
	CmdProve: {
		Usage: "mac", Reply: "the server's own mac",
		Summary: "Answers the challenge with the cluster's secret, and has the server do the same: each side believes nothing before. Macs are 32 bytes in lower-case hex.",
	},
	CmdRegister: {
		Usage: "registration", Reply: "a counter: the cluster document of that counter knows the node",
		Summary: "A node that has started asks the manager to be known. The argument is a JSON object.",
	},
	CmdHeartbeat: {
		Usage: "heartbeat", Reply: "the newest counter that the manager knows; a node with an older document reads it anew",
		Summary: "A node tells the manager how it does. The argument is a JSON object.",
	},
	CmdRefresh: {
		Usage: "counter", Reply: "`OK`",
		Summary: "The cluster document is at least this new: read it.",
	},
	CmdMigrateRange: {
		Usage: "start end target move", Reply: "`OK`: it runs, or ran already",
		Summary: "The manager asks the source to send the range (start, end] to target.",
	},
	CmdStageRange: {
		Usage: "move start end source", Reply: "`READY` for its data, or `COMPLETE`: it has all of it",
		Summary: "The source opens a move at the target.",
	},
	CmdStageData: {
		Usage: "move seq payload", Reply: "the sequence number up to which all is durable",
		Summary: "The next records of a move.",
	},
	CmdStageSeal: {
		Usage: "move seq version count", Reply: "`COMPLETE`, once durable",
		Summary: "The end of a move's data: the source's newest version and the number of keys that must have arrived.",
	},
	CmdCommitMove: {
		Usage: "move", Reply: "`OK` once the cluster document says so",
		Summary: "The source asks the manager to make the target the owner.",
	},
	CmdMoveDone: {
		Usage: "dropped | active move [move ...]", Reply: "`OK`",
		Summary: "The source has dropped its copies, or the target serves the ranges.",
	},
	CmdCluster: {
		Usage: "subcommand [argument ...]", Reply: "depends on the subcommand",
		Summary: "An operator's request to the manager; `quoit cluster` sends it.",
	},
	CmdSnapshot: {
		Usage: "[STATUS]", Reply: "the sequence number of the newest snapshot, once it is published; with STATUS a JSON object",
		Summary: "Takes a snapshot of this node that has everything acknowledged before. If nothing has changed since the newest one, that is it.",
	},
}
