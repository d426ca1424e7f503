package protocol

import "math"

// IncrArgs is INCR and its family taken apart.
type IncrArgs struct {
	Key   []byte
	Delta int64
}

// ParseIncr parses INCR, INCRBY, DECR and DECRBY.
func ParseIncr(c Command, args [][]byte) (IncrArgs, error) {
	if !c.takes(args) {
		return IncrArgs{}, WrongArity(c)
	}
	incr := IncrArgs{Key: args[1], Delta: 1}
	if len(args) > 2 {
		var ok bool
		if incr.Delta, ok = ParseInt(args[2]); !ok {
			return IncrArgs{}, notInteger()
		}
	}
	if c == CmdDecr || c == CmdDecrBy {
		if incr.Delta == math.MinInt64 {
			return IncrArgs{}, &Error{Code: ERR, Message: "decrement would overflow"}
		}
		incr.Delta = -incr.Delta
	}
	return incr, nil
}
