package gateway

import (
	"errors"

	"github.com/quoitdb/quoit/protocol"
)

// replyEnds finds where replies end in the bytes that a node sends, however these
// are cut: a large value is passed on as it comes and never held whole.
type replyEnds struct {
	kind  byte // of the line that is being read, 0 between lines
	first byte // of the reply that is being read, or was read last
	line  [24]byte
	have  int     // bytes of line
	skip  int64   // bytes left of a bulk string, with its line end
	open  []int64 // for each array that is not complete: elements still to come
	begun bool    // inside a reply
}

const (
	maxReplyDepth = 32
	maxReplySize  = 1 << 30
)

var errNotAReply = errors.New("gateway: a node sent something that is no reply")

// next takes bytes from b up to the end of a reply, or all. done says that a reply
// ends at n.
func (e *replyEnds) next(b []byte) (n int, done bool, err error) {
	for n < len(b) {
		if e.skip > 0 {
			step := min(e.skip, int64(len(b)-n))
			n += int(step)
			if e.skip -= step; e.skip == 0 && e.element() {
				return n, true, nil
			}
			continue
		}
		c := b[n]
		n++
		switch {
		case e.kind == 0:
			if !e.begun {
				e.first = c
			}
			e.kind, e.have, e.begun = c, 0, true
		case c != '\n':
			if err := e.gather(c); err != nil {
				return n, false, err
			}
		default:
			if done, err = e.lineEnd(); done || err != nil {
				return n, done, err
			}
		}
	}
	return n, false, nil
}

// gather keeps what the header of a bulk string or an array says.
func (e *replyEnds) gather(c byte) error {
	if e.kind != '$' && e.kind != '*' || c == '\r' {
		return nil
	}
	if e.have == len(e.line) {
		return errNotAReply
	}
	e.line[e.have] = c
	e.have++
	return nil
}

func (e *replyEnds) lineEnd() (done bool, err error) {
	kind := e.kind
	e.kind = 0
	switch kind {
	case '+', '-', ':':
		return e.element(), nil
	case '$', '*':
	default:
		return false, errNotAReply
	}
	size, ok := protocol.ParseInt(e.line[:e.have])
	switch {
	case !ok || size < -1 || size > maxReplySize:
		return false, errNotAReply
	case size == -1, size == 0 && kind == '*':
		return e.element(), nil
	case kind == '$':
		e.skip = size + int64(len("\r\n"))
	case len(e.open) == maxReplyDepth:
		return false, errNotAReply
	default:
		e.open = append(e.open, size)
	}
	return false, nil
}

// element is called after each value, and says whether it ended the reply.
func (e *replyEnds) element() bool {
	for len(e.open) > 0 {
		last := len(e.open) - 1
		if e.open[last]--; e.open[last] > 0 {
			return false
		}
		e.open = e.open[:last]
	}
	e.begun = false
	return true
}

// appendReply writes a reply as it came.
func appendReply(b []byte, r protocol.Reply) []byte {
	switch {
	case r.Kind == '+':
		return protocol.AppendSimple(b, string(r.Bytes))
	case r.Kind == ':':
		return protocol.AppendInt(b, r.Int)
	case r.Kind == '-':
		b = append(append(b, '-'), r.Bytes...)
		return append(b, "\r\n"...)
	case r.Kind == '$' && r.Null:
		return protocol.AppendNull(b)
	case r.Kind == '$':
		return protocol.AppendBulk(b, r.Bytes)
	case r.Null:
		return protocol.AppendNullArray(b)
	}
	b = protocol.AppendArray(b, len(r.Array))
	for _, e := range r.Array {
		b = appendReply(b, e)
	}
	return b
}
