package auth

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/quoitdb/quoit/protocol"
)

// Shares keeps what the connections of one server that have shown the same token have
// together: how many they are, and how many requests a second they send. It remembers a
// token as long as one of them is open. The zero value is ready.
type Shares struct {
	mu sync.Mutex
	by map[shareKey]*Share // guarded by mu
}

// shareKey names a token: two issuers may have had the same idea for a jti.
type shareKey struct{ key, id string }

// Share is one connection's place in what its token's connections have together. A nil
// one is of a principal without limits.
type Share struct {
	of          *Shares
	name        shareKey
	connections int // guarded by of.mu
	rate        *rate.Limiter
}

// errTooManyConnections and errTooFast are what a client is told whose token's limits are
// reached.
var (
	errTooManyConnections = &protocol.Error{Code: protocol.OVERLOADED, Message: "the token has as many connections to this server as it may: close one, or get a token with more"}
	errTooFast            = &protocol.Error{Code: protocol.OVERLOADED, Message: "the token sends more requests a second than it may; wait and send again"}
)

// Enter gives a connection of p its place at the time now (unix milliseconds), or says
// why there is none. Leave gives it back. What the newest token with a name says holds
// for all that have its name.
func (s *Shares) Enter(p *Principal, now int64) (*Share, *protocol.Error) {
	c := p.Claims()
	if c == nil || c.Connections == 0 && c.Rate == 0 {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := shareKey{c.KeyID, c.ID}
	share := s.by[name]
	limit, burst := perSecond(c.Rate)
	switch {
	case share == nil:
		share = &Share{of: s, name: name, rate: rate.NewLimiter(limit, burst)}
	case c.Connections > 0 && share.connections >= c.Connections:
		return nil, errTooManyConnections
	case share.rate.Limit() != limit:
		at := time.UnixMilli(now)
		share.rate.SetLimitAt(at, limit)
		share.rate.SetBurstAt(at, burst)
	}
	if s.by == nil {
		s.by = make(map[shareKey]*Share)
	}
	s.by[name] = share
	share.connections++
	return share, nil
}

// perSecond is a rate in the words of the bucket that keeps it.
func perSecond(n int) (limit rate.Limit, burst int) {
	if n == 0 {
		return rate.Inf, 0
	}
	return rate.Limit(n), n
}

// Leave gives a place back.
func (s *Share) Leave() {
	if s == nil {
		return
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.connections--; s.connections == 0 {
		delete(s.of.by, s.name)
	}
}

// Take counts a request at the time now (unix milliseconds), or says that it is one too
// many.
func (s *Share) Take(now int64) *protocol.Error {
	if s == nil || s.rate.AllowN(time.UnixMilli(now), 1) {
		return nil
	}
	return errTooFast
}

// Len is how many tokens are remembered.
func (s *Shares) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.by)
}
