package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/protocol"
)

// Who may do what. Where tokens are asked for, every connection is a stranger's until one
// was shown that is good here. What the gateway answers by itself it holds to that; what
// goes through to a node, the node looks at again.

const (
	// strangerRequest bounds a request of a connection that has shown nothing: what a token
	// needs, and a little more. strangerMessage is the WebSocket message around it.
	strangerRequest = auth.MaxToken + 256
	strangerMessage = 2 * auth.MaxToken
	// keysEvery is how often the file with the keys is looked at.
	keysEvery = time.Second
	// tellFailures is how often the log tells of tokens that were not taken.
	tellFailures = time.Second
)

// strangerLimits bound a request before AUTH.
func strangerLimits() protocol.Limits {
	const args = 64
	return protocol.Limits{MaxInline: strangerRequest, MaxArgs: args, MaxKey: strangerRequest, MaxValue: strangerRequest, MaxRequest: strangerRequest}
}

// doorkeeper is what a gateway knows of tokens.
type doorkeeper struct {
	keys   *auth.Keys // nil: authentication is off
	shares auth.Shares
	told   atomic.Int64 // when the log last told of a failure, unix milliseconds
}

// openKeys loads the keys that tokens are verified with, if authentication is on.
func (g *Gateway) openKeys(s *Seams) (err error) {
	if g.doorkeeper.keys = s.Keys; s.Keys != nil || g.config.KeysFile == "" {
		return nil
	}
	if g.doorkeeper.keys, err = auth.LoadKeys(g.config.KeysFile); err != nil {
		return fmt.Errorf("QUOIT_TOKEN_KEYS_FILE: %w", err)
	}
	return nil
}

// followKeys looks at the file with the keys until ctx ends.
func (g *Gateway) followKeys(ctx context.Context) {
	g.doorkeeper.keys.Follow(ctx, keysEvery, func(err error) {
		if err != nil {
			g.stats.keyErrors.Add(1)
			g.log.Error("the keys that tokens are verified with cannot be read; the ones from before stay in force (QUOIT_TOKEN_KEYS_FILE)", "err", err)
			return
		}
		g.log.Info("the keys that tokens are verified with are others now", "keys", g.doorkeeper.keys.Len())
	})
}

// asks says whether tokens are asked for.
func (g *Gateway) asks() bool { return g.doorkeeper.keys != nil }

// stranger is who has shown nothing.
func (g *Gateway) stranger() *auth.Principal {
	if g.asks() {
		return auth.Anonymous()
	}
	return auth.Open()
}

// verify says whose a token is.
func (g *Gateway) verify(token []byte, from string) (*auth.Principal, *protocol.Error) {
	p, err := g.doorkeeper.keys.Authenticate(token, g.clock.now())
	if err == nil {
		g.stats.tokensTaken.Add(1)
		return p, nil
	}
	g.stats.tokensRefused.Add(1)
	now, last := g.clock.now().UnixMilli(), g.doorkeeper.told.Load()
	if now-last >= tellFailures.Milliseconds() && g.doorkeeper.told.CompareAndSwap(last, now) {
		g.log.Warn("a token was not taken", "client", from, "why", err)
	}
	return nil, auth.Refusal(err)
}

// bearer is who is on a connection. All but overstays is for the goroutine that takes its
// requests.
type bearer struct {
	at    *Gateway
	share *auth.Share
	is    atomic.Pointer[auth.Principal]
	since atomic.Int64 // since when it has had no right to be there, coarse; 0: it has
}

// begin makes it a stranger.
func (b *bearer) begin(g *Gateway) {
	b.at = g
	b.is.Store(g.stranger())
	b.since.Store(g.clock.coarse())
}

func (b *bearer) who() *auth.Principal { return b.is.Load() }

// known says whether it has shown a token, or need not.
func (b *bearer) known() bool { return b.who().Kind() != auth.AnonymousKind }

// lapsed is why its token counts no more, nil while it does.
func (b *bearer) lapsed() *protocol.Error { return b.who().Ended(b.at.clock.coarse()) }

// candidate is a token that is good here, before it is in force.
type candidate struct {
	who   *auth.Principal
	share *auth.Share
}

// check says whether a token is good here and has a connection left.
func (b *bearer) check(token []byte, from string) (candidate, *protocol.Error) {
	p, refusal := b.at.verify(token, from)
	if refusal != nil {
		return candidate{}, refusal
	}
	b.share.Leave() // the same token may come again: its place is free
	b.share = nil
	share, full := b.at.doorkeeper.shares.Enter(p, b.at.clock.coarse())
	if full != nil {
		b.at.stats.tokensCrowded.Add(1)
		return candidate{}, full
	}
	return candidate{p, share}, nil
}

// adopt puts a candidate into force.
func (b *bearer) adopt(c candidate) {
	b.share.Leave()
	b.share = c.share
	b.is.Store(c.who)
}

// forget makes it a stranger again.
func (b *bearer) forget() {
	b.adopt(candidate{who: b.at.stranger()})
}

// depart gives back what it holds.
func (b *bearer) depart() {
	b.share.Leave()
	b.share = nil
}

// denies says why a stranger may not ask for something; nil if it may, or is none.
func (b *bearer) denies(cmd protocol.Command, args [][]byte) *protocol.Error {
	if b.known() {
		return nil
	}
	refusal := auth.Authorize(b.who(), b.at.clock.coarse(), cmd, args)
	if refusal != nil {
		b.at.stats.noAuth.Add(1)
	}
	return refusal
}

// overstays says, for the sweeper, why the connection has been there for too long without
// a right to be: a stranger's, or one whose token has ended.
func (b *bearer) overstays() *protocol.Error {
	ended := b.lapsed()
	switch {
	case ended == nil && b.known():
		b.since.Store(0)
		return nil
	case b.since.Load() == 0:
		b.since.Store(b.at.clock.coarse())
		return nil
	case !b.at.clock.overdue(b.since.Load(), b.at.times.Handshake):
		return nil
	case ended != nil:
		return ended
	}
	return &protocol.Error{Code: protocol.NOAUTH, Message: "nobody has authenticated within " + b.at.times.Handshake.String() + ": AUTH with a token comes first"}
}

// orStranger is what a request is answered that is wrong: a stranger is not told what.
func (b *bearer) orStranger(refusal *protocol.Error) *protocol.Error {
	if stranger := b.denies(protocol.CmdPing, nil); stranger != nil {
		return stranger
	}
	return refusal
}

// tokenOf is the token that a request shows, nil if it shows none.
func tokenOf(cmd protocol.Command, args [][]byte) ([]byte, error) {
	switch cmd {
	case protocol.CmdAuth:
		in, err := protocol.ParseAuth(args)
		return in.Password, err
	case protocol.CmdHello:
		in, err := protocol.ParseHello(args)
		if err != nil || !in.HasAuth {
			return nil, err
		}
		return in.Auth.Password, nil
	}
	return nil, errors.New("gateway: not a request that shows a token")
}
