package table

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// failer is the part of testing.TB and of rapid.T that the helpers need.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// newSlabs returns slabs that must have everything back when the test ends.
func newSlabs(t testing.TB) *Slabs {
	t.Helper()
	slabs := NewSlabs()
	t.Cleanup(func() {
		if err := slabs.Close(); err != nil {
			t.Error(err)
		}
	})
	return slabs
}

// newTable returns a table of the whole ring that is released when the test ends.
func newTable(t testing.TB) *Table {
	t.Helper()
	tab := New(newSlabs(t), 0, math.MaxUint32)
	t.Cleanup(func() {
		tab.Release()
		if n := tab.arena.slabs.Stats().InUse; n != 0 {
			t.Errorf("%d bytes still in use after Release", n)
		}
	})
	return tab
}

// verify checks everything that must hold of a table between two calls.
func verify(t failer, tab *Table) {
	t.Helper()
	live := verifyIndex(t, tab)
	verifyArena(t, tab, live)
}

// verifyIndex returns the live bytes of each chunk, by the index.
func verifyIndex(t failer, tab *Table) map[uint32]uint32 {
	t.Helper()
	x := &tab.index
	if len(x.firsts) != len(x.pages) || len(x.counts) != len(x.pages) {
		t.Fatalf("directory of %d firsts, %d pages, %d counts", len(x.firsts), len(x.pages), len(x.counts))
	}
	if !slices.IsSorted(x.firsts) || len(x.firsts) > 0 && x.firsts[0] != tab.lo {
		t.Fatalf("pages begin at %v, table at %d", x.firsts, tab.lo)
	}
	live := map[uint32]uint32{}
	entries, bigs, payload := 0, 0, int64(0)
	for i, p := range x.pages {
		used := int32(0)
		for j, s := range p {
			if j > 0 && p[j-1].pos() > s.pos() {
				t.Fatalf("page %d: slot %d at %d follows %d", i, j, s.pos(), p[j-1].pos())
			}
			if s.ref() == 0 {
				continue
			}
			used++
			if s.pos() < x.firsts[i] || i+1 < len(x.firsts) && s.pos() > x.firsts[i+1] {
				t.Fatalf("page %d of %v holds position %d", i, x.firsts, s.pos())
			}
			e := tab.entry(s.ref())
			payload += int64(len(e.Key) + len(e.Value))
			if s.ref()&bigBit != 0 {
				bigs++
				continue
			}
			units, slack := unitsOf(blockSizes(tab.arena.at(s.ref())))
			if want, ok := blockUnits(len(e.Key), len(e.Value), e.ExpireAt != 0); !ok || want != units || slack > maxSlack {
				t.Fatalf("entry of %d+%d bytes in a block of %d+%d units", len(e.Key), len(e.Value), units, slack)
			}
			live[s.ref().chunk()] += units * unit
		}
		if used != x.counts[i] || used > fullPage || used == 0 && len(x.pages) == 1 {
			t.Fatalf("page %d counts %d slots, has %d", i, x.counts[i], used)
		}
		entries += int(used)
	}
	held := int64(0)
	for _, e := range tab.bigs.entries {
		if e != nil {
			held += int64(cap(e.data))
		}
	}
	if held != tab.bigs.bytes {
		t.Fatalf("big entries have %d bytes, counted %d", held, tab.bigs.bytes)
	}
	if entries != tab.entries || payload != tab.payload || bigs != tab.bigs.len() {
		t.Fatalf("index has %d entries, %d big, of %d bytes; counted %d, %d, %d",
			entries, bigs, payload, tab.entries, tab.bigs.len(), tab.payload)
	}
	return live
}

func verifyArena(t failer, tab *Table, live map[uint32]uint32) {
	t.Helper()
	a := &tab.arena
	victims, sum := 0, Stats{}
	for id, m := range a.meta {
		if (a.chunks[id] == nil) != (m.used == 0) {
			t.Fatalf("chunk %d: %+v, memory %v", id, m, a.chunks[id] != nil)
		}
		if m.live != live[uint32(id)] || m.live > m.used || m.used > chunkSize {
			t.Fatalf("chunk %d: %+v, the index has %d live bytes", id, m, live[uint32(id)])
		}
		if m.victim {
			victims++
			if m.live == 0 || uint32(id) == a.open {
				t.Fatalf("chunk %d is a victim: %+v", id, m)
			}
		}
		sum.BlockBytes += int64(m.live)
		sum.DeadBytes += int64(m.used - m.live)
	}
	if victims != tab.sweep.victims || sum.BlockBytes != a.live || sum.DeadBytes != a.dead() {
		t.Fatalf("chunks have %d victims, %+v; counted %d, %d, %d", victims, sum, tab.sweep.victims, a.live, a.dead())
	}
	verifyLists(t, tab)
	verifyDead(t, tab)
}

