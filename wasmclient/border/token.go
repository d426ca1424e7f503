package border

import (
	"context"
	"errors"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/protocol"
)

// tokenTime is how long a page may take to give a token: it may have to ask a server,
// or a person, but a connection waits for it.
const tokenTime = 30 * time.Second

// closeUnauthenticated is how a gateway closes a WebSocket without a good token.
const closeUnauthenticated = 4006

// tokenAnswer is a token, or why there is none.
type tokenAnswer struct{ token, problem string }

// token asks the page for the token of one of its sources.
func (b *Border) token(ctx context.Context, source uint32) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTime)
	defer cancel()
	answer := make(chan tokenAnswer, 1)
	b.mu.Lock()
	b.lastAsk++
	ask := b.lastAsk
	b.asks[ask] = answer
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.asks, ask)
		b.mu.Unlock()
	}()
	b.page.Token(source, ask)
	select {
	case a := <-answer:
		if a.problem != "" {
			return "", errors.New("the page's token function failed: " + a.problem)
		}
		return a.token, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// Answer is what the page says to Page.Token: a token, or else what is wrong.
func (b *Border) Answer(ask uint32, token, problem string) {
	b.mu.Lock()
	answer := b.asks[ask]
	delete(b.asks, ask)
	b.mu.Unlock()
	if answer != nil {
		answer <- tokenAnswer{token, problem}
	}
}

// introduce is the first message to a gateway's /v1/cluster: the token, or, for a page
// that has none, a question that a gateway answers at once which wants one.
func (f *feed) introduce(token string) []byte {
	if f.db.tokens == 0 {
		return protocol.AppendRequest(nil, "TOPOLOGY")
	}
	return protocol.AppendRequestStrings(nil, "AUTH", token)
}

// refusal is the error of a feed that has ended: a gateway says with a code that it
// wants a token, or another one. Called with mu held.
func (f *feed) refusal(err error) error {
	var end *CloseError
	if !errors.As(err, &end) || end.Code != closeUnauthenticated {
		return err
	}
	return &client.ServerError{Code: protocol.NOAUTH, Message: end.Reason, Node: f.gateways[f.current]}
}
