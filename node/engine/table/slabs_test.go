package table

import (
	"math"
	"sync"
	"testing"
)

func TestSlabsHandOutEachPieceOnce(t *testing.T) {
	slabs := newSlabs(t)
	seen := map[*chunk]bool{}
	const n = 3 * extentSize / chunkSize
	for i := range n {
		c := slabs.takeChunk()
		if seen[c] {
			t.Fatalf("chunk %d was handed out already", i)
		}
		seen[c] = true
		c[0], c[chunkSize-1] = byte(i), byte(i) // It is there, to its end.
	}
	if got := slabs.Stats().InUse; got != n*chunkSize {
		t.Errorf("%d bytes in use, want %d", got, n*chunkSize)
	}
	for c := range seen {
		if c[0] != c[chunkSize-1] {
			t.Error("two chunks share memory")
		}
		slabs.giveChunk(c)
	}
}

func TestSlabsReuseWhatCameBack(t *testing.T) {
	slabs := newSlabs(t)
	c, p := slabs.takeChunk(), slabs.takePage()
	slabs.giveChunk(c)
	slabs.givePage(p)
	if got := slabs.Stats(); got.InUse != 0 || got.Free != chunkSize+pageSize {
		t.Errorf("after giving all back: %+v", got)
	}
	if c2, p2 := slabs.takeChunk(), slabs.takePage(); c2 != c || p2 != p {
		t.Error("a cold piece was taken before the warm one")
	}
	slabs.giveChunk(c)
	slabs.givePage(p)
}

func TestSlabsReturnMemoryWhenMuchIsFree(t *testing.T) {
	slabs := newSlabs(t)
	var chunks []*chunk
	const n = 4 * keepFree / chunkSize
	for range n {
		chunks = append(chunks, slabs.takeChunk())
	}
	for _, c := range chunks {
		slabs.giveChunk(c)
	}
	got := slabs.Stats()
	if got.Free > keepFree || got.Free+got.Returned != n*chunkSize {
		t.Errorf("after giving %d bytes back: %+v", n*chunkSize, got)
	}
	// What was returned can be had again, and extents are not mapped for it.
	for range n {
		c := slabs.takeChunk()
		c[chunkSize/2] = 1
		defer slabs.giveChunk(c)
	}
	if extents := len(slabs.extents); extents != n*chunkSize/extentSize {
		t.Errorf("%d extents", extents)
	}
}

func TestSlabsCloseRefusesWhileTablesHoldMemory(t *testing.T) {
	slabs := NewSlabs()
	tab := New(slabs, 0, math.MaxUint32)
	tab.Put(1, []byte("k"), []byte("v"), 1, 0)
	if err := slabs.Close(); err == nil {
		t.Fatal("closed under a table in use")
	}
	if e, ok := tab.Get(1, []byte("k")); !ok || string(e.Value) != "v" {
		t.Error("the refused close did harm")
	}
	tab.Release()
	if err := slabs.Close(); err != nil {
		t.Error(err)
	}
	if err := slabs.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestExtentOfTheHeapNeedsNoUnmapping(t *testing.T) {
	if err := (extent{mem: make([]byte, pageSize)}).unmap(); err != nil {
		t.Error(err)
	}
}

func TestSlabsServeTablesConcurrently(t *testing.T) {
	slabs := newSlabs(t)
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			tab := New(slabs, 0, math.MaxUint32)
			defer tab.Release()
			for round := range 3 {
				fill(tab, 5000, 100+worker)
				if tab.Len() != 5000 {
					t.Errorf("worker %d, round %d: %d entries", worker, round, tab.Len())
				}
				tab.Release()
			}
		})
	}
	group.Wait()
}
