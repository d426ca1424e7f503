package engine

import (
	"math"
	"slices"
	"sync"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

const (
	// partitionBits is how many top bits of a position choose its partition, so
	// that a partition holds neighbours on the ring.
	partitionBits = 8
	partitions    = 1 << partitionBits
	partitionSpan = 1 << (32 - partitionBits)
	// seenBits splits a partition further, see partition.seen.
	seenBits = 8
	// never is an expiry that does not come.
	never = math.MaxInt64
)

// state is what a segment of the ring is to this node.
type state uint8

const (
	// foreign is not ours. Entries there are leftovers; nobody sees them.
	foreign state = iota
	// recovered came from the log, and nobody has said yet whether it is ours.
	recovered
	// owned is served.
	owned
	// sealed was served, and waits for the document to say by whom it is now.
	sealed
	// staging is being received.
	staging
	// staged was received whole, and waits for the document.
	staged
	// doomed is not ours and its wipe is logged: its memory is being freed.
	doomed
)

// segment is the part of a partition after the previous segment, up to end.
type segment struct {
	end   ring.Position
	state state
	keys  int   // entries in it, whatever the state
	hold  *hold // the move of sealed, staging and staged; else nil
}

// partition is one 256th of the ring. All of it is guarded by mu.
//
// Invariants: segs is sorted by end, not empty, and its last end is hi; the sum
// of segs[i].keys is table.Len().
type partition struct {
	mu       sync.Mutex
	table    *table.Table
	lo, hi   ring.Position
	segs     []segment
	captures []*Capture
	picture  *picture // the checkpoint that is scanning this partition, or nil
	sweep    sweep
	// last is the newest LSN that changed what a picture of this partition shows.
	last wal.LSN
	// newest is the newest version that the log has of this partition.
	newest Version
	// tombs are the removals that are remembered: all with a version above horizon.
	// What is newer than acquired happened here, and was published; of some parts that is
	// known by itself.
	tombs             tombs
	horizon, acquired Version
	arrivals          []arrival // of which acquired does not know; only appended to
	// seen is the newest LSN of each 256th of the partition. A reader waits for
	// the one of its key: coarser than the key, so that it costs no search and no
	// pruning, and fine enough that waiting for a stranger's write is rare.
	seen [1 << seenBits]wal.LSN
}

func (p *partition) init(index int, slabs *table.Slabs) {
	p.lo = ring.Position(index) * partitionSpan
	p.hi = p.lo + partitionSpan - 1
	p.table = table.New(slabs, p.lo, p.hi)
	p.segs = []segment{{end: p.hi, state: recovered}}
	p.sweep.due = never
}

func seenSlot(pos ring.Position) int {
	return int(pos>>(32-partitionBits-seenBits)) & (1<<seenBits - 1)
}

// at returns the segment of a position of this partition.
func (p *partition) at(pos ring.Position) *segment {
	i := 0
	for p.segs[i].end < pos {
		i++
	}
	return &p.segs[i]
}

// admit returns the segment for a read, or why it cannot be read.
func (p *partition) admit(pos ring.Position) (*segment, error) {
	seg := p.at(pos)
	if seg.state != owned {
		return nil, seg.refusal()
	}
	return seg, nil
}

// admitWrite is admit for a write, which the target of a move may slow down.
func (p *partition) admitWrite(pos ring.Position) (*segment, error) {
	seg, err := p.admit(pos)
	if err != nil || len(p.captures) == 0 {
		return seg, err
	}
	for _, c := range p.captures {
		if err := c.throttle(pos); err != nil {
			return nil, err
		}
	}
	return seg, nil
}

func (s *segment) refusal() error {
	if s.state == sealed || s.state == staged {
		return s.hold.refusal
	}
	return ErrNotOwned
}

// gone says that the log has the end of the segment's entries, though memory may
// still hold some: they are in no picture.
func (s *segment) gone() bool {
	return s.state == doomed || s.state == staging && !s.hold.ready.Load()
}

// visible says whether this node answers for the segment's keys.
func (s *segment) visible() bool { return s.state == owned || s.state == sealed }

// carve makes from..to a run of whole segments and returns it.
func (p *partition) carve(from, to ring.Position) []segment {
	if from > p.lo {
		p.cut(from - 1)
	}
	p.cut(to)
	i := slices.IndexFunc(p.segs, func(s segment) bool { return s.end >= from })
	j := slices.IndexFunc(p.segs, func(s segment) bool { return s.end >= to })
	return p.segs[i : j+1]
}

// cut makes a segment end at end.
func (p *partition) cut(end ring.Position) {
	i := slices.IndexFunc(p.segs, func(s segment) bool { return s.end >= end })
	if p.segs[i].end == end {
		return
	}
	left := p.segs[i]
	left.end = end
	if left.keys > 0 {
		left.keys = p.countEntries(p.begin(i), end)
	}
	p.segs[i].keys -= left.keys
	p.segs = slices.Insert(p.segs, i, left)
}

// begin returns the first position of segment i.
func (p *partition) begin(i int) ring.Position {
	if i == 0 {
		return p.lo
	}
	return p.segs[i-1].end + 1
}

// join merges neighbours that have become alike.
func (p *partition) join() {
	kept := p.segs[:1]
	for _, s := range p.segs[1:] {
		last := &kept[len(kept)-1]
		if last.state == s.state && last.hold == s.hold {
			last.end, last.keys = s.end, last.keys+s.keys
			continue
		}
		kept = append(kept, s)
	}
	p.segs = kept
}

// count returns how many entries from..to holds.
func (p *partition) count(from, to ring.Position) int {
	n := 0
	for i := range p.segs {
		lo, hi := max(from, p.begin(i)), min(to, p.segs[i].end)
		switch {
		case lo > hi || p.segs[i].keys == 0:
		case lo == p.begin(i) && hi == p.segs[i].end:
			n += p.segs[i].keys
		default:
			n += p.countEntries(lo, hi)
		}
	}
	return n
}

func (p *partition) countEntries(from, to ring.Position) int {
	n := 0
	p.table.Ascend(from, func(pos ring.Position, _ table.Entry) bool {
		if pos > to {
			return false
		}
		n++
		return true
	})
	return n
}

// walk gives visit the entries of from..to in ring order, whole positions at a
// time, until their costs, as visit returns them, reach budget. Unless it is
// through, next is where to go on.
func (p *partition) walk(from, to ring.Position, budget int,
	visit func(ring.Position, table.Entry) (cost int),
) (next ring.Position, through bool) {
	last := from
	through = true
	p.table.Ascend(from, func(pos ring.Position, e table.Entry) bool {
		if pos > to {
			return false
		}
		if budget <= 0 && pos != last {
			next, through = pos, false
			return false
		}
		last = pos
		budget -= visit(pos, e)
		return true
	})
	return next, through
}

// piece is the part of a range that lies in one partition.
type piece struct {
	index    int
	from, to ring.Position
}

// pieces cuts a range at the borders of partitions, in ring order. A range that
// begins and ends in one partition and runs round the ring visits it twice.
func pieces(r ring.Range) []piece {
	var all []piece
	for passed, size := uint64(0), r.Size(); passed < size; {
		from := r.Start + 1 + ring.Position(passed)
		span := min(size-passed, partitionSpan-uint64(from%partitionSpan))
		all = append(all, piece{int(from / partitionSpan), from, from + ring.Position(span-1)})
		passed += span
	}
	return all
}
