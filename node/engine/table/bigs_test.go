package table

import "testing"

func TestBigEntryStaysWhereItFits(t *testing.T) {
	tab := newTable(t)
	key := []byte("key")
	tab.Put(1, key, filler(100_000, 1), 1, 0)
	_, r := tab.find(1, key)
	before := &tab.bigs.at(r).data[0]
	for _, size := range []int{90_000, 100_000, 85_000, 99_999} {
		tab.Put(1, key, filler(size, 2), 2, 3)
		if e := tab.bigs.at(r); &e.data[0] != before || string(e.data) != "key"+string(filler(size, 2)) {
			t.Errorf("moved at a size of %d, or wrong", size)
		}
		verify(t, tab)
	}
}

func TestBigEntryGivesMemoryBack(t *testing.T) {
	tab := newTable(t)
	key := []byte("key")
	for _, c := range []struct{ size, bigs int }{{1 << 20, 1}, {500_000, 1}, {20_000, 1}, {100, 0}, {1 << 20, 1}} {
		tab.Put(1, key, filler(c.size, 1), 1, 0)
		s := tab.Stats()
		if s.BigEntries != c.bigs || s.BigBytes > int64(c.bigs*(c.size+c.size/2)) {
			t.Errorf("a value of %d bytes: %+v", c.size, s)
		}
		verify(t, tab)
	}
	tab.Delete(1, key)
	if s := tab.Stats(); s != (Stats{}) {
		t.Errorf("after deleting it: %+v", s)
	}
}

func TestBigNumbersAreReused(t *testing.T) {
	tab := newTable(t)
	for i := range 100 {
		tab.Put(spread(i), number(i), make([]byte, 20_000), 1, 0)
		if i >= 5 {
			tab.Delete(spread(i-5), number(i-5))
		}
	}
	if n := len(tab.bigs.entries); n > 6 {
		t.Errorf("%d numbers for 5 entries", n)
	}
	verify(t, tab)
}
