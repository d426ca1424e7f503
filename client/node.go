package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// node is one member of the cluster, or a seed, as this client reaches it.
type node struct {
	address string // its identity; "host:port"
	seed    bool   // not a member as far as we know: links are closed when idle
	env     *environment
	slots   []slot

	mu      sync.Mutex
	dial    string  // what to dial; "" when there is no way to it
	retired bool    // no longer a member: accepts no new calls
	leaving []*link // accept no more calls, and still owe replies
}

// slot is the place of one shared connection.
type slot struct {
	link atomic.Pointer[link] // nil, or one that may have died

	// guarded by node.mu
	dialing   *dialing
	failures  int       // in a row
	notBefore time.Time // when dialling may be tried again
	lastErr   error     // why the last attempt failed
}

// dialing is an attempt that several callers wait for.
type dialing struct {
	done chan struct{}
	link *link
	err  error
}

var (
	errRetired    = errors.New("client: the node has left the cluster")
	errLeft       = errors.New("client: the token of the connection is not valid any more")
	errNoEndpoint = errors.New("client: the node publishes no endpoint that this client can dial")
)

func newNode(env *environment, address, dial string, connections int) *node {
	return &node{address: address, dial: dial, env: env, slots: make([]slot, connections)}
}

// send gives the call to one of the shared connections, opening it if need be.
// An error means that nothing was sent and the call is still the caller's.
func (n *node) send(ctx context.Context, k *call, body []byte) error {
	if err := ctx.Err(); err != nil {
		return err // too late to begin
	}
	s := &n.slots[0]
	switch {
	case k.lane > 0:
		s = &n.slots[k.lane%len(n.slots)]
	case len(n.slots) > 1:
		s = &n.slots[rand.IntN(len(n.slots))]
	}
	l := s.link.Load()
	if l == nil || l.dead.Load() {
		var err error
		if l, err = n.connect(ctx, s); err != nil {
			return err
		}
	}
	return l.send(ctx, k, body)
}

