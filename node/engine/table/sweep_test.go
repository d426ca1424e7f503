package table

import (
	"math/rand/v2"
	"testing"
)

// churn is a way of using a table that leaves dead bytes.
type churn struct {
	name string
	// size returns the size of the next value of key i.
	size func(r *rand.Rand, i int) int
	// most is the share of written bytes that may be dead at any time.
	most float64
}

var churns = []churn{
	{"values of one size", func(*rand.Rand, int) int { return 64 }, 0},
	{"sizes within a factor of three", func(r *rand.Rand, _ int) int { return 32 + r.IntN(65) }, 0.20},
	{"sizes from nothing to a kilobyte", func(r *rand.Rand, _ int) int { return r.IntN(64) * r.IntN(64) / 4 }, 0.20},
	{"sizes of kilobytes", func(r *rand.Rand, i int) int { return 500 + i%1000 + r.IntN(3000) }, 0.20},
	{"values that only grow", growing(), 0.20},
}

func growing() func(*rand.Rand, int) int {
	sizes := map[int]int{}
	return func(_ *rand.Rand, i int) int { sizes[i] += 2; return sizes[i] + 32 }
}

func TestDeadShareStaysBounded(t *testing.T) {
	for _, c := range churns {
		t.Run(c.name, func(t *testing.T) {
			tab, r := newTable(t), rand.New(rand.NewPCG(1, 2))
			const keys = 20_000
			value := make([]byte, 16<<10)
			worst := 0.0
			for n := range 6 * keys {
				i := n
				if n >= keys {
					i = r.IntN(keys)
				}
				tab.Put(spread(i), number(i), value[:c.size(r, i)], 1, 0)
				s := tab.Stats()
				if n > keys {
					worst = max(worst, float64(s.DeadBytes)/float64(s.BlockBytes+s.DeadBytes))
				}
				if s.ChunkBytes < s.BlockBytes+s.DeadBytes {
					t.Fatalf("more in chunks than there are: %+v", s)
				}
			}
			verify(t, tab)
			if worst > c.most {
				t.Errorf("%.3f dead at worst", worst)
			}
			if foot := float64(tab.Stats().ChunkBytes) / float64(tab.Stats().BlockBytes); foot > 1.3 {
				t.Errorf("chunks hold %.2f of what is live", foot)
			}
		})
	}
}

func TestDeletionGivesChunksBack(t *testing.T) {
	tab, r := newTable(t), rand.New(rand.NewPCG(1, 2))
	const keys = 50_000
	fill(tab, keys, 64)
	before := tab.Stats()
	for _, i := range r.Perm(keys)[:keys*9/10] {
		tab.Delete(spread(i), number(i))
	}
	for tab.Maintain(4096) {
	}
	after := tab.Stats()
	if after.ChunkBytes > before.ChunkBytes/5 {
		t.Errorf("a tenth of the entries is left in %d of %d bytes", after.ChunkBytes, before.ChunkBytes)
	}
	verify(t, tab)
}

// A chunk whose entries all die is given back without being walked for.
func TestDeadChunksComeBack(t *testing.T) {
	tab := newTable(t)
	const keys = 50_000
	fill(tab, keys, 64)
	before := tab.Stats()
	for i := range keys / 2 {
		tab.Delete(spread(i), number(i)) // As they lie in the chunks.
	}
	verify(t, tab)
	if after := tab.Stats(); after.ChunkBytes > before.ChunkBytes*2/3 || tab.sweep.moved > 4*chunkSize {
		t.Errorf("%d of %d bytes kept, %d copied", after.ChunkBytes, before.ChunkBytes, tab.sweep.moved)
	}
}

// What is dead in a table of few chunks is bounded in chunks.
func TestSmallTableStaysSmall(t *testing.T) {
	tab, r := newTable(t), rand.New(rand.NewPCG(1, 2))
	value := make([]byte, 4000)
	for range 50_000 {
		i := r.IntN(30)
		tab.Put(spread(i), number(i), value[:1100+r.IntN(2900)], 1, 0)
		if s := tab.Stats(); s.ChunkBytes > 5*chunkSize {
			t.Fatalf("%d bytes of chunks for %d of entries", s.ChunkBytes, s.LiveBytes)
		}
	}
	verify(t, tab)
}

// Changes that make nothing dead pay a little too, so that victims do not wait
// for the next deletion.
func TestInsertionsFinishASweep(t *testing.T) {
	tab := newTable(t)
	const keys = 20_000
	fill(tab, keys, 64)
	i := 0
	for ; tab.sweep.victims == 0; i++ {
		tab.Delete(spread(i*3), number(i*3))
	}
	n := 0
	for ; tab.sweep.victims > 0; n++ {
		tab.Put(spread(keys+n), number(keys+n), make([]byte, 64), 1, 0)
	}
	if n > keys/5 {
		t.Errorf("%d insertions", n)
	}
	verify(t, tab)
}

