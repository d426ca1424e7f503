package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// Defaults and limits of watching.
const (
	DefaultWatchHistory   = 64 << 20
	DefaultWatchRetention = 10 * time.Minute
	// maxLengths bounds the different lengths of prefixes that are watched: each costs
	// every write a look.
	maxLengths = 64
	// maxLingering bounds the rings that nobody reads any more.
	maxLingering = 1024
	// progressEvery is how often watchers are told how far they are.
	progressEvery = time.Second
)

// WatchOptions says what watching may cost.
type WatchOptions struct {
	// History bounds the bytes that are kept of what has happened: half for removals,
	// half for the rings of those who watch. 0 is DefaultWatchHistory.
	History int64
	// Retention is how long removals, and rings that nobody reads, are kept. 0 is
	// DefaultWatchRetention.
	Retention time.Duration
	// Budget, if set, counts what waits for readers that are catching up.
	Budget interface {
		Take(n int64) bool
		Give(n int64)
	}
}

// hub is where changes meet those who watch.
//
// Order of locks: a partition's mu, or ranges and a partition's mu; then mu for
// reading; then a Watcher's mu; then a group's mu. Whoever holds mu for writing takes
// only groups' locks.
type hub struct {
	e         *Engine
	o         WatchOptions
	tombLimit int          // bytes of a partition's tombs
	active    atomic.Int32 // groups; while there are none, a write looks no further

	mu       sync.RWMutex
	keys     map[string]*group
	prefixes map[string]*group
	lengths  []prefixLength
	watchers map[*Watcher]struct{}
	joined   uint64 // groups that were made
	failed   error

	ringBytes        atomic.Int64
	written, durable atomic.Uint64 // LSNs: of what is to be told, of what may be
	signal           chan struct{} // for pump
	work             chan struct{} // for the walker
	resolved         atomic.Bool   // a held range is worth another look

	newsMu sync.Mutex
	groups []*group   // dirty ones; guarded by newsMu
	handed []*Watcher // who were given something that may not be durable; guarded by newsMu

	// Of the walker.
	s        *Session
	progress Version

	// Nobody was told of a version between those two: whoever has one was told of
	// writes that a crash has taken back.
	newest, born Version

	events, behinds atomic.Uint64
}

func newHub(e *Engine, o WatchOptions) *hub {
	if o.History <= 0 {
		o.History = DefaultWatchHistory
	}
	if o.Retention <= 0 {
		o.Retention = DefaultWatchRetention
	}
	return &hub{
		e: e, o: o, tombLimit: int(o.History / 2 / partitions), s: e.NewSession(),
		keys: map[string]*group{}, prefixes: map[string]*group{}, watchers: map[*Watcher]struct{}{},
		signal: make(chan struct{}, 1), work: make(chan struct{}, 1),
	}
}

// begin is called when the log has been read.
func (h *hub) begin() {
	h.newest = max(1, Version(h.e.clock.last.Load())) // who knows of nothing says 1
	h.born = max(versionAt(h.e.clock.Now()), h.newest+1)
}

// publish tells who watches the key what has just happened to it, under its
// partition's lock.
func (h *hub) publish(p *partition, pos ring.Position, key []byte, version Version) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var c *change
	if g := h.keys[string(key)]; g != nil {
		c = h.add(g, c, p, pos, key, version)
	}
	for _, l := range h.lengths {
		if l.length > len(key) {
			continue
		}
		if g := h.prefixes[string(key[:l.length])]; g != nil {
			c = h.add(g, c, p, pos, key, version)
		}
	}
	if c != nil {
		h.need(c.lsn)
	}
}

