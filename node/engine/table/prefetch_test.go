package table

import (
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// TestPrefetchFindsNothingToComplainAbout: on no table, at no position.
func TestPrefetchFindsNothingToComplainAbout(t *testing.T) {
	slabs := NewSlabs()
	tab := New(slabs, 1000, 2000)
	look := func() {
		for _, pos := range []ring.Position{0, 999, 1000, 1001, 1500, 2000, 2001, ring.MaxPosition} {
			tab.PrefetchIndex(pos)
			tab.PrefetchEntry(pos)
		}
	}
	look()
	big := make([]byte, maxBlock+1)
	for i := range 3 * pageSlots {
		pos := 1000 + ring.Position(i)%1001
		tab.Put(pos, []byte{byte(i), byte(i >> 8)}, []byte("value"), 1, 0)
		if i%100 == 0 {
			tab.Put(pos, []byte("big"), big, 1, 0)
			look()
		}
	}
	look()
	if n := testing.AllocsPerRun(1000, look); n > 1 {
		t.Errorf("%v allocations", n)
	}
	tab.Release()
	look()
	if err := slabs.Close(); err != nil {
		t.Fatal(err)
	}
}
