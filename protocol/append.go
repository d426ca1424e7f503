package protocol

import "strconv"

// The functions of this file write one piece of a reply or of a request behind
// b and return the longer slice. None of them allocates when b has the room.

// AppendSimple appends a simple string: "+s". A CR or LF in s becomes a space.
func AppendSimple(b []byte, s string) []byte {
	b = append(b, '+')
	b = appendLine(b, s)
	return append(b, '\r', '\n')
}

// AppendOK appends the reply of a command that has nothing else to say.
func AppendOK(b []byte) []byte { return append(b, "+OK\r\n"...) }

// AppendError appends an error reply: "-CODE message". A CR or LF in the
// message becomes a space, so that no message can forge a second reply.
func AppendError(b []byte, e *Error) []byte { return AppendErrorCode(b, e.Code, e.Message) }

// AppendErrorCode appends an error reply from its two parts.
func AppendErrorCode(b []byte, code Code, message string) []byte {
	b = append(b, '-')
	b = append(b, code...)
	if message != "" {
		b = append(b, ' ')
		b = appendLine(b, message)
	}
	return append(b, '\r', '\n')
}

func appendLine(b []byte, s string) []byte {
	start := len(b)
	b = append(b, s...)
	for i := start; i < len(b); i++ {
		if b[i] == '\r' || b[i] == '\n' {
			b[i] = ' '
		}
	}
	return b
}

// AppendInt appends an integer: ":n".
func AppendInt(b []byte, n int64) []byte { return appendHeader(b, ':', n) }

// AppendBulk appends a bulk string, any bytes: "$len" and the bytes.
func AppendBulk(b, value []byte) []byte {
	b = appendHeader(b, '$', int64(len(value)))
	b = append(b, value...)
	return append(b, '\r', '\n')
}

// AppendBulkString appends a bulk string from a string.
func AppendBulkString(b []byte, value string) []byte {
	b = appendHeader(b, '$', int64(len(value)))
	b = append(b, value...)
	return append(b, '\r', '\n')
}

// AppendBulkInt appends a number as a bulk string, as requests carry numbers.
func AppendBulkInt(b []byte, n int64) []byte {
	var digits [20]byte
	return AppendBulk(b, strconv.AppendInt(digits[:0], n, 10))
}

// AppendBulkUint appends an unsigned number as a bulk string.
func AppendBulkUint(b []byte, n uint64) []byte {
	var digits [20]byte
	return AppendBulk(b, strconv.AppendUint(digits[:0], n, 10))
}

// AppendNull appends the null bulk string: there is no such value.
func AppendNull(b []byte) []byte { return append(b, "$-1\r\n"...) }

// AppendNullArray appends the null array: there is no such list.
func AppendNullArray(b []byte) []byte { return append(b, "*-1\r\n"...) }

// AppendArray appends the header of an array; its n elements must follow.
func AppendArray(b []byte, n int) []byte { return appendHeader(b, '*', int64(n)) }

// AppendCommandHeader appends the header of a request of n arguments, the name
// among them; n bulk strings must follow.
func AppendCommandHeader(b []byte, n int) []byte { return appendHeader(b, '*', int64(n)) }

// AppendRequest appends a request: a command name and its arguments.
func AppendRequest(b []byte, name string, args ...[]byte) []byte {
	b = AppendCommandHeader(b, 1+len(args))
	b = AppendBulkString(b, name)
	for _, arg := range args {
		b = AppendBulk(b, arg)
	}
	return b
}

// AppendRequestStrings appends a request whose arguments are strings.
func AppendRequestStrings(b []byte, name string, args ...string) []byte {
	b = AppendCommandHeader(b, 1+len(args))
	b = AppendBulkString(b, name)
	for _, arg := range args {
		b = AppendBulkString(b, arg)
	}
	return b
}

func appendHeader(b []byte, kind byte, n int64) []byte {
	b = append(b, kind)
	b = strconv.AppendInt(b, n, 10)
	return append(b, '\r', '\n')
}