// add appends the change of a key to a group, making it first if it is nil.
func (h *hub) add(g *group, c *change, p *partition, pos ring.Position, key []byte, version Version) *change {
	if c == nil {
		c = p.changeOf(pos, key, version)
		raise(&h.written, c.lsn)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	h.push(g, c)
	return c
}

// changeOf is what has just happened to a key: the table says it.
func (p *partition) changeOf(pos ring.Position, key []byte, version Version) *change {
	c := &change{kind: changeDelete, pos: pos, version: version}
	if e, ok := p.table.Get(pos, key); ok {
		c = putChange(pos, e)
	} else {
		c.key = slices.Clone(key)
	}
	c.lsn = p.last
	return c
}

// putChange is an entry as a change.
func putChange(pos ring.Position, e table.Entry) *change {
	both := append(append(make([]byte, 0, len(e.Key)+len(e.Value)), e.Key...), e.Value...)
	n := len(e.Key)
	return &change{kind: changePut, pos: pos, version: Version(e.Version), expireAt: e.ExpireAt, key: both[:n:n], value: both[n:]}
}

// push appends a change to a group's ring, and makes room. The caller holds the group's mu.
func (h *hub) push(g *group, c *change) {
	g.push(c)
	h.ringBytes.Add(int64(c.size()))
	h.shed(g)
	h.news(g)
}

// shed makes a group forget what is too much. Where all of them together have too much,
// those with more than their share give way, when something comes or at the next tick.
// The caller holds the group's mu.
func (h *hub) shed(g *group) {
	limit := h.o.History / 2
	share := limit / int64(max(1, h.active.Load()))
	for g.first < g.next {
		total := h.ringBytes.Load()
		if g.bytes <= limit/2 && (total <= limit || g.bytes <= share) && total <= 2*limit {
			return
		}
		h.ringBytes.Add(-g.shift())
	}
}

// news lets the pump wake who watches a group. The caller holds the group's mu.
func (h *hub) news(g *group) {
	if g.dirty || len(g.members) == 0 {
		return
	}
	g.dirty = true
	h.newsMu.Lock()
	h.groups = append(h.groups, g)
	h.newsMu.Unlock()
}

func raise(a *atomic.Uint64, lsn wal.LSN) {
	for {
		now := a.Load()
		if uint64(lsn) <= now || a.CompareAndSwap(now, uint64(lsn)) {
			return
		}
	}
}

// need makes the pump tell what lies before lsn, once that is durable.
func (h *hub) need(lsn wal.LSN) {
	raise(&h.written, lsn)
	knock(h.signal)
}

// knock wakes whoever listens to a channel of one place.
func knock(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// RunWatches serves those who watch until ctx ends. It returns early when the log
// fails: nobody is told anything then.
func (e *Engine) RunWatches(ctx context.Context) error {
	h := e.hub
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var walker sync.WaitGroup
	walker.Go(func() { h.walk(ctx) })
	defer walker.Wait()
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.signal:
		}
		if err := h.pump(); err != nil {
			h.fail(err)
			return err
		}
	}
}

// walk serves those who catch up, and says once in a while how far everybody is.
func (h *hub) walk(ctx context.Context) {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.work:
		case <-ticker.C:
			h.tick()
		}
		for h.round() && ctx.Err() == nil {
		}
	}
}

// pump waits for the log once for all who watch, and wakes those who have something
// to read.
func (h *hub) pump() error {
	h.newsMu.Lock()
	groups, handed := h.groups, h.handed
	h.groups, h.handed = nil, nil
	h.newsMu.Unlock()
	for _, g := range groups {
		g.mu.Lock()
		g.dirty = false
		g.mu.Unlock()
	}
	// What comes into a group from here on makes it dirty again.
	if lsn := h.written.Load(); lsn > h.durable.Load() {
		if err := h.e.log.Wait(wal.LSN(lsn)); err != nil {
			return fmt.Errorf("engine: wait for the log: %w", err)
		}
		h.durable.Store(lsn)
	}
	for _, g := range groups {
		g.mu.Lock()
		for m := range g.members {
			knock(m.w.wake)
		}
		g.mu.Unlock()
	}
	for _, w := range handed {
		knock(w.wake)
	}
	return nil
}

// tick tells everybody how far they are, and forgets what is too old.
func (h *hub) tick() {
	h.reap(h.e.clock.Now() - h.o.Retention.Milliseconds())
	if h.active.Load() == 0 {
		return
	}
	v := h.logged(true)
	h.logged(false) // Whoever wrote with an older version is through.
	lsn := h.e.log.Appended()
	fresh := v > h.progress
	h.progress = max(h.progress, v)
	h.broadcast(lsn, func(g *group) {
		h.shed(g)
		if fresh {
			g.progress = progress{v, lsn, g.next}
			h.news(g)
		}
	})
	knock(h.work)
}

// broadcast does something to all groups that needs lsn to be durable.
func (h *hub) broadcast(lsn wal.LSN, do func(*group)) {
	raise(&h.written, lsn) // Before the pump can take a group off the list.
	h.mu.RLock()
	for _, groups := range []map[string]*group{h.keys, h.prefixes} {
		for _, g := range groups {
			g.mu.Lock()
			do(g)
			g.mu.Unlock()
		}
	}
	h.mu.RUnlock()
	knock(h.signal)
}

