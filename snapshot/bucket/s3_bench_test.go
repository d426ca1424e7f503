package bucket_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// BenchmarkS3 is MinIO on the same machine: its own work is in the figures too.
func BenchmarkS3(b *testing.B) {
	s := buckettest.MinIO(b).Open(b, "bench")
	defer s.Close()
	b.Run("swap", func(b *testing.B) {
		tag, err := s.Put(b.Context(), "swap", bytes.NewReader(nil), 0)
		for i := 0; err == nil && b.Loop(); i++ {
			tag, err = s.PutIfMatch(b.Context(), "swap", fmt.Appendf(nil, "%1024d", i), tag)
		}
		if err != nil {
			b.Fatal(err)
		}
	})
	body := bytes.Repeat([]byte("0123456789abcdef"), 8<<20)
	b.Run("put 128 MiB", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Put(b.Context(), "large", bytes.NewReader(body), int64(len(body))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read 8 MiB", func(b *testing.B) {
		if _, err := s.Put(b.Context(), "large", bytes.NewReader(body), int64(len(body))); err != nil {
			b.Fatal(err)
		}
		const part = 8 << 20
		b.SetBytes(part)
		for b.Loop() {
			if _, err := s.GetRange(b.Context(), "large", 3*part, part); err != nil {
				b.Fatal(err)
			}
		}
	})
}
