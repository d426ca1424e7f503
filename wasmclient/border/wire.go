package border

import (
	"errors"
	"math"
)

// errRequest means that quoit.js and this package do not agree.
var errRequest = errors.New("the request does not have the fields of its operation")

// reader takes a request apart. After the first field that is not there all others are
// zero, and err says so.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.err, r.rest = errRequest, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) u8() byte {
	b := r.take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (r *reader) flag() bool { return r.u8() != 0 }

func (r *reader) u32() uint32 {
	b := r.take(4)
	if b == nil {
		return 0
	}
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func (r *reader) f64() float64 {
	low := uint64(r.u32())
	return math.Float64frombits(low | uint64(r.u32())<<32)
}

func (r *reader) bytes() []byte  { return r.take(int(r.u32())) }
func (r *reader) string() string { return string(r.bytes()) }

// list reads a count and then so many fields, of which each has at least four bytes.
func (r *reader) list() []string {
	n := int(r.u32())
	if n > len(r.rest)/4 {
		r.err = errRequest
		return nil
	}
	all := make([]string, 0, n)
	for range n {
		all = append(all, r.string())
	}
	return all
}

// end is the error of a request that has been read to its end.
func (r *reader) end() error {
	if r.err == nil && len(r.rest) > 0 {
		r.err = errRequest
	}
	return r.err
}

func appendU32(b []byte, n uint32) []byte {
	return append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
}

func appendU64(b []byte, n uint64) []byte {
	return appendU32(appendU32(b, uint32(n)), uint32(n>>32))
}

func appendF64(b []byte, f float64) []byte { return appendU64(b, math.Float64bits(f)) }

func appendBytes[B ~string | ~[]byte](b []byte, field B) []byte {
	return append(appendU32(b, uint32(len(field))), field...)
}

func appendFlag(b []byte, yes bool) []byte {
	if yes {
		return append(b, 1)
	}
	return append(b, 0)
}
