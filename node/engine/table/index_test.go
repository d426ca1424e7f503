package table

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// spread returns the n-th of positions without pattern.
func spread(n int) ring.Position {
	return ring.Position(uint32(n) * 2654435761) // Wraps by design.
}

func number(n int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) } // Bits.

// fill puts n keys with values of so many bytes.
func fill(tab *Table, n, size int) {
	value := make([]byte, size)
	for i := range n {
		tab.Put(spread(i), number(i), value, uint64(i), 0) // Not negative.
	}
}

func load(tab *Table) float64 {
	return float64(tab.entries) / float64(len(tab.index.pages)*pageSlots)
}

func TestIndexStaysFullWhileItGrows(t *testing.T) {
	tab := newTable(t)
	lowest, sum := 1.0, 0.0
	const from, to = 5_000, 100_000
	for i := range to {
		tab.Put(spread(i*7919), number(i), nil, 1, 0)
		if i >= from {
			lowest = min(lowest, load(tab))
			sum += load(tab)
		}
	}
	if mean := sum / (to - from); lowest < 0.60 || mean < 0.72 {
		t.Errorf("index is %.2f full on average, %.2f at worst", mean, lowest)
	}
	verify(t, tab)
}

func TestIndexShrinksWithTheTable(t *testing.T) {
	tab := newTable(t)
	const n = 50_000
	fill(tab, n, 0)
	for i := range n {
		if !tab.Delete(spread(i), number(i)) {
			t.Fatalf("key %d is lost", i)
		}
		if tab.entries > 2_000 && load(tab) < 0.45 {
			t.Fatalf("%d entries left in an index %.2f full", tab.entries, load(tab))
		}
	}
	if tab.Len() != 0 || tab.arena.slabs.Stats().InUse != 0 {
		t.Errorf("empty, but %+v", tab.Stats())
	}
}

// Ten pages' worth of keys at one position, among neighbours.
func TestIndexRunOfOnePositionStraddlesPages(t *testing.T) {
	for _, at := range []ring.Position{0, 1 << 20, math.MaxUint32} {
		tab, m := newTable(t), model{}
		put := func(pos ring.Position, key []byte) {
			tab.Put(pos, key, key, 1, 0)
			m.put(pos, key, key, 1, 0)
		}
		for i := range 10 * pageSlots {
			put(at, number(i))
			put(at+spread(i)%100, number(i+1_000_000))
		}
		verify(t, tab)
		m.check(t, tab)
		m.checkAscend(t, tab, at)
		if _, ok := tab.Get(at, []byte("not there")); ok {
			t.Error("found what is not there")
		}
		for i := range 10 * pageSlots {
			if i%3 > 0 {
				if !tab.Delete(at, number(i)) {
					t.Fatalf("key %d of the run at %d is lost", i, at)
				}
				delete(m, modelKey(at, number(i)))
			}
		}
		verify(t, tab)
		m.check(t, tab)
	}
}

func TestSpreadMakesNoEmptyPage(t *testing.T) {
	for left := range 3 {
		tab := newTable(t)
		fill(tab, 5*fullPage, 0)
		x := &tab.index
		for i := range 3 { // Emptied without merging, which remove would do.
			n := 0
			for j, s := range x.pages[i] {
				if n++; s.ref() != 0 && (i > 0 || n > left) {
					tab.drop(s.ref())
					tab.payload -= 8
					tab.entries--
					x.counts[i]--
					x.pages[i].remove(j)
				} else if s.ref() == 0 {
					n--
				}
			}
		}
		x.spread(0, 3, 2)
		verify(t, tab)
		for i, n := range x.counts {
			if n == 0 {
				t.Errorf("page %d is empty", i)
			}
		}
	}
}

func TestIndexOfANarrowArc(t *testing.T) {
	slabs := newSlabs(t)
	for _, c := range []struct{ lo, hi ring.Position }{
		{0, 0},
		{math.MaxUint32, math.MaxUint32},
		{math.MaxUint32 - 1, math.MaxUint32},
		{1 << 24, 1<<24 + 100},
		{0xff000000, math.MaxUint32},
	} {
		tab, m := New(slabs, c.lo, c.hi), model{}
		for i := range 3000 {
			pos := c.lo + ring.Position(uint64(spread(i))%(uint64(c.hi-c.lo)+1))
			tab.Put(pos, number(i), nil, 1, 0)
			m.put(pos, number(i), nil, 1, 0)
		}
		verify(t, tab)
		m.check(t, tab)
		m.checkAscend(t, tab, c.hi)
		tab.Release()
	}
}

// Each cluster lies at the end of the arc that its page would have, which is
// where a table of one scale over all overflows.
func TestIndexOfClusters(t *testing.T) {
	tab, m := newTable(t), model{}
	for i := range 60_000 {
		cluster := spread(i % 37)
		pos := cluster | 0xffff - ring.Position(i%1000)
		tab.Put(pos, number(i), nil, 1, 0)
		m.put(pos, number(i), nil, 1, 0)
	}
	verify(t, tab)
	m.check(t, tab)
	if load(tab) < 0.5 {
		t.Errorf("index is %.2f full", load(tab))
	}
}
