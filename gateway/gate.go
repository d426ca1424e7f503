package gateway

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/internal/places"
)

// gate counts the connections of both doors, from accept to close, so also those
// that have not said a word yet. It bounds all of them, and those of one address.
type gate struct {
	most int

	mu    sync.Mutex
	all   int          // guarded by mu
	by    places.Count // guarded by mu
	stats *stats
}

func newGate(c LimitConfig, s *stats) *gate {
	return &gate{most: c.Connections, by: places.Count{Most: c.PerAddress}, stats: s}
}

// Why the gate lets nobody in. The text is what the client is told.
var (
	errFull    = errors.New("the gateway has as many connections as it may (QUOIT_GATEWAY_MAX_CONNECTIONS)")
	errTooMany = errors.New("the gateway has as many connections from your address as it may (QUOIT_GATEWAY_MAX_PER_ADDRESS)")
)

// admit takes a place, or says why there is none.
func (g *gate) admit(from netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.all >= g.most:
		return errFull
	case !g.by.Enter(from):
		return errTooMany
	}
	g.all++
	return nil
}

func (g *gate) release(from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	g.by.Leave(from)
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all
}

// entrance is a listener behind the gate.
type entrance struct {
	net.Listener
	gate     *gate
	log      *slog.Logger
	refusal  func(why error) []byte // what a client is told who is not let in
	stopping <-chan struct{}

	farewells atomic.Int32
	busy      sync.WaitGroup // farewells
}

const (
	// maxFarewells bounds the goroutines that tell a refused client why.
	maxFarewells = 64
	// acceptPause is how long accepting rests when the process has no descriptors left.
	acceptPause = 50 * time.Millisecond
	lingerTime  = 250 * time.Millisecond
	lingerBytes = 1 << 20
)

// Accept returns the next connection that has a place. It only fails once the
// listener is closed: a full process table is no reason to stop.
func (e *entrance) Accept() (net.Conn, error) {
	for {
		nc, err := e.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil, err
			}
			e.log.Warn("cannot accept a connection", "err", err)
			select {
			case <-time.After(acceptPause):
				continue
			case <-e.stopping:
				return nil, err
			}
		}
		from := places.From(nc.RemoteAddr())
		if why := e.gate.admit(from); why != nil {
			e.turnAway(nc, why)
			continue
		}
		e.gate.stats.accepted.Add(1)
		return &admitted{Conn: nc, leave: sync.OnceFunc(func() { e.gate.release(from) })}, nil
	}
}

// turnAway tells a client that there is no room, unless too many are being told.
func (e *entrance) turnAway(nc net.Conn, why error) {
	e.gate.stats.refused(why)
	if e.farewells.Add(1) > maxFarewells {
		e.farewells.Add(-1)
		_ = nc.Close()
		return
	}
	e.busy.Go(func() {
		defer e.farewells.Add(-1)
		defer func() { _ = nc.Close() }()
		_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := nc.Write(e.refusal(why)); err == nil {
			linger(nc, lingerTime)
		}
	})
}

// admitted gives its place back when it is closed.
type admitted struct {
	net.Conn
	leave func()
}

// Close may be called more than once.
func (a *admitted) Close() error {
	defer a.leave()
	return a.Conn.Close()
}

// CloseWrite ends the sending half, if the connection has halves.
func (a *admitted) CloseWrite() error {
	half, ok := a.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// linger lets the client read its last replies: closing with unread bytes in the
// kernel would reset the connection and throw them away.
func linger(nc net.Conn, patience time.Duration) {
	half, ok := nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = nc.SetReadDeadline(time.Now().Add(patience))
	_, _ = io.CopyN(io.Discard, nc, lingerBytes)
}
