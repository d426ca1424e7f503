// Package engine is the map in memory of one node, and the one order in which
// it changes: log, then memory, then acknowledge.
//
// # What it promises
//
//   - A write is appended to the log, applied to memory, and acknowledged when
//     [Session.Wait] returns. Wait also covers what the session has merely
//     read: no reply reveals a write that a crash could still take back. How
//     much that is worth is the log's choice (always, interval, never).
//   - Every write carries a [Version], a hybrid logical clock: unique, rising
//     for each key, also across owners of the key.
//   - A key whose time has passed is hidden at once, and its removal is logged
//     before a reader is told, so that a clock stepping back cannot undo it.
//   - A position answers only while it is owned. Ownership is what the caller
//     last said ([Engine.SetOwnership], [Engine.Activate], ...), never what the
//     log says: after [Open] nothing is served.
//   - A range that was dropped, unstaged or wiped does not come back from the log.
//   - A [Watcher] is told of every change of what it watches, in order for each
//     position, when it is durable; and where it was too slow or away, of the latest
//     state of each key, removals included for as long as they are remembered.
//   - A [Checkpoint] is an exact picture of memory, taken in small steps beside
//     traffic, from which [Open] goes on with what the log has behind it.
//
// # What it does not promise
//
// No transactions over several keys: two keys of one batch may be seen apart.
// Counts include keys that have expired and were not swept yet.
//
// # Who may call what
//
// An [Engine] is safe for concurrent use. A [Session] belongs to one goroutine
// at a time; a connection has one. Callbacks get views into the engine's memory
// under a lock: they copy what they need, call nothing of the engine, and return.
//
// Positions are computed by the caller, once for each key:
//
//	s := e.NewSession()
//	version, err := s.Put(ring.PositionOf(key), key, value, engine.PutOptions{})
//	...
//	err = s.Wait() // once for a batch, before its replies leave
package engine

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// Limits of a key and a value where [Options] does not say otherwise.
const (
	DefaultMaxKey   = 64 << 10
	DefaultMaxValue = 64 << 20
)

// Options says how an [Engine] is opened.
type Options struct {
	// Log is where every change goes first: opened, not replayed yet. It stays
	// the caller's, who closes it after the engine.
	Log *wal.Log
	// Base is what the log goes on from; nil for a log that was never truncated.
	Base *Base
	// WallClock returns unix milliseconds; nil means the machine's clock.
	WallClock func() int64
	// Monotonic returns milliseconds since some moment, which never go back; nil means
	// the machine's clock. The two are read in this order.
	Monotonic func() int64
	// MaxKey and MaxValue bound what a write may bring, in bytes.
	MaxKey, MaxValue int
	// Workers is how many goroutines apply the log at start; 0 means one for
	// each processor.
	Workers int
	// MaxMemory is how many bytes keys, values and index may take: what would need more is
	// refused with [ErrFull]. What is there when the engine opens is always loaded. 0 means
	// no limit.
	MaxMemory int64
	// Watch says what watching may cost.
	Watch WatchOptions
}

// Engine is the map of one node. Make one with [Open].
type Engine struct {
	log              *wal.Log
	clock            *Clock
	slabs            *table.Slabs
	maxKey, maxValue int
	maxMemory        int64
	parts            [partitions]partition
	recovered        Recovered
	began            int64 // see Began
	expired          atomic.Uint64
	upkeep           upkeep
	hub              *hub
	ranges           sync.Mutex       // serializes what changes the state of ranges; before any partition's mu
	sealed, staged   map[string]*hold // by move; guarded by ranges
	closed           bool             // guarded by ranges
	checkpoint       *Checkpoint      // under way, or nil; guarded by ranges
	mark             Mark             // logged last; guarded by ranges
	markLSN          wal.LSN          // of mark, 0 for one that was recovered; guarded by ranges
}

// Open loads the base, if there is one, and replays the log into memory. A log that
// does not reach back to the base, or begins behind position 0 without one, is
// refused with a [*wal.GapError]: nothing starts emptier than it was. Nothing is owned yet: see
// [Engine.Recovered] for what the log left unfinished, and
// [Engine.SetOwnership] to begin serving.
func Open(o Options) (*Engine, error) {
	e := &Engine{
		log: o.Log, clock: newClock(o.WallClock, o.Monotonic), slabs: table.NewSlabs(),
		maxKey: orDefault(o.MaxKey, DefaultMaxKey), maxValue: orDefault(o.MaxValue, DefaultMaxValue),
		maxMemory: o.MaxMemory,
		sealed:    map[string]*hold{}, staged: map[string]*hold{},
	}
	for i := range e.parts {
		e.parts[i].init(i, e.slabs)
	}
	e.upkeep.s = e.NewSession()
	e.hub = newHub(e, o.Watch)
	if err := e.recover(orDefault(o.Workers, runtime.GOMAXPROCS(0)), o.Base); err != nil {
		return nil, errors.Join(fmt.Errorf("engine: recover: %w", err), e.Close())
	}
	e.began = e.clock.Now()
	e.hub.begin()
	return e, nil
}