// All that is dead lies in the open chunk, where no sweep can get at it. It must
// not be looked for at each change, and not be forgotten either.
func TestDeadBytesInTheOpenChunkWait(t *testing.T) {
	tab := newTable(t)
	value := make([]byte, 4000)
	searches := 0
	for i := range 2000 {
		before := tab.sweep.retry
		tab.Put(spread(i%5), number(i%5), value[:1100+i%7*400], 1, 0)
		if tab.sweep.retry > before {
			searches++
		}
		if s := tab.Stats(); s.ChunkBytes > 3*chunkSize {
			t.Fatalf("put %d: %+v, sweep %+v", i, s, tab.sweep)
		}
	}
	if perChunk := float64(searches) / (2000 * 2500 / chunkSize); searches == 0 || perChunk > 3 {
		t.Errorf("%d searches for victims, %.1f for each chunk filled", searches, perChunk)
	}
}

func TestOnePaymentIsCapped(t *testing.T) {
	tab := newTable(t)
	const keys = 50_000
	fill(tab, keys, 64)
	tab.sweep.retry = 1 << 40 // No sweep while this is deleted.
	for i := range keys {
		if i%2 == 0 {
			tab.Delete(spread(i), number(i))
		}
	}
	tab.sweep.retry = 0
	for tab.sweep.rate = 0; tab.arena.wasteful(); {
		bounded(t, tab, func() { tab.pay(maxBlock); tab.sweep.rate = 1000 })
	}
	verify(t, tab)
}

// A set and a delete of equal sizes must not cost compaction: the block of the
// one is the block of the next.
func TestFreeBlocksAreReused(t *testing.T) {
	tab := newTable(t)
	const keys = 20_000
	fill(tab, keys, 64)
	before := tab.Stats()
	for i := range 5 * keys {
		tab.Delete(spread(i), number(i))
		tab.Put(spread(i+keys), number(i+keys), make([]byte, 64), 1, 0)
	}
	after := tab.Stats()
	if after.ChunkBytes != before.ChunkBytes || tab.sweep.moved != 0 {
		t.Errorf("%d bytes became %d, and %d were copied", before.ChunkBytes, after.ChunkBytes, tab.sweep.moved)
	}
	verify(t, tab)
}

func TestMaintainFinishesASweep(t *testing.T) {
	tab, m := newTable(t), model{}
	const keys = 20_000
	for i := range keys {
		tab.Put(spread(i), number(i), make([]byte, 100), 1, 0)
	}
	// Deleting a fifth, but without paying: as if the last change made it due.
	for i := range keys {
		if i%5 == 0 {
			c, r := tab.find(spread(i), number(i))
			tab.payload -= 108
			tab.index.remove(c)
			tab.drop(r)
			tab.entries--
		} else {
			m.put(spread(i), number(i), make([]byte, 100), 1, 0)
		}
	}
	steps := 0
	for before := tab.sweep.moved; tab.Maintain(1000); before = tab.sweep.moved {
		if copied := tab.sweep.moved - before; copied > 1000+maxBlock {
			t.Fatalf("a step of 1000 copied %d bytes", copied)
		}
		steps++
		if steps%50 == 0 {
			verify(t, tab)
			m.checkAscend(t, tab, spread(steps))
		}
	}
	if steps < 10 || tab.arena.wasteful() && tab.sweep.retry == 0 {
		t.Errorf("done after %d steps: %+v", steps, tab.Stats())
	}
	verify(t, tab)
	m.check(t, tab)
	if tab.Maintain(1 << 20) {
		t.Error("more is due at once")
	}
}

// Where a ref can name no more chunks, entries go to the heap; nothing is lost.
func TestFullArenaSpillsToTheHeap(t *testing.T) {
	tab, m := newTable(t), model{}
	tab.arena.limit = 3
	for round := range 3 {
		for i := range 4000 {
			value := filler(50+(i*7+round*31)%90, uint64(i+round))
			tab.Put(spread(i), number(i), value, uint64(round), 0)
			m.put(spread(i), number(i), value, uint64(round), 0)
		}
		verify(t, tab)
		m.check(t, tab)
	}
	if s := tab.Stats(); s.ChunkBytes != 3*chunkSize || s.BigEntries == 0 {
		t.Errorf("%+v", s)
	}
	for i := range 4000 {
		tab.Delete(spread(i), number(i))
	}
	if s := tab.Stats(); s != (Stats{}) {
		t.Errorf("after deleting all: %+v", s)
	}
}

func TestSweepSpillsToTheHeap(t *testing.T) {
	tab, m := newTable(t), model{}
	for i := range 4000 {
		tab.Put(spread(i), number(i), make([]byte, 100), 1, 0)
		m.put(spread(i), number(i), make([]byte, 100), 1, 0)
	}
	tab.arena.limit = 1 // Below what there is: no copy finds a place in a new chunk.
	for i := range 4000 {
		if i%3 > 0 {
			tab.Delete(spread(i), number(i))
			delete(m, modelKey(spread(i), number(i)))
		}
	}
	for tab.Maintain(10_000) {
	}
	verify(t, tab)
	m.check(t, tab)
}
