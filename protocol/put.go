package protocol

import "math"

// PutArgs is PUT taken apart. SETNX, SETEX, PSETEX and GETSET are PUTs as well:
// they differ in how they are written and in what they answer.
type PutArgs struct {
	Key, Value   []byte
	Expiry       Expiry
	NX, XX, Get  bool
	IfVersion    uint64 // with HasIfVersion; 0: the key must not exist
	HasIfVersion bool
}

// ParsePut parses PUT and SET. As with every Parse function, args is the whole
// request with the name first, the result aliases it, and the error is an *Error.
func ParsePut(args [][]byte) (PutArgs, error) {
	if !CmdPut.takes(args) {
		return PutArgs{}, WrongArity(CmdPut)
	}
	put := PutArgs{Key: args[1], Value: args[2]}
	for rest := args[3:]; len(rest) > 0; {
		taken, err := put.option(rest)
		if err != nil {
			return PutArgs{}, err
		}
		rest = rest[taken:]
	}
	if put.contradictory() {
		return PutArgs{}, syntaxError(CmdPut)
	}
	return put, nil
}

// option reads the option at the start of rest and says how many arguments it took.
func (put *PutArgs) option(rest [][]byte) (taken int, err error) {
	switch word := rest[0]; {
	case isWord(word, "nx"):
		put.NX = true
	case isWord(word, "xx"):
		put.XX = true
	case isWord(word, "get"):
		put.Get = true
	case isWord(word, "keepttl") && put.Expiry.Kind == ExpiryNone:
		put.Expiry.Kind = ExpiryKeep
	case isWord(word, "ifversion") && len(rest) > 1 && !put.HasIfVersion:
		put.HasIfVersion = true
		put.IfVersion, err = parseVersion(rest[1])
		return 2, err
	default:
		unit, ok := expiryUnit(word)
		if !ok || len(rest) < 2 || put.Expiry.Kind != ExpiryNone {
			return 0, syntaxError(CmdPut)
		}
		put.Expiry, err = unit.positive(CmdPut, rest[1])
		return 2, err
	}
	return 1, nil
}

// contradictory says whether two options exclude each other. IFVERSION says by
// itself whether the key must exist, and answers with the version, so that
// there is no place for what GET answers.
func (put *PutArgs) contradictory() bool {
	return put.NX && put.XX || put.HasIfVersion && (put.NX || put.XX || put.Get)
}

// expiryUnit gives the meaning of an expiry option of PUT.
func expiryUnit(word []byte) (unit, bool) {
	switch {
	case isWord(word, "ex"):
		return unit{ExpiryIn, second}, true
	case isWord(word, "px"):
		return unit{ExpiryIn, millisecond}, true
	case isWord(word, "exat"):
		return unit{ExpiryAt, second}, true
	case isWord(word, "pxat"):
		return unit{ExpiryAt, millisecond}, true
	default:
		return unit{}, false
	}
}

// parseVersion reads a version, which fits the integers of a reply.
func parseVersion(arg []byte) (uint64, error) {
	version, ok := ParseUint(arg)
	if !ok || version > math.MaxInt64 {
		return 0, &Error{Code: ERR, Message: "the version is not a number from 0 to 9223372036854775807"}
	}
	return version, nil
}

// ParseSetNX parses SETNX key value.
func ParseSetNX(args [][]byte) (PutArgs, error) {
	if !CmdSetNX.takes(args) {
		return PutArgs{}, WrongArity(CmdSetNX)
	}
	return PutArgs{Key: args[1], Value: args[2], NX: true}, nil
}

// ParseSetEx parses SETEX key seconds value.
func ParseSetEx(args [][]byte) (PutArgs, error) {
	return parseSetExpiry(CmdSetEx, unit{ExpiryIn, second}, args)
}

// ParsePSetEx parses PSETEX key milliseconds value.
func ParsePSetEx(args [][]byte) (PutArgs, error) {
	return parseSetExpiry(CmdPSetEx, unit{ExpiryIn, millisecond}, args)
}

func parseSetExpiry(c Command, u unit, args [][]byte) (PutArgs, error) {
	if !c.takes(args) {
		return PutArgs{}, WrongArity(c)
	}
	expiry, err := u.positive(c, args[2])
	if err != nil {
		return PutArgs{}, err
	}
	return PutArgs{Key: args[1], Value: args[3], Expiry: expiry}, nil
}

// ParseGetSet parses GETSET key value.
func ParseGetSet(args [][]byte) (PutArgs, error) {
	if !CmdGetSet.takes(args) {
		return PutArgs{}, WrongArity(CmdGetSet)
	}
	return PutArgs{Key: args[1], Value: args[2], Get: true}, nil
}

// ParseMSet gives the pairs of MSET: key, value, key, value...
func ParseMSet(args [][]byte) (pairs [][]byte, err error) {
	if !CmdMSet.takes(args) || len(args)%2 == 0 {
		return nil, WrongArity(CmdMSet)
	}
	return args[1:], nil
}

// syntaxError is the reply to options that cannot be understood.
func syntaxError(c Command) *Error {
	return &Error{Code: ERR, Message: "syntax error; usage: " + c.Synopsis()}
}
