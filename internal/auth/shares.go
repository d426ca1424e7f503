package auth

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/quoitdb/quoit/protocol"
)

// Shares keeps what the connections of one server that have shown the same token have
// together: how many they are, and how many requests a second they send. It remembers a
// token as long as one of them is open, and then until its rate has nothing to remember
// any more: else who connects anew would have all of it again. The zero value is ready.
type Shares struct {
	mu   sync.Mutex
	by   map[shareKey]*Share // guarded by mu
	left []*Share            // without connections, unless one has come since; guarded by mu
}

// shareKey names a token: two issuers may have had the same idea for a jti.
type shareKey struct{ key, id string }

// Share is one connection's place in what its token's connections have together. A nil
// one is of a principal without limits.
type Share struct {
	of          *Shares
	name        shareKey
	connections int  // guarded by of.mu
	leaving     bool // it is in of.left; guarded by of.mu
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
	s.forget(time.UnixMilli(now))
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
	all := s.of
	all.mu.Lock()
	defer all.mu.Unlock()
	switch s.connections--; {
	case s.connections > 0 || s.leaving:
	case s.rate.Limit() == rate.Inf:
		delete(all.by, s.name)
	default:
		s.leaving = true
		all.left = append(all.left, s)
	}
}

// forget forgets, at the time now, who has gone and might send at its full rate again.
// Called with mu held.
func (s *Shares) forget(now time.Time) {
	for len(s.left) > 0 {
		first := s.left[0]
		switch {
		case first.connections > 0: // it has come back
		case first.rate.TokensAt(now) < float64(first.rate.Burst()):
			return // those behind it have left later
		default:
			delete(s.by, first.name)
		}
		first.leaving = false
		s.left = s.left[1:]
	}
	s.left = nil
}

// Take counts a request at the time now (unix milliseconds), or says that it is one too
// many.
func (s *Share) Take(now int64) *protocol.Error {
	if s == nil || s.rate.AllowN(time.UnixMilli(now), 1) {
		return nil
	}
	return errTooFast
}

// Len is how many tokens have a connection.
func (s *Shares) Len() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, share := range s.by {
		if share.connections > 0 {
			n++
		}
	}
	return n
}