// connect returns the slot's live link, waiting for a dial if there is none.
func (n *node) connect(ctx context.Context, s *slot) (*link, error) {
	n.mu.Lock()
	if l := s.link.Load(); l != nil && !l.dead.Load() {
		n.mu.Unlock()
		return l, nil
	}
	d, err := n.startDial(s)
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case <-d.done:
		return d.link, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// startDial joins or begins an attempt. After a failure it refuses until the
// back-off has passed, with the error of that failure: callers then decide for
// themselves whether to wait. Called with mu held.
func (n *node) startDial(s *slot) (*dialing, error) {
	switch {
	case s.dialing != nil:
		return s.dialing, nil
	case n.retired:
		return nil, errRetired
	case n.dial == "":
		return nil, errNoEndpoint
	case time.Now().Before(s.notBefore):
		return nil, s.lastErr
	}
	d := &dialing{done: make(chan struct{})}
	dial := n.dial
	if !n.env.spawn(func() { n.runDial(s, d, dial) }) {
		return nil, ErrClosed
	}
	s.dialing = d
	return d, nil
}

func (n *node) runDial(s *slot, d *dialing, dial string) {
	d.link, d.err = n.open(dial)
	n.mu.Lock()
	s.dialing = nil
	if d.err == nil && n.retired {
		d.link.fail(errRetired)
		d.link, d.err = nil, errRetired
	}
	if d.err != nil {
		s.lastErr = d.err
		s.notBefore = time.Now().Add(pauseAfter(dialPause, s.failures, rand.Float64()))
		s.failures++
	} else {
		s.failures = 0
		s.link.Store(d.link)
	}
	n.mu.Unlock()
	close(d.done)
}

// open makes a connection and starts the two goroutines of a link. What it has to
// say first goes here, before anybody can use it.
func (n *node) open(dial string) (*link, error) {
	opened := n.env.opened.Add(1)
	stream, err := n.newStream(n.env.ctx, dial)
	if err != nil {
		return nil, err
	}
	l := newLink(stream, n.env.limits)
	l.opened = opened
	if !n.env.spawn(l.readLoop) {
		stream.Close()
		return nil, ErrClosed
	}
	if !n.env.spawn(l.writeLoop) {
		l.fail(ErrClosed)
		return nil, ErrClosed
	}
	if err := n.greet(l); err != nil {
		l.fail(err)
		return nil, err
	}
	return l, nil
}

// dialStream opens a connection that is not one of the shared ones.
func (n *node) dialStream(ctx context.Context) (Conn, error) {
	n.mu.Lock()
	dial, retired := n.dial, n.retired
	n.mu.Unlock()
	switch {
	case retired:
		return nil, errRetired
	case dial == "":
		return nil, errNoEndpoint
	}
	return n.newStream(ctx, dial)
}

// newStream dials, and authenticates where there is a token.
func (n *node) newStream(ctx context.Context, dial string) (Conn, error) {
	token, err := n.env.nextToken(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, n.env.dialTimeout)
	defer cancel()
	n.env.stats.dials.Add(1)
	stream, err := n.env.dialer(ctx, dial)
	if err != nil {
		return nil, &dialError{address: dial, err: err}
	}
	if token == "" {
		return stream, nil
	}
	if err := n.authenticate(ctx, stream, token); err != nil {
		stream.Close() // it has no news for anyone
		return nil, err
	}
	return stream, nil
}

// greet asks the node not to let one caller's key, whose range changes hands, hold
// up the others on the connection. Nobody waits for the answer: a server that does
// not know the request, such as a manager, refuses it and no harm is done.
func (n *node) greet(l *link) error {
	k := n.env.newCall()
	k.begin("CLIENT", 3)
	k.word("PARK")
	k.word("OFF")
	k.rearm()
	k.state.Store(callAbandoned)
	return l.send(n.env.ctx, k, nil)
}

// leave lets nothing more be sent over a link whose token the node does not take any
// more. It is closed when all that was sent has been answered: some of it may have been
// done before that.
func (n *node) leave(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.leave() {
		n.leaving = append(n.leaving, l)
	}
}

// links lists the live ones.
func (n *node) links() []*link {
	var live []*link
	for i := range n.slots {
		if l := n.slots[i].link.Load(); l != nil && !l.dead.Load() {
			live = append(live, l)
		}
	}
	return live
}

// retire makes the node refuse new connections; lookAfter closes the ones it has
// when they owe nothing any more.
func (n *node) retire() {
	n.mu.Lock()
	n.retired = true
	n.mu.Unlock()
}

// gone reports that the node has nothing left that needs looking after. One
// that was retired while it was dialled is gone: the dialling tidies up.
func (n *node) gone() bool { return len(n.links())+len(n.left()) == 0 }

// left lists the links that are leaving.
func (n *node) left() []*link {
	n.mu.Lock()
	defer n.mu.Unlock()
	var still []*link
	for _, l := range n.leaving {
		if !l.ended() {
			still = append(still, l)
		}
	}
	n.leaving = still
	return still
}

// point changes what is dialled from now on.
func (n *node) point(dial string) {
	n.mu.Lock()
	n.dial = dial
	n.mu.Unlock()
}

// dialsAt reports whether that is the address that is dialled.
func (n *node) dialsAt(dial string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dial == dial
}

// close ends every link now.
func (n *node) close(err error) {
	n.retire()
	for _, l := range append(n.links(), n.left()...) {
		l.fail(err)
	}
}

// tick looks after the node's links: it is called twice in a health interval.
func (n *node) tick() {
	n.mu.Lock()
	retired := n.retired
	n.mu.Unlock()
	for _, l := range n.links() {
		state := l.tick()
		switch {
		case state == silent:
			l.fail(errSilent)
		case retired && l.outstanding() == 0:
			l.fail(errRetired)
		case state == idle && n.seed:
			l.fail(errRetired)
		case state == idle:
			n.ping(l)
		}
	}
	for _, l := range n.left() {
		switch state := l.tick(); {
		case state == silent:
			l.fail(errSilent)
		case l.outstanding() == 0:
			l.fail(errLeft)
		}
	}
}

// ping asks an idle link for a sign of life. Nobody waits for the answer: if
// none comes the link is silent two ticks later.
func (n *node) ping(l *link) {
	k := n.env.newCall()
	k.rearm()
	k.buf = append(k.buf, "*1\r\n$4\r\nPING\r\n"...)
	k.state.Store(callAbandoned)
	if l.send(n.env.ctx, k, nil) != nil {
		k.release()
	}
}

// dialError says which address could not be reached.
type dialError struct {
	address string
	err     error
}

func (e *dialError) Error() string {
	return "client: cannot connect to " + e.address + ": " + e.err.Error()
}

func (e *dialError) Unwrap() error { return e.err }
