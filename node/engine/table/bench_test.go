package table

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/ring"
)

// store is what a node holds: 256 tables, chosen by the highest bits.
type store struct {
	slabs  *Slabs
	tables [256]*Table
}

func newStore() *store {
	s := &store{slabs: NewSlabs()}
	for i := range s.tables {
		first := ring.Position(i) << 24
		s.tables[i] = New(s.slabs, first, first|(1<<24-1))
	}
	return s
}

func (s *store) table(pos ring.Position) *Table { return s.tables[pos>>24] }

func (s *store) close(b testing.TB) {
	for _, t := range s.tables {
		t.Release()
	}
	if err := s.slabs.Close(); err != nil {
		b.Fatal(err)
	}
}

// benchKey writes the n-th key, key:000000000042, and returns its position. The
// position is a mix of bits and not the MD5 of the key, which would be most of
// the time measured.
func benchKey(key []byte, n uint64) ring.Position {
	copy(key, "key:000000000000")
	for i, v := 15, n; v > 0; i, v = i-1, v/10 {
		key[i] = '0' + byte(v%10)
	}
	n = (n ^ n>>31) * 0x9e3779b97f4a7c15
	n = (n ^ n>>29) * 0xbf58476d1ce4e5b9
	return ring.Position((n ^ n>>32) >> 16)
}

func (s *store) load(keys uint64, size int) {
	key, value := make([]byte, 16), make([]byte, size)
	for n := range keys {
		pos := benchKey(key, n)
		binary.LittleEndian.PutUint64(value, n)
		s.table(pos).Put(pos, key, value, n, 0)
	}
}

// overwrite puts so many random keys again, with values of size..size+spread.
func (s *store) overwrite(puts int, keys uint64, size, spread int) {
	key, value := make([]byte, 16), make([]byte, size+spread+1)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range puts {
		pos := benchKey(key, r.Uint64N(keys))
		binary.LittleEndian.PutUint64(value, uint64(i))
		s.table(pos).Put(pos, key, value[:size+r.IntN(spread+1)], uint64(i), 0)
	}
}

// overwriteAll puts each key again once, in an order without pattern.
func (s *store) overwriteAll(keys uint64) {
	key, value := make([]byte, 16), make([]byte, 64)
	for i, n := uint64(0), uint64(0); i < keys; i++ {
		n = (n + 2654435761) % keys // Coprime to the powers of ten.
		pos := benchKey(key, n)
		binary.LittleEndian.PutUint64(value, i)
		s.table(pos).Put(pos, key, value, i, 0)
	}
}

func (s *store) stats() (sum Stats) {
	for _, t := range s.tables {
		st := t.Stats()
		sum.Entries += st.Entries
		sum.BlockBytes += st.BlockBytes
		sum.DeadBytes += st.DeadBytes
		sum.ChunkBytes += st.ChunkBytes
		sum.IndexBytes += st.IndexBytes
	}
	return sum
}

// residentBytes is what the system says this process has in memory, 0 where it
// does not say.
func residentBytes() float64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseFloat(strings.Fields(string(b))[1], 64)
	return pages * float64(os.Getpagesize())
}

// gcSeconds returns the CPU time of the collector and of everything.
func gcSeconds() (gc, all float64) {
	runtime.GC() // The figures are brought up to date by a collection.
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/user:cpu-seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64(), s[0].Value.Float64() + s[1].Value.Float64()
}

// BenchmarkMemory loads keys of 16 bytes with values of 64 into 256 tables and
// overwrites each once; it reports resident bytes per key after both, the share
// of the collector in the CPU time, and the time of a put. QUOIT_BENCH_KEYS
// chooses one number of keys (5000000 is the one that docs quote).
func BenchmarkMemory(b *testing.B) {
	sizes := []uint64{1_000_000, 5_000_000}
	if n, err := strconv.ParseUint(os.Getenv("QUOIT_BENCH_KEYS"), 10, 64); err == nil {
		sizes = []uint64{n}
	} else if testing.Short() {
		sizes = sizes[:1]
	}
	for _, keys := range sizes {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			for b.Loop() {
				measureMemory(b, keys)
			}
		})
	}
}

func measureMemory(b *testing.B, keys uint64) {
	base := residentBytes()
	gc0, all0 := gcSeconds()
	s := newStore()
	defer s.close(b)
	n := float64(keys)

	start := time.Now()
	s.load(keys, 64)
	b.ReportMetric(float64(time.Since(start))/n, "ns/load")
	b.ReportMetric((residentBytes()-base)/n, "B/key-loaded")
	start = time.Now()
	s.overwriteAll(keys)
	b.ReportMetric(float64(time.Since(start))/n, "ns/overwrite")
	b.ReportMetric((residentBytes()-base)/n, "B/key-steady")

	st := s.stats()
	b.ReportMetric(float64(st.BlockBytes)/n, "B/key-blocks")
	b.ReportMetric(float64(st.IndexBytes)/n, "B/key-index")
	b.ReportMetric(100*float64(st.DeadBytes)/float64(st.BlockBytes+st.DeadBytes), "%dead")
	gc1, all1 := gcSeconds()
	b.ReportMetric(100*(gc1-gc0)/(all1-all0), "%gc")
	b.ReportMetric(0, "ns/op")
}

