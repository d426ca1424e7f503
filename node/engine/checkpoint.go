package engine

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// Partitions is how many parts of the ring a checkpoint consists of, each with a
// cut of its own.
const Partitions = partitions

// PartitionRange returns the part of the ring that is partition i, 0 to
// [Partitions]-1.
func PartitionRange(i int) ring.Range {
	lo := ring.Position(i) * partitionSpan
	return ring.Range{Start: lo - 1, End: lo + (partitionSpan - 1)}
}

const (
	// smallDelta bounds what is copied at a cut, in bytes as picture.note counts them.
	smallDelta = 16 << 10
	// maxRounds is how often a delta that does not become small is copied before
	// it is copied at the cut.
	maxRounds = 16
)

// Entry is one entry of a checkpoint. Key and Value are views.
type Entry struct {
	Position ring.Position
	Item
}

// Cut says as of when a partition of a checkpoint is.
type Cut struct {
	// LSN is the cut: every record of the partition up to here is in the picture,
	// none after.
	LSN wal.LSN
	// Changed is the LSN of the partition's newest change or a later one, never
	// above LSN. A picture whose cut is at or behind it still holds.
	Changed wal.LSN
	// Keys and Bytes (of keys and values) are what was delivered.
	Keys  int
	Bytes int64
}

// CheckpointStats is what a checkpoint has cost so far.
type CheckpointStats struct {
	// Buffered is the largest memory held for one partition, in bytes.
	Buffered int64
	// LongestHold is the longest time that one step has kept a partition locked.
	LongestHold time.Duration
	// Steps and Held are how often one was locked, and for how long altogether.
	Steps int
	Held  time.Duration
	// Again counts entries that changed behind the scan and were copied again.
	Again int
}

// Checkpoint is a picture of an [Engine] that is being taken, partition by
// partition, beside traffic. Each partition is as of its own cut; log and ledger
// from the least of the cuts on make the whole exact. One goroutine at a time.
//
//	cp, err := e.BeginCheckpoint()
//	defer cp.Close()
//	for i := range engine.Partitions {
//		cut, err := cp.Partition(i, upload)
//	}
//	state, err := cp.Finish()
//	// publish, read back, and then: log.Truncate(state.MinCut())
//
// What Partition delivers may not be durable yet: nobody may be shown it before
// Finish has returned, which makes the log durable up to all cuts.
type Checkpoint struct {
	e     *Engine
	cuts  [partitions]wal.LSN
	done  [partitions]bool
	spare [][]byte // chunks for the next partition
	stats CheckpointStats
	chunk int    // bytes to copy in one step, or to deliver at a time
	delta int    // bytes that may be left for the cut
	pause func() // between two steps
	rest  func() // between two pieces of what is delivered
}

// BeginCheckpoint begins the only checkpoint of this engine: [ErrConflict] while
// another one is under way.
func (e *Engine) BeginCheckpoint() (*Checkpoint, error) {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	if e.closed || e.checkpoint != nil {
		return nil, fmt.Errorf("%w: a checkpoint is under way, or the engine is closed", ErrConflict)
	}
	way := newGiveWay(runtime.GOMAXPROCS(0))
	e.checkpoint = &Checkpoint{e: e, chunk: copyChunk, delta: smallDelta, pause: way.pause, rest: way.pause}
	return e.checkpoint, nil
}

// Close ends the checkpoint, finished or not. It is idempotent.
func (c *Checkpoint) Close() {
	c.e.ranges.Lock()
	defer c.e.ranges.Unlock()
	if c.e.checkpoint == c {
		c.e.checkpoint = nil
	}
	c.spare = nil
}

// Stats returns what the checkpoint has cost so far.
func (c *Checkpoint) Stats() CheckpointStats { return c.stats }

// Partition takes the picture of partition i and gives fn its entries, sorted by
// position and key, each once. While fn runs nothing is locked: it may take its
// time. An error of fn ends the delivery and is returned; the partition can be
// taken again then. Expired entries that were not removed yet are in, and those of
// ranges whose end is in the log are not, whether memory is freed or not.
func (c *Checkpoint) Partition(i int, fn func(Entry) error) (Cut, error) {
	p := &c.e.parts[i]
	pic := &picture{next: p.lo, spare: c.spare}
	if err := c.attach(p, pic); err != nil {
		return Cut{}, err
	}
	c.scan(p, pic)
	cut, err := c.cut(p, pic)
	c.stats.Buffered = max(c.stats.Buffered, pic.bytes())
	c.stats.Again += len(pic.late)
	if err == nil {
		cut.Keys, cut.Bytes, err = pic.deliver(c.resting(fn))
	}
	pic.reset()
	c.spare = pic.spare
	if err == nil {
		c.cuts[i], c.done[i] = cut.LSN, true
	}
	return cut, err
}

// resting gives way to traffic between pieces of what fn is given: it may be what
// takes the time, as when it packs.
func (c *Checkpoint) resting(fn func(Entry) error) func(Entry) error {
	given := 0
	return func(e Entry) error {
		if given += entryCost + len(e.Key) + len(e.Value); given > c.chunk {
			given = 0
			c.rest()
		}
		return fn(e)
	}
}

