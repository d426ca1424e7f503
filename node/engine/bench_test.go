package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// benchKeys is the keyspace of the benchmarks: larger than the caches.
const benchKeys = 1 << 20

// benchKey writes the 16 bytes of key i into b and returns its position, which is
// spread like a hash.
func benchKey(b []byte, i uint32) ring.Position {
	binary.BigEndian.PutUint64(b, uint64(i))
	binary.BigEndian.PutUint64(b[8:], uint64(i)*0x9e3779b97f4a7c15)
	return ring.Position(i * 0x9e3779b1)
}

// diskEngine opens an engine on a real disk that never syncs, owning the ring.
func diskEngine(tb testing.TB, dir string) (*Engine, *wal.Log) {
	tb.Helper()
	log, err := wal.Open(wal.Options{Dir: dir, Sync: wal.SyncNever})
	must(tb, err)
	e, err := Open(Options{Log: log})
	must(tb, err)
	must(tb, e.SetOwnership([]ring.Range{wholeRing}))
	return e, log
}

func closeEngine(tb testing.TB, e *Engine, log *wal.Log) {
	tb.Helper()
	must(tb, e.Close())
	must(tb, log.Close())
}

func fillBench(tb testing.TB, e *Engine, n uint32) {
	tb.Helper()
	s, key, value := e.NewSession(), make([]byte, 16), make([]byte, 64)
	for i := range n {
		_, err := s.Put(benchKey(key, i), key, value, PutOptions{})
		must(tb, err)
	}
}