const benchKeys = 1_000_000

// loaded returns a store of a million keys that the benchmark closes.
func loaded(b *testing.B) *store {
	s := newStore()
	b.Cleanup(func() { s.close(b) })
	s.load(benchKeys, 64)
	return s
}

func BenchmarkGet(b *testing.B) {
	s := loaded(b)
	r := rand.New(rand.NewPCG(1, 2))
	key := make([]byte, 16)
	sum := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		pos := benchKey(key, r.Uint64N(benchKeys))
		e, ok := s.table(pos).Get(pos, key)
		if !ok {
			b.Fatal("lost")
		}
		sum += binary.LittleEndian.Uint64(e.Value)
	}
	_ = sum
}

func BenchmarkGetMissing(b *testing.B) {
	s := loaded(b)
	r := rand.New(rand.NewPCG(1, 2))
	key := make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		pos := benchKey(key, benchKeys+r.Uint64N(benchKeys))
		if _, ok := s.table(pos).Get(pos, key); ok {
			b.Fatal("found")
		}
	}
}

// BenchmarkPut overwrites values of one size, in place.
func BenchmarkPut(b *testing.B) {
	s := loaded(b)
	b.ReportAllocs()
	b.ResetTimer()
	s.overwrite(b.N, benchKeys, 64, 0)
}

// BenchmarkInsert puts new keys, up to a million, from empty tables.
func BenchmarkInsert(b *testing.B) {
	b.ReportAllocs()
	for n := b.N; n > 0; n -= benchKeys {
		b.StopTimer()
		s := newStore()
		b.StartTimer()
		s.load(uint64(min(n, benchKeys)), 64)
		b.StopTimer()
		s.close(b)
		b.StartTimer()
	}
}

// BenchmarkPutSizes overwrites with values of 32 to 96 bytes, so that blocks are
// reused and compacted; it reports what was dead and what was copied for it.
func BenchmarkPutSizes(b *testing.B) {
	s := loaded(b)
	s.overwrite(2*benchKeys, benchKeys, 32, 64)
	before := s.copied()
	b.ReportAllocs()
	b.ResetTimer()
	s.overwrite(b.N, benchKeys, 32, 64)
	b.StopTimer()
	st := s.stats()
	b.ReportMetric(100*float64(st.DeadBytes)/float64(st.BlockBytes+st.DeadBytes), "%dead")
	b.ReportMetric(float64(st.ChunkBytes+st.IndexBytes)/benchKeys, "B/key")
	b.ReportMetric(float64(s.copied()-before)/float64(b.N), "copied-B/op")
}

func (s *store) copied() (n int64) {
	for _, t := range s.tables {
		n += t.sweep.moved
	}
	return n
}

// BenchmarkChurn deletes a key and puts a new one, at a million keys.
func BenchmarkChurn(b *testing.B) {
	s := loaded(b)
	key, value := make([]byte, 16), make([]byte, 64)
	b.ReportAllocs()
	b.ResetTimer()
	for n := range uint64(b.N) {
		pos := benchKey(key, n)
		s.table(pos).Delete(pos, key)
		pos = benchKey(key, n+benchKeys)
		s.table(pos).Put(pos, key, value, n, 0)
	}
	b.StopTimer()
	st := s.stats()
	b.ReportMetric(float64(st.ChunkBytes+st.IndexBytes)/benchKeys, "B/key")
}

func BenchmarkAscend(b *testing.B) {
	s := loaded(b)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n = 0
		for _, t := range s.tables {
			t.Ascend(0, func(ring.Position, Entry) bool { n++; return true })
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(n), "ns/entry")
}

// BenchmarkSlowestPut reports the worst and the 99.9th percentile of single puts
// while a million keys are loaded and overwritten with changing sizes.
func BenchmarkSlowestPut(b *testing.B) {
	for b.Loop() {
		s := newStore()
		var h [64]int
		worst := time.Duration(0)
		r := rand.New(rand.NewPCG(1, 2))
		key, value := make([]byte, 16), make([]byte, 128)
		for i := range uint64(3 * benchKeys) {
			n := i
			if i > benchKeys {
				n = r.Uint64N(benchKeys)
			}
			pos := benchKey(key, n)
			size := 32 + r.IntN(64)
			start := time.Now()
			s.table(pos).Put(pos, key, value[:size], i, 0)
			d := time.Since(start)
			worst = max(worst, d)
			h[int(2*math.Log2(float64(d)+1))]++
		}
		s.close(b)
		left := 3 * benchKeys / 1000
		for i := len(h) - 1; i > 0; i-- {
			if left -= h[i]; left < 0 {
				b.ReportMetric(math.Exp2(float64(i+1)/2), "ns/p99.9")
				break
			}
		}
		b.ReportMetric(float64(worst), "ns/worst")
	}
}

// BenchmarkSpread evens out three full pages, nearly the most work that the index
// does in one call: the most is three to four.
func BenchmarkSpread(b *testing.B) {
	tab := newTable(b)
	for i := 0; tab.entries < 3*fullPage-200; i++ {
		tab.Put(spread(i), number(i), nil, 1, 0)
	}
	tab.index.spread(0, len(tab.index.pages), 3)
	for b.Loop() {
		tab.index.spread(0, 3, 3)
	}
}
