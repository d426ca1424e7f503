package auth

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/quoitdb/quoit/protocol"
)

const (
	// keysEvery is how often the file with the keys is looked at.
	keysEvery = time.Second
	// tellEvery is how often the log tells of tokens that were not taken: a stranger must
	// not be able to fill it.
	tellEvery = time.Second
)

// strangerRequest bounds a request before AUTH: what a token needs, and a little more.
const strangerRequest = MaxToken + 256

// StrangerLimits bound a request of a connection that has proved nothing.
func StrangerLimits() protocol.Limits {
	const args = 64
	return protocol.Limits{MaxInline: strangerRequest, MaxArgs: args, MaxKey: strangerRequest, MaxValue: strangerRequest, MaxRequest: strangerRequest}
}

// Guard is what one server knows of who may do what: the keys, what connections with the
// same token have together, and how often it has said no. Its connections are Guests.
type Guard struct {
	what   string // the server, for people: node, manager, gateway
	keys   *Keys  // nil: authentication is off
	log    *slog.Logger
	shares Shares

	told      atomic.Int64  // when the log last told of a token, unix milliseconds
	keyErrors atomic.Uint64 // the file with the keys could not be used
	// Requests that were refused for who sent them, and tokens that were not taken.
	noAuth, noPerm, tooFast, tooMany atomic.Uint64
	invalid, expired, early, claims  atomic.Uint64
	taken                            atomic.Uint64
}

// NewGuard makes the guard of a server: what it is called is for messages. Without keys
// authentication is off.
func NewGuard(what string, keys *Keys, log *slog.Logger) *Guard {
	return &Guard{what: what, keys: keys, log: log}
}

// On says whether authentication is on.
func (g *Guard) On() bool { return g.keys != nil }

// Follow looks at the file with the keys again and again until ctx ends.
func (g *Guard) Follow(ctx context.Context) {
	if g.keys == nil {
		return
	}
	g.tellExposed()
	g.keys.Follow(ctx, keysEvery, func(err error) {
		if err != nil {
			g.keyErrors.Add(1)
			g.log.Error("the keys that tokens are verified with cannot be used; the ones from before stay in force (QUOIT_TOKEN_KEYS_FILE)", "err", err)
			return
		}
		g.log.Info("the keys that tokens are verified with are others now (QUOIT_TOKEN_KEYS_FILE)", "keys", g.keys.Len())
		g.tellExposed()
	})
}

// tellExposed tells of secrets that others on the machine may read: whoever has them makes
// tokens. It may be meant so, as with files that a container is given.
func (g *Guard) tellExposed() {
	if g.keys.Exposed() {
		g.log.Warn("others on this machine may read the secrets that tokens are verified with, and make tokens with them (QUOIT_TOKEN_KEYS_FILE): chmod 600, or give servers the public halves of pairs (quoit token public)")
	}
}

// Guest is who is on one connection of a server. It belongs to one goroutine.
type Guest struct {
	guard *Guard
	who   *Principal // never nil
	share *Share
}

// Guest is a new connection's: a stranger, unless authentication is off.
func (g *Guard) Guest() Guest { return Guest{guard: g, who: g.stranger()} }

func (g *Guard) stranger() *Principal {
	if g.keys == nil {
		return Open()
	}
	return Anonymous()
}

// Known says whether the guest has proved something, or need not.
func (c *Guest) Known() bool { return c.who.Kind() != AnonymousKind }

// Who is on the connection, never nil.
func (c *Guest) Who() *Principal { return c.who }

// Authorize is Authorize for the guest, with the rate that its token has. It counts what
// it refuses; now is unix milliseconds.
func (c *Guest) Authorize(now int64, cmd protocol.Command, args [][]byte) *protocol.Error {
	err := Authorize(c.who, now, cmd, args)
	switch {
	case err != nil && err.Code == protocol.NOAUTH:
		c.guard.noAuth.Add(1)
		return err
	case c.share != nil && needs[cmd] != nothing:
		if fast := c.share.Take(now); fast != nil {
			c.guard.tooFast.Add(1)
			return fast
		}
	}
	if err != nil && err.Code == protocol.NOPERM {
		c.guard.noPerm.Add(1)
	}
	return err
}

// Unproved is what who has proved nothing is told, or does not count any more, instead of
// anything about the server; nil for others.
func (c *Guest) Unproved(now int64) *protocol.Error {
	stranger := c.who.Ended(now)
	if !c.Known() {
		stranger = errAnonymous
	}
	if stranger != nil {
		c.guard.noAuth.Add(1)
	}
	return stranger
}