// BenchmarkOperations: one goroutine, 1 Mi keys of 16 bytes with 64-byte values.
func BenchmarkOperations(b *testing.B) {
	e, log := diskEngine(b, b.TempDir())
	defer closeEngine(b, e, log)
	fillBench(b, e, benchKeys)
	s, key, value, buf := e.NewSession(), make([]byte, 16), make([]byte, 64), make([]byte, 0, 64)
	next := uint32(1)
	random := func() ring.Position {
		next = next*1664525 + 1013904223
		return benchKey(key, next>>12%benchKeys)
	}
	for _, c := range []struct {
		name string
		op   func() error
	}{
		{"get", func() error {
			pos := random()
			return s.Get(pos, key, func(it Item) { buf = append(buf[:0], it.Value...) })
		}},
		{"put", func() error {
			pos := random()
			_, err := s.Put(pos, key, value, PutOptions{})
			return err
		}},
		{"compare-and-set", func() error {
			pos := random()
			_, err := s.Put(pos, key, value, PutOptions{IfPresent: true})
			return err
		}},
		{"get-one-key", func() error {
			pos := benchKey(key, 77)
			return s.Get(pos, key, func(it Item) { buf = append(buf[:0], it.Value...) })
		}},
		{"put-one-key", func() error {
			pos := benchKey(key, 77)
			_, err := s.Put(pos, key, value, PutOptions{})
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.op(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkTableAlone is what the same keys cost without engine and log.
func BenchmarkTableAlone(b *testing.B) {
	slabs := table.NewSlabs()
	tables := make([]*table.Table, partitions)
	for i := range tables {
		tables[i] = table.New(slabs, ring.Position(i)*partitionSpan, ring.Position(i)*partitionSpan+partitionSpan-1)
	}
	key, value, buf := make([]byte, 16), make([]byte, 64), make([]byte, 0, 64)
	for i := range uint32(benchKeys) {
		pos := benchKey(key, i)
		tables[pos/partitionSpan].Put(pos, key, value, 1, 0)
	}
	next := uint32(1)
	random := func() ring.Position {
		next = next*1664525 + 1013904223
		return benchKey(key, next>>12%benchKeys)
	}
	b.Run("get", func(b *testing.B) {
		for b.Loop() {
			pos := random()
			e, _ := tables[pos/partitionSpan].Get(pos, key)
			buf = append(buf[:0], e.Value...)
		}
	})
	b.Run("put", func(b *testing.B) {
		for b.Loop() {
			pos := random()
			tables[pos/partitionSpan].Put(pos, key, value, 2, 0)
		}
	})
	for _, t := range tables {
		t.Release()
	}
	must(b, slabs.Close())
}

// BenchmarkRecovery reports keys a second from a log of 1 Mi keys.
func BenchmarkRecovery(b *testing.B) {
	dir := b.TempDir()
	e, log := diskEngine(b, dir)
	fillBench(b, e, benchKeys)
	closeEngine(b, e, log)
	for _, workers := range []int{1, 2} {
		b.Run(strconv.Itoa(workers)+"-workers", func(b *testing.B) {
			for b.Loop() {
				log, err := wal.Open(wal.Options{Dir: dir, Sync: wal.SyncNever})
				must(b, err)
				e, err := Open(Options{Log: log, Workers: workers})
				must(b, err)
				if n := e.Recovered().Keys; n != benchKeys {
					b.Fatalf("%d keys recovered", n)
				}
				b.StopTimer()
				closeEngine(b, e, log)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N)*benchKeys/b.Elapsed().Seconds(), "keys/s")
		})
	}
}

// BenchmarkMemory reports resident bytes a key after writing and overwriting all
// keys (QUOIT_BENCH_KEYS, 1 Mi by default), and the share of CPU that went to the
// garbage collector.
func BenchmarkMemory(b *testing.B) {
	n := uint32(benchKeys)
	if text := os.Getenv("QUOIT_BENCH_KEYS"); text != "" {
		many, err := strconv.ParseUint(text, 10, 32)
		must(b, err)
		n = uint32(many)
	}
	for b.Loop() {
		e, log := diskEngine(b, b.TempDir())
		before, started := resident(b), time.Now()
		gcBefore, cpuBefore := cpuSeconds()
		for range 2 {
			fillBench(b, e, n)
		}
		gc, cpu := cpuSeconds()
		runtime.GC()
		b.ReportMetric(float64(resident(b)-before)/float64(n), "B/key")
		b.ReportMetric(100*(gc-gcBefore)/(cpu-cpuBefore), "%gc")
		b.ReportMetric(2*float64(n)/time.Since(started).Seconds(), "puts/s")
		closeEngine(b, e, log)
	}
}

// resident returns the resident anonymous memory of the process in bytes.
func resident(tb testing.TB) int64 {
	tb.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Skipf("no /proc: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	tb.Skip("no RssAnon in /proc/self/status")
	return 0
}

func cpuSeconds() (gc, total float64) {
	samples := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"}}
	metrics.Read(samples)
	return samples[0].Value.Float64(), samples[1].Value.Float64()
}

// BenchmarkMove reports what the two ends of a move take for a quarter of 1 Mi
// keys, without a network between them, and how long the seal itself takes.
func BenchmarkMove(b *testing.B) {
	source, sourceLog := diskEngine(b, b.TempDir())
	defer closeEngine(b, source, sourceLog)
	fillBench(b, source, benchKeys)
	r := ring.Range{Start: 1<<30 - 12345, End: 1<<31 - 54321}
	var out, in, seal time.Duration
	keys := uint64(0)
	for b.Loop() {
		target, targetLog := diskEngine(b, b.TempDir())
		must(b, target.SetOwnership(nil))
		_, err := target.Stage("m", r)
		must(b, err)
		sink := &pipe{}
		c, err := source.Capture("m", r, sink)
		must(b, err)
		for done := false; !done; {
			began := time.Now()
			done, err = c.CopyNext(128 << 10)
			must(b, err)
			out += time.Since(began)
			batch := sink.take()
			began = time.Now()
			_, err = target.StageApply("m", batch)
			must(b, err)
			in += time.Since(began)
		}
		began := time.Now()
		_, err = source.Seal("m", r)
		must(b, err)
		seal += time.Since(began)
		_, err = target.StageComplete("m", source.Version(), c.Count())
		must(b, err)
		keys += c.Count()
		c.Close()
		_, err = source.Unseal("m")
		must(b, err)
		closeEngine(b, target, targetLog)
	}
	b.ReportMetric(float64(keys)/out.Seconds(), "copied/s")
	b.ReportMetric(float64(keys)/in.Seconds(), "applied/s")
	b.ReportMetric(float64(seal.Microseconds())/float64(b.N), "us/seal")
}

// BenchmarkPutWatched is a put of a key that nobody, or so many watch; each of them
// takes what it is told.
func BenchmarkPutWatched(b *testing.B) {
	for _, watchers := range []int{0, 1, 100, 1000} {
		b.Run(fmt.Sprint(watchers), func(b *testing.B) {
			e, log := diskEngine(b, b.TempDir())
			defer closeEngine(b, e, log)
			ctx, stop := context.WithCancel(b.Context())
			var work sync.WaitGroup
			defer work.Wait()
			defer stop()
			work.Go(func() { must(b, e.RunWatches(ctx)) })
			for range watchers {
				w := e.NewWatcher()
				defer w.Close()
				must(b, w.Watch(1, nil, true, false, []WatchRange{{Range: wholeRing}}))
				work.Go(func() {
					for ctx.Err() == nil {
						for more := true; more; {
							var err error
							more, err = w.Take(64<<10, func(*WatchEvent) {})
							must(b, err)
						}
						select {
						case <-w.Wake():
						case <-ctx.Done():
						}
					}
				})
			}
			s, key, value := e.NewSession(), make([]byte, 16), make([]byte, 64)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				pos := benchKey(key, uint32(i)%benchKeys)
				_, err := s.Put(pos, key, value, PutOptions{})
				must(b, err)
			}
		})
	}
}
