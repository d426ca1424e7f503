package protocol

import "strconv"

// maxMemberName bounds the names of nodes and moves.
const maxMemberName = 255

// fields takes the arguments of a member's message one after the other. The
// first that is wrong is remembered, and all that are asked for later are zero.
type fields struct {
	command Command
	rest    [][]byte
	err     *Error
}

func fieldsOf(c Command, args [][]byte) fields {
	if !c.takes(args) {
		return fields{command: c, err: WrongArity(c)}
	}
	return fields{command: c, rest: args[1:]}
}

// result is the error, as the interface that it is returned as.
func (f *fields) result() error {
	if f.err == nil {
		return nil
	}
	return f.err
}

func (f *fields) fail(message string) {
	if f.err == nil {
		f.err = &Error{Code: ERR, Message: f.command.String() + ": " + message}
	}
}

// next is the next argument, any bytes.
func (f *fields) next() []byte {
	if f.err != nil {
		return nil
	}
	arg := f.rest[0]
	f.rest = f.rest[1:]
	return arg
}

// more says whether arguments are left, of a command that takes any number.
func (f *fields) more() bool { return f.err == nil && len(f.rest) > 0 }

func (f *fields) name(what string) []byte {
	arg := f.next()
	if len(arg) == 0 || len(arg) > maxMemberName || !isGraphic(arg) {
		f.fail(what + " is not a name of 1 to 255 printable characters without spaces")
	}
	return arg
}

func (f *fields) uint(what string, limit uint64) uint64 {
	n, ok := ParseUint(f.next())
	if !ok || n > limit {
		f.fail(what + " is not a number from 0 to " + strconv.FormatUint(limit, 10))
		return 0
	}
	return n
}

func (f *fields) position(what string) uint32 {
	const last = 1<<32 - 1
	return uint32(f.uint(what, last))
}

// appendMember begins a message with so many arguments behind its name.
func appendMember(b []byte, c Command, args int) []byte {
	return AppendBulkString(AppendCommandHeader(b, 1+args), c.Spec().Name)
}
