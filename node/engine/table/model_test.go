package table

import (
	"math"
	"testing"

	"github.com/quoitdb/quoit/ring"
	"pgregory.net/rapid"
)

// machine drives a table and its model with the same changes.
type machine struct {
	tab     *Table
	model   model
	version uint64
	keys    *rapid.Generator[[]byte]
	pos     *rapid.Generator[ring.Position]
	sizes   *rapid.Generator[int]
}

// arcs are the ways in which positions crowd: spread, all in a narrow arc, at
// the end of the ring, a few positions shared by many keys.
var arcs = []*rapid.Generator[ring.Position]{
	rapid.Map(rapid.Uint32(), func(p uint32) ring.Position { return ring.Position(p) }),
	rapid.Map(rapid.Uint32Range(1<<20, 1<<20+5000), func(p uint32) ring.Position { return ring.Position(p) }),
	rapid.Map(rapid.Uint32Range(math.MaxUint32-300, math.MaxUint32), func(p uint32) ring.Position { return ring.Position(p) }),
	rapid.SampledFrom([]ring.Position{0, 1, 7, 1 << 31, math.MaxUint32 - 1, math.MaxUint32}),
}

func newMachine(t *rapid.T, tab *Table) *machine {
	return &machine{
		tab: tab, model: model{},
		keys: rapid.OneOf(
			rapid.Map(rapid.IntRange(0, 200), func(n int) []byte { return filler(16, uint64(n)) }),
			rapid.Map(rapid.IntRange(0, 40), func(n int) []byte { return filler(n, 1) }),
			rapid.Just(filler(20_000, 2)),
		),
		pos: rapid.SampledFrom(arcs).Draw(t, "arc"),
		sizes: rapid.OneOf(
			rapid.IntRange(0, 200), rapid.IntRange(0, 3000),
			rapid.SampledFrom([]int{maxBlock - 40, maxBlock - 20, maxBlock, 3 * maxBlock}),
		),
	}
}

func (m *machine) expiry(t *rapid.T) int64 {
	return rapid.SampledFrom([]int64{0, 0, 1, 1_700_000_000_000, -5, math.MaxInt64}).Draw(t, "expiry")
}

// present draws a key that is in the model, or any.
func (m *machine) present(t *rapid.T) (ring.Position, []byte) {
	pos, key := m.pos.Draw(t, "pos"), m.keys.Draw(t, "key")
	skip := rapid.IntRange(0, 5).Draw(t, "skip")
	m.tab.Ascend(pos, func(p ring.Position, e Entry) bool {
		pos, key = p, append([]byte(nil), e.Key...)
		skip--
		return skip >= 0
	})
	return pos, key
}

func (m *machine) put(t *rapid.T, pos ring.Position, key []byte) {
	m.version++
	value := filler(m.sizes.Draw(t, "size"), m.version)
	_, want := m.model[modelKey(pos, key)]
	expiry := m.expiry(t)
	if got := m.tab.Put(pos, key, value, m.version, expiry); got != want {
		t.Fatalf("put %d %q: existed %v, want %v", pos, key, got, want)
	}
	m.model.put(pos, key, value, m.version, expiry)
}

func (m *machine) Put(t *rapid.T) { m.put(t, m.pos.Draw(t, "pos"), m.keys.Draw(t, "key")) }

func (m *machine) PutMany(t *rapid.T) {
	pos, n := m.pos.Draw(t, "pos"), rapid.IntRange(1, 700).Draw(t, "n")
	stride := ring.Position(rapid.SampledFrom([]uint32{0, 1, 1 << 12, 1 << 22}).Draw(t, "stride"))
	size := m.sizes.Draw(t, "size") % 300
	for i := range n {
		m.version++
		key, value := filler(12, m.version), filler(size, m.version)
		m.tab.Put(pos, key, value, m.version, 0)
		m.model.put(pos, key, value, m.version, 0)
		if i%2 == 0 {
			pos += stride // Wraps.
		}
	}
}

func (m *machine) Overwrite(t *rapid.T) {
	pos, key := m.present(t)
	m.put(t, pos, key)
}

func (m *machine) SetMeta(t *rapid.T) {
	pos, key := m.present(t)
	m.version++
	e, want := m.model[modelKey(pos, key)]
	expiry := m.expiry(t)
	if got := m.tab.SetMeta(pos, key, m.version, expiry); got != want {
		t.Fatalf("set meta %d %q: %v, want %v", pos, key, got, want)
	}
	if want {
		m.model.put(pos, key, e.Value, m.version, expiry)
	}
}

func (m *machine) Delete(t *rapid.T) {
	pos, key := m.present(t)
	m.delete(t, pos, key)
}

func (m *machine) delete(t *rapid.T, pos ring.Position, key []byte) {
	name := modelKey(pos, key)
	_, want := m.model[name]
	if got := m.tab.Delete(pos, key); got != want {
		t.Fatalf("delete %d %q: %v, want %v", pos, key, got, want)
	}
	delete(m.model, name)
}

// DeleteMany deletes a stretch of the ring, as a range that moves away does.
func (m *machine) DeleteMany(t *rapid.T) {
	type victim struct {
		pos ring.Position
		key []byte
	}
	var victims []victim
	n, step := rapid.IntRange(1, 2000).Draw(t, "n"), rapid.IntRange(1, 3).Draw(t, "step")
	i := 0
	m.tab.Ascend(m.pos.Draw(t, "pos"), func(pos ring.Position, e Entry) bool {
		if i++; i%step == 0 {
			victims = append(victims, victim{pos, append([]byte(nil), e.Key...)})
		}
		return i < n
	})
	for _, v := range victims {
		m.delete(t, v.pos, v.key)
	}
}

func (m *machine) Maintain(t *rapid.T) { m.tab.Maintain(rapid.IntRange(0, 100_000).Draw(t, "budget")) }

func (m *machine) Ascend(t *rapid.T) { m.model.checkAscend(t, m.tab, m.pos.Draw(t, "from")) }

func (m *machine) Missing(t *rapid.T) {
	pos, key := m.pos.Draw(t, "pos"), m.keys.Draw(t, "key")
	_, want := m.model[modelKey(pos, key)]
	if _, got := m.tab.Get(pos, key); got != want {
		t.Fatalf("get %d %q: %v, want %v", pos, key, got, want)
	}
}

func (m *machine) Check(t *rapid.T) { m.model.check(t, m.tab) }

func TestTableIsTheMap(t *testing.T) {
	slabs := newSlabs(t)
	rapid.Check(t, func(t *rapid.T) {
		tab := New(slabs, 0, math.MaxUint32)
		defer tab.Release()
		m := newMachine(t, tab)
		actions := rapid.StateMachineActions(m)
		n := 0
		actions[""] = func(t *rapid.T) {
			if n++; n%8 == 0 {
				verify(t, tab)
			}
		}
		t.Repeat(actions)
		verify(t, tab)
		m.model.check(t, tab)
	})
}
