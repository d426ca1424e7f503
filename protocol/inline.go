package protocol

import (
	"bytes"
	"strconv"
)

// A request as a line of text, for people: words between blanks, ended by LF or
// CRLF. Words are quoted as in redis-cli:
//
//	PUT greeting "hello\r\n\x00 \"world\""     escapes \n \r \t \b \a \xHH, any other byte stands for itself
//	PUT greeting 'it\'s raw: \n'               only \' is an escape
//
// A closing quote must be followed by a blank or the end of the line.

// line parses a plain text line, from where the last call stopped searching.
func (p *RequestParser) line(buf []byte) (n int, err error) {
	if !lineStart(buf[0]) {
		return 0, broken("a request begins with a word or '*', not with byte 0x" +
			strconv.FormatUint(uint64(buf[0]), 16) + " (is the client speaking TLS to a plain port?)")
	}
	length := bytes.IndexByte(buf[p.pos:], '\n')
	if length < 0 {
		p.pos = len(buf)
	} else {
		length += p.pos
	}
	if length > p.MaxInline || p.pos > p.MaxInline {
		return 0, overLimit("a line", p.MaxInline, "bytes; longer requests are sent as arrays")
	}
	if length < 0 {
		return 0, nil
	}
	text := buf[:length]
	if isHTTP(text) || bytes.HasPrefix(text, []byte("SSH-")) {
		return 0, ErrCrossProtocol
	}
	return length + 1, p.words(text)
}

// lineStart says whether a line may begin with c: a command name is printable
// ASCII, so anything else is a client of another protocol, found out at its first byte.
func lineStart(c byte) bool { return isBlank(c) || c == '\n' || (c > ' ' && c < 0x7f) }

// blanks are the bytes that separate words. CR is among them, so that the end of
// a CRLF needs no case of its own.
const blanks = " \t\r\v\f"

func isBlank(c byte) bool {
	return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f'
}

// isHTTP says whether a line is one that an HTTP client sends: a POST, the Host
// header that every browser adds, or any request line ("PUT /key HTTP/1.1" would
// otherwise be a write). Whoever wants that text as a value puts it in quotes.
func isHTTP(text []byte) bool {
	text = bytes.Trim(text, blanks)
	end := bytes.IndexAny(text, blanks)
	if end < 0 {
		end = len(text)
	}
	if isWord(text[:end], "post") || isWord(text[:end], "host:") {
		return true
	}
	last := text[bytes.LastIndexAny(text, blanks)+1:]
	return len(last) < len(text) && bytes.HasPrefix(last, []byte("HTTP/"))
}

// words splits a line and appends its words to p.args, decoding in place: a
// decoded word is never longer than what it was written as.
func (p *RequestParser) words(text []byte) error {
	for i := 0; ; {
		for i < len(text) && isBlank(text[i]) {
			i++
		}
		if i == len(text) {
			return nil
		}
		if len(p.args) >= p.MaxArgs {
			return overLimit("a request", p.MaxArgs, "elements")
		}
		word, next, ok := unquote(text, i)
		if !ok {
			return broken("unbalanced quotes in request")
		}
		p.args = append(p.args, word)
		i = next
	}
}

// unquote decodes the word at text[start], in place. A quote may also begin
// inside a word (a"b c" is the word "ab c"); the word ends with it.
func unquote(text []byte, start int) (word []byte, next int, ok bool) {
	out, i := start, start
	for i < len(text) && !isBlank(text[i]) {
		quote := text[i]
		if quote != '"' && quote != '\'' {
			text[out] = quote
			out, i = out+1, i+1
			continue
		}
		out, i, ok = unquoteUntil(text, out, i+1, quote)
		if !ok || (i < len(text) && !isBlank(text[i])) {
			return nil, 0, false
		}
		break
	}
	return text[start:out:out], i, true
}

// unquoteUntil decodes text[i:] up to the closing quote, to text[out:].
func unquoteUntil(text []byte, out, i int, quote byte) (newOut, next int, ok bool) {
	for i < len(text) {
		switch c := text[i]; {
		case c == quote:
			return out, i + 1, true
		case c != '\\' || i+1 == len(text):
			text[out] = c
			i++
		case quote == '"':
			text[out], i = unescape(text, i+1)
		case text[i+1] == '\'':
			text[out] = '\''
			i += 2
		default:
			text[out] = '\\'
			i++
		}
		out++
	}
	return 0, 0, false
}

// unescape decodes what stands behind a backslash at text[i].
func unescape(text []byte, i int) (c byte, next int) {
	switch c := text[i]; c {
	case 'n':
		return '\n', i + 1
	case 'r':
		return '\r', i + 1
	case 't':
		return '\t', i + 1
	case 'b':
		return '\b', i + 1
	case 'a':
		return '\a', i + 1
	case 'x':
		if i+2 < len(text) {
			high, low := hexDigit(text[i+1]), hexDigit(text[i+2])
			if high < 16 && low < 16 {
				return high<<4 | low, i + 3
			}
		}
		return c, i + 1
	default:
		return c, i + 1
	}
}

// hexDigit is the value of a hexadecimal digit, 16 for any other byte.
func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	default:
		return 16
	}
}
