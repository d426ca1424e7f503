package sim

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// window is how many bytes may be under way in one direction.
const window = 256 << 10

// stream is one connection.
type stream struct {
	n    *network
	id   int
	ends [2]*end // who dialled, who accepted

	mu     sync.Mutex
	dice   dice   // guarded by mu
	cutAt  int    // bytes that the one who dialled may still send before the stream breaks, 0: any number; guarded by mu
	breaks func() // what happens then; guarded by mu
	sent   []byte // by the one who dialled, to be sent once more; guarded by mu
}

// end is a process's side of a stream: a net.Conn. All but the first fields are guarded
// by s.mu.
type end struct {
	s             *stream
	p             *process // nil: a ghost
	other         *end
	local, remote address
	way           string // for the trace: number and link
	cond          *sync.Cond

	flight  []message // on their way here
	lastAt  time.Time // when the last of them arrives
	held    bool      // the link is down: flight waits for resume
	flying  int       // bytes of flight
	in      []byte    // arrived and not read
	inErr   error     // after in
	outErr  error
	closed  bool
	deaf    bool // what is sent here vanishes
	readBy  limit
	writeBy limit
}

// message is what one write has sent, or the end of it all.
type message struct {
	data []byte
	err  error
}

func (e *end) inbound() link { return link{e.other.host(), e.host()} }

func (e *end) host() string { return hostOf(string(e.local)) }

// Read implements net.Conn.
func (e *end) Read(p []byte) (int, error) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	for {
		switch {
		case e.closed:
			return 0, e.fail("read", net.ErrClosed)
		case e.readBy.over():
			return 0, e.fail("read", os.ErrDeadlineExceeded)
		case len(e.in) > 0:
			n := copy(p, e.in)
			if e.in = e.in[n:]; len(e.in) == 0 {
				e.in = nil
			}
			e.other.cond.Broadcast()
			return n, nil
		case e.inErr != nil:
			return 0, e.inErr
		}
		e.cond.Wait()
	}
}

// Write implements net.Conn.
func (e *end) Write(p []byte) (int, error) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	done := 0
	for {
		room := window - e.other.flying - len(e.other.in)
		switch {
		case e.closed:
			return done, e.fail("write", net.ErrClosed)
		case e.outErr != nil:
			return done, e.outErr
		case e.writeBy.over():
			return done, e.fail("write", os.ErrDeadlineExceeded)
		case done == len(p):
			return done, nil
		case room > 0 || e.other.deaf:
			n := min(len(p)-done, max(room, 1))
			if e.other.deaf {
				n = len(p) - done
			}
			e.send(p[done : done+n])
			done += n
			continue
		}
		e.cond.Wait()
	}
}

// send puts bytes on their way, in one piece or two.
func (e *end) send(b []byte) {
	s := e.s
	if e == s.ends[0] {
		if len(s.sent) < 1<<20 {
			s.sent = append(s.sent, b...)
		}
		if s.cutAt > 0 {
			if s.cutAt -= len(b); s.cutAt <= 0 {
				e.other.put(message{data: append([]byte(nil), b[:len(b)+s.cutAt]...)})
				breaks := s.breaks
				s.cutAt, s.breaks = 0, nil
				time.AfterFunc(time.Duration(1+s.dice.IntN(1000)), breaks)
				return
			}
		}
	}
	if len(b) > 1 && s.dice.chance(0.05) {
		n := 1 + s.dice.IntN(len(b)-1)
		e.other.put(message{data: append([]byte(nil), b[:n]...)})
		b = b[n:]
	}
	e.other.put(message{data: append([]byte(nil), b...)})
}

// put is the network's side of send: the message will arrive at e.
func (e *end) put(m message) {
	if e.deaf {
		return
	}
	e.flight = append(e.flight, m)
	e.flying += len(m.data)
	if e.held {
		return
	}
	if e.isStopped() {
		e.held = true
		e.s.n.w.trace.count("message held", 1)
		return
	}
	e.schedule()
}

// isStopped says whether what is on its way here waits: for the link, or for one of the two
// processes.
func (e *end) isStopped() bool {
	return e.s.n.isDown(e.inbound()) || e.p.isFrozen() || e.other.p.isFrozen()
}

func (e *end) schedule() {
	e.lastAt = e.s.n.arrival(e.s.dice, e.inbound(), e.lastAt)
	time.AfterFunc(time.Until(e.lastAt), e.arrive)
}

// resume is called when the link is up again.
func (e *end) resume() {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	if !e.held {
		return
	}
	e.held = false
	for range e.flight {
		e.schedule()
	}
}