// logged returns the newest version that is in the log: a clock that goes back over a
// restart does not go back behind it. With sealed, it is not newer than the seal of
// any range: what is written there next, at its new owner, may be older than what is
// written here.
func (h *hub) logged(sealed bool) (newest Version) {
	e := h.e
	e.ranges.Lock()
	defer e.ranges.Unlock()
	for i := range e.parts {
		p := &e.parts[i]
		p.mu.Lock()
		newest = max(newest, p.newest)
		p.mu.Unlock()
	}
	if sealed {
		for _, held := range e.sealed {
			newest = min(newest, e.sealVersion(held))
		}
	}
	return newest
}

// gone tells who watches a range that it is not ours any more, and how far its
// changes went: all of them have been published.
func (h *hub) gone(r ring.Range, version Version) {
	if h.active.Load() != 0 {
		c := &change{kind: changeGone, r: r, version: version, lsn: h.e.log.Appended()}
		h.broadcast(c.lsn, func(g *group) { h.push(g, c) })
	}
}

// released makes those who wait for a held range look again.
func (h *hub) released() {
	h.resolved.Store(true)
	knock(h.work)
}

// reap removes groups that nobody has watched since a time.
func (h *hub) reap(since int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgetEmpty(since)
}

// forgetEmpty is reap for who holds mu.
func (h *hub) forgetEmpty(since int64) {
	type lingering struct {
		g     *group
		since int64
	}
	var empty []lingering
	for _, groups := range []map[string]*group{h.keys, h.prefixes} {
		for _, g := range groups {
			g.mu.Lock()
			if g.emptySince != 0 {
				empty = append(empty, lingering{g, g.emptySince})
			}
			g.mu.Unlock()
		}
	}
	slices.SortFunc(empty, func(a, b lingering) int { return cmp.Compare(a.since, b.since) })
	for i, l := range empty {
		if l.since <= since || i < len(empty)-maxLingering || h.ringBytes.Load() > h.o.History/4 {
			h.forget(l.g)
		}
	}
}

// forget removes a group. The caller holds mu.
func (h *hub) forget(g *group) {
	if g.prefix {
		delete(h.prefixes, g.selector)
		h.count(len(g.selector), -1)
	} else {
		delete(h.keys, g.selector)
	}
	h.active.Add(-1)
	g.mu.Lock()
	h.ringBytes.Add(-g.bytes)
	g.mu.Unlock()
}

// prefixLength is a length that some prefixes have.
type prefixLength struct{ length, prefixes int }

// count adds to the number of prefixes of a length, if there may be one more length.
func (h *hub) count(length, n int) bool {
	i := slices.IndexFunc(h.lengths, func(l prefixLength) bool { return l.length == length })
	switch {
	case i < 0 && len(h.lengths) == maxLengths:
		return false
	case i < 0:
		h.lengths = append(h.lengths, prefixLength{length, n})
	default:
		if h.lengths[i].prefixes += n; h.lengths[i].prefixes == 0 {
			h.lengths = slices.Delete(h.lengths, i, i+1)
		}
	}
	return true
}

var errLengths = errors.New("too many different lengths of prefixes are watched")

// join makes a member of a group, which is made if there is none.
func (h *hub) join(m *member, selector string, prefix bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed != nil {
		return h.failed
	}
	groups := h.keys
	if prefix {
		groups = h.prefixes
	}
	g := groups[selector]
	fresh := g == nil
	if fresh {
		if h.joined++; h.joined%maxLingering == 0 {
			h.forgetEmpty(h.e.clock.Now() - h.o.Retention.Milliseconds())
		}
		if prefix && !h.count(len(selector), 1) {
			h.forgetEmpty(never) // Somebody needs what they take.
			if !h.count(len(selector), 1) {
				return errLengths
			}
		}
		g = newGroup(selector, prefix)
		groups[selector] = g
		h.active.Add(1)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if fresh {
		// Writes that do not see the group have taken their versions already.
		g.floor = Version(h.e.clock.last.Load())
	}
	g.members[m], g.emptySince = struct{}{}, 0
	m.g, m.cursor, m.told = g, g.next, g.progress.version
	return nil
}

// leave ends a membership. The group lingers, for who comes back.
func (h *hub) leave(m *member) {
	g := m.g
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.members, m)
	if len(g.members) == 0 {
		g.emptySince = max(1, h.e.clock.Now())
	}
}

// fail ends all watching.
func (h *hub) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = err
	for w := range h.watchers {
		knock(w.wake)
	}
}
