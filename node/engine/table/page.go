package table

import "github.com/quoitdb/quoit/ring"

// slot is one place of the index: the ring position in the high half, the [ref]
// of the entry in the low half. A slot without a ref is a gap; its position is
// then only a signpost between those of its neighbours.
//
//	63             32 31              0
//	+----------------+----------------+
//	| position       | ref, 0 = gap   |
//	+----------------+----------------+
type slot uint64

// ref names an entry: a block by its chunk and its unit in the chunk, or, with
// the highest bit set, an entry on the heap by its number. The zero ref names
// nothing; no block begins at unit 0 of chunk 0.
//
//	31   30            14 13           0
//	+---+----------------+-------------+
//	| 0 | chunk          | unit        |
//	| 1 | number of a big entry        |
//	+---+------------------------------+
type ref uint32

const (
	pageShift = 9
	pageSlots = 1 << pageShift
	pageSize  = 8 * pageSlots
)

// page is a sorted run of slots with gaps in it: an open-addressing table for
// one arc, whose hash is the position scaled to the arc. Positions never fall
// from one slot to the next, gaps included, so that a search may start anywhere
// and needs to know nothing but the order; where it starts (the hint) only
// decides how far it walks. A gap is at hand almost everywhere, so that an
// insertion shifts few slots.
type page [pageSlots]slot

func makeSlot(pos ring.Position, r ref) slot { return slot(pos)<<32 | slot(r) }

func (s slot) pos() ring.Position { return ring.Position(s >> 32) }

func (s slot) ref() ref { return ref(s) } // The low half.

// hint returns where in the page of an arc a position probably is.
func hint(pos, first ring.Position, width uint64) int {
	return int(min(uint64(pos-first)<<pageShift/width, pageSlots-1))
}

// lowerBound returns the first slot whose position is not below pos, or
// pageSlots, walking from the hint.
func (p *page) lowerBound(pos ring.Position, from int) int {
	i := from & (pageSlots - 1)
	if p[i].pos() < pos {
		for i++; i < pageSlots && p[i].pos() < pos; i++ {
		}
		return i
	}
	for i > 0 && p[i-1].pos() >= pos {
		i--
	}
	return i
}

// insert puts s at i, its lower bound, or beside it, shifting the slots between
// there and the nearest gap. The page must have a gap. It returns how many slots
// were shifted.
func (p *page) insert(i int, s slot) int {
	if i > 0 && p[i-1].ref() == 0 {
		p[i-1] = s
		return 0
	}
	for d := 0; ; d++ {
		if r := i + d; r < pageSlots && p[r].ref() == 0 {
			copy(p[i+1:r+1], p[i:r])
			p[i] = s
			return d
		}
		if l := i - 1 - d; l >= 0 && p[l].ref() == 0 {
			copy(p[l:i-1], p[l+1:i])
			p[i-1] = s
			return d
		}
	}
}

// remove makes slot i a gap; its position stays as a signpost.
func (p *page) remove(i int) { p[i] = makeSlot(p[i].pos(), 0) }

// pack moves the n slots in use to the front. The page is no page then, only
// memory for [layout] to read.
func (p *page) pack() (n int) {
	for _, s := range p {
		if s.ref() != 0 {
			p[n] = s
			n++
		}
	}
	return n
}

// layout writes the next n slots from src into the page of an arc, each where the
// hint will look for it or as near as the others allow, with signposts between.
func (p *page) layout(n int, src *packed, first ring.Position, width uint64) {
	scale := pageSlots << 32 / width
	post := makeSlot(first, 0)
	at := 0
	for ; n > 0; n-- {
		s := src.next()
		home := int(uint64(s.pos()-first) * scale >> 32)
		home = max(at, min(home, pageSlots-n))
		for ; at < home; at++ {
			post = max(post, min(signpost(at, first, width), makeSlot(s.pos(), 0)))
			p[at] = post
		}
		p[at] = s
		post = makeSlot(s.pos(), 0)
		at++
	}
	for ; at < pageSlots; at++ {
		post = max(post, signpost(at, first, width))
		p[at] = post
	}
}

// signpost returns a gap with the lowest position whose hint is slot i.
func signpost(i int, first ring.Position, width uint64) slot {
	return makeSlot(first+ring.Position((uint64(i)*width+pageSlots-1)>>pageShift), 0)
}
