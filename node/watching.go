package node

import (
	"sync"
	"sync/atomic"

	"github.com/quoitdb/quoit/internal/inbox"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/protocol"
)

const (
	// pushBytes is about how much is taken from the engine for one write.
	pushBytes = 64 << 10
	// fewBytes is the same where the budget allows no more than every connection has.
	fewBytes = inbox.First / 2
	// controlBytes is how many bytes of answers wait before no more requests are read.
	controlBytes = 64 << 10
	// largeValue is from where on a value is sent from where it lies.
	largeValue = 16 << 10
)

// watching is what a connection that watches has besides: a goroutine that sends. The
// one of serve reads requests and leaves the answers in control.
type watching struct {
	c    *conn
	w    *engine.Watcher
	ids  map[int64]struct{} // of its watches; of the goroutine of serve
	quit chan struct{}      // closed by stop
	done chan struct{}      // closed when run ends

	mu      sync.Mutex
	control []byte        // guarded by mu
	more    chan struct{} // there is something in control
	room    chan struct{} // control has been taken

	// writing is when the write under way began to make no progress, 0 for none: coarse
	// unix milliseconds, for the sweeper.
	writing atomic.Int64

	// Of run.
	out   []byte
	large []largePart
	part  inbox.Account
	held  int // bytes of large
}

// largePart is a value that follows out[:at].
type largePart struct {
	at    int
	value []byte
}

func newWatching(c *conn, w *engine.Watcher) *watching {
	return &watching{
		c: c, w: w, ids: map[int64]struct{}{}, quit: make(chan struct{}), done: make(chan struct{}),
		more: make(chan struct{}, 1), room: make(chan struct{}, 1), part: inbox.NewAccount(&c.srv.budget),
	}
}

// say leaves an answer for run to send. A client that asks and does not read is not read
// from either.
func (t *watching) say(p *protocol.Push) {
	for !t.leave(p) {
		select {
		case <-t.room:
		case <-t.done:
			return
		}
	}
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// leave is say where there is room.
func (t *watching) leave(p *protocol.Push) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.control) >= controlBytes {
		return false
	}
	t.control = p.Append(t.control)
	return true
}

// collect fills out with what has been answered, and what there is to tell behind it.
// Nothing is answered meanwhile, so that the end of a watch is not told behind the
// beginning of the next one with its id.
func (t *watching) collect(budget int) (more bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out = append(t.out[:0], t.control...)
	t.control = nil
	select {
	case t.room <- struct{}{}:
	default:
	}
	if t.c.standing.Load().Ended(t.c.srv.clock.coarse()) != nil {
		return false, nil // nothing more is told; the sweeper ends the connection
	}
	return t.w.Take(budget, t.push)
}

// run sends what there is to tell until stop, or until the client does not take it.
func (t *watching) run() {
	defer close(t.done)
	defer t.part.Set(0)
	defer func() {
		if p := recover(); p != nil {
			t.c.srv.stats.panics.Caught(t.c.srv.log, "a connection that watches", p, "client", t.c.nc.RemoteAddr().String())
			_ = t.c.nc.Close()
		}
	}()
	for last := false; t.turn(); {
		if last {
			return
		}
		select {
		case <-t.w.Wake():
		case <-t.more:
		case <-t.quit:
			last = true // what has been answered still leaves
		}
	}
	_ = t.c.nc.Close() // the reader notices
}

// turn sends everything that there is, and says whether the connection lives on.
func (t *watching) turn() bool {
	for more := true; more; {
		budget := pushBytes
		if !t.part.Set(2 * pushBytes) {
			budget = fewBytes
		}
		var err error
		if more, err = t.collect(budget); err != nil {
			t.c.srv.fail(err)
			return false
		}
		if t.held > 0 && !t.part.Set(2*pushBytes+t.held) {
			t.overload()
			return false
		}
		if !t.send() {
			return false
		}
	}
	if cap(t.out) > inbox.First {
		t.out = nil
	}
	t.part.Set(cap(t.out))
	return true
}

// overload says goodbye: there is no room for the value that comes next. Whoever
// watches comes back, and goes on from what it has.
func (t *watching) overload() {
	t.c.srv.stats.overloaded.Add(1)
	p := protocol.Push{Kind: protocol.PushRefused, Message: []byte(protocol.OVERLOADED +
		" the node holds as many bytes of requests and replies as it may (QUOIT_NODE_MAX_INFLIGHT); connect again and go on")}
	t.out, t.large, t.held = p.Append(t.out[:0]), nil, 0
	t.send()
}

// push encodes one event.
func (t *watching) push(e *engine.WatchEvent) {
	p := protocol.Push{
		ID: e.Watch, Start: uint32(e.Range.Start), End: uint32(e.Range.End),
		Key: e.Key, Value: e.Value, Version: uint64(e.Version), ExpireAt: e.ExpireAt,
	}
	switch e.Kind {
	case engine.Watching:
		p.Kind = protocol.PushWatching
	case engine.WatchPut:
		p.Kind = protocol.PushPut
		if len(e.Value) >= largeValue {
			t.out = p.AppendPutHead(t.out, len(e.Value))
			t.large = append(t.large, largePart{len(t.out), e.Value})
			t.held += len(e.Value)
			t.out = append(t.out, '\r', '\n')
			return
		}
	case engine.WatchDelete:
		p.Kind = protocol.PushDelete
	case engine.WatchState:
		p.Kind = protocol.PushState
	case engine.WatchSynced:
		p.Kind = protocol.PushSynced
	case engine.WatchProgress:
		p.Kind = protocol.PushProgress
	case engine.WatchBehind:
		p.Kind = protocol.PushBehind
	case engine.WatchMoved:
		t.pushMoved(&p, e)
		return
	}
	t.out = p.Append(t.out)
}

// pushMoved names the owners of a range that is not served here.
func (t *watching) pushMoved(p *protocol.Push, e *engine.WatchEvent) {
	v := t.c.srv.state.view()
	p.Kind, p.Epoch = protocol.PushMoved, uint64(v.topology.Epoch)
	for _, h := range v.homes(e.Range) {
		p.Start, p.End, p.Address = uint32(h.r.Start), uint32(h.r.End), []byte(h.owner)
		t.out = p.Append(t.out)
	}
}

// send writes out and the large values in it.
func (t *watching) send() bool {
	at := 0
	for _, l := range t.large {
		if !t.write(t.out[at:l.at]) || !t.write(l.value) {
			return false
		}
		at = l.at
	}
	t.large, t.held = t.large[:0], 0
	clear(t.large[:cap(t.large)])
	return t.write(t.out[at:])
}

func (t *watching) write(rest []byte) bool {
	c := t.c
	defer t.writing.Store(0)
	for len(rest) > 0 {
		t.writing.Store(max(1, c.srv.clock.coarse()))
		n, err := c.nc.Write(rest[:min(len(rest), writeChunk)])
		if err != nil {
			return false
		}
		c.tally.out.Add(uint64(n))
		rest = rest[n:]
	}
	return true
}

// stuck says whether the client has taken nothing for too long.
func (t *watching) stuck() bool {
	since := t.writing.Load()
	return since != 0 && t.c.srv.overdue(since, t.c.srv.times.Write)
}

// stop ends run, after what has been answered has left, and waits for it. Of the
// goroutine of serve.
func (t *watching) stop() {
	select {
	case <-t.quit:
		return
	default:
	}
	close(t.quit)
	<-t.done
	for id := range t.ids {
		t.end(id)
	}
	t.w.Close()
}
