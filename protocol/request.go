package protocol

// The bytes of a request in its binary form:
//
//	*3\r\n                 the number of arguments, the command name among them
//	$3\r\n PUT    \r\n     each a length, so many bytes of any kind, CRLF
//	$6\r\n user:1 \r\n
//	$5\r\n hello  \r\n
//
// (without the spaces). *0 and *-1 are requests of nothing. Any other first
// byte than '*' begins a plain text line, see inline.go.

// RequestParser takes requests from a buffer, one at a time. The zero value is
// ready and has the DefaultLimits; the limits may be changed between requests,
// for example when a connection has authenticated.
type RequestParser struct {
	Limits

	args [][]byte // what Next returned last

	// An incomplete request, so that more bytes do not mean parsing it again
	// from its start. Positions, because the caller may move the bytes.
	pos   int    // all before is parsed (array) or searched for a LF (line)
	count int    // arguments that the array declared
	spans []span // arguments found so far

	need int
}

// keepArgs is the number of arguments up to which a parser keeps its memory for
// the next request: one huge request does not make a connection expensive for ever.
const keepArgs = 1 << 10

// Next parses one request at the start of buf and reports how many bytes it
// took. There are four outcomes:
//
//   - n > 0 and len(args) > 0: a request, args[0] being the command name.
//   - n > 0 and no args: an empty line or array, which is skipped in silence.
//   - n == 0 and no error: buf ends inside the request. Call Next again with the
//     same bytes and at least Need more; they may stand elsewhere in memory.
//   - an error, ErrCrossProtocol or a *ProtocolError: the connection is to be
//     closed, for the next request cannot be found.
//
// The arguments alias buf and are valid until the next call. The escapes of a
// complete line are decoded in place; an incomplete request is never touched.
func (p *RequestParser) Next(buf []byte) (args [][]byte, n int, err error) {
	p.need = 1
	if len(buf) == 0 {
		p.trim()
		return nil, 0, nil
	}
	if p.pos == 0 {
		p.begin()
	}
	if buf[0] == '*' {
		n, err = p.array(buf)
	} else {
		n, err = p.line(buf)
	}
	if n == 0 || err != nil {
		return nil, 0, err
	}
	p.pos = 0
	return p.args, n, nil
}

// Need is how many more bytes are certainly needed after Next has returned
// n == 0: at least 1, and inside a bulk string all that is missing of it, so
// that a large value can be read straight to its place. The number was declared
// by the peer and is within MaxBulk; memory for it had better grow with what arrives.
func (p *RequestParser) Need() int { return max(p.need, 1) }

// Reset forgets an incomplete request: the next call of Next is given other
// bytes. It also lets go of the buffer that the last arguments alias.
func (p *RequestParser) Reset() {
	p.pos, p.need = 0, 1
	clear(p.args[:cap(p.args)])
}

// begin makes ready for a new request.
func (p *RequestParser) begin() {
	if !p.filled() {
		p.fill()
	}
	p.trim()
	p.args, p.spans = p.args[:0], p.spans[:0]
}

// trim gives back what a huge request has needed.
func (p *RequestParser) trim() {
	if p.pos == 0 && (cap(p.args) > keepArgs || cap(p.spans) > keepArgs) {
		p.args, p.spans = nil, nil
	}
}

// Held is how many bytes the parser needs beside the buffer for a request that is not
// complete and has very many arguments, 0 for any other: short ones need several times
// what they have.
func (p *RequestParser) Held() int {
	const each = 16 + 24 // a span, and the slice that it becomes
	if cap(p.spans) <= keepArgs {
		return 0
	}
	return each * cap(p.spans)
}

// array parses the binary form, from where the last call stopped.
func (p *RequestParser) array(buf []byte) (n int, err error) {
	if p.pos == 0 {
		if p.count, p.pos, err = p.arrayHeader(buf, 0, "a request"); p.pos == 0 {
			return 0, err
		}
	}
	pos, spans := p.pos, p.spans
	for len(spans) < p.count {
		arg, next, err := p.bulk(buf, pos)
		if next == 0 {
			p.pos, p.spans, p.need = pos, spans, arg.end-len(buf)
			return 0, err
		}
		spans = append(spans, arg)
		pos = next
	}
	p.spans = spans
	for _, s := range spans {
		p.args = append(p.args, buf[s.start:s.end:s.end])
	}
	return pos, nil
}
