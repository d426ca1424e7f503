package client

import (
	"errors"
	"strconv"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

// Errors that a caller branches on.
var (
	// ErrNotFound means that there is no such key.
	ErrNotFound = errors.New("client: key not found")

	// ErrExists means that a Put with IfAbsent found the key.
	ErrExists = errors.New("client: key exists already")

	// ErrClosed means that the client was closed before or during the call.
	ErrClosed = errors.New("client: closed")

	// ErrOutcomeUnknown means that a write was sent and its answer did not
	// arrive: it may or may not have happened. Read before writing again.
	ErrOutcomeUnknown = errors.New("client: outcome unknown, the write was sent but not answered")

	// ErrUnauthenticated means that the node asks for a token and there is none
	// (WithToken), or that it does not take the one there is: the *ServerError says why.
	ErrUnauthenticated = errors.New("client: not authenticated")

	// ErrForbidden means that the token does not allow what was asked.
	ErrForbidden = errors.New("client: not allowed")
)

// Version orders the values that a key has had: each write gives it a higher
// one. 0 stands for "there is no such key".
type Version uint64

// ParseVersion reads a version as Version.String writes it.
func ParseVersion(text string) (Version, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, errors.New("client: version " + strconv.Quote(text) + " is not a decimal number")
	}
	return Version(n), nil
}

// String returns the version in decimal.
func (v Version) String() string { return strconv.FormatUint(uint64(v), 10) }

// VersionError means that a CompareAndPut lost: the key has another version
// than the one expected, and was not changed.
type VersionError struct {
	Current Version // 0: there is no such key
}

// Error names the version that the key has.
func (e *VersionError) Error() string {
	if e.Current == 0 {
		return "client: the version does not match, the key does not exist"
	}
	return "client: the version does not match, the key has " + e.Current.String()
}

// ServerError is an error that a node answered.
type ServerError struct {
	Code    protocol.Code
	Message string
	Node    string // who said it
}

// Error is what the node said, and its address.
func (e *ServerError) Error() string {
	return "client: " + e.Node + " answered " + string(e.Code) + " " + e.Message
}

// Is makes errors of what a caller branches on.
func (e *ServerError) Is(target error) bool {
	return target == ErrUnauthenticated && e.Code == protocol.NOAUTH || target == ErrForbidden && e.Code == protocol.NOPERM
}

// KeyError says for which key of a call on many keys something went wrong.
type KeyError struct {
	Key string
	Err error
}

// Error names the key.
func (e *KeyError) Error() string { return strconv.Quote(e.Key) + ": " + e.Err.Error() }

// Unwrap returns what went wrong.
func (e *KeyError) Unwrap() error { return e.Err }

// ReplyError means that a node answered something that is not an answer to
// what it was asked: it speaks another version of the protocol, or is no node.
type ReplyError struct {
	Node    string
	Command string
	Err     error // what is wrong with the answer, nil when it is of another kind
}

// Error names the node and the command.
func (e *ReplyError) Error() string {
	text := "client: " + e.Node + " gave " + e.Command + " an answer that is none"
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns what is wrong with the answer.
func (e *ReplyError) Unwrap() error { return e.Err }

func unexpected(n *node, command string) error {
	return &ReplyError{Node: n.address, Command: command}
}

// linkError says on the way to which node a connection broke.
type linkError struct {
	node string
	err  error
}

func (e *linkError) Error() string {
	return "client: connection to " + e.node + " lost: " + e.err.Error()
}

func (e *linkError) Unwrap() error { return e.err }

// serverError turns an error reply into what the caller gets.
func serverError(n *node, e *protocol.Error) error {
	if current, ok := protocol.ParseVersionMismatch(e); ok {
		return &VersionError{Current: Version(current)}
	}
	return &ServerError{Code: e.Code, Message: e.Message, Node: n.address}
}

// gaveUp is the end of a request that was tried more than once, or that its
// context cut short.
type gaveUp struct {
	tries   int
	elapsed time.Duration
	cause   error // why it ended: the context's error, nil for the retry budget
	last    error // what the last try came to, nil when it had not come to anything
	unknown bool  // a write was under way
}

// Error tells the whole story in one line.
func (e *gaveUp) Error() string {
	text := "client: gave up"
	if e.tries > 1 {
		text += " after " + strconv.Itoa(e.tries) + " tries in " + e.elapsed.Round(time.Millisecond).String()
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	if e.unknown {
		text += ": outcome unknown, the write was sent but not answered"
	}
	if e.last != nil {
		text += ": " + e.last.Error()
	}
	return text
}

// Unwrap lets errors.Is and errors.As find every part.
func (e *gaveUp) Unwrap() []error {
	parts := make([]error, 0, 3)
	if e.cause != nil {
		parts = append(parts, e.cause)
	}
	if e.unknown {
		parts = append(parts, ErrOutcomeUnknown)
	}
	if e.last != nil {
		parts = append(parts, e.last)
	}
	return parts
}
