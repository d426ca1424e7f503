package table

import (
	"slices"

	"github.com/quoitdb/quoit/ring"
)

const (
	// A page that reaches fullPage slots in use is evened out with its
	// neighbours; a fourth page joins three of them if they hold more than
	// evenPage on average. So the index is between 0.60 and 0.90 full.
	fullPage = pageSlots * 29 / 32
	evenPage = pageSlots * 26 / 32
	// Three neighbours become two if that leaves these at mergedPage at most.
	// It is only looked at when one of them is below sparsePage.
	mergedPage = pageSlots * 23 / 32
	sparsePage = pageSlots / 2

	windowPages = 3
)

// index is the sorted sequence of all slots, cut into pages. The arc of a page
// begins at its first position and ends where the next page begins. A run of
// equal positions may straddle pages: the last page that begins at or before a
// position is where a search starts, and only if it begins exactly there can the
// page before hold the position too.
type index struct {
	slabs *Slabs
	lo    ring.Position
	end   uint64 // one past the last position

	// One element per page, in ring order.
	firsts []ring.Position // firsts[0] == lo
	pages  []*page
	counts []int32 // slots in use

	moved int64 // slots ever shifted or laid out anew
}

// cursor names a slot.
type cursor struct{ page, slot int }

// pageOf returns the last page that begins at or before pos, or -1 if there is
// no page.
func (x *index) pageOf(pos ring.Position) int {
	lo, hi := 0, len(x.firsts)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if x.firsts[mid] <= pos {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

// width returns how many positions the arc of a page has, at least 1.
func (x *index) width(i int) uint64 {
	end := x.end
	if i+1 < len(x.firsts) {
		end = uint64(x.firsts[i+1])
	}
	return max(1, end-uint64(x.firsts[i]))
}

// lowerBound returns the first slot of a page that is not below pos.
func (x *index) lowerBound(i int, pos ring.Position) int {
	return x.pages[i].lowerBound(pos, hint(pos, x.firsts[i], x.width(i)))
}

// seek returns the first slot that is not below pos, gap or not. pos may lie
// before the index or after it.
func (x *index) seek(pos ring.Position) cursor {
	i := x.pageOf(pos)
	if i < 0 {
		return cursor{}
	}
	for i > 0 && x.firsts[i] == pos {
		i--
	}
	return cursor{i, x.lowerBound(i, pos)}
}

// insert adds a slot for pos. at is where a search for pos ended; the index must
// not have changed since. Where equal positions stand already, the place among
// them is unspecified.
func (x *index) insert(at cursor, pos ring.Position, r ref) {
	if len(x.pages) == 0 {
		x.firstPage()
		at = x.locate(pos)
	} else if x.counts[at.page] >= fullPage {
		x.relieve(at.page)
		at = x.locate(pos)
	}
	x.moved += int64(x.pages[at.page].insert(at.slot, makeSlot(pos, r)))
	x.counts[at.page]++
}

// locate returns where a slot for pos belongs.
func (x *index) locate(pos ring.Position) cursor {
	i := x.pageOf(pos)
	return cursor{i, x.lowerBound(i, pos)}
}

// remove drops the slot at c.
func (x *index) remove(c cursor) {
	x.pages[c.page].remove(c.slot)
	x.counts[c.page]--
	if x.counts[c.page] < sparsePage {
		x.shrink(c.page)
	}
}

func (x *index) firstPage() {
	p := x.slabs.takePage()
	x.firsts, x.pages, x.counts = append(x.firsts, x.lo), append(x.pages, p), append(x.counts, 0)
	p.layout(0, nil, x.lo, x.width(0))
}

// window returns the pages a..b-1 around page i that are evened out together,
// and how many slots they use.
func (x *index) window(i int) (a, b, used int) {
	a = max(0, i-1)
	b = min(len(x.pages), a+windowPages)
	a = max(0, b-windowPages)
	for _, n := range x.counts[a:b] {
		used += int(n)
	}
	return a, b, used
}

// relieve makes room in page i.
func (x *index) relieve(i int) {
	a, b, used := x.window(i)
	pages := b - a
	if used > pages*evenPage {
		pages++
	}
	x.spread(a, b, pages)
}

// shrink gives pages back around page i if its neighbours can do with fewer.
func (x *index) shrink(i int) {
	a, b, used := x.window(i)
	if pages := b - a - 1; used <= pages*mergedPage {
		x.spread(a, b, pages)
	}
}

// spread distributes the slots of pages a..b-1 evenly over new pages in their
// place, at most four.
func (x *index) spread(a, b, pages int) {
	src := packed{first: x.firsts[a]}
	for i, p := range x.pages[a:b] {
		src.pages[i], src.counts[i] = p, p.pack()
		src.used += src.counts[i]
	}
	pages = min(pages, src.used) // None without a slot.
	end := x.end
	if b < len(x.firsts) {
		end = uint64(x.firsts[b])
	}
	var (
		firsts [windowPages + 1]ring.Position
		fresh  [windowPages + 1]*page
		counts [windowPages + 1]int32
	)
	for i := pages - 1; i >= 0; i-- {
		from, to := src.used*i/pages, src.used*(i+1)/pages
		firsts[i] = src.start(from)
		fresh[i], counts[i] = x.slabs.takePage(), int32(to-from) // At most a page.
		src.seek(from)
		fresh[i].layout(to-from, &src, firsts[i], max(1, end-uint64(firsts[i])))
		end = uint64(firsts[i])
	}
	for _, p := range x.pages[a:b] {
		x.slabs.givePage(p)
	}
	x.firsts = slices.Replace(x.firsts, a, b, firsts[:pages]...)
	x.pages = slices.Replace(x.pages, a, b, fresh[:pages]...)
	x.counts = slices.Replace(x.counts, a, b, counts[:pages]...)
	if len(x.firsts) > 0 {
		x.firsts[0] = x.lo // Even where the pages before have gone.
	}
	x.moved += int64(b-a+pages) * pageSlots
}

// release gives all pages back.
func (x *index) release() {
	for _, p := range x.pages {
		x.slabs.givePage(p)
	}
	clear(x.pages) // No pointer may outlive the memory of the slabs.
	x.firsts, x.pages, x.counts = x.firsts[:0], x.pages[:0], x.counts[:0]
}

// packed reads the slots of up to three packed pages in order.
type packed struct {
	first  ring.Position // where the arc of the first page begins
	pages  [windowPages]*page
	counts [windowPages]int
	used   int

	page, slot int // the next slot to read
}

// seek goes to the slot with a number of slots before it.
func (s *packed) seek(n int) {
	s.page, s.slot = 0, n
	for s.slot >= s.counts[s.page] {
		s.slot -= s.counts[s.page]
		s.page++
	}
}

// start returns where a page begins that holds the slots from number n on.
func (s *packed) start(n int) ring.Position {
	if n == 0 {
		return s.first
	}
	s.seek(n)
	return s.pages[s.page][s.slot].pos()
}

func (s *packed) next() slot {
	for s.slot >= s.counts[s.page] {
		s.page, s.slot = s.page+1, 0
	}
	s.slot++
	return s.pages[s.page][s.slot-1]
}
