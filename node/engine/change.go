package engine

import (
	"sync"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// change is one thing that all watchers of a selector share. It never changes.
type change struct {
	kind       changeKind
	pos        ring.Position
	version    Version
	expireAt   int64
	key, value []byte
	r          ring.Range // of changeGone
	lsn        wal.LSN    // nobody is told before this is durable
}

type changeKind uint8

const (
	// changePut: the key has this value.
	changePut changeKind = iota
	// changeDelete: the key is gone.
	changeDelete
	// changeGone: the range is not ours any more; all its changes, up to version, lie
	// before it. Version 0: nobody says how far.
	changeGone
)

// changeOverhead is what a change costs beside its key and value, with its slot.
const changeOverhead = 144

func (c *change) size() int { return changeOverhead + len(c.key) + len(c.value) }

// group is all who watch the same selector, and what they are to be told: one ring
// for all of them, which each reads with a cursor of its own.
//
// Invariants: slots[i%len(slots)] is change i for first <= i < next; its high is the
// newest version up to it; every change of an owned position with a version above
// floor is at first or behind it. Versions rise for each partition, not over all.
type group struct {
	selector string
	prefix   bool

	mu          sync.Mutex
	slots       []slot // a power of two
	first, next uint64
	bytes       int64
	floor, high Version
	progress    progress
	members     map[*member]struct{}
	dirty       bool  // the pump knows that there is something new
	emptySince  int64 // unix milliseconds; 0 while there are members
}

type slot struct {
	c    *change
	high Version
}

// progress says that all changes up to a version lie before a place in the ring. It is
// not in there: of a selector that nobody writes to it would be all there is.
type progress struct {
	version Version
	lsn     wal.LSN // nobody is told before this is durable
	at      uint64
}

const firstSlots = 8

func newGroup(selector string, prefix bool) *group {
	return &group{selector: selector, prefix: prefix, slots: make([]slot, firstSlots), members: map[*member]struct{}{}}
}

func (g *group) at(seq uint64) *slot { return &g.slots[seq%uint64(len(g.slots))] }

// push appends a change. The caller holds mu.
func (g *group) push(c *change) {
	if g.next-g.first == uint64(len(g.slots)) {
		larger := make([]slot, 2*len(g.slots))
		for i := g.first; i < g.next; i++ {
			larger[i%uint64(len(larger))] = *g.at(i)
		}
		g.slots = larger
	}
	if c.kind <= changeDelete {
		g.high = max(g.high, c.version)
	}
	*g.at(g.next) = slot{c, g.high}
	g.next++
	g.bytes += int64(c.size())
}

// shift forgets the oldest change and returns its size. The caller holds mu.
func (g *group) shift() int64 {
	s := g.at(g.first)
	size := int64(s.c.size())
	g.floor = max(g.floor, s.high)
	*s = slot{}
	g.first++
	g.bytes -= size
	return size
}

// after returns the first change behind which, or at which, lies everything newer
// than a version that is not older than floor. The caller holds mu.
func (g *group) after(v Version) uint64 {
	low, high := g.first, g.next
	for low < high {
		if mid := low + (high-low)/2; g.at(mid).high > v {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

// copyFrom appends up to n changes from a cursor on; behind says that some of them
// are forgotten.
func (g *group) copyFrom(into []*change, cursor uint64, n int) (out []*change, behind bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if cursor < g.first {
		return into, true
	}
	for end := min(g.next, cursor+uint64(n)); cursor < end; cursor++ {
		into = append(into, g.at(cursor).c)
	}
	return into, false
}

// end is the cursor of one who has read everything.
func (g *group) end() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.next
}
