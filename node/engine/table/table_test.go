package table

import (
	"encoding/binary"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

func TestEmptyTable(t *testing.T) {
	tab := newTable(t)
	if _, ok := tab.Get(1, []byte("k")); ok {
		t.Error("get found something")
	}
	if tab.Delete(1, []byte("k")) || tab.SetMeta(1, []byte("k"), 1, 1) || tab.Maintain(1000) {
		t.Error("there was something to change")
	}
	tab.Ascend(0, func(ring.Position, Entry) bool { t.Error("ascend found something"); return true })
	if tab.Len() != 0 || tab.LiveBytes() != 0 || tab.Stats() != (Stats{}) {
		t.Errorf("%+v", tab.Stats())
	}
	tab.Release()
}

func TestOverwriteKeepsOneEntry(t *testing.T) {
	// From each size to each: in place, moved, to the heap and back.
	sizes := []int{0, 1, 3, 4, 30, 64, 1000, 1030, maxBlock - 100, maxBlock, 20_000, 21_000, 100_000}
	for _, a := range sizes {
		for _, b := range sizes {
			for _, expiry := range [][2]int64{{0, 0}, {0, 5}, {5, 0}, {5, 6}} {
				tab, m := newTable(t), model{}
				key := []byte("key")
				if tab.Put(9, key, filler(a, 1), 1, expiry[0]) {
					t.Fatal("existed before")
				}
				if !tab.Put(9, key, filler(b, 2), 2, expiry[1]) {
					t.Fatal("did not exist")
				}
				m.put(9, key, filler(b, 2), 2, expiry[1])
				m.check(t, tab)
				verify(t, tab)
			}
		}
	}
}

func TestSameSizeIsOverwrittenInPlace(t *testing.T) {
	tab := newTable(t)
	fill(tab, 10_000, 64)
	before := tab.Stats()
	for range 3 {
		fill(tab, 10_000, 64)
		fill(tab, 10_000, 62) // Shorter by less than what is worth a move.
	}
	fill(tab, 10_000, 64)
	if after := tab.Stats(); after != before {
		t.Errorf("%+v became %+v", before, after)
	}
}

func TestSetMeta(t *testing.T) {
	for _, size := range []int{10, 50_000} {
		tab, m := newTable(t), model{}
		value := filler(size, 1)
		tab.Put(3, []byte("k"), value, 1, 0)
		for version, expireAt := range []int64{0, 100, 200, 0, 0, 7} {
			if !tab.SetMeta(3, []byte("k"), uint64(version), expireAt) {
				t.Fatal("lost")
			}
			m.put(3, []byte("k"), value, uint64(version), expireAt)
			m.check(t, tab)
			verify(t, tab)
		}
		if tab.SetMeta(3, []byte("other"), 1, 0) || tab.SetMeta(4, []byte("k"), 1, 0) {
			t.Error("found another key")
		}
	}
}

func TestEntryViewsCannotGrowIntoTheirNeighbours(t *testing.T) {
	tab := newTable(t)
	for _, size := range []int{10, 50_000} {
		tab.Put(3, []byte("k"), filler(size, 1), 1, 0)
		e, _ := tab.Get(3, []byte("k"))
		if cap(e.Key) != len(e.Key) || cap(e.Value) != len(e.Value) {
			t.Errorf("an append to a view would write into the table: %d of %d, %d of %d",
				len(e.Key), cap(e.Key), len(e.Value), cap(e.Value))
		}
	}
}

func TestPutOutsideOfTheTablePanics(t *testing.T) {
	tab := New(newSlabs(t), 100, 200)
	for _, pos := range []ring.Position{99, 201, 0, math.MaxUint32} {
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.Contains(text, "outside of 100..200") {
					t.Errorf("put at %d: %q", pos, text)
				}
			}()
			tab.Put(pos, nil, nil, 1, 0)
		}()
		if _, ok := tab.Get(pos, nil); ok {
			t.Error("found")
		}
	}
	tab.Put(150, []byte("k"), nil, 1, 0)
	defer tab.Release()
	for _, pos := range []ring.Position{99, 201} {
		if _, ok := tab.Get(pos, []byte("k")); ok || tab.Delete(pos, []byte("k")) {
			t.Error("found")
		}
	}
	for from, want := range map[ring.Position]int{0: 1, 99: 1, 150: 1, 151: 0, 201: 0, math.MaxUint32: 0} {
		n := 0
		tab.Ascend(from, func(ring.Position, Entry) bool { n++; return true })
		if n != want {
			t.Errorf("ascend from %d saw %d entries", from, n)
		}
	}
}

func TestAscendStops(t *testing.T) {
	tab := newTable(t)
	fill(tab, 5000, 0)
	n := 0
	tab.Ascend(0, func(ring.Position, Entry) bool { n++; return n < 1234 })
	if n != 1234 {
		t.Errorf("saw %d entries", n)
	}
}

func TestReleasedTableCanBeUsedAgain(t *testing.T) {
	tab := newTable(t)
	for range 3 {
		m := model{}
		for i := range 3000 {
			tab.Put(spread(i), number(i), filler(i%200, 1), 1, 0)
			m.put(spread(i), number(i), filler(i%200, 1), 1, 0)
		}
		tab.Put(5, []byte("big"), make([]byte, 50_000), 1, 0)
		m.put(5, []byte("big"), make([]byte, 50_000), 1, 0)
		verify(t, tab)
		m.check(t, tab)
		tab.Release()
		for _, c := range tab.arena.chunks[:cap(tab.arena.chunks)] {
			if c != nil {
				t.Fatal("a pointer into the slabs is left")
			}
		}
		for _, p := range tab.index.pages[:cap(tab.index.pages)] {
			if p != nil {
				t.Fatal("a pointer into the slabs is left")
			}
		}
		if tab.Stats() != (Stats{}) || tab.arena.slabs.Stats().InUse != 0 {
			t.Errorf("released, but %+v, %+v", tab.Stats(), tab.arena.slabs.Stats())
		}
	}
}

func TestReadersRunBesideEachOther(t *testing.T) {
	tab := newTable(t)
	fill(tab, 3000, 64)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 3000 {
				if _, ok := tab.Get(spread(i), number(i)); !ok {
					t.Errorf("key %d is lost", i)
				}
			}
			n := 0
			tab.Ascend(0, func(ring.Position, Entry) bool { n++; return true })
			if n != 3000 {
				t.Errorf("ascend saw %d entries", n)
			}
		})
	}
	group.Wait()
}

func TestNothingIsAllocatedPerOperation(t *testing.T) {
	tab := newTable(t)
	fill(tab, 20_000, 64)
	key, value := make([]byte, 8), make([]byte, 128)
	i := 0
	for name, op := range map[string]func(pos ring.Position){
		"get":          func(pos ring.Position) { tab.Get(pos, key) },
		"overwrite":    func(pos ring.Position) { tab.Put(pos, key, value[:64], 1, 0) },
		"other size":   func(pos ring.Position) { tab.Put(pos, key, value[:32+i%64], 1, 0) },
		"other expiry": func(pos ring.Position) { tab.SetMeta(pos, key, 1, int64(i%2)) },
		"delete":       func(pos ring.Position) { tab.Delete(pos, key) },
	} {
		if n := testing.AllocsPerRun(15_000, func() {
			i++
			binary.BigEndian.PutUint64(key, uint64(i%20_000)) // Not negative.
			op(spread(i % 20_000))
		}); n >= 1 {
			t.Errorf("%s: %.2f allocations", name, n)
		}
	}
}
