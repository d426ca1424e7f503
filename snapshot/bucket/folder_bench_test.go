package bucket_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/snapshot/bucket"
)

// BenchmarkFolderSwap is what a change of the cluster document costs on this disk.
func BenchmarkFolderSwap(b *testing.B) {
	f, err := bucket.OpenFolder(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	ctx, filler := context.Background(), strings.Repeat("x", 32<<10)
	tag, err := f.PutIfAbsent(ctx, "cluster/document.json", []byte(filler))
	if err != nil {
		b.Fatal(err)
	}
	for n := 0; b.Loop(); n++ {
		if tag, err = f.PutIfMatch(ctx, "cluster/document.json", fmt.Append(nil, n, filler), tag); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFolderGet is what looking whether the document has changed costs.
func BenchmarkFolderGet(b *testing.B) {
	f, err := bucket.OpenFolder(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	ctx := context.Background()
	if _, err := f.PutIfAbsent(ctx, "cluster/document.json", make([]byte, 32<<10)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := f.Get(ctx, "cluster/document.json"); err != nil {
			b.Fatal(err)
		}
	}
}