// Unchanged says whether partition i still is what a picture with the cut since
// shows. If so, it takes that picture as this checkpoint's, with a new cut: the
// caller refers to it again instead of calling Partition.
func (c *Checkpoint) Unchanged(i int, since wal.LSN) (Cut, bool, error) {
	p := &c.e.parts[i]
	c.e.ranges.Lock()
	defer c.e.ranges.Unlock()
	if err := c.open(); err != nil {
		return Cut{}, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	cut := Cut{LSN: c.e.log.Appended(), Changed: p.last}
	if p.last > since || since > cut.LSN {
		return cut, false, nil
	}
	c.cuts[i], c.done[i] = cut.LSN, true
	return cut, true, nil
}

// open says why the checkpoint cannot go on. The caller holds ranges.
func (c *Checkpoint) open() error {
	if c.e.closed || c.e.checkpoint != c {
		return fmt.Errorf("%w: the checkpoint or the engine was closed", ErrConflict)
	}
	return nil
}

func (c *Checkpoint) attach(p *partition, pic *picture) error {
	c.e.ranges.Lock()
	defer c.e.ranges.Unlock()
	if err := c.open(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.picture = pic
	return nil
}

// scan copies the partition in steps. What changes behind it, it notes.
func (c *Checkpoint) scan(p *partition, pic *picture) {
	for !pic.through {
		pic.prepare()
		c.step(p, func() { p.copyOn(pic, c.chunk) })
		c.pause()
	}
}

// step does something with the partition locked, and takes the time.
func (c *Checkpoint) step(p *partition, fn func()) {
	p.mu.Lock()
	began := time.Now()
	fn()
	took := time.Since(began)
	p.mu.Unlock()
	c.stats.LongestHold = max(c.stats.LongestHold, took)
	c.stats.Held += took
	c.stats.Steps++
}

// copyOn copies the next entries, about budget bytes.
func (p *partition) copyOn(pic *picture, budget int) {
	seg := p.at(pic.next)
	next, through := p.walk(pic.next, p.hi, budget, func(pos ring.Position, e table.Entry) int {
		if pos > seg.end {
			seg = p.at(pos)
		}
		if seg.gone() {
			return entryCost
		}
		return pic.add(pos, e)
	})
	pic.next, pic.through = next, through
}

// cut copies what has changed behind the scan until little of it is left, and
// takes the cut.
//
// Range records are logged, and states changed, under ranges; entry records are
// logged, and entries changed, under the partition's lock. So while both are held
// the end of the log is a moment of this partition: what lies before it has been
// done to memory, what comes lies behind it.
func (c *Checkpoint) cut(p *partition, pic *picture) (Cut, error) {
	for range maxRounds {
		if !c.drain(p, pic) {
			break
		}
	}
	c.e.ranges.Lock()
	defer c.e.ranges.Unlock()
	if err := c.open(); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.picture = nil
		return Cut{}, err
	}
	var cut Cut
	c.step(p, func() {
		for key := range pic.dirty {
			p.copyAgain(pic, key)
		}
		for i := range p.segs {
			if p.segs[i].gone() && p.segs[i].keys > 0 {
				pic.hidden = append(pic.hidden, piece{from: p.begin(i), to: p.segs[i].end})
			}
		}
		cut = Cut{LSN: c.e.log.Appended(), Changed: p.last}
		p.picture = nil
	})
	return cut, nil
}

// drain copies again what has changed behind the scan, in steps, unless it is little.
func (c *Checkpoint) drain(p *partition, pic *picture) (more bool) {
	var dirty map[place]struct{}
	c.step(p, func() {
		if pic.dirtyCost > c.delta {
			dirty = pic.takeDirty()
		}
	})
	keys := make([]place, 0, len(dirty))
	for key := range dirty {
		keys = append(keys, key)
	}
	for len(keys) > 0 {
		pic.prepare()
		c.step(p, func() {
			for budget := c.chunk; budget > 0 && len(keys) > 0; keys = keys[1:] {
				budget -= p.copyAgain(pic, keys[0])
			}
		})
		c.pause()
	}
	return dirty != nil
}

// copyAgain copies what a key is now, or that it is not there.
func (p *partition) copyAgain(pic *picture, at place) (cost int) {
	e, ok := p.table.Get(at.pos, []byte(at.key))
	if !ok {
		pic.late = append(pic.late, lateEntry{pos: at.pos, key: at.key})
		return entryCost
	}
	chunk, offset := pic.chunk(len(e.Key) + len(e.Value) + entryCost)
	pic.late = append(pic.late, lateEntry{pos: at.pos, key: at.key, there: true, chunk: chunk, offset: offset})
	return pic.write(at.pos, e)
}

// Finish takes the ledger, once every partition has its picture, and makes the log
// durable as far as any of them: from then on the checkpoint may be shown.
func (c *Checkpoint) Finish() (*State, error) {
	if i := slices.Index(c.done[:], false); i >= 0 {
		return nil, fmt.Errorf("%w: partition %d of the checkpoint is missing", ErrConflict, i)
	}
	s, err := c.state()
	if err != nil {
		return nil, err
	}
	if err := c.e.log.SyncTo(s.LSN); err != nil {
		return nil, fmt.Errorf("engine: finish a checkpoint: %w", err)
	}
	return s, nil
}

// state takes the ledger and the clock. The clock comes last: it covers the
// version of every record up to every cut, also of deletes.
func (c *Checkpoint) state() (*State, error) {
	e := c.e
	e.ranges.Lock()
	defer e.ranges.Unlock()
	if err := c.open(); err != nil {
		return nil, err
	}
	s := &State{
		LSN: e.log.Appended(), Mark: e.mark, Cuts: c.cuts,
		Sealed: publicHolds(e.sealed), Staged: publicHolds(e.staged),
	}
	for i := range e.parts {
		p := &e.parts[i]
		p.mu.Lock()
		for j := range p.segs {
			if p.segs[j].visible() {
				s.Owned = addRange(s.Owned, ring.Range{Start: p.begin(j) - 1, End: p.segs[j].end})
			}
		}
		p.mu.Unlock()
	}
	s.HLC = Version(e.clock.last.Load())
	return s, nil
}
