package wal

import (
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
)

// voidFS is the operating system's disk without the bytes: what is left is the
// cost of the log itself.
type voidFS struct{ vfs.FS }

type voidFile struct{ vfs.File }

func (v voidFS) Create(name string) (vfs.File, error) {
	f, err := v.FS.Create(name)
	return voidFile{f}, err
}

func (voidFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (voidFile) Allocate(int64) error                   { return nil }
func (voidFile) Sync() error                            { return nil }

func openBench(b *testing.B, o Options) *Log {
	o.Dir = b.TempDir()
	l, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Replay(func([]byte, LSN) error { return nil }); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	return l
}

// BenchmarkAppend is the price that a command pays for the log before it
// waits: 100-byte records, no disk.
func BenchmarkAppend(b *testing.B) {
	for _, goroutines := range []int{1, 2, 16} {
		b.Run(strconv.Itoa(goroutines), func(b *testing.B) {
			l := openBench(b, Options{FS: voidFS{vfs.OS()}, Sync: SyncNever})
			rec := make([]byte, 100)
			b.ReportAllocs()
			b.SetBytes(100)
			spread(b, goroutines, func() error {
				_, err := l.Append(rec)
				return err
			})
		})
	}
}

// BenchmarkCommit is group commit on the real disk: each goroutine appends a
// 100-byte record and waits for it, again and again.
func BenchmarkCommit(b *testing.B) {
	for _, goroutines := range []int{1, 16, 50, 256, 1024} {
		b.Run(strconv.Itoa(goroutines), func(b *testing.B) {
			l := openBench(b, Options{})
			rec := make([]byte, 100)
			spread(b, goroutines, func() error {
				lsn, err := l.Append(rec)
				if err == nil {
					err = l.Wait(lsn)
				}
				return err
			})
			s := l.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(s.Records)/float64(s.Syncs), "records/sync")
			b.ReportMetric(float64(s.SyncTime.Microseconds())/float64(s.Syncs), "µs/sync")
		})
	}
}

// BenchmarkDisk is what the disk gives to one who writes and syncs groups of
// this size, without a log: into a growing file, into space that is reserved,
// and over blocks that have been written before.
func BenchmarkDisk(b *testing.B) {
	for _, size := range []int{160, 8 << 10, 32 << 10} {
		for _, kind := range []string{"growing", "reserved", "written"} {
			b.Run(kind+"/"+strconv.Itoa(size), func(b *testing.B) {
				f, err := vfs.OS().Create(filepath.Join(b.TempDir(), "file"))
				must(b, err)
				defer f.Close()
				if kind != "growing" {
					must(b, f.Allocate(defaultSegment))
				}
				if kind == "written" {
					_, err := f.WriteAt(make([]byte, defaultSegment), 0)
					must(b, err)
				}
				must(b, f.Sync())
				group := make([]byte, size)
				off := int64(0)
				for b.Loop() {
					_, err := f.WriteAt(group, off%(defaultSegment-int64(size)))
					must(b, err)
					must(b, f.Sync())
					off += int64(size)
				}
			})
		}
	}
}

// BenchmarkPipelined is the same with 16 records before each wait.
func BenchmarkPipelined(b *testing.B) {
	l := openBench(b, Options{})
	rec := make([]byte, 100)
	spread(b, 50, func() error {
		var lsn LSN
		var err error
		for range 16 {
			if lsn, err = l.Append(rec); err != nil {
				return err
			}
		}
		return l.Wait(lsn)
	})
	b.ReportMetric(16*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkLazy is the throughput without waiting, on the real disk.
func BenchmarkLazy(b *testing.B) {
	l := openBench(b, Options{Sync: SyncNever})
	rec := make([]byte, 100)
	b.SetBytes(100)
	spread(b, 1, func() error {
		_, err := l.Append(rec)
		return err
	})
}

// BenchmarkReplay reads a log of 1 million 100-byte records back.
func BenchmarkReplay(b *testing.B) {
	const records = 1_000_000
	dir := b.TempDir()
	l, err := Open(Options{Dir: dir, Sync: SyncNever})
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Replay(func([]byte, LSN) error { return nil }); err != nil {
		b.Fatal(err)
	}
	rec := make([]byte, 100)
	for range records {
		if _, err := l.Append(rec); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(records * 100)
	for b.Loop() {
		replayOnce(b, dir, records)
	}
	b.ReportMetric(records*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func replayOnce(b *testing.B, dir string, want int) {
	l, err := Open(Options{Dir: dir, Sync: SyncNever})
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	err = l.Replay(func(payload []byte, _ LSN) error {
		for rest := payload; len(rest) > 0; n++ {
			if _, rest, err = NextRecord(rest); err != nil {
				return err
			}
		}
		l.Release(payload)
		return nil
	})
	if err != nil || n != want {
		b.Fatalf("replayed %d records of %d: %v", n, want, err)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

// spread runs op b.N times from as many goroutines.
func spread(b *testing.B, goroutines int, op func() error) {
	var wg sync.WaitGroup
	b.ResetTimer()
	for g := range goroutines {
		n := b.N / goroutines
		if g < b.N%goroutines {
			n++
		}
		wg.Go(func() {
			for range n {
				if err := op(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}
