package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"golang.org/x/sync/errgroup"
)

// benchEntries have keys of 16 bytes and values of 100, that compress by half or not at all.
func benchEntries(n int, compressible bool) []Entry {
	entries := someEntries(n, 100)
	for i := range entries {
		if compressible {
			copy(entries[i].Value, `{"name":"somebody","mail":"somebody@example.org","plan":"`)
		}
	}
	return entries
}

func rawBytes(entries []Entry) (n int64) {
	for _, e := range entries {
		n += int64(len(e.Key) + len(e.Value))
	}
	return n
}

func BenchmarkWriter(b *testing.B) {
	for _, compressible := range []bool{false, true} {
		for _, workers := range []int{0, 1, 2} {
			b.Run(fmt.Sprintf("compressible=%t/workers=%d", compressible, workers), func(b *testing.B) {
				entries := benchEntries(200_000, compressible)
				b.SetBytes(rawBytes(entries))
				b.ReportAllocs()
				var info PartInfo
				for b.Loop() {
					w, err := NewWriter(io.Discard, WriterOptions{Workers: workers})
					must(b, err)
					for i := range entries {
						must(b, w.Add(entries[i]))
					}
					info, err = w.Close()
					must(b, err)
				}
				b.ReportMetric(float64(info.Size)/float64(len(entries)), "stored-B/entry")
				b.ReportMetric(float64(len(entries)*b.N)/b.Elapsed().Seconds(), "entries/s")
			})
		}
	}
}

func BenchmarkReader(b *testing.B) {
	for _, compressible := range []bool{false, true} {
		b.Run(fmt.Sprintf("compressible=%t", compressible), func(b *testing.B) {
			entries := benchEntries(200_000, compressible)
			file, info := writePart(b, entries, WriterOptions{})
			b.SetBytes(rawBytes(entries))
			b.ReportAllocs()
			for b.Loop() {
				r, err := OpenReader(b.Context(), InFile(bytes.NewReader(file)), ReaderOptions{Object: "part", Size: info.Size})
				must(b, err)
				n := 0
				for _, err := range r.All(b.Context()) {
					must(b, err)
					n++
				}
				if n != len(entries) {
					b.Fatalf("%d entries", n)
				}
			}
			b.ReportMetric(float64(len(entries)*b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkReaderFolder reads parts of a folder bucket side by side, as a restore does.
func BenchmarkReaderFolder(b *testing.B) {
	const parts = 4
	folder, err := bucket.OpenFolder(filepath.Join(b.TempDir(), "bucket"))
	must(b, err)
	defer folder.Close()
	entries := benchEntries(500_000, false)
	file, info := writePart(b, entries, WriterOptions{})
	for i := range parts {
		_, err := folder.Put(b.Context(), fmt.Sprintf("part-%d", i), bytes.NewReader(file), info.Size)
		must(b, err)
	}
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			b.SetBytes(parts * rawBytes(entries))
			b.ReportAllocs()
			for b.Loop() {
				var g errgroup.Group
				g.SetLimit(workers)
				for i := range parts {
					g.Go(func() error { return readAll(b.Context(), folder, fmt.Sprintf("part-%d", i), info) })
				}
				must(b, g.Wait())
			}
			b.ReportMetric(float64(parts*len(entries)*b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

func readAll(ctx context.Context, from bucket.Bucket, key string, info PartInfo) error {
	r, err := OpenReader(ctx, InBucket(from, key), ReaderOptions{Object: key, Size: info.Size, Expect: &info})
	if err != nil {
		return err
	}
	for _, err := range r.All(ctx) {
		if err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkRange reads a 256th of the ring from a file.
func BenchmarkRange(b *testing.B) {
	file, info := writePart(b, benchEntries(500_000, false), WriterOptions{})
	path := filepath.Join(b.TempDir(), "part")
	must(b, os.WriteFile(path, file, 0o600))
	f, err := os.Open(path)
	must(b, err)
	defer f.Close()
	r, err := OpenReader(b.Context(), InFile(f), ReaderOptions{Object: path, Size: info.Size})
	must(b, err)
	b.ReportAllocs()
	i := ring.Position(0)
	for b.Loop() {
		for _, err := range r.Range(b.Context(), ring.Range{Start: i, End: i + 1<<24}) {
			must(b, err)
		}
		i += 1 << 24
	}
}
