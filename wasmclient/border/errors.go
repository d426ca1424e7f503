package border

import (
	"context"
	"errors"

	"github.com/quoitdb/quoit/client"
)

// argumentError says what is wrong with what was passed in.
type argumentError struct{ text string }

func (e *argumentError) Error() string { return e.text }

// crash is a panic that was caught.
type crash struct{ text string }

func (e *crash) Error() string { return "the client failed: " + e.text }

// codes are those of web/quoit.d.ts, by what errors.Is finds, in the order in which it
// is looked for: what may have happened to a write comes before why nobody knows.
func codes() []struct {
	is   error
	code string
} {
	return []struct {
		is   error
		code string
	}{
		{client.ErrOutcomeUnknown, "OUTCOME_UNKNOWN"},
		{client.ErrNotFound, "NOT_FOUND"},
		{client.ErrExists, "EXISTS"},
		{client.ErrClosed, "CLOSED"},
		{context.DeadlineExceeded, "TIMEOUT"},
		{context.Canceled, "ABORTED"},
		{client.ErrUnauthenticated, "NOAUTH"},
		{client.ErrForbidden, "NOPERM"},
	}
}

// codeOf is the code of an error.
func codeOf(err error) string {
	for _, c := range codes() {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	var (
		version  *client.VersionError
		reply    *client.ReplyError
		server   *client.ServerError
		unknown  *client.UnknownNodeError
		argument *argumentError
		crashed  *crash
	)
	switch {
	case errors.As(err, &version):
		return "VERSION_CONFLICT"
	case errors.As(err, &argument), errors.As(err, &unknown):
		return "ARGUMENT"
	case errors.As(err, &crashed):
		return "CRASHED"
	case errors.As(err, &reply):
		return "PROTOCOL"
	case errors.As(err, &server) && !server.Code.Retryable() && server.Code != "MOVED":
		return "SERVER"
	}
	return "UNAVAILABLE"
}

// appendError appends an error as quoit.js reads it:
//
//	bytes code, bytes cause (the code of what ended the wait, where the outcome is
//	unknown), bytes message, bytes node, bytes server code, u64 current version
func appendError(b []byte, err error) []byte {
	code, cause := codeOf(err), ""
	if code == "OUTCOME_UNKNOWN" {
		cause = causeOf(err)
	}
	b = appendBytes(appendBytes(b, code), cause)
	b = appendBytes(b, err.Error())
	var (
		server  *client.ServerError
		reply   *client.ReplyError
		version *client.VersionError
		node    string
		word    string
		current uint64
	)
	if errors.As(err, &reply) {
		node = reply.Node
	}
	if errors.As(err, &server) {
		node, word = server.Node, string(server.Code)
	}
	if errors.As(err, &version) {
		current = uint64(version.Current)
	}
	return appendU64(appendBytes(appendBytes(b, node), word), current)
}

func causeOf(err error) string {
	switch {
	case errors.Is(err, client.ErrClosed):
		return "CLOSED"
	case errors.Is(err, context.DeadlineExceeded):
		return "TIMEOUT"
	case errors.Is(err, context.Canceled):
		return "ABORTED"
	}
	return "UNAVAILABLE"
}
