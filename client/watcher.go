package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// watcher runs a watch: it gives each part of the ring that nobody tells to its
// owner, and what the connections bring to the ledger. All of it happens on the
// consumer's goroutine, between two changes that it takes; only the connections
// have goroutines of their own.
type watcher struct {
	c       *Client
	what    protocol.Watch // without ranges
	ctx     context.Context
	cancel  context.CancelFunc
	caller  context.Context
	ledger  ledger
	sources map[*node]*source
	events  chan watchEvent
	running sync.WaitGroup

	loose   bool        // some stretch is told by nobody
	due     time.Time   // when to look for somebody; zero: now
	refresh *refreshRun // the topology that some stretch waits for
	trouble error       // the last thing that went wrong

	cuts   []ring.Position // where owners change
	cutsOf *routing        // according to this
}

// source is a node as a watch sees it.
type source struct {
	conn      *watchConn // nil: none
	failures  int        // in a row
	offences  int        // answers in a row that are none
	renewed   bool       // its token had expired, and nothing was told since
	notBefore time.Time  // when to try again
}

// maxOffences is how often in a row a node may say what makes no sense before
// the watch ends: once may be the network's fault, or that of a proxy.
const maxOffences = 3

// watchID names the one watch of a connection.
const watchID = 1

func newWatcher(c *Client, ctx context.Context, what protocol.Watch) *watcher {
	what.ID = watchID
	w := &watcher{
		c: c, what: what, caller: ctx, ledger: newLedger(&what), loose: true,
		sources: make(map[*node]*source), events: make(chan watchEvent),
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	return w
}

// run tells changes until the consumer has enough (nil), or until the watch
// cannot go on.
func (w *watcher) run(tell func(Change) bool) error {
	defer w.end()
	defer context.AfterFunc(w.c.env.ctx, w.cancel)()
	synced := false
	w.ledger.emit = func(change Change) bool { return w.ctx.Err() == nil && tell(change) }
	for {
		more, err := w.step()
		if err == nil && more && !synced && w.ledger.unsynced == 0 {
			synced = true
			more = w.ledger.emit(Change{Kind: ChangeSynced})
		}
		switch {
		case w.ctx.Err() != nil:
			return w.ended()
		case err != nil || !more:
			return err
		}
	}
}

// ended is the error of a watch whose context or client has ended.
func (w *watcher) ended() error {
	if w.c.env.ctx.Err() != nil {
		return ErrClosed
	}
	t := trial{}
	if w.loose {
		t.last = w.trouble
	}
	return giveUp(&t, w.caller.Err(), false)
}

// end closes everything and waits for it.
func (w *watcher) end() {
	w.cancel()
	for _, s := range w.sources {
		if s.conn != nil {
			s.conn.close(context.Canceled)
		}
	}
	w.running.Wait()
}

// step waits for the next thing to happen, and acts on it.
func (w *watcher) step() (more bool, err error) {
	var due <-chan time.Time
	if w.loose {
		now := time.Now()
		if !now.Before(w.due) {
			w.assign(now)
		}
		if w.loose {
			timer := time.NewTimer(w.due.Sub(now))
			defer timer.Stop()
			due = timer.C
		}
	}
	var refreshed <-chan struct{}
	if w.refresh != nil {
		refreshed = w.refresh.done
	}
	select {
	case e := <-w.events:
		return w.handle(e)
	case <-refreshed:
		w.refresh, w.due = nil, time.Time{}
	case <-due:
	case <-w.ctx.Done():
	}
	return true, nil
}

func (w *watcher) handle(e watchEvent) (more bool, err error) {
	s := w.sources[e.from.node]
	if s == nil || s.conn != e.from {
		return true, nil // given up on before
	}
	if e.err != nil {
		return w.lost(s, e.err)
	}
	for i := range e.pushes {
		if more, err := w.push(s, &e.pushes[i]); err != nil {
			return w.lost(s, err)
		} else if !more {
			return false, nil
		}
		if s.conn == nil {
			break
		}
	}
	return true, nil
}

// push acts on a push. An error ends the connection, if no more.
func (w *watcher) push(s *source, p *push) (more bool, err error) {
	switch p.Kind {
	case 0, protocol.PushPong:
		return true, nil
	case protocol.PushRefused:
		if p.ID == watchID || p.ID == 0 {
			return false, serverError(s.conn.node, p.Err())
		}
	}
	s.renewed = false
	switch {
	case p.ID != watchID:
		err = badPush(p, "of a watch that there is not")
	case p.Kind == protocol.PushUnwatched:
		err = badPush(p, "that nobody asked for")
	case p.Kind == protocol.PushMoved:
		more, err = true, w.moved(s, p)
	default:
		more, err = w.ledger.take(s.conn, p)
	}
	if err != nil {
		return false, notAPush(s.conn.node, err)
	}
	if p.Kind == protocol.PushSynced {
		s.failures, s.offences = 0, 0
	}
	return more, nil
}

// moved looks for the next owner of a range: the one that is named, if the
// topology in use knows it, or who it is according to the next topology.
func (w *watcher) moved(s *source, p *push) error {
	epoch := ring.Epoch(p.Epoch)
	w.c.env.stats.redirects.Add(1)
	if run := w.c.noticeEpoch(epoch, s.conn.node); run != nil {
		w.refresh = run
	}
	w.loose, w.due = true, time.Time{}
	r, now := w.c.routing.Load(), time.Now()
	return w.ledger.moved(s.conn, p, func(part *stretch) *waiting {
		next := &waiting{tries: 1}
		if part.wait != nil {
			next.tries += part.wait.tries
		}
		switch {
		case epoch > r.topology.Epoch:
			next.epoch, next.before = epoch, now.Add(pauseAfter(refreshPause, next.tries, rand.Float64()))
			if next.tries <= maxHops {
				next.hint = r.nodes[string(p.Address)]
			}
		case epoch < r.topology.Epoch, next.tries > maxHops, r.owner(part.low) == s.conn.node: // the nodes disagree for a moment
			next.before = now.Add(pauseAfter(heldPause, next.tries, rand.Float64()))
		}
		return next
	})
}

// lost is called when a connection has ended, or has to. Only what time does
// not heal is returned.
func (w *watcher) lost(s *source, err error) (more bool, fatal error) {
	expired := w.c.env.token != nil && s.conn.open() && !s.renewed && errors.Is(err, ErrUnauthenticated)
	s.conn.close(err)
	more = w.ledger.lose(s.conn)
	s.conn = nil
	pauses := dialPause
	var server *ServerError
	var offence *ReplyError
	switch {
	case errors.As(err, &server) && server.Code.Retryable():
		pauses = refusedPause
	case expired: // the next connection has a new token
		s.renewed = true
	case errors.As(err, &server), distrusts(err):
		return false, err
	case errors.As(err, &offence):
		if s.offences++; s.offences == maxOffences {
			return false, err
		}
	}
	w.trouble, w.loose, w.due = err, true, time.Time{}
	s.notBefore = time.Now().Add(pauseAfter(pauses, s.failures, rand.Float64()))
	s.failures++
	w.c.env.stats.retries.Add(1)
	w.c.suspect()
	return more, nil
}

// assign gives every stretch that nobody tells to its owner, if it is time.
func (w *watcher) assign(now time.Time) {
	r := w.c.routing.Load()
	w.ledger.cover.cut(w.borders(r))
	w.loose, w.due = false, now.Add(time.Hour)
	asked := make(map[*source][]protocol.WatchRange)
	w.ledger.cover.each(nil, func(part *stretch) {
		s, due := w.owner(part, r, now)
		if s == nil {
			w.loose = true
			if due.Before(w.due) {
				w.due = due
			}
			return
		}
		part.give(s.conn)
		asked[s] = append(asked[s], part.asked())
	})
	for s, ranges := range asked {
		w.ask(s.conn, ranges)
	}
	w.forget(r)
}

func (w *watcher) ask(k *watchConn, ranges []protocol.WatchRange) {
	for len(ranges) > 0 {
		n := min(len(ranges), protocol.MaxWatchRanges)
		request := w.what
		request.Ranges, ranges = ranges[:n], ranges[n:]
		k.send(request.Append(nil))
	}
}

// owner finds whom to ask for a stretch: nil before due.
func (w *watcher) owner(part *stretch, r *routing, now time.Time) (s *source, due time.Time) {
	n := r.owner(part.low)
	if t := part.wait; t != nil && now.Before(t.before) && (t.epoch == 0 || r.topology.Epoch < t.epoch) {
		if t.hint == nil || r.nodes[t.hint.address] != t.hint {
			return nil, t.before
		}
		n, part.wait = t.hint, &waiting{tries: t.tries}
	}
	if n == nil {
		w.trouble = errNoOwner
		w.c.suspect()
		return nil, now.Add(pauseAfter(brokenPause, maxHops, rand.Float64()))
	}
	s = w.sources[n]
	if s == nil {
		s = &source{}
		w.sources[n] = s
	}
	if s.conn == nil {
		if now.Before(s.notBefore) {
			return nil, s.notBefore
		}
		w.open(s, n)
	}
	return s, now
}

// open gives a source a connection, which dials by itself.
func (w *watcher) open(s *source, n *node) {
	k := newWatchConn(w.ctx, n, w.events)
	s.conn = k
	w.running.Add(1)
	if !w.c.env.spawn(func() {
		defer w.running.Done()
		w.c.addWatch(k)
		defer w.c.removeWatch(k)
		k.run()
	}) {
		w.running.Done() // the client is closed, and so ctx ends
	}
}

// borders are the positions at which owners change.
func (w *watcher) borders(r *routing) []ring.Position {
	if w.cutsOf != r {
		w.cuts, w.cutsOf = r.owners.Ends(), r
	}
	return w.cuts
}

// forget drops what is remembered of nodes that have left.
func (w *watcher) forget(r *routing) {
	for n, s := range w.sources {
		if s.conn == nil && r.nodes[n.address] != n {
			delete(w.sources, n)
		}
	}
}

func (c *Client) addWatch(k *watchConn) {
	c.watching.Lock()
	c.watches[k] = struct{}{}
	c.watching.Unlock()
}

func (c *Client) removeWatch(k *watchConn) {
	c.watching.Lock()
	delete(c.watches, k)
	c.watching.Unlock()
}

// eachWatch calls do for every connection of a watch.
func (c *Client) eachWatch(do func(*watchConn)) {
	c.watching.Lock()
	defer c.watching.Unlock()
	for k := range c.watches {
		do(k)
	}
}
