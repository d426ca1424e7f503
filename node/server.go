package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/inbox"
	"github.com/quoitdb/quoit/internal/places"
	"github.com/quoitdb/quoit/internal/seldom"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
)

// server accepts connections and bounds them: how many, how long they may sit
// still, how much memory they hold together. What they are answered comes from
// state.
type server struct {
	limits   protocol.Limits
	times    TimeConfig
	maxConns int
	// watches is how many there are, on all connections.
	maxWatches int
	watches    atomic.Int64
	budget     inbox.Budget
	guard      *auth.Guard
	trust      *auth.Trust
	distrusted seldom.Line
	clock      *clock
	state      *state
	stats      *stats
	members    members
	commands   *commandTable
	log        *slog.Logger
	about      about
	// unexpected are errors that no reply names whole, foreign those who speak another
	// protocol.
	unexpected, foreign seldom.Line
	// fail is told about a log that can no longer be trusted.
	fail func(error)
	ctx  context.Context // of member commands; set before accept

	listener     net.Listener
	stopping     chan struct{} // closed when draining begins
	handlers     sync.WaitGroup
	farewells    atomic.Int32 // refused connections that are still being told why
	farewellTime time.Duration
	roster       roster
}

// roster is who is connected.
type roster struct {
	mu    sync.Mutex
	conns map[uint64]*conn // by id; guarded by mu
	from  places.Count     // guarded by mu
	// strange is from where those are that have not proved anything yet; guarded by mu
	strange places.Count
	gone    totals // of connections that ended; guarded by mu
	nextID  uint64 // guarded by mu
	ended   bool   // nobody new comes in; guarded by mu
}

// about is what INFO, HELLO and errors say of the node.
type about struct {
	version string
	address string
	manager string
	started time.Time
	fsync   Fsync
	process int
	// instance is of this process alone: who finds it under an address has found himself.
	instance string
}

const (
	// maxFarewells bounds the goroutines that tell a refused client why.
	maxFarewells = 64
	// farewellTime is how long one may take to hear it; there may be a handshake before.
	farewellTime = time.Second
	// shrinkIdle is how long a connection is quiet before its memory is taken back.
	shrinkIdle = 2 * time.Second
	// drainGrace is how long a draining node waits for requests on their way.
	drainGrace = 50 * time.Millisecond
	// acceptPause is how long accepting rests when the process has no descriptors left.
	acceptPause = 50 * time.Millisecond
)

// accept runs until the listener is closed. A full process table is not a reason
// to stop: it waits and goes on.
func (s *server) accept() {
	for {
		nc, err := s.listener.Accept()
		if err == nil {
			s.welcome(nc)
			continue
		}
		if s.draining() || errors.Is(err, net.ErrClosed) {
			return
		}
		s.log.Warn("cannot accept a connection", "err", err)
		select {
		case <-time.After(acceptPause):
		case <-s.stopping:
			return
		}
	}
}

// welcome starts a connection's goroutine, or tells it that there is no room.
func (s *server) welcome(nc net.Conn) {
	c, why := s.enrol(nc)
	switch {
	case why == nil:
		s.stats.accepted.Add(1)
		go c.serve()
	case errors.Is(why, errDraining):
		_ = nc.Close()
	default:
		s.stats.refused.Add(1)
		go s.farewell(nc, why)
	}
}

// Why there is no room. The text is what the client is told.
var (
	errFull    = errors.New("the node has as many connections as it may (QUOIT_NODE_MAX_CONNECTIONS)")
	errTooMany = errors.New("the node has as many connections from your address as it may (QUOIT_NODE_MAX_PER_ADDRESS)")
	errStrange = errors.New("the node has as many connections from your address as it may that have not authenticated; AUTH with a token on those, or close them")
)

// enrol adds a connection to the roster, or says why not. Unless the node ends, one
// handler is counted, that of the connection or of its farewell.
func (s *server) enrol(nc net.Conn) (*conn, error) {
	r := &s.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return nil, errDraining
	}
	s.handlers.Add(1)
	if len(r.conns) >= s.maxConns {
		return nil, errFull
	}
	from := places.From(nc.RemoteAddr())
	if !r.from.Enter(from) {
		return nil, errTooMany
	}
	if s.guard.On() && !r.strange.Enter(from) {
		r.from.Leave(from)
		return nil, errStrange
	}
	r.nextID++
	c := newConn(s, nc, r.nextID)
	c.newcomer = s.guard.On()
	r.conns[c.id] = c
	return c, nil
}

