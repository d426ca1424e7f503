package protocol

import "math"

// ExpiryKind says how an expiry is meant.
type ExpiryKind uint8

// The kinds of expiry.
const (
	ExpiryNone ExpiryKind = iota // nothing was said: a PUT clears the old one
	ExpiryIn                     // Millis from now
	ExpiryAt                     // at Millis since 1970
	ExpiryKeep                   // leave what the key has (KEEPTTL)
)

// Expiry is when a key stops to exist.
type Expiry struct {
	Kind   ExpiryKind
	Millis int64
}

// maxMillis bounds an expiry both ways, 146 million years: far enough from the
// ends of an int64 that the time now can be added.
const maxMillis = math.MaxInt64 / 2

// Resolve gives the expiry as milliseconds since 1970, given the time now in
// the same unit; 0 for ExpiryNone and ExpiryKeep. A time before 1970 becomes 1,
// which is past all the same and cannot be taken for "none".
func (e Expiry) Resolve(now int64) int64 {
	switch e.Kind {
	case ExpiryIn:
		return max(min(now, maxMillis)+e.Millis, 1)
	case ExpiryAt:
		return max(e.Millis, 1)
	default:
		return 0
	}
}

const (
	millisecond = 1
	second      = 1000
)

// unit says what a number in a request means as an expiry.
type unit struct {
	kind  ExpiryKind
	scale int64 // milliseconds
}

// parse reads a number in the unit, of either sign.
func (u unit) parse(c Command, arg []byte) (Expiry, error) {
	n, ok := ParseInt(arg)
	if !ok {
		return Expiry{}, notInteger()
	}
	if n > maxMillis/u.scale || n < -maxMillis/u.scale {
		return Expiry{}, invalidExpiry(c)
	}
	return Expiry{Kind: u.kind, Millis: n * u.scale}, nil
}

// positive is parse for the commands that set a value, where an expiry that is
// not after 0 is a mistake.
func (u unit) positive(c Command, arg []byte) (Expiry, error) {
	expiry, err := u.parse(c, arg)
	if err != nil {
		return Expiry{}, err
	}
	if expiry.Millis <= 0 {
		return Expiry{}, invalidExpiry(c)
	}
	return expiry, nil
}

// ExpireArgs is EXPIRE and its family taken apart.
type ExpireArgs struct {
	Key    []byte
	Expiry Expiry // ExpiryIn or ExpiryAt; when it is not after now, the key is deleted
	// The conditions: only when the key has no expiry (NX), has one (XX), when
	// the new one is later (GT) or earlier (LT) than the old; none is the latest.
	NX, XX, GT, LT bool
}

// ParseExpire parses EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT.
func ParseExpire(c Command, args [][]byte) (ExpireArgs, error) {
	if !c.takes(args) {
		return ExpireArgs{}, WrongArity(c)
	}
	expiry, err := expireUnit(c).parse(c, args[2])
	if err != nil {
		return ExpireArgs{}, err
	}
	expire := ExpireArgs{Key: args[1], Expiry: expiry}
	for _, word := range args[3:] {
		switch {
		case isWord(word, "nx"):
			expire.NX = true
		case isWord(word, "xx"):
			expire.XX = true
		case isWord(word, "gt"):
			expire.GT = true
		case isWord(word, "lt"):
			expire.LT = true
		default:
			return ExpireArgs{}, syntaxError(c)
		}
	}
	if expire.NX && (expire.XX || expire.GT || expire.LT) || expire.GT && expire.LT {
		return ExpireArgs{}, syntaxError(c)
	}
	return expire, nil
}

func expireUnit(c Command) unit {
	switch c {
	case CmdPExpire:
		return unit{ExpiryIn, millisecond}
	case CmdExpireAt:
		return unit{ExpiryAt, second}
	case CmdPExpireAt:
		return unit{ExpiryAt, millisecond}
	default:
		return unit{ExpiryIn, second}
	}
}

func invalidExpiry(c Command) *Error {
	return &Error{Code: ERR, Message: "invalid expire time in '" + c.String() + "'"}
}

func notInteger() *Error {
	return &Error{Code: ERR, Message: "value is not an integer or out of range"}
}
