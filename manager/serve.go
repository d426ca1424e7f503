package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/internal/places"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
)

const (
	// requestTimeout cuts off who begins a request and does not end it, and
	// idleTimeout who has nothing to say: members speak every second.
	requestTimeout = 30 * time.Second
	idleTimeout    = 15 * time.Minute
	// writeTimeout cuts off who does not take the replies that it asked for.
	writeTimeout = 10 * time.Second
	// lingerTime is how long a connection that is closed after an error is kept for
	// the other side to read why.
	lingerTime = 250 * time.Millisecond

	// farewells is how many connections over the limit are told why at the same time.
	farewells = 64

	// readBuffer is where a connection starts; what is larger is given back above
	// keepBuffer.
	readBuffer = 4 << 10
	keepBuffer = 64 << 10
	// flushSize is how many bytes of replies gather before they leave.
	flushSize = 64 << 10
)

// limits bound a request: the manager takes no values, so they are small.
func limits() protocol.Limits {
	l := protocol.DefaultLimits()
	l.MaxArgs, l.MaxValue, l.MaxRequest = 4096, member.MaxBytes, 2*member.MaxBytes
	return l
}

// server holds the manager's connections.
type server struct {
	m       *Manager
	most    int
	running sync.WaitGroup

	mu    sync.Mutex
	conns map[int64]net.Conn // by number; guarded by mu
	from  places.Count       // of those who have a place; guarded by mu
	// strange is from where those are that have not proved anything yet; guarded by mu
	strange places.Count
	count   int64 // of all so far; guarded by mu
	told    int   // how many are being told that there is no place; guarded by mu
}

func newServer(m *Manager) *server {
	return &server{m: m, most: m.config.Connections, conns: make(map[int64]net.Conn), from: places.Count{Most: m.config.PerAddress}, strange: places.Count{Most: places.Strangers(m.config.Connections)}}
}

// accept takes connections until ctx ends, or until the listener fails for good.
func (s *server) accept(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			s.take(ctx, nc)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("manager listener: %w", err)
		default: // too many open files, say
			s.m.log.Warn("cannot accept a connection", "error", err)
			sleep(ctx, minBackoff)
		}
	}
}

// take starts a connection, or refuses it where there are too many. Who is refused is told
// why, unless too many are being told: those take nobody's place.
func (s *server) take(ctx context.Context, nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := places.From(nc.RemoteAddr())
	why := s.refuses(from)
	if why != "" && s.told == farewells {
		_ = nc.Close()
		return
	}
	s.count++
	c := newConn(s.m, nc, s.count)
	s.conns[c.id] = nc
	if why != "" {
		s.told++
		s.running.Go(func() { s.farewell(ctx, c, why) })
		return
	}
	if s.m.guard.On() {
		c.introduced = sync.OnceFunc(func() { s.introduce(from) })
	}
	s.running.Go(func() {
		defer s.release(c)
		defer s.leave(from)
		defer c.introduced()
		c.serve(ctx)
	})
}

// refuses says why there is no place for a connection, or takes one. The caller holds mu.
func (s *server) refuses(from netip.Addr) (why string) {
	switch {
	case len(s.conns)-s.told >= s.most:
		return "the manager has as many connections as it may (QUOIT_MANAGER_MAX_CONNECTIONS)"
	case !s.from.Enter(from):
		return "the manager has as many connections from your address as it may (QUOIT_MANAGER_MAX_PER_ADDRESS)"
	case s.m.guard.On() && !s.strange.Enter(from):
		s.from.Leave(from)
		return "the manager has as many connections from your address as it may that have not authenticated"
	}
	return ""
}

// farewell tells a connection why there is no place for it.
func (s *server) farewell(ctx context.Context, c *conn, why string) {
	defer func() {
		_ = c.nc.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c.id)
		s.told--
	}()
	if tlsconf.Handshake(ctx, c.nc, time.Second) == nil {
		c.refuse(&protocol.Error{Code: protocol.OVERLOADED, Message: why + "; try again later"})
		c.leave()
	}
}

// leave gives a place of an address back.
func (s *server) leave(from netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from.Leave(from)
}

// introduce notes that a connection is a stranger's no longer.
func (s *server) introduce(from netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strange.Leave(from)
}

func (s *server) release(c *conn) {
	_ = c.nc.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.id)
}

// close ends all connections and waits for them. Nothing is accepted any more.
func (s *server) close() {
	s.mu.Lock()
	for _, nc := range s.conns {
		_ = tlsconf.Cut(nc)
	}
	s.mu.Unlock()
	s.running.Wait()
}

