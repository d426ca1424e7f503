package engine

import (
	"iter"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/node/wal"
)

// fillWide writes n keys of 16 bytes with values of 100.
func fillWide(tb testing.TB, e *Engine, n uint32) {
	tb.Helper()
	s, key, value := e.NewSession(), make([]byte, 16), make([]byte, 100)
	for i := range n {
		_, err := s.Put(benchKey(key, i), key, value, PutOptions{})
		must(tb, err)
	}
}

// BenchmarkCheckpoint takes checkpoints of 1 Mi keys of 16 bytes with 100-byte
// values, alone and beside a writer, and reports keys and bytes a second, the memory
// held at most, and the longest hold of a lock: the largest of all runs, and the
// slowest write beside it.
func BenchmarkCheckpoint(b *testing.B) {
	e, log := diskEngine(b, b.TempDir())
	defer closeEngine(b, e, log)
	fillWide(b, e, benchKeys)
	for _, writers := range []int{0, 1} {
		b.Run(strconv.Itoa(writers)+"-writers", func(b *testing.B) {
			stop, slowest := writeBeside(b, e, writers)
			var size int64
			var worst CheckpointStats
			for b.Loop() {
				cp, err := e.BeginCheckpoint()
				must(b, err)
				for i := range Partitions {
					cut, err := cp.Partition(i, func(Entry) error { return nil })
					must(b, err)
					size += cut.Bytes
				}
				_, err = cp.state()
				must(b, err)
				cp.Close()
				worst.LongestHold = max(worst.LongestHold, cp.Stats().LongestHold)
				worst.Held += cp.Stats().Held
				worst.Steps += cp.Stats().Steps
				worst.Buffered = max(worst.Buffered, cp.Stats().Buffered)
			}
			seconds := b.Elapsed().Seconds()
			stop()
			b.ReportMetric(float64(b.N)*benchKeys/seconds, "keys/s")
			b.ReportMetric(float64(size)/seconds/1e6, "MB/s")
			b.ReportMetric(float64(worst.LongestHold.Microseconds()), "us-longest-hold")
			b.ReportMetric(worst.Held.Seconds()*1e6/float64(worst.Steps), "us-mean-hold")
			b.ReportMetric(float64(worst.Buffered)/1024, "KiB-held")
			b.ReportMetric(float64(slowest().Microseconds()), "us-slowest-put")
		})
	}
}

// writeBeside overwrites keys until it is stopped.
func writeBeside(tb testing.TB, e *Engine, writers int) (stop func(), slowest func() time.Duration) {
	var work sync.WaitGroup
	quit := make(chan struct{})
	worst := make([]time.Duration, writers+1)
	for w := range writers {
		work.Go(func() {
			s, key, value := e.NewSession(), make([]byte, 16), make([]byte, 100)
			for i := uint32(w); ; i += 7919 {
				select {
				case <-quit:
					return
				default:
				}
				pos := benchKey(key, i%benchKeys)
				began := time.Now()
				if _, err := s.Put(pos, key, value, PutOptions{}); err != nil {
					tb.Error(err)
					return
				}
				worst[w] = max(worst[w], time.Since(began))
			}
		})
	}
	return func() { close(quit); work.Wait() }, func() time.Duration { return worst[0] }
}

// BenchmarkRecoveryFromBase reports keys a second from a base of 1 Mi keys of 16
// bytes with 100-byte values in memory, with an empty log behind it.
func BenchmarkRecoveryFromBase(b *testing.B) {
	e, log := diskEngine(b, b.TempDir())
	fillWide(b, e, benchKeys)
	var all [Partitions][]Entry
	cp, err := e.BeginCheckpoint()
	must(b, err)
	for i := range Partitions {
		_, err := cp.Partition(i, func(e Entry) error {
			e.Key, e.Value = append([]byte(nil), e.Key...), append([]byte(nil), e.Value...)
			all[i] = append(all[i], e)
			return nil
		})
		must(b, err)
	}
	s, err := cp.Finish()
	must(b, err)
	closeEngine(b, e, log)
	load := func(i int) iter.Seq2[Entry, error] {
		return func(yield func(Entry, error) bool) {
			for _, e := range all[i] {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
	s.LSN += 8 - s.LSN%8
	for i := range s.Cuts {
		s.Cuts[i] = s.LSN // The log begins here.
	}
	for _, workers := range []int{1, 2} {
		b.Run(strconv.Itoa(workers)+"-workers", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				log, err := wal.Open(wal.Options{Dir: b.TempDir(), Sync: wal.SyncNever, Start: s.LSN})
				must(b, err)
				b.StartTimer()
				e, err := Open(Options{Log: log, Workers: workers, Base: &Base{State: s.Encode(), Load: load}})
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