func orDefault(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// Close releases the engine's memory: from then on every operation is refused
// with [ErrNotOwned]. The log stays open. It is idempotent.
func (e *Engine) Close() error {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	for i := range e.parts {
		e.parts[i].close()
	}
	return e.slabs.Close()
}

// full says whether so many bytes more would be too many. It is asked before each
// write that is no removal.
func (e *Engine) full(bytes int) bool {
	return e.maxMemory > 0 && e.slabs.Used()+int64(bytes) > e.maxMemory
}

// fullForMoves is full for what other nodes send: a sixteenth is left to the clients, so
// that a range which does not fit is refused before they are.
func (e *Engine) fullForMoves(bytes int) bool {
	return e.full(bytes + int(e.maxMemory/16))
}

func (p *partition) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table.Release()
	p.segs, p.captures, p.picture = []segment{{end: p.hi, state: foreign}}, nil, nil
	p.sweep, p.tombs = sweep{due: never}, tombs{}
}

func (e *Engine) part(pos ring.Position) *partition { return &e.parts[pos/partitionSpan] }

// Count returns how many keys this node serves: owned or sealed, not staged, not
// dropped. Expired keys count until they are swept.
func (e *Engine) Count() int {
	n := 0
	e.segments(func(_ *partition, s *segment) {
		if s.visible() {
			n += s.keys
		}
	})
	return n
}

// segments calls fn for every segment, in ring order, under its partition's lock.
func (e *Engine) segments(fn func(*partition, *segment)) {
	for i := range e.parts {
		p := &e.parts[i]
		p.mu.Lock()
		for j := range p.segs {
			fn(p, &p.segs[j])
		}
		p.mu.Unlock()
	}
}

// Now returns the engine's clock in unix milliseconds: it never goes back, also
// not over a restart, and goes on when the wall clock has stepped back.
func (e *Engine) Now() int64 { return e.clock.Now() }

// Began returns a moment, in unix milliseconds, before which no version lies that this
// engine gives: when it was opened, or, where the clock has stepped back since the
// process before, an earlier one than that had reached.
func (e *Engine) Began() int64 { return e.began }

// Settled returns a moment, in unix milliseconds, and a position of the log before which
// there is every record with a version up to that moment, and behind which there will
// be none.
func (e *Engine) Settled() (at int64, end wal.LSN) {
	at = e.clock.Now() - 1 // the next version may be of this very millisecond
	// A write takes its version and its place in the log under one lock: those that have a
	// version now have a place when the lock is free.
	for i := range e.parts {
		e.parts[i].mu.Lock()
		e.parts[i].mu.Unlock() //nolint:staticcheck // waiting for it is all
	}
	return at, e.log.Appended()
}

// Version returns a version newer than every version of this engine so far, or the
// largest one when there is none.
func (e *Engine) Version() Version {
	v, err := e.clock.Next()
	if err != nil {
		return maxVersion
	}
	return v
}

// Stats is a moment's picture of an [Engine].
type Stats struct {
	// Keys is [Engine.Count]; Staged are keys of incoming ranges; Doomed are keys
	// that this node no longer serves and whose memory is not freed yet.
	Keys, Staged, Doomed int
	// LiveBytes are the bytes of all keys and values, HeldBytes the resident
	// memory of entries and indexes.
	LiveBytes, HeldBytes int64
	// UsedBytes is what MaxMemory bounds: HeldBytes without what is free.
	UsedBytes, MaxMemory int64
	// Expired counts keys removed because their time had passed.
	Expired uint64
}

// Stats returns a moment's picture.
func (e *Engine) Stats() Stats {
	slabs := e.slabs.Stats()
	s := Stats{Expired: e.expired.Load(), HeldBytes: slabs.InUse + slabs.Free, UsedBytes: e.slabs.Used(), MaxMemory: e.maxMemory}
	e.segments(func(_ *partition, seg *segment) {
		switch {
		case seg.visible():
			s.Keys += seg.keys
		case seg.state == staging || seg.state == staged:
			s.Staged += seg.keys
		default:
			s.Doomed += seg.keys
		}
	})
	for i := range e.parts {
		p := &e.parts[i]
		p.mu.Lock()
		t := p.table.Stats()
		p.mu.Unlock()
		s.LiveBytes += t.LiveBytes
		s.HeldBytes += t.BigBytes
	}
	return s
}

// MappedBytes is the resident memory that is not of the Go heap.
func (e *Engine) MappedBytes() int64 {
	s := e.slabs.Stats()
	return s.InUse + s.Free
}

// NewSession returns a session for one connection.
func (e *Engine) NewSession() *Session { return &Session{e: e} }
