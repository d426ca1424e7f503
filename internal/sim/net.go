package sim

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// link is one direction between two machines.
type link struct{ from, to string }

func (l link) String() string { return l.from + "->" + l.to }

// network carries bytes between machines. A stream is what TCP is: in order, whole or
// broken. Between streams nothing is in order. A link that is down in one direction
// holds what is sent over it; the sender does not notice.
type network struct {
	w *World

	mu        sync.Mutex
	listeners map[string]*listener // by address; guarded by mu
	down      map[link]bool        // guarded by mu
	streams   []*stream            // that are open, by number; guarded by mu
	newest    map[link]time.Time   // the latest arrival so far; guarded by mu
	dark      map[string]bool      // machines without power: nobody says that nobody is there; guarded by mu
	dialled   int                  // guarded by mu
	calm      bool                 // no more faults; guarded by mu
}

func newNetwork(w *World) *network {
	return &network{
		w: w, listeners: map[string]*listener{}, down: map[link]bool{},
		newest: map[link]time.Time{}, dark: map[string]bool{},
	}
}

func hostOf(address string) string {
	host, _, _ := strings.Cut(address, ":")
	return host
}

// address is a name on the network.
type address string

func (a address) Network() string { return "sim" }
func (a address) String() string  { return string(a) }

// listener takes the streams of one address.
type listener struct {
	n    *network
	p    *process
	addr address

	mu      sync.Mutex
	cond    *sync.Cond
	waiting []*end // guarded by mu
	closed  bool   // guarded by mu
}

func (n *network) listen(p *process, addr string) *listener {
	l := &listener{n: n, p: p, addr: address(addr)}
	l.cond = sync.NewCond(&l.mu)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[addr] = l
	return l
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) == 0 && !l.closed {
		l.cond.Wait()
	}
	if l.closed {
		return nil, &net.OpError{Op: "accept", Net: "sim", Addr: l.addr, Err: net.ErrClosed}
	}
	e := l.waiting[0]
	l.waiting = l.waiting[1:]
	return e, nil
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.n.mu.Lock()
	if l.n.listeners[string(l.addr)] == l {
		delete(l.n.listeners, string(l.addr))
	}
	l.n.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.cond.Broadcast()
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) take(e *end) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.waiting = append(l.waiting, e)
	l.cond.Signal()
	return true
}

// sleep waits for d of virtual time; it says whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// dialler opens streams for one process.
func (n *network) dialler(p *process) func(ctx context.Context, addr string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) { return n.dial(ctx, p, addr) }
}

func (n *network) dial(ctx context.Context, p *process, addr string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "sim", Addr: address(addr), Err: err}
	}
	p.whileFrozen(ctx)
	defer p.whileFrozen(ctx)
	n.mu.Lock()
	n.dialled++
	id := n.dialled
	n.mu.Unlock()
	d := n.w.dice(fmt.Sprint("stream ", id))
	addr = n.w.eitherManager(addr, d)
	reply := n.delay(d) // From open on the dice belong to the stream and its lock.
	there, back := link{p.host, hostOf(addr)}, link{hostOf(addr), p.host}
	if !sleep(ctx, n.delay(d)) {
		return fail(ctx.Err())
	}
	if n.isDown(there) || n.isDown(back) || n.isDark(hostOf(addr)) {
		n.w.trace.count("dial unanswered", 1)
		<-ctx.Done()
		return fail(ctx.Err())
	}
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		_ = sleep(ctx, reply)
		return fail(syscall.ECONNREFUSED)
	}
	s := n.open(id, d, p, l.p, address(fmt.Sprintf("%s:%d", p.host, 40000+id)), l.addr)
	if p.isDead() || l.p.isDead() || !l.take(s.ends[1]) {
		_ = s.ends[0].Close()
		return fail(syscall.ECONNREFUSED)
	}
	n.w.trace.note("dial", fmt.Sprintf("#%d %s -> %s", id, p.host, addr), nil)
	if !sleep(ctx, reply) {
		_ = s.ends[0].Close()
		return fail(ctx.Err())
	}
	return s.ends[0], nil
}

