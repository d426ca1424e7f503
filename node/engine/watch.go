package engine

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// WatchKind says what a [WatchEvent] tells.
type WatchKind uint8

// What watchers are told.
const (
	// Watching: the watch has begun.
	Watching WatchKind = iota + 1
	// WatchPut: Key has Value at Version, until ExpireAt.
	WatchPut
	// WatchDelete: Key is gone at Version.
	WatchDelete
	// WatchState: what follows for Range, until WatchSynced, has every key that is there.
	WatchState
	// WatchSynced: Range is live. All its changes up to Version have been told.
	WatchSynced
	// WatchProgress: all changes up to Version in all live ranges have been told.
	WatchProgress
	// WatchBehind: the reader was too slow. Ranges catch up and are synced again.
	WatchBehind
	// WatchMoved: Range is not watched any more, as it is not owned here. All its changes
	// up to Version have been told; 0 says that it was not live.
	WatchMoved
)

// WatchEvent is one thing to tell a watcher. Key and Value do not change, and stay
// valid for as long as they are held.
type WatchEvent struct {
	Kind       WatchKind
	Watch      int64
	Range      ring.Range
	Key, Value []byte
	Version    Version
	ExpireAt   int64
}

func (e *WatchEvent) size() int { return changeOverhead + len(e.Key) + len(e.Value) }

// WatchRange is a range that is watched from a version on: all its changes up to it
// are known to whoever watches. 0: nothing is.
type WatchRange struct {
	Range ring.Range
	Since Version
}

var (
	// ErrWatchSelector: the watch is there and watches something else.
	ErrWatchSelector = errors.New("engine: this watch has another selector")
	// ErrWatchLimit: something that watching needs is used up.
	ErrWatchLimit = errors.New("engine: no room for this watch")
)

// queueLimit is how many bytes wait for a reader that catches up before the walker
// passes it by.
const queueLimit = 256 << 10

// maxRanges bounds the ranges of a watch: as many as a node has, and again as many where
// they were cut, and more.
const maxRanges = 16 << 10

// Watcher is what one connection watches: any number of watches with ids of its own.
// One goroutine takes what there is to tell; all other methods may be called by any.
type Watcher struct {
	h    *hub
	wake chan struct{}

	mu      sync.Mutex
	members map[int64]*member
	order   []*member // whose turn it is: the first
	queued  int64     // bytes of all queues
	charged int64     // of them, to the budget
	closed  bool
	scratch []*change
}

// NewWatcher returns one that watches nothing yet. Close it.
func (e *Engine) NewWatcher() *Watcher {
	h := e.hub
	w := &Watcher{h: h, wake: make(chan struct{}, 1), members: map[int64]*member{}}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers[w] = struct{}{}
	return w
}

// Wake has something in it when Take may have something to tell.
func (w *Watcher) Wake() <-chan struct{} { return w.wake }

// Watch begins a watch of a key or a prefix, or adds ranges to it. With state, ranges
// of which nothing is known are told as they are, else only what changes from now on.
func (w *Watcher) Watch(id int64, selector []byte, prefix, state bool, ranges []WatchRange) error {
	w.mu.Lock()
	m := w.members[id]
	w.mu.Unlock()
	if m == nil {
		m = &member{w: w, id: id}
		if err := w.h.join(m, string(selector), prefix); err != nil {
			return fmt.Errorf("%w: %w", ErrWatchLimit, err)
		}
	} else if m.g.selector != string(selector) || m.g.prefix != prefix {
		return ErrWatchSelector
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		w.h.leave(m)
		return ErrWatchLimit
	}
	if w.members[id] == nil {
		w.members[id] = m
		w.order = append(w.order, m)
	}
	if n := len(m.ranges) + len(ranges); n > maxRanges {
		return fmt.Errorf("%w: it would have %d ranges, and may have %d", ErrWatchLimit, n, maxRanges)
	}
	m.enqueue(queued{kind: Watching})
	m.addRanges(ranges, state)
	knock(w.h.work)
	knock(w.wake)
	return nil
}

// Unwatch ends a watch and says whether there was one.
func (w *Watcher) Unwatch(id int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.members[id]
	if m == nil {
		return false
	}
	w.remove(m)
	return true
}

func (w *Watcher) remove(m *member) {
	delete(w.members, m.id)
	w.order = slices.DeleteFunc(w.order, func(o *member) bool { return o == m })
	m.dequeue(len(m.q))
	w.h.leave(m)
}

// Watches is how many there are.
func (w *Watcher) Watches() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.members)
}

// Close ends all watches. It is idempotent.
func (w *Watcher) Close() {
	w.mu.Lock()
	for _, m := range slices.Clone(w.order) {
		w.remove(m)
	}
	w.closed = true
	w.mu.Unlock()
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	delete(w.h.watchers, w)
}

// Take calls fn with what there is to tell, about budget bytes of it, in the order of
// each watch; all of it is durable. more says that there may be more at once. The error
// is the log's: nothing will be told any more. fn must not call the Watcher.
func (w *Watcher) Take(budget int, fn func(*WatchEvent)) (more bool, err error) {
	w.h.mu.RLock()
	err = w.h.failed
	w.h.mu.RUnlock()
	if err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	full := w.queued >= queueLimit/2
	t := taking{fn: fn, left: budget, durable: wal.LSN(w.h.durable.Load())}
	for i, m := range w.order {
		m.take(&t)
		if t.left <= 0 {
			w.order = append(slices.Clone(w.order[i+1:]), w.order[:i+1]...)
			break
		}
	}
	w.h.events.Add(t.told)
	if t.lost || full && w.queued < queueLimit/2 {
		knock(w.h.work)
	}
	return t.left <= 0, nil
}

// taking is one call of Take.
type taking struct {
	fn      func(*WatchEvent)
	left    int
	durable wal.LSN
	told    uint64
	lost    bool // somebody has to catch up
	event   WatchEvent
}

func (t *taking) tell(e WatchEvent) {
	t.event = e
	t.left -= t.event.size()
	t.told++
	t.fn(&t.event)
}

// WatchStats is a moment's picture of watching.
type WatchStats struct {
	// Watchers are connections, Watches what they watch.
	Watchers, Watches int
	// RingBytes and TombBytes are what is kept of what has happened.
	RingBytes, TombBytes int64
	// Events were told; Behinds is how often a reader was too slow.
	Events, Behinds uint64
}

// WatchStats returns a moment's picture.
func (e *Engine) WatchStats() WatchStats {
	h := e.hub
	s := WatchStats{RingBytes: h.ringBytes.Load(), Events: h.events.Load(), Behinds: h.behinds.Load()}
	for _, w := range h.everybody() {
		s.Watchers++
		s.Watches += w.Watches()
	}
	e.segments(func(p *partition, seg *segment) {
		if seg.end == p.hi {
			s.TombBytes += int64(p.tombs.size())
		}
	})
	return s
}

func (h *hub) everybody() []*Watcher {
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := make([]*Watcher, 0, len(h.watchers))
	for w := range h.watchers {
		all = append(all, w)
	}
	return all
}
