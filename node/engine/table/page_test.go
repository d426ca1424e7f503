package table

import (
	"math"
	"slices"
	"testing"

	"github.com/quoitdb/quoit/ring"
	"pgregory.net/rapid"
)

// arc is the stretch of the ring that a page covers.
type arc struct {
	first ring.Position
	width uint64
}

func drawArc(t *rapid.T) arc {
	width := rapid.OneOf(
		rapid.SampledFrom([]uint64{1, 2, pageSlots, 1 << 24, 1 << 32}),
		rapid.Uint64Range(1, 1<<32),
	).Draw(t, "width")
	return arc{ring.Position(rapid.Uint64Range(0, 1<<32-width).Draw(t, "first")), width} // In range.
}

func (a arc) draw(t *rapid.T) ring.Position {
	return a.first + ring.Position(rapid.OneOf(
		rapid.Uint64Range(0, a.width-1),
		rapid.SampledFrom([]uint64{0, a.width / 2, a.width - 1}),
	).Draw(t, "pos"))
}

// laidOut returns a page with these positions.
func laidOut(a arc, sorted []ring.Position) *page {
	src := packed{counts: [windowPages]int{len(sorted)}, pages: [windowPages]*page{{}}}
	for i, pos := range sorted {
		src.pages[0][i] = makeSlot(pos, ref(i+1))
	}
	p := &page{}
	p.layout(len(sorted), &src, a.first, a.width)
	return p
}

func (p *page) positions() (all []ring.Position) {
	for _, s := range p {
		if s.ref() != 0 {
			all = append(all, s.pos())
		}
	}
	return all
}

func (p *page) sorted() bool {
	return slices.IsSortedFunc(p[:], func(a, b slot) int { return int(a.pos()) - int(b.pos()) })
}

func TestPageKeepsOrderAndFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawArc(t)
		want := rapid.SliceOfN(rapid.Custom(a.draw), 0, pageSlots-1).Draw(t, "positions")
		slices.Sort(want)
		p := laidOut(a, want)
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				if len(want) == pageSlots {
					t.Skip("full")
				}
				pos := a.draw(t)
				p.insert(p.lowerBound(pos, hint(pos, a.first, a.width)), makeSlot(pos, 1))
				i, _ := slices.BinarySearch(want, pos)
				want = slices.Insert(want, i, pos)
			},
			"remove": func(t *rapid.T) {
				i := rapid.IntRange(0, pageSlots-1).Draw(t, "slot")
				if p[i].ref() != 0 {
					j, _ := slices.BinarySearch(want, p[i].pos())
					want = slices.Delete(want, j, j+1)
				}
				p.remove(i)
			},
			"": func(t *rapid.T) {
				if got := p.positions(); !slices.Equal(got, want) || !p.sorted() {
					t.Fatalf("holds %v, want %v; sorted: %v", got, want, p.sorted())
				}
				pos := a.draw(t)
				bound := slices.IndexFunc(p[:], func(s slot) bool { return s.pos() >= pos })
				if bound < 0 {
					bound = pageSlots
				}
				from := rapid.IntRange(0, pageSlots-1).Draw(t, "from") // Any hint is right.
				if got := p.lowerBound(pos, from); got != bound {
					t.Fatalf("lower bound of %d from %d is %d, want %d", pos, from, got, bound)
				}
			},
		})
	})
}

func TestPageFillsToTheLastSlot(t *testing.T) {
	for name, next := range map[string]func(i int) ring.Position{
		"rising":   func(i int) ring.Position { return ring.Position(i) },
		"falling":  func(i int) ring.Position { return ring.Position(pageSlots - i) },
		"equal":    func(int) ring.Position { return 7 },
		"the last": func(int) ring.Position { return math.MaxUint32 },
	} {
		p := laidOut(arc{0, 1 << 32}, nil)
		for i := range pageSlots {
			pos := next(i)
			p.insert(p.lowerBound(pos, hint(pos, 0, 1<<32)), makeSlot(pos, 1))
		}
		if !p.sorted() || len(p.positions()) != pageSlots {
			t.Errorf("%s: %v", name, p.positions())
		}
	}
}

// The point of the layout: where positions are spread evenly, as hashes are, a
// search begins within a cache line or two of its end.
func TestHintIsNearWherePositionsAreSpread(t *testing.T) {
	a := arc{1 << 30, 1 << 24}
	var all []ring.Position
	state := uint64(1)
	for range fullPage {
		state = state*6364136223846793005 + 1442695040888963407
		all = append(all, a.first+ring.Position(state>>40))
	}
	slices.Sort(all)
	p, walked := laidOut(a, all), 0
	for _, pos := range all {
		from := hint(pos, a.first, a.width)
		walked += max(p.lowerBound(pos, from)-from, from-p.lowerBound(pos, from))
	}
	if mean := float64(walked) / fullPage; mean > 12 {
		t.Errorf("a search walks %.1f slots in a page of %d in use", mean, fullPage)
	}
}

func TestSlotAndRefKeepTheirParts(t *testing.T) {
	for _, pos := range []ring.Position{0, 1, math.MaxUint32} {
		for _, r := range []ref{0, 1, makeRef(maxChunks-1, chunkSize-unit), bigBit | 5} {
			if s := makeSlot(pos, r); s.pos() != pos || s.ref() != r {
				t.Errorf("slot of %d, %x: %d, %x", pos, r, s.pos(), s.ref())
			}
		}
	}
	if r := makeRef(maxChunks-1, chunkSize-unit); r.chunk() != maxChunks-1 || r&unitMask != chunkSize/unit-1 || r&bigBit != 0 {
		t.Errorf("ref %x", r)
	}
}
