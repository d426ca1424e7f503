package protocol

import "strconv"

// What requests and replies have in common: headers with a length, and bulk
// strings. All functions are given the whole buffer and a position in it, and
// return the position behind what they read: 0 when that is incomplete (no
// error) or wrong (an error). Whether it is wrong depends only on the bytes up
// to the first that is, so it does not matter in what pieces they arrive.

// span is buf[start:end].
type span struct{ start, end int }

// bulk reads the bulk string at pos. When bytes of it are missing, value.end
// is the position behind the last of them, if that is known.
func (l *Limits) bulk(buf []byte, pos int) (value span, next int, err error) {
	if pos >= len(buf) {
		return span{}, 0, nil
	}
	if buf[pos] != '$' {
		return span{}, 0, broken("expected '$', got " + strconv.QuoteRune(rune(buf[pos])))
	}
	size, start, defect := readLength(buf, pos+1, l.maxBulk())
	if start == 0 {
		return span{}, 0, l.bulkError(defect)
	}
	end := start + size
	next = end + len("\r\n")
	if next > l.MaxRequest {
		return span{}, 0, overLimit("a request or reply", l.MaxRequest, "bytes")
	}
	if next > len(buf) {
		return span{end: next}, 0, nil
	}
	if buf[end] != '\r' || buf[end+1] != '\n' {
		return span{}, 0, broken("a bulk string is not followed by CRLF")
	}
	return span{start, end}, next, nil
}

func (l *Limits) bulkError(defect lengthDefect) error {
	switch defect {
	case lengthInvalid:
		return broken("invalid bulk length")
	case lengthTooLarge:
		return overLimit("a bulk string", l.maxBulk(), "bytes")
	default:
		return nil
	}
}

// arrayHeader reads the "*count" at pos; the null array counts as empty.
func (l *Limits) arrayHeader(buf []byte, pos int, what string) (count, next int, err error) {
	count, next, defect := readLength(buf, pos+1, l.MaxArgs)
	switch defect {
	case lengthTooLarge:
		return 0, 0, overLimit(what, l.MaxArgs, "elements")
	case lengthInvalid:
		next = nullHeader(buf, pos+1)
		if next < 0 {
			return 0, 0, broken("invalid multibulk length")
		}
	}
	return count, next, nil
}

// nullHeader reads "-1\r\n" at pos: the position behind it, 0 when buf ends
// inside it, -1 when it is something else.
func nullHeader(buf []byte, pos int) int {
	const want = "-1\r\n"
	have := buf[pos:min(pos+len(want), len(buf))]
	if string(have) != want[:len(have)] {
		return -1
	}
	if len(have) < len(want) {
		return 0
	}
	return pos + len(want)
}

// The ways in which a declared length can be wrong. They are values, so that
// the caller can say which length was meant.
type lengthDefect uint8

const (
	lengthFine lengthDefect = iota
	lengthInvalid
	lengthTooLarge
)

// readLength reads the digits and the CRLF of a header whose first byte stood
// before buf[pos]. next is the position behind the CRLF; it is 0 when buf ends
// too early or the header is defective.
//
// There is no longer loop than the digits of limit: a leading zero is refused
// and the number is compared with limit after each digit, so a header without
// end is found out within a few bytes and nothing can overflow (limit <= ceiling).
func readLength(buf []byte, pos, limit int) (size, next int, defect lengthDefect) {
	n := int64(0)
	for i := pos; i < len(buf); i++ {
		digit := buf[i] - '0'
		if digit <= 9 {
			if n == 0 && i > pos {
				return 0, 0, lengthInvalid
			}
			n = n*10 + int64(digit)
			if n > int64(limit) {
				return 0, 0, lengthTooLarge
			}
			continue
		}
		if buf[i] != '\r' || i == pos {
			return 0, 0, lengthInvalid
		}
		if i+1 == len(buf) {
			return 0, 0, lengthFine
		}
		if buf[i+1] != '\n' {
			return 0, 0, lengthInvalid
		}
		return int(n), i + 2, lengthFine
	}
	return 0, 0, lengthFine
}

func broken(message string) *ProtocolError { return &ProtocolError{Code: ERR, Message: message} }

// overLimit is a defect that a person may cure with a setting.
func overLimit(what string, limit int, unit string) *ProtocolError {
	return &ProtocolError{Code: TOOLARGE, Message: what + " may have at most " + strconv.Itoa(limit) + " " + unit}
}