// OrStranger is what a request is answered in which err is wrong: who has proved nothing,
// or does not count any more, is not told what. It counts for the token's rate like any
// other.
func (c *Guest) OrStranger(now int64, err *protocol.Error) *protocol.Error {
	if stranger := c.Unproved(now); stranger != nil {
		return stranger
	}
	if fast := c.share.Take(now); fast != nil {
		c.guard.tooFast.Add(1)
		return fast
	}
	return err
}

// Login takes a token in place of whatever the guest has shown before. After an error
// with code NOAUTH or OVERLOADED the connection is to be closed, once that has been told.
func (c *Guest) Login(token []byte, now time.Time, from string) *protocol.Error {
	g := c.guard
	if g.keys == nil {
		return protocol.AsksNobody(g.what)
	}
	next, err := c.Check(token, now, from)
	if err == nil {
		c.Adopt(next)
	}
	return err
}

// Verify says whose a token is, where tokens are asked for, and counts it.
func (g *Guard) Verify(token []byte, now time.Time, from string) (*Principal, *protocol.Error) {
	p, err := g.keys.Authenticate(token, now)
	if err != nil {
		g.notTaken(err, now, from)
		return nil, Refusal(err)
	}
	g.taken.Add(1)
	return p, nil
}

// Candidate is a token that is good, with its place among the connections that have shown
// it, before it is in force.
type Candidate struct {
	who   *Principal
	share *Share
}

// Drop gives the place back of one that does not come into force.
func (c Candidate) Drop() { c.share.Leave() }

// Check says whether a token is good here, where tokens are asked for, and has a connection
// left. The place of the token before it is given back: the same one may come again.
func (c *Guest) Check(token []byte, now time.Time, from string) (Candidate, *protocol.Error) {
	p, err := c.guard.Verify(token, now, from)
	if err != nil {
		return Candidate{}, err
	}
	c.share.Leave()
	c.share = nil
	share, full := c.guard.shares.Enter(p, now.UnixMilli())
	if full != nil {
		c.guard.tooMany.Add(1)
		return Candidate{}, full
	}
	return Candidate{p, share}, nil
}

// Adopt puts a candidate into force.
func (c *Guest) Adopt(next Candidate) {
	c.Forget()
	c.who, c.share = next.who, next.share
}

// Become makes the guest a member that has proved itself in another way.
func (c *Guest) Become(p *Principal) {
	c.Forget()
	c.who = p
}

// Forget makes the guest a stranger again. A connection that ends forgets.
func (c *Guest) Forget() {
	c.share.Leave()
	c.share, c.who = nil, c.guard.stranger()
}

// notTaken counts a token that is not good, and tells the log of it now and then.
func (g *Guard) notTaken(err error, now time.Time, from string) {
	switch {
	case errors.Is(err, ErrExpired):
		g.expired.Add(1)
	case errors.Is(err, ErrEarly):
		g.early.Add(1)
	case errors.Is(err, ErrClaims):
		g.claims.Add(1)
	default:
		g.invalid.Add(1)
	}
	at, last := now.UnixMilli(), g.told.Load()
	if at-last >= tellEvery.Milliseconds() && g.told.CompareAndSwap(last, at) {
		g.log.Warn("a token was not taken", "client", from, "why", err)
	}
}

// Figures is what a guard has counted.
type Figures struct {
	Tokens int // with limits, on connections that are open
	// Denied and NotTaken are by reason.
	Denied, NotTaken map[string]uint64
	KeyErrors, Taken uint64
}

// Figures are those of now.
func (g *Guard) Figures() Figures {
	return Figures{
		Tokens:    g.shares.Len(),
		Denied:    map[string]uint64{"noauth": g.noAuth.Load(), "noperm": g.noPerm.Load(), "rate": g.tooFast.Load(), "connections": g.tooMany.Load()},
		NotTaken:  map[string]uint64{"invalid": g.invalid.Load(), "expired": g.expired.Load(), "early": g.early.Load(), "claims": g.claims.Load()},
		KeyErrors: g.keyErrors.Load(), Taken: g.taken.Load(),
	}
}

// WriteMetrics is the guard's part of /metrics.
func (g *Guard) WriteMetrics(w io.Writer) {
	if g.keys == nil {
		return
	}
	f := g.Figures()
	write := func(name string, by map[string]uint64) {
		for _, reason := range slices.Sorted(maps.Keys(by)) {
			metrics.WriteCounterUint64(w, name+"{reason="+strconv.Quote(reason)+"}", by[reason])
		}
	}
	write("quoit_denied_total", f.Denied)
	write("quoit_auth_failures_total", f.NotTaken)
	metrics.WriteGaugeUint64(w, "quoit_auth_keys", uint64(g.keys.Len()))
	metrics.WriteCounterUint64(w, "quoit_auth_keys_errors_total", f.KeyErrors)
	metrics.WriteGaugeUint64(w, "quoit_auth_limited_tokens", uint64(f.Tokens))
}
