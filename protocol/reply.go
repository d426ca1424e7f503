package protocol

import (
	"bytes"
	"strconv"
	"strings"
)

// The bytes of a reply:
//
//	+text CRLF           simple string
//	-CODE text CRLF      error
//	:number CRLF         integer
//	$length CRLF bytes CRLF, or $-1 CRLF for null
//	*count CRLF and so many replies, or *-1 CRLF for null

// Reply is one reply, or one element of an array.
type Reply struct {
	Kind  byte    // '+', '-', ':', '$' or '*'
	Null  bool    // the null bulk string or the null array
	Int   int64   // of ':'
	Bytes []byte  // of '+', '-' and '$'; aliases the buffer
	Array []Reply // of '*'
}

// Err is the error that the reply is, nil when it is none. It is a copy, and
// stays valid when the buffer does not.
func (r Reply) Err() *Error {
	if r.Kind != '-' {
		return nil
	}
	code, message, _ := strings.Cut(string(r.Bytes), " ")
	if !isCode(code) {
		return &Error{Code: ERR, Message: string(r.Bytes)}
	}
	return &Error{Code: Code(code), Message: message}
}

// isCode says whether the first word of an error is a code at all: servers in
// the way (a proxy, another product) also write sentences there.
func isCode(word string) bool {
	for i := range len(word) {
		if word[i] < 'A' || word[i] > 'Z' {
			return false
		}
	}
	return word != ""
}

// maxDepth is how deep arrays may be nested. Ours are nested twice (SCAN).
const maxDepth = 8

// ReplyParser takes replies from a buffer, one at a time. The zero value is
// ready and has the DefaultLimits.
//
// An array is read in two steps: scan finds its end, and can go on where it
// stopped when more bytes have come; build then makes the values. So memory is
// taken for elements that are there, never for a number that was declared, and
// nothing has to be moved when the buffer was.
type ReplyParser struct {
	Limits

	elements []Reply // the arrays of the reply that Next returned last

	// An incomplete array.
	pos   int           // all before is scanned
	total int           // elements in it, at all depths, as far as declared
	depth int           // arrays that are open
	left  [maxDepth]int // elements that each of them still lacks

	need int
}

// Next parses one reply at the start of buf and reports how many bytes it took.
// With n == 0 and no error, buf ends inside the reply: call Next again with the
// same bytes and at least Need more, which may stand elsewhere in memory. An
// error is a *ProtocolError, and the connection is to be closed. An error reply
// is a Reply as any other, see Reply.Err.
//
// The reply aliases buf and is valid until the next call.
func (p *ReplyParser) Next(buf []byte) (r Reply, n int, err error) {
	p.need = 1
	if len(buf) == 0 {
		return Reply{}, 0, nil
	}
	if p.pos == 0 && !p.filled() {
		p.fill()
	}
	if buf[0] != '*' {
		n, err = p.element(buf, 0, &r)
		return r, n, err
	}
	n, err = p.scan(buf)
	if n == 0 {
		return Reply{}, 0, err
	}
	p.reserve()
	p.build(buf, 0, &r)
	p.pos, p.total = 0, 0
	return r, n, nil
}

// Need is how many more bytes are certainly needed after Next has returned
// n == 0: at least 1, and inside a bulk string all that is missing of it.
func (p *ReplyParser) Need() int { return max(p.need, 1) }

// Reset forgets an incomplete reply: the next call of Next is given other
// bytes. It also lets go of the buffer that the last reply aliases.
func (p *ReplyParser) Reset() {
	p.pos, p.total, p.depth, p.need = 0, 0, 0, 1
	clear(p.elements[:cap(p.elements)])
}

// scan finds the end of an array, from where the last call stopped; end is 0
// when buf ends before it.
func (p *ReplyParser) scan(buf []byte) (end int, err error) {
	for {
		var r Reply
		next, err := p.element(buf, p.pos, &r)
		if next == 0 {
			return 0, err
		}
		p.pos = next
		if r.Kind == '*' && r.Int > 0 {
			if err := p.open(int(r.Int)); err != nil {
				return 0, err
			}
			continue
		}
		for p.depth > 0 {
			p.left[p.depth-1]--
			if p.left[p.depth-1] > 0 {
				break
			}
			p.depth-- // this array is complete, and one element of the array around it
		}
		if p.depth == 0 {
			return p.pos, nil
		}
	}
}