// arrive delivers the oldest message under way.
func (e *end) arrive() {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(e.flight) == 0 || e.held {
		return
	}
	if e.isStopped() {
		e.held = true
		s.n.w.trace.count("message held", 1)
		return
	}
	m := e.flight[0]
	e.flight = e.flight[1:]
	e.flying -= len(m.data)
	if m.err == nil {
		s.n.w.trace.note("deliver", e.way, m.data)
		s.n.w.ambush.pass(e, m.data)
	}
	switch {
	case e.closed && m.err == nil:
		e.other.breakLater() // nobody is here any more: the kernel says so
	case m.err != nil:
		e.inErr = m.err
	case e.inErr == nil:
		e.in = append(e.in, m.data...)
	}
	e.cond.Broadcast()
	e.other.cond.Broadcast()
}

// breakLater resets this end after a while, guarded by mu.
func (e *end) breakLater() {
	if e.closed || e.outErr != nil {
		return
	}
	time.AfterFunc(e.s.n.delay(e.s.dice), e.reset)
}

// reset breaks this end.
func (e *end) reset() {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	e.resetLocked()
}

func (e *end) resetLocked() {
	if e.s.dice.chance(0.5) {
		e.in = nil
	}
	e.inErr, e.outErr = errCut, errCut
	e.cond.Broadcast()
}

// goDeaf makes everything that is sent here vanish.
func (e *end) goDeaf() {
	e.deaf, e.flight, e.flying = true, nil, 0
	e.other.cond.Broadcast()
}

// die is the end of the process: its calls fail, and the other side hears of it, or not.
func (e *end) die(silent bool) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	e.closeLocked()
	if silent {
		e.goDeaf()
	} else {
		e.other.breakLater()
	}
}

func (e *end) closeLocked() {
	e.closed = true
	e.in = nil
	e.readBy.stop()
	e.writeBy.stop()
	e.cond.Broadcast()
	if e.other.closed || e.other.p == nil {
		e.s.n.forget(e.s)
	}
}

// Close implements net.Conn.
func (e *end) Close() error {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closeLocked()
	if e.outErr == nil {
		e.outErr = syscall.EPIPE
		e.other.put(message{err: io.EOF})
	}
	return nil
}

// CloseWrite ends the stream in this direction, as TCP does.
func (e *end) CloseWrite() error {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	switch {
	case e.closed:
		return e.fail("close", net.ErrClosed)
	case e.outErr != nil:
		return e.outErr
	}
	e.outErr = syscall.EPIPE
	e.other.put(message{err: io.EOF})
	return nil
}

func (e *end) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "sim", Source: e.local, Addr: e.remote, Err: err}
}

// LocalAddr implements net.Conn.
func (e *end) LocalAddr() net.Addr { return e.local }

// RemoteAddr implements net.Conn.
func (e *end) RemoteAddr() net.Addr { return e.remote }

// SetDeadline implements net.Conn.
func (e *end) SetDeadline(t time.Time) error {
	return e.setLimits(t, &e.readBy, &e.writeBy)
}

// SetReadDeadline implements net.Conn.
func (e *end) SetReadDeadline(t time.Time) error { return e.setLimits(t, &e.readBy) }

// SetWriteDeadline implements net.Conn.
func (e *end) SetWriteDeadline(t time.Time) error { return e.setLimits(t, &e.writeBy) }

func (e *end) setLimits(t time.Time, limits ...*limit) error {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	if e.closed {
		return e.fail("set deadline", net.ErrClosed)
	}
	for _, l := range limits {
		l.set(t, e)
	}
	return nil
}

// limit is a deadline. Its timer is armed anew only when it rings too early: most
// deadlines are moved on long before.
type limit struct {
	at    time.Time // zero: none
	timer *time.Timer
	rings time.Time // when timer does; zero: it does not
}

func (l *limit) over() bool { return !l.at.IsZero() && !time.Now().Before(l.at) }

func (l *limit) set(t time.Time, e *end) {
	l.at = t
	switch {
	case t.IsZero():
	case l.over():
		e.cond.Broadcast()
	case l.rings.IsZero() || t.Before(l.rings):
		l.arm(e)
	}
}

func (l *limit) arm(e *end) {
	l.stop()
	l.rings = l.at
	l.timer = time.AfterFunc(time.Until(l.at), func() {
		e.s.mu.Lock()
		defer e.s.mu.Unlock()
		l.rings = time.Time{}
		switch {
		case e.closed || l.at.IsZero():
		case l.over():
			e.cond.Broadcast()
		default:
			l.arm(e)
		}
	})
}

func (l *limit) stop() {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.rings = time.Time{}
}
