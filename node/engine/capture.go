package engine

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/ring"
)

// copyChunk bounds the bytes that are copied under one hold of a lock.
const copyChunk = 64 << 10

// Sink takes the records of a range that is being copied, in the order in which
// they happened for each key. It is called under partition locks, from many
// goroutines: it locks for itself, does not block and calls nothing of the engine.
type Sink interface {
	// Add takes one record (a view: copy it). What was given to several Adds, one
	// after the other, is what [Engine.StageApply] takes.
	Add(record []byte)
	// Full returns nil while there is room, else a channel that is closed when
	// there is again. Writers of the range are held meanwhile ([HeldThrottled]).
	Full() <-chan struct{}
}

// Capture is one range on its way out: a copy and a change stream into one sink.
type Capture struct {
	e     *Engine
	move  string
	r     ring.Range
	sink  Sink
	first ring.Position // of the range

	// passed is how many positions of the range, clockwise from first, the copy
	// has passed. It changes only under the lock of the partition that is being
	// copied, so a writer of that partition sees it exactly; for a writer of any
	// other partition the change makes no difference.
	passed atomic.Uint64
	copied atomic.Uint64

	mu     sync.Mutex // before a partition's mu
	closed bool
	rec    []byte
}

// Capture attaches a change stream to a range that is owned, or sealed by the
// same move. Changes reach the sink once the copy has passed their position; what
// it has not passed it will find. A second capture of the same move replaces the
// first, which goes silent. [ErrConflict] when the range is not all owned or
// sealed by the move.
func (e *Engine) Capture(move string, r ring.Range, sink Sink) (*Capture, error) {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	if err := checkMove(move); err != nil {
		return nil, err
	}
	c := &Capture{e: e, move: move, r: r, sink: sink, first: r.Start + 1}
	if !e.all(r, c.mayCopy) {
		return nil, fmt.Errorf("%w: copy of %s, which is not all owned", ErrConflict, r)
	}
	for _, old := range e.attached(move) {
		old.Close()
	}
	for _, pc := range pieces(r) {
		e.parts[pc.index].attach(c, pc)
	}
	return c, nil
}

// mayCopy says whether a segment's entries are this node's to send.
func (c *Capture) mayCopy(s *segment) bool {
	return s.state == owned || s.state == sealed && s.hold.move == c.move
}

// attached returns the captures of a move: one at most, while ranges is held.
func (e *Engine) attached(move string) []*Capture {
	var found []*Capture
	for i := range e.parts {
		p := &e.parts[i]
		p.mu.Lock()
		for _, c := range p.captures {
			if c.move == move && !slices.Contains(found, c) {
				found = append(found, c)
			}
		}
		p.mu.Unlock()
	}
	return found
}

// attach also cuts the segments at the range's borders: counting the entries on
// either side takes time, which at the seal would be part of the pause.
func (p *partition) attach(c *Capture, pc piece) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.carve(pc.from, pc.to)
	if !slices.Contains(p.captures, c) {
		p.captures = append(p.captures, c)
	}
}

func (p *partition) detach(c *Capture) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.captures = slices.DeleteFunc(p.captures, func(o *Capture) bool { return o == c })
}

// passedBy says whether the copy has passed a position, which lies in a partition
// that the range touches, though not always in the range.
func (c *Capture) passedBy(pos ring.Position) bool {
	return uint64(pos-c.first) < c.passed.Load()
}

// throttle refuses a write while the target is behind. What the copy has not
// passed does not go into the sink, and need not wait for it.
func (c *Capture) throttle(pos ring.Position) error {
	if !c.passedBy(pos) {
		return nil
	}
	full := c.sink.Full()
	if full == nil {
		return nil
	}
	return &HeldError{Move: c.move, Reason: HeldThrottled, Resolved: full}
}

// CopyNext gives the sink the next entries in ring order, about size bytes of
// them, and says whether the range is through. [ErrConflict] when the capture was
// closed or replaced, or the range is no longer this node's to send.
func (c *Capture) CopyNext(size int) (done bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for end := c.r.Size(); c.passed.Load() < end; {
		if size <= 0 {
			return false, nil
		}
		if c.closed {
			return false, fmt.Errorf("%w: the copy of %s was ended", ErrConflict, c.r)
		}
		bytes, err := c.copyStep(min(size, copyChunk), end)
		if err != nil {
			return false, err
		}
		size -= bytes
	}
	return true, nil
}

// copyStep copies from one partition, about budget bytes.
func (c *Capture) copyStep(budget int, end uint64) (bytes int, err error) {
	passed := c.passed.Load()
	from := c.first + ring.Position(passed)
	p := c.e.part(from)
	span := min(end-passed, uint64(p.hi-from)+1)
	to := from + ring.Position(span-1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.allLocked(from, to, c.mayCopy) {
		return 0, fmt.Errorf("%w: %s is no longer this node's to send", ErrConflict, c.r)
	}
	next, through := p.walk(from, to, budget, func(pos ring.Position, e table.Entry) int {
		c.rec = appendEntry(c.rec[:0], entry{
			kind: putKind(e.ExpireAt), pos: pos, version: Version(e.Version),
			expireAt: e.ExpireAt, key: e.Key, value: e.Value,
		})
		c.sink.Add(c.rec)
		bytes += len(c.rec)
		c.copied.Add(1)
		return len(c.rec)
	})
	if !through {
		span = uint64(next - from)
	}
	c.passed.Store(passed + span)
	if cap(c.rec) > scratchLimit {
		c.rec = nil
	}
	return bytes, nil
}

// Copied returns the keys copied so far and the share of the range passed, 0 to 1.
func (c *Capture) Copied() (keys uint64, share float64) {
	return c.copied.Load(), float64(c.passed.Load()) / float64(c.r.Size())
}

// Count returns how many keys the range holds now: exact and final once sealed.
// Expired keys that were not removed count: the target has them too.
func (c *Capture) Count() uint64 { return c.e.count(c.r) }

// Close detaches the stream: when it returns, the sink is not called any more. It
// is idempotent. Throttled writers are let go by the sink's own channel.
func (c *Capture) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, pc := range pieces(c.r) {
		c.e.parts[pc.index].detach(c)
	}
}