// delay is what a message takes: most often little, now and then much. No two messages
// take the same.
func (n *network) delay(d dice) time.Duration {
	t := between(d, 20*time.Microsecond, 400*time.Microsecond)
	if n.w.plan.slowNet > 0 && d.chance(n.w.plan.slowNet) && !n.isCalm() {
		t += between(d, time.Millisecond, 120*time.Millisecond)
		n.w.trace.count("message delayed", 1)
	}
	return t
}

func (n *network) isCalm() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calm
}

func (n *network) isDown(l link) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.down[l]
}

func (n *network) isDark(host string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dark[host]
}

func (n *network) setDark(host string, dark bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dark[host] = dark
}

// cut takes a link down.
func (n *network) cut(l link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down[l] = true
}

// heal brings a link up again; what it held is delivered.
func (n *network) heal(l link) {
	n.mu.Lock()
	was := n.down[l]
	delete(n.down, l)
	streams := slices.Clone(n.streams)
	n.mu.Unlock()
	if !was {
		return
	}
	for _, s := range streams {
		for _, e := range s.ends {
			if e.inbound() == l {
				e.resume()
			}
		}
	}
}

// thaw delivers what has waited for a process.
func (n *network) thaw(p *process) {
	for _, s := range n.of(p) {
		for _, e := range s.ends {
			e.resume()
		}
	}
}

// cutClients ends what clients have open to a process.
func (n *network) cutClients(p *process) {
	for _, s := range n.of(p) {
		if e := s.ends[1]; e.p == p && e.other.host()[0] == 'c' {
			e.die(false)
		}
	}
}

// of returns the open streams of a process.
func (n *network) of(p *process) []*stream {
	return n.some(func(s *stream) bool { return s.ends[0].p == p || s.ends[1].p == p })
}

// healAll makes the network as it should be, for good.
func (n *network) healAll() {
	n.mu.Lock()
	n.calm = true
	all := make([]link, 0, len(n.down))
	for l := range n.down {
		all = append(all, l)
	}
	clear(n.dark)
	n.mu.Unlock()
	slices.SortFunc(all, func(a, b link) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	for _, l := range all {
		n.heal(l)
	}
}

// open makes a stream.
func (n *network) open(id int, d dice, from, to *process, local, remote address) *stream {
	s := &stream{n: n, id: id, dice: d}
	s.ends[0] = &end{s: s, p: from, local: local, remote: remote}
	s.ends[1] = &end{s: s, p: to, local: remote, remote: local}
	s.ends[0].other, s.ends[1].other = s.ends[1], s.ends[0]
	for _, e := range s.ends {
		e.cond = sync.NewCond(&s.mu)
		e.way = fmt.Sprintf("#%d %s", s.id, e.inbound())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.streams = append(n.streams, s)
	return s
}

// forget drops a stream that both ends have closed.
func (n *network) forget(s *stream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.streams = slices.DeleteFunc(n.streams, func(o *stream) bool { return o == s })
}

// some returns the open streams that want says yes to, in order.
func (n *network) some(want func(*stream) bool) []*stream {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*stream
	for _, s := range n.streams {
		if want(s) {
			all = append(all, s)
		}
	}
	return all
}

// die ends the streams of a process: its own calls fail, and the others hear of it, or
// nothing if the machine has lost its power.
func (n *network) die(p *process, silent bool) {
	for _, s := range n.of(p) {
		for _, e := range s.ends {
			if e.p == p {
				e.die(silent)
			}
		}
	}
}

// unlisten closes what a process listens on.
func (n *network) unlisten(p *process) {
	n.mu.Lock()
	var mine []*listener
	for _, l := range n.listeners {
		if l.p == p {
			mine = append(mine, l)
		}
	}
	n.mu.Unlock()
	for _, l := range mine {
		_ = l.Close()
	}
}

// arrival says when a message that is sent now arrives, after those before it.
func (n *network) arrival(d dice, l link, after time.Time) time.Time {
	at := time.Now().Add(n.delay(d))
	if !at.After(after) {
		at = after.Add(time.Duration(1 + d.IntN(1000)))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if at.Before(n.newest[l]) {
		n.w.trace.count("message overtaken", 1)
	} else {
		n.newest[l] = at
	}
	return at
}

var errCut = &net.OpError{Op: "read", Net: "sim", Err: syscall.ECONNRESET}