// farewell tells a client that there is no room, unless too many are being told.
func (s *server) farewell(nc net.Conn, why error) {
	defer s.handlers.Done()
	defer nc.Close()
	defer s.farewells.Add(-1)
	if s.farewells.Add(1) > maxFarewells {
		return
	}
	_ = nc.SetDeadline(time.Now().Add(s.farewellTime)) // for reading as well, because of the handshake
	if _, err := nc.Write(protocol.AppendErrorCode(nil, protocol.OVERLOADED, why.Error())); err == nil {
		linger(nc, lingerTime)
	}
}

// remove forgets a connection that has ended.
func (s *server) remove(c *conn) {
	c.tally.fold()
	s.roster.mu.Lock()
	delete(s.roster.conns, c.id)
	s.roster.from.Leave(places.From(c.nc.RemoteAddr()))
	if c.newcomer {
		s.roster.strange.Leave(places.From(c.nc.RemoteAddr()))
	}
	s.roster.gone.add(&c.tally)
	s.roster.mu.Unlock()
	s.handlers.Done()
}

// introduce notes that a connection has proved something for the first time: it takes the
// place of a stranger no longer.
func (s *server) introduce(c *conn) {
	if !c.newcomer {
		return
	}
	c.newcomer = false
	s.roster.mu.Lock()
	defer s.roster.mu.Unlock()
	s.roster.strange.Leave(places.From(c.nc.RemoteAddr()))
}

// totals adds up all connections, past and present.
func (s *server) totals() (t totals, connections int) {
	s.roster.mu.Lock()
	defer s.roster.mu.Unlock()
	t = s.roster.gone
	for _, c := range s.roster.conns {
		t.add(&c.tally)
	}
	return t, len(s.roster.conns)
}

func (s *server) draining() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// overdue says whether something that began at since (coarse) has taken longer
// than allowed; 0 allows everything.
func (s *server) overdue(since int64, allowed time.Duration) bool {
	return allowed > 0 && s.clock.coarse()-since > allowed.Milliseconds()
}

// sweep cuts off connections that sit still for too long, until ctx ends. One
// goroutine looking at a number in each connection costs less than two deadlines
// for each request.
func (s *server) sweep(ctx context.Context) {
	ticker := time.NewTicker(s.sweepEvery())
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.clock.refresh()
			s.sweepOnce()
		case <-ctx.Done():
			return
		}
	}
}

// sweepEvery is a quarter of the shortest time that has to be noticed.
func (s *server) sweepEvery() time.Duration {
	every := time.Second
	for _, d := range []time.Duration{s.times.Idle, s.times.Request, s.times.Write, s.times.Handshake} {
		if d > 0 {
			every = min(every, d/4)
		}
	}
	return max(every, 5*time.Millisecond)
}

func (s *server) sweepOnce() {
	s.roster.mu.Lock()
	defer s.roster.mu.Unlock()
	for _, c := range s.roster.conns {
		t, strange := c.pusher.Load(), c.overstays(s.clock.coarse())
		switch p, since := c.phaseSince(); {
		case c.cut: // it has not noticed yet
		case p == writing && s.overdue(since, s.times.Write), t != nil && t.stuck():
			c.cut = true
			s.stats.slowReaders.Add(1)
			s.log.Info("cut off a client that does not take its replies", "client", c.nc.RemoteAddr().String())
			_ = tlsconf.Cut(c.nc)
		case p <= idleLarge && t == nil && s.overdue(since, s.times.Idle) && !c.later.owing.Load(): // else it is the disk that is slow
			c.cut = true
			s.stats.idleClosed.Add(1)
			_ = tlsconf.Cut(c.nc)
		case strange:
			c.overstayed.Store(true)
			_ = c.nc.SetReadDeadline(time.Unix(1, 0))
		case p == idleLarge && s.overdue(since, shrinkIdle), p == partial && s.overdue(since, s.times.Request):
			_ = c.nc.SetReadDeadline(time.Unix(1, 0))
		}
	}
}

// drain refuses new connections, lets the others finish what they have sent, and
// waits for them until ctx ends; then they are cut off.
func (s *server) drain(ctx context.Context) {
	deadline := time.Now().Add(drainGrace)
	s.end(func(c *conn) { _ = c.nc.SetReadDeadline(deadline) })
	done := make(chan struct{})
	go func() { s.handlers.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	s.abort()
	<-done
}

// abort cuts everyone off at once.
func (s *server) abort() { s.end(func(c *conn) { _ = tlsconf.Cut(c.nc) }) }

// end lets nobody in any more, and does something to each who is.
func (s *server) end(each func(*conn)) {
	r := &s.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.ended = true
		close(s.stopping)
		_ = s.listener.Close()
	}
	for _, c := range r.conns {
		each(c)
	}
}
