package protocol

import (
	"errors"
	"strconv"
	"strings"
)

// Code is the first word of an error reply: what a program branches on. The
// sentence after it is for a person and may change.
type Code string

// The codes. A request that is answered with one was not executed (one of several
// keys perhaps for some of them). A server that cannot say so closes the
// connection instead.
const (
	ERR         Code = "ERR"         // the request is wrong; sending it again will not help
	NOAUTH      Code = "NOAUTH"      // authenticate first
	NOPERM      Code = "NOPERM"      // authenticated, but not allowed to do this
	TOOLARGE    Code = "TOOLARGE"    // a key, value or request is over a limit
	READONLY    Code = "READONLY"    // the node takes no writes now (disk full); reads go on
	OOM         Code = "OOM"         // the node's memory is full: what needs more is refused, reads and removals go on
	OVERLOADED  Code = "OVERLOADED"  // a queue is full; wait and send again
	UNAVAILABLE Code = "UNAVAILABLE" // the node does not serve now (starting, draining, no topology)
	MOVED       Code = "MOVED"       // another node owns the key: MOVED <epoch> <host:port>
	TRYAGAIN    Code = "TRYAGAIN"    // the key is changing hands at this moment
	NOPROTO     Code = "NOPROTO"     // HELLO asked for a protocol version that is not spoken, or plain text came to a TLS port
	WRONGTYPE   Code = "WRONGTYPE"   // the value is not what the command needs
	VERSION     Code = "VERSION"     // compare-and-set lost: VERSION <current> ...
)

// Retryable says that the same request may succeed on the same node a little
// later. MOVED is not among them: there the other node has to be asked.
func (c Code) Retryable() bool {
	return c == TRYAGAIN || c == OVERLOADED || c == UNAVAILABLE
}

// Error is an error reply: what the other side answered, or what this side is
// going to answer.
type Error struct {
	Code    Code
	Message string
}

// Error is the reply as it stands on the wire, without the leading "-".
func (e *Error) Error() string {
	if e.Message == "" {
		return string(e.Code)
	}
	return string(e.Code) + " " + e.Message
}

// noPassword ends the reply of AsksNobody.
const noPassword = " has no password; connect without one"

// AsksNobody is the reply to a token where nobody is asked for one: a client that was given
// one believes that it is needed, and should learn that it is not. what is the server, for
// people: node, manager, gateway.
func AsksNobody(what string) *Error {
	return &Error{Code: ERR, Message: "AUTH: this " + what + noPassword}
}

// AsksNobody says whether that is what a server has answered, and nothing else.
func (e *Error) AsksNobody() bool {
	return e.Code == ERR && strings.HasSuffix(e.Message, noPassword)
}

// Moved is the reply that sends a client to the owner of a key. The epoch is
// that of the topology in which addr owns it.
func Moved(epoch uint64, addr string) *Error {
	return &Error{Code: MOVED, Message: strconv.FormatUint(epoch, 10) + " " + addr}
}

// ParseMoved takes a MOVED reply apart; ok is false when e is another error
// (or nil), or one whose epoch or address cannot be read.
func ParseMoved(e *Error) (epoch uint64, addr string, ok bool) {
	if e == nil || e.Code != MOVED {
		return 0, "", false
	}
	number, addr, _ := strings.Cut(e.Message, " ")
	epoch, err := strconv.ParseUint(number, 10, 64)
	if err != nil || addr == "" || strings.ContainsAny(addr, " \t") {
		return 0, "", false
	}
	return epoch, addr, true
}

// VersionMismatch is the reply to a compare-and-set that lost. The version is
// the one the key has now, 0 when there is no such key.
func VersionMismatch(current uint64) *Error {
	return &Error{Code: VERSION, Message: strconv.FormatUint(current, 10) + " is the current version of the key"}
}

// ParseVersionMismatch takes a VERSION reply apart; ok is false when e is
// another error (or nil), or one whose version cannot be read.
func ParseVersionMismatch(e *Error) (current uint64, ok bool) {
	if e == nil || e.Code != VERSION {
		return 0, false
	}
	number, _, _ := strings.Cut(e.Message, " ")
	current, err := strconv.ParseUint(number, 10, 64)
	return current, err == nil
}

// ErrCrossProtocol means that an HTTP client talks to this port: a browser was
// made to send a request whose body would be read as commands; or an SSH client. The connection
// is to be closed without an answer, and nothing after the offending line read.
var ErrCrossProtocol = errors.New("protocol: a client of another protocol, HTTP or SSH")

// ProtocolError means that the bytes are not what the protocol allows, so that
// nobody can say where the next request or reply begins: answer Reply and close.
type ProtocolError struct {
	Code    Code // ERR, or TOOLARGE when a declared size is over a limit
	Message string
}

// Error names the defect.
func (e *ProtocolError) Error() string { return "protocol: " + e.Message }

// Reply is what the peer is told before the connection is closed.
func (e *ProtocolError) Reply() *Error {
	return &Error{Code: e.Code, Message: "Protocol error: " + e.Message}
}

// AsError gives the error reply for err: err itself when it is (or wraps) an
// *Error, the Reply of a *ProtocolError, and code ERR with err's text for
// anything else. It is nil for a nil err.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var reply *Error
	if errors.As(err, &reply) {
		return reply
	}
	var broken *ProtocolError
	if errors.As(err, &broken) {
		return broken.Reply()
	}
	return &Error{Code: ERR, Message: err.Error()}
}