// open enters an array of count elements.
func (p *ReplyParser) open(count int) error {
	if p.depth == maxDepth {
		return broken("arrays nested deeper than " + strconv.Itoa(maxDepth))
	}
	p.total += count
	if p.total > p.MaxArgs {
		return overLimit("a reply", p.MaxArgs, "elements")
	}
	p.left[p.depth] = count
	p.depth++
	return nil
}

// reserve makes room for the elements of the reply that scan has seen whole.
func (p *ReplyParser) reserve() {
	if p.total > cap(p.elements) || (cap(p.elements) > keepArgs && p.total <= keepArgs) {
		p.elements = make([]Reply, 0, p.total)
	}
	p.elements = p.elements[:0]
}

// build makes the reply at pos, which scan has found good.
func (p *ReplyParser) build(buf []byte, pos int, r *Reply) (next int) {
	next, _ = p.element(buf, pos, r)
	if r.Kind != '*' {
		return next
	}
	from := len(p.elements)
	to := from + int(r.Int)
	r.Int = 0
	p.elements = p.elements[:to]
	r.Array = p.elements[from:to:to]
	for i := range r.Array {
		next = p.build(buf, next, &r.Array[i])
	}
	return next
}

// element reads a reply that is no array, or the header of an array, its count
// being in Int. It sets all of r (a reply is large to be passed around), unless
// next is 0: then the reply is incomplete or wrong, and r stays as it is.
func (p *ReplyParser) element(buf []byte, pos int, r *Reply) (next int, err error) {
	if pos >= len(buf) {
		return 0, nil
	}
	switch kind := buf[pos]; kind {
	case '+', '-', ':':
		return p.lineElement(buf, pos, r)
	case '$', '*':
		if pos+1 < len(buf) && buf[pos+1] == '-' {
			return nullElement(buf, pos, r)
		}
		if kind == '$' {
			return p.bulkElement(buf, pos, r)
		}
		count, next, err := p.arrayHeader(buf, pos, "a reply")
		if next > 0 {
			*r = Reply{Kind: '*', Int: int64(count)}
		}
		return next, err
	default:
		return 0, broken("a reply cannot begin with " + strconv.QuoteRune(rune(kind)))
	}
}

func (p *ReplyParser) lineElement(buf []byte, pos int, r *Reply) (next int, err error) {
	rest := buf[pos+1:]
	length := bytes.IndexByte(rest[:min(len(rest), p.MaxInline+2)], '\n')
	if length < 0 {
		if len(rest) < p.MaxInline+2 {
			return 0, nil
		}
		return 0, overLimit("a line", p.MaxInline, "bytes")
	}
	if length == 0 || rest[length-1] != '\r' {
		return 0, broken("a line does not end with CRLF")
	}
	next = pos + 1 + length + 1
	if next > p.MaxRequest {
		return 0, overLimit("a reply", p.MaxRequest, "bytes")
	}
	text := rest[: length-1 : length-1]
	if buf[pos] != ':' {
		*r = Reply{Kind: buf[pos], Bytes: text}
		return next, nil
	}
	n, ok := ParseInt(text)
	if !ok {
		return 0, broken("invalid integer")
	}
	*r = Reply{Kind: ':', Int: n}
	return next, nil
}

func (p *ReplyParser) bulkElement(buf []byte, pos int, r *Reply) (next int, err error) {
	value, next, err := p.bulk(buf, pos)
	if next == 0 {
		p.need = value.end - len(buf)
		return 0, err
	}
	*r = Reply{Kind: '$', Bytes: buf[value.start:value.end:value.end]}
	return next, nil
}

// nullElement reads "$-1" or "*-1", the minus sign having been seen.
func nullElement(buf []byte, pos int, r *Reply) (next int, err error) {
	switch next = nullHeader(buf, pos+1); {
	case next > 0:
		*r = Reply{Kind: buf[pos], Null: true}
		return next, nil
	case next == 0:
		return 0, nil
	case buf[pos] == '$':
		return 0, broken("invalid bulk length")
	default:
		return 0, broken("invalid multibulk length")
	}
}
