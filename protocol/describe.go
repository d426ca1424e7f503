package protocol

import (
	"strconv"
	"strings"
)

// maxDescribed bounds the names in one question, which are more than there are: what is
// said of a name is many times as long as the name.
const maxDescribed = 256

// AppendCommandReply answers COMMAND: what stock clients ask to learn which
// arguments are keys, and redis-cli to complete and explain what is typed.
func AppendCommandReply(b []byte, args [][]byte) []byte {
	switch {
	case len(args) < 2:
		return appendNames(b, commandNames(), appendInfo)
	case isWord(args[1], "count") && len(args) == 2:
		return AppendInt(b, int64(len(commandNames())))
	case isWord(args[1], "list") && len(args) == 2:
		return appendNames(b, commandNames(), appendName)
	case len(args) > maxDescribed+2:
		return AppendErrorCode(b, TOOLARGE, "COMMAND: at most "+strconv.Itoa(maxDescribed)+" names at once")
	case isWord(args[1], "info"):
		return appendNames(b, namesOrAll(args[2:]), appendInfo)
	case isWord(args[1], "docs"):
		return appendDocs(b, args[2:])
	default:
		return AppendError(b, syntaxError(CmdCommand))
	}
}

// commandNames are all names and aliases, in lower case as clients expect them.
func commandNames() []string {
	var names []string
	for _, c := range Commands() {
		names = append(names, strings.ToLower(c.Spec().Name))
		for _, alias := range c.Spec().Aliases {
			names = append(names, strings.ToLower(alias))
		}
	}
	return names
}

func namesOrAll(args [][]byte) []string {
	if len(args) == 0 {
		return commandNames()
	}
	names := make([]string, len(args))
	for i, arg := range args {
		names[i] = string(arg)
	}
	return names
}

func appendNames(b []byte, names []string, each func([]byte, string) []byte) []byte {
	b = AppendArray(b, len(names))
	for _, name := range names {
		b = each(b, name)
	}
	return b
}

func appendName(b []byte, name string) []byte { return AppendBulkString(b, name) }

// appendInfo appends one entry of COMMAND INFO: name, arity, flags, first key,
// last key, step.
func appendInfo(b []byte, name string) []byte {
	c, ok := Lookup([]byte(name))
	if !ok {
		return AppendNullArray(b)
	}
	s := c.Spec()
	b = AppendArray(b, 6)
	b = AppendBulkString(b, strings.ToLower(name))
	b = AppendInt(b, int64(s.Arity))
	b = AppendArray(b, 1)
	b = AppendSimple(b, s.Flags.redisFlag())
	b = AppendInt(b, int64(s.FirstKey))
	b = AppendInt(b, int64(s.LastKey))
	return AppendInt(b, int64(s.KeyStep))
}

// redisFlag is the name that Redis has for what the flags say.
func (f Flags) redisFlag() string {
	switch {
	case f&Write != 0:
		return "write"
	case f&Readonly != 0:
		return "readonly"
	case f&(Cluster|Admin) != 0:
		return "admin"
	default:
		return "fast"
	}
}

// appendDocs answers COMMAND DOCS, a list of names and properties; names that
// are no command are left out.
func appendDocs(b []byte, args [][]byte) []byte {
	var known []string
	for _, name := range namesOrAll(args) {
		if _, ok := Lookup([]byte(name)); ok {
			known = append(known, name)
		}
	}
	b = AppendArray(b, 2*len(known))
	for _, name := range known {
		c, _ := Lookup([]byte(name))
		b = AppendBulkString(b, strings.ToLower(name))
		b = AppendArray(b, 6)
		b = AppendBulkString(b, "summary")
		b = AppendBulkString(b, c.Doc().Summary)
		b = AppendBulkString(b, "since")
		b = AppendBulkString(b, "0.1.0")
		b = AppendBulkString(b, "group")
		b = AppendBulkString(b, c.Spec().Flags.group())
	}
	return b
}

// group is the heading under which a command is described.
func (f Flags) group() string {
	switch {
	case f&(Write|Readonly) != 0:
		return "data"
	case f&(Cluster|Admin) != 0:
		return "cluster"
	default:
		return "session"
	}
}
