package table

import "testing"

func newArena(t *testing.T) *arena { return &newTable(t).arena }

// put writes an entry of so many units in all.
func (a *arena) put(units uint32) ref {
	r, slack := a.alloc(units)
	writeBlock(a.at(r), nil, make([]byte, units*unit-headerSize), 1, 0, slack)
	return r
}

func TestReusedBlockKeepsItsLength(t *testing.T) {
	for _, c := range []struct {
		free, want uint32
		reused     bool
	}{
		{23, 23, true},
		{23, 20, true}, // An eighth, and one.
		{23, 19, false},
		{22, 23, false},
		{5, 4, true},
		{6, 4, false},
		{67, 60, true},
		{68, 60, false}, // More slack than a block can note.
		{maxListed, maxListed - 7, true},
		{maxListed + 1, maxListed + 1, false}, // Not kept for reuse.
		{maxBlockUnits, maxBlockUnits, false},
	} {
		a := newArena(t)
		a.put(10)
		old := a.put(c.free)
		a.drop(old)
		r := a.put(c.want)
		if (r == old) != c.reused {
			t.Errorf("%+v: reused %v", c, r == old)
			continue
		}
		if units, slack := unitsOf(blockSizes(a.at(r))); c.reused && units+slack != c.free {
			t.Errorf("%+v: %d+%d units", c, units, slack)
		}
		a.drop(r)
		if c.reused && a.put(c.free) != old {
			t.Errorf("%+v: not reused at its whole length", c)
		}
	}
}

func TestFreeBlocksAreReusedLastFirst(t *testing.T) {
	a := newArena(t)
	var blocks []ref
	for range 100 {
		blocks = append(blocks, a.put(20))
	}
	used := a.used
	for _, r := range blocks {
		a.drop(r)
	}
	if a.live != 0 || a.dead() != used {
		t.Errorf("all free: %d live, %d dead of %d", a.live, a.dead(), used)
	}
	for i := range blocks {
		if r := a.put(20); r != blocks[len(blocks)-1-i] {
			t.Fatalf("block %d: %x, want %x", i, r, blocks[len(blocks)-1-i])
		}
	}
	if a.used != used || a.dead() != 0 {
		t.Errorf("all in use again: %d dead of %d, before %d", a.dead(), a.used, used)
	}
}

func TestArenaFillsChunksToTheEnd(t *testing.T) {
	a := newArena(t)
	for range chunkSize / unit / 16 {
		a.put(16)
	}
	if len(a.chunks) != 2 || a.meta[1].used != chunkSize {
		t.Fatalf("%d chunks, the first %+v", len(a.chunks)-1, a.meta[1])
	}
	if r := a.put(16); r.chunk() != 2 || r&unitMask != 0 {
		t.Errorf("next block at %x", r)
	}
	if s := a.slabs.Stats().InUse; s != 2*chunkSize {
		t.Errorf("%d bytes in use", s)
	}
}

func TestArenaRefusesBeyondItsLimit(t *testing.T) {
	a := newArena(t)
	a.limit = 2
	n := 0
	for ; ; n++ {
		if r, _ := a.alloc(maxBlockUnits); r == 0 {
			break
		}
	}
	if n != 2*chunkSize/maxBlock {
		t.Errorf("%d blocks in two chunks", n)
	}
	used := a.used
	if r, _ := a.alloc(4); r != 0 || a.used != used || a.live != used {
		t.Errorf("a block in a full arena: %x, %d used, %d live", r, a.used, a.live)
	}
}

// An entry that shrinks and grows within its block stays where it is.
func TestOverwriteUsesTheSlack(t *testing.T) {
	tab := newTable(t)
	key := []byte("key")
	tab.Put(1, key, make([]byte, 101), 1, 0)
	_, before := tab.find(1, key)
	for _, size := range []int{89, 101, 95, 85, 101} {
		tab.Put(1, key, make([]byte, size), 1, 0)
		if _, r := tab.find(1, key); r != before {
			t.Fatalf("moved at a size of %d", size)
		}
		verify(t, tab)
	}
	tab.Put(1, key, make([]byte, 20), 1, 0)
	if _, r := tab.find(1, key); r == before {
		t.Error("most of the block lies idle")
	}
}