// verifyLists checks that free blocks lie where no live block is.
func verifyLists(t failer, tab *Table) {
	t.Helper()
	type span struct{ from, to uint32 }
	var spans []span
	for _, p := range tab.index.pages {
		for _, s := range p {
			if r := s.ref(); r != 0 && r&bigBit == 0 {
				units, slack := unitsOf(blockSizes(tab.arena.at(r)))
				spans = append(spans, span{uint32(r), uint32(r) + units + slack})
			}
		}
	}
	for n, r := range tab.arena.free {
		for ; r != 0; r = ref(binary.LittleEndian.Uint32(tab.arena.at(r))) {
			if m := tab.arena.meta[r.chunk()]; m.victim || m.used == 0 {
				t.Fatalf("free block %x in chunk %+v", r, m)
			}
			spans = append(spans, span{uint32(r), uint32(r) + uint32(n)})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return int(a.from) - int(b.from) })
	for i := 1; i < len(spans); i++ {
		if spans[i-1].to > spans[i].from {
			t.Fatalf("blocks overlap: %x", spans[i-1:i+1])
		}
	}
}

// verifyDead checks the bound on waste: a quarter, and what is too little to be
// worth a sweep: the open chunk and two around it.
func verifyDead(t failer, tab *Table) {
	t.Helper()
	if a := &tab.arena; a.dead() > a.used/4+3*chunkSize {
		t.Fatalf("%d of %d bytes are dead; sweep %+v", a.dead(), a.used, tab.sweep)
	}
}

// model is what a table must be equal to.
type model map[string]Entry

func modelKey(pos ring.Position, key []byte) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(pos))) + string(key)
}

func (m model) put(pos ring.Position, key, value []byte, version uint64, expireAt int64) {
	m[modelKey(pos, key)] = Entry{slices.Clone(key), slices.Clone(value), version, expireAt}
}

func (m model) liveBytes() (n int64) {
	for _, e := range m {
		n += int64(len(e.Key) + len(e.Value))
	}
	return n
}

// check compares table and model by every way of reading.
func (m model) check(t failer, tab *Table) {
	t.Helper()
	if tab.Len() != len(m) || tab.LiveBytes() != m.liveBytes() {
		t.Fatalf("%d entries of %d bytes, want %d of %d", tab.Len(), tab.LiveBytes(), len(m), m.liveBytes())
	}
	for name, want := range m {
		pos, key := ring.Position(binary.BigEndian.Uint32([]byte(name))), []byte(name[4:])
		got, ok := tab.Get(pos, key)
		if !ok || !same(got, want) {
			t.Fatalf("get %d %q: %v, %v", pos, key, ok, describe(got))
		}
	}
	m.checkAscend(t, tab, 0)
}

// checkAscend compares a walk from a position.
func (m model) checkAscend(t failer, tab *Table, from ring.Position) {
	t.Helper()
	want := 0
	for name := range m {
		if ring.Position(binary.BigEndian.Uint32([]byte(name))) >= from {
			want++
		}
	}
	seen, last := map[string]bool{}, from
	tab.Ascend(from, func(pos ring.Position, e Entry) bool {
		name := modelKey(pos, e.Key)
		if w, ok := m[name]; !ok || seen[name] || pos < last || !same(e, w) {
			t.Fatalf("ascend: at %d after %d, twice %v: %v, want %v", pos, last, seen[name], describe(e), describe(w))
		}
		seen[name], last = true, pos
		return true
	})
	if len(seen) != want {
		t.Fatalf("ascend from %d saw %d entries, want %d", from, len(seen), want)
	}
}

func same(a, b Entry) bool {
	return string(a.Key) == string(b.Key) && string(a.Value) == string(b.Value) &&
		a.Version == b.Version && a.ExpireAt == b.ExpireAt
}

func describe(e Entry) string {
	return fmt.Sprintf("%.20q (%d bytes) version %d expires %d", e.Key, len(e.Value), e.Version, e.ExpireAt)
}

// filler returns n bytes that differ from those of another seed.
func filler(n int, seed uint64) []byte {
	b := make([]byte, n)
	for i := range b {
		seed = seed*6364136223846793005 + 1442695040888963407
		b[i] = byte(seed >> 56)
	}
	return b
}