// conn is one connection. It belongs to the goroutine of serve.
type conn struct {
	m       *Manager
	nc      net.Conn
	id      int64
	guest   auth.Guest  // who is there
	claim   *auth.Claim // the one attempt to prove to be a member; nil before it
	strange time.Time   // since when nobody is known to be
	parser  protocol.RequestParser
	in, out []byte    // read and not executed; not written yet
	begun   time.Time // when the incomplete request in the buffer began
	closing bool      // after the next flush

	introduced func() // called when it proves something for the first time, or ends
}

func newConn(m *Manager, nc net.Conn, id int64) *conn {
	c := &conn{m: m, nc: nc, id: id, guest: m.guard.Guest(), strange: time.Now(), introduced: func() {}}
	c.bound()
	return c
}

// bound holds a stranger's requests to what a token needs.
func (c *conn) bound() {
	c.parser.Limits = limits()
	if !c.guest.Known() {
		c.parser.Limits = auth.StrangerLimits()
	}
}

// serve answers the connection until it ends. A request that is malformed is
// answered and ends it; a panic in a command ends this connection alone.
func (c *conn) serve(ctx context.Context) {
	defer func() {
		if p := recover(); p != nil {
			c.m.panics.Caught(c.m.log, "a connection", p, "client", c.nc.RemoteAddr().String())
		}
	}()
	defer c.guest.Forget()
	if !c.greet(ctx) {
		return
	}
	for !c.closing {
		if err := c.fill(); err != nil {
			why := c.late(err)
			if why == nil {
				return
			}
			c.refuse(why)
			break
		}
		c.batch(ctx)
		c.flush()
	}
	c.leave()
}

// late is what the other side is told where err says that its time was up, nil where
// there is nothing to say.
func (c *conn) late(err error) *protocol.Error {
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case !c.guest.Known():
		return &protocol.Error{Code: protocol.NOAUTH, Message: "nobody has authenticated within " + c.m.config.Handshake.String() + ": AUTH with a token comes first"}
	case len(c.in) > 0:
		return &protocol.Error{Code: protocol.ERR, Message: "Protocol error: the rest of the request did not come within " + requestTimeout.String()}
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// fill blocks until there is something new to parse.
func (c *conn) fill() error {
	deadline := time.Now().Add(idleTimeout)
	if len(c.in) > 0 {
		deadline = c.begun.Add(requestTimeout)
	} else if cap(c.in) > keepBuffer {
		c.in = nil
	}
	if limit := c.m.config.Handshake; limit > 0 && !c.guest.Known() {
		deadline = earlier(deadline, c.strange.Add(limit))
	}
	if cap(c.in)-len(c.in) < readBuffer/2 {
		c.in = slices.Grow(c.in, len(c.in)+readBuffer)
	}
	_ = c.nc.SetReadDeadline(deadline)
	n, err := c.nc.Read(c.in[len(c.in):cap(c.in)])
	c.in = c.in[:len(c.in)+n]
	if n > 0 {
		return nil // what came before an error is answered; the error comes again
	}
	return err
}

// batch executes every complete request in the buffer.
func (c *conn) batch(ctx context.Context) {
	used := 0
	for !c.closing {
		args, n, err := c.parser.Next(c.in[used:])
		if err != nil {
			if !errors.Is(err, protocol.ErrCrossProtocol) {
				c.refuse(c.orStranger(protocol.AsError(err)))
			}
			c.closing = true
			return
		}
		if n == 0 {
			break
		}
		if used += n; len(args) > 0 {
			c.execute(ctx, args)
		}
		if len(c.out) >= flushSize {
			c.flush()
		}
	}
	if used > 0 || c.begun.IsZero() {
		c.begun = time.Now()
	}
	if c.in = c.in[:copy(c.in, c.in[used:])]; len(c.in) == 0 {
		c.begun = time.Time{}
	}
}

func (c *conn) refuse(e *protocol.Error) { c.out = protocol.AppendError(c.out, e) }

// flush writes the replies. Who does not take them is cut off.
func (c *conn) flush() {
	if len(c.out) == 0 {
		return
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := c.nc.Write(c.out); err != nil {
		c.closing = true
	}
	if c.out = c.out[:0]; cap(c.out) > 2*flushSize {
		c.out = nil
	}
}

// leave writes the last replies and lets the other side read them: closing with
// unread bytes in the kernel would reset the connection and throw them away.
func (c *conn) leave() {
	c.flush()
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.nc, 1<<20)
}
