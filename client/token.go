package client

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

// WithToken has every connection, those of watches too, begin with AUTH and a token
// from source: nothing else is sent before the node has taken it. source is asked for
// each connection that is opened, so a token that is about to expire may be another one
// then; it has half a minute, and may be called by several goroutines at once.
//
// Where a node says that the token of an open connection is not valid any more, the
// request is sent once again, over a new connection with a token that source gives then,
// and a watch goes on where it was. A node that does not take the new one either ends
// the call, or the watch, with ErrUnauthenticated. That source fails is waited out as
// a node is that cannot be reached.
//
// A cluster that authenticates nobody is used all the same, so that clients can have
// their tokens before it asks for them.
func WithToken(source func(ctx context.Context) (string, error)) Option {
	return func(o *options) { o.token = source }
}

// tokenError means that there is no token to connect with.
type tokenError struct{ err error }

func (e *tokenError) Error() string { return "client: no token to connect with: " + e.err.Error() }
func (e *tokenError) Unwrap() error { return e.err }

var errEmptyToken = errors.New("it is empty")

// nextToken is the one for a connection that is about to be opened, "" when there is
// no source.
func (e *environment) nextToken(ctx context.Context) (string, error) {
	if e.token == nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTime)
	defer cancel()
	token, err := e.token(ctx)
	if err == nil && token == "" {
		err = errEmptyToken
	}
	if err != nil {
		return "", &tokenError{err: err}
	}
	return token, nil
}

const (
	// tokenTime is how long a source has for a token: it may have to ask a server.
	tokenTime = 30 * time.Second
	// authReply bounds what a node may say to AUTH.
	authReply = 4 << 10
)

// authenticate says AUTH on a new connection and waits for the answer.
func (n *node) authenticate(ctx context.Context, stream Conn, token string) error {
	defer context.AfterFunc(ctx, func() { stream.Close() })()
	r, err := roundTrip(stream, protocol.AppendRequestStrings(nil, "AUTH", token), n.env.limits)
	switch {
	case ctx.Err() != nil:
		return &dialError{address: n.address, err: ctx.Err()}
	case errors.Is(err, errMoreReplies), err == nil && r.Kind != '+' && r.Kind != '-':
		return unexpected(n, "AUTH")
	case err != nil:
		return &linkError{node: n.address, err: err}
	case r.Kind == '+':
		return nil
	}
	refusal := r.Err()
	if refusal.AsksNobody() {
		return nil
	}
	if strings.Contains(refusal.Message, token) {
		refusal.Message = "the token is not taken (the reason that was given repeats it)"
	}
	return serverError(n, refusal)
}

var errMoreReplies = errors.New("client: more than the one reply came")

// roundTrip sends the first request of a connection and reads its reply.
func roundTrip(stream Conn, request []byte, limits protocol.Limits) (protocol.Reply, error) {
	if _, err := stream.Write(request); err != nil {
		return protocol.Reply{}, err
	}
	parser := protocol.ReplyParser{Limits: limits}
	buf, have := make([]byte, authReply), 0
	for {
		n, err := stream.Read(buf[have:])
		have += n
		r, took, perr := parser.Next(buf[:have])
		switch {
		case perr != nil:
			return r, perr
		case took > 0 && took < have, took == 0 && have == len(buf):
			return r, errMoreReplies
		case took > 0:
			return r, nil
		case err != nil:
			return r, err
		}
	}
}
