package gateway

import (
	"errors"
	"sync/atomic"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/protocol"
)

// Who may do what. Where tokens are asked for, every connection is a stranger's until one
// was shown that is good here. What the gateway answers by itself it holds to that; what
// goes through to a node, the node looks at again.

// strangerMessage bounds the WebSocket message around a request of a connection that has
// shown nothing.
const strangerMessage = 2 * auth.MaxToken

// openKeys loads the keys that tokens are verified with, where no seam has them.
func (g *Gateway) openKeys() error {
	keys, err := (&auth.Config{TokenKeysFile: g.config.KeysFile}).LoadKeys()
	g.tokens = auth.NewGuard("gateway", keys, g.log)
	return err
}

// asks says whether tokens are asked for.
func (g *Gateway) asks() bool { return g.tokens.On() }

// bearer is who is on a connection. All but overstays is for the goroutine that takes its
// requests.
type bearer struct {
	at    *Gateway
	guest auth.Guest
	is    atomic.Pointer[auth.Principal] // the guest, for the sweeper
	since atomic.Int64                   // since when it has had no right to be there, coarse; 0: it has
}

// begin makes it a stranger.
func (b *bearer) begin(g *Gateway) {
	b.at, b.guest = g, g.tokens.Guest()
	b.is.Store(b.guest.Who())
	b.since.Store(g.clock.coarse())
}

func (b *bearer) who() *auth.Principal { return b.is.Load() }

// known says whether it has shown a token, or need not.
func (b *bearer) known() bool { return b.who().Kind() != auth.AnonymousKind }

// lapsed is why its token counts no more, nil while it does.
func (b *bearer) lapsed() *protocol.Error { return b.who().Ended(b.at.clock.coarse()) }

// check says whether a token is good here and has a connection left.
func (b *bearer) check(token []byte, from string) (auth.Candidate, *protocol.Error) {
	return b.guest.Check(token, b.at.clock.now(), from)
}

// adopt puts a candidate into force.
func (b *bearer) adopt(c auth.Candidate) {
	b.guest.Adopt(c)
	b.is.Store(b.guest.Who())
}

// forget makes it a stranger again. A connection that ends forgets.
func (b *bearer) forget() {
	b.guest.Forget()
	b.is.Store(b.guest.Who())
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
