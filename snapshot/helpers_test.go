package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// tester is what *testing.T and *rapid.T have in common.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func must(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var testID = ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// sorted brings entries into the order of a part file.
func sorted(entries []Entry) []Entry {
	slices.SortFunc(entries, func(a, b Entry) int {
		if a.Position != b.Position {
			if a.Position < b.Position {
				return -1
			}
			return 1
		}
		return bytes.Compare(a.Key, b.Key)
	})
	return entries
}

// someEntries returns n entries as a node has them: random positions, keys of 16
// bytes, values of the given size that do not compress.
func someEntries(n, valueSize int) []Entry {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	entries := make([]Entry, n)
	for i := range entries {
		key := fmt.Appendf(nil, "user:%011d", i)
		value := make([]byte, valueSize)
		for j := range value {
			value[j] = byte(r.Uint32())
		}
		entries[i] = Entry{Position: ring.PositionOf(key), Key: key, Value: value, Version: 1<<60 + r.Uint64N(1<<32)}
		if i%3 == 0 {
			entries[i].ExpireAt = 1_700_000_000_000 + r.Int64N(1<<30)
		}
	}
	return sorted(entries)
}

// writePart writes a part file.
func writePart(t testing.TB, entries []Entry, o WriterOptions) ([]byte, PartInfo) {
	t.Helper()
	if o.Snapshot == (ID{}) {
		o.Snapshot = testID
	}
	var file bytes.Buffer
	w, err := NewWriter(&file, o)
	must(t, err)
	for _, e := range entries {
		must(t, w.Add(e))
	}
	info, err := w.Close()
	must(t, err)
	return file.Bytes(), info
}

// openPart opens a part file in memory.
func openPart(file []byte, o ReaderOptions) (*Reader, error) {
	o.Object, o.Size = "part", int64(len(file))
	return OpenReader(context.Background(), InFile(bytes.NewReader(file)), o)
}

// collect copies what an iteration yields.
func collect(seq iter.Seq2[Entry, error]) (entries []Entry, err error) {
	for e, err := range seq {
		if err != nil {
			return entries, err
		}
		e.Key, e.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
		entries = append(entries, e)
	}
	return entries, nil
}

func same(a, b Entry) bool {
	return a.Position == b.Position && a.Version == b.Version && a.ExpireAt == b.ExpireAt &&
		bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}

// expectEntries fails the test at the first difference.
func expectEntries(t tester, got, want []Entry) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if !same(got[i], want[i]) {
			t.Fatalf("entry %d is %.200v, want %.200v", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("got %d entries, want %d", len(got), len(want))
	}
}

// corruption returns the CorruptionError that err has to be.
func corruption(t tester, err error) *CorruptionError {
	t.Helper()
	var c *CorruptionError
	if !errors.As(err, &c) {
		t.Fatalf("got %v (%T), want a CorruptionError", err, err)
	}
	return c
}

// shrinkingSource is a file whose end goes away.
type shrinkingSource struct {
	file []byte
	size int
}

func (s *shrinkingSource) ReadRange(ctx context.Context, offset, length int64, buf []byte) ([]byte, error) {
	return InFile(bytes.NewReader(s.file[:s.size])).ReadRange(ctx, offset, length, buf)
}
