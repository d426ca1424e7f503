package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quoitdb/quoit/ring"
	"pgregory.net/rapid"
)

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	crowd := make([]Entry, 3000) // More than a block, all on one position.
	for i := range crowd {
		crowd[i] = Entry{Position: 77, Key: fmt.Appendf(nil, "%05d", i), Value: bytes.Repeat([]byte{byte(i)}, 100)}
	}
	huge := []Entry{
		{Position: 4, Key: []byte("a"), Value: []byte("small")},
		{Position: 5, Key: []byte("b"), Value: bytes.Repeat([]byte("huge"), 5<<18), Version: 9},
		{Position: 5, Key: []byte("c"), Value: []byte("small")},
	}
	edges := []Entry{
		{Position: 0, Version: 1<<64 - 1},
		{Position: 0, Key: []byte{0}, ExpireAt: 1},
		{Position: 0, Key: []byte{0, 0}, ExpireAt: 1<<63 - 2, Version: 1},
		{Position: ring.MaxPosition, Key: []byte{}, Value: []byte{0}, ExpireAt: 5},
	}
	for name, entries := range map[string][]Entry{
		"nothing": nil, "one": someEntries(1, 10), "edges": edges, "crowd": crowd, "huge": huge,
		"many": someEntries(20_000, 100), "empty values": someEntries(5000, 0),
	} {
		for _, workers := range []int{0, 1, 3} {
			t.Run(fmt.Sprintf("%s/%d workers", name, workers), func(t *testing.T) {
				file, info := writePart(t, entries, WriterOptions{Part: 7, Workers: workers})
				r, err := openPart(file, ReaderOptions{Expect: &info})
				must(t, err)
				got, err := collect(r.All(t.Context()))
				must(t, err)
				expectEntries(t, got, entries)
				must(t, r.Verify(t.Context(), nil, nil))
				expectInfo(t, info, file, entries)
			})
		}
	}
}

// expectInfo checks what the Writer says of a file against the file and its entries.
func expectInfo(t *testing.T, got PartInfo, file []byte, entries []Entry) {
	t.Helper()
	want := PartInfo{
		Snapshot: testID, Number: 7, Size: int64(len(file)), CRC: crc32.Checksum(file, crc32.MakeTable(crc32.Castagnoli)),
		Entries: uint64(len(entries)), Blocks: got.Blocks, Raw: got.Raw,
		IndexLength: int64(got.Blocks) * 32, IndexOffset: int64(len(file)) - 96 - int64(got.Blocks)*32,
	}
	for i, e := range entries {
		if i == 0 {
			want.First = e.Position
		}
		want.Last, want.Newest = e.Position, max(want.Newest, e.Version)
	}
	if got != want {
		t.Errorf("the writer says\n%+v, want\n%+v", got, want)
	}
}

func TestBlocksAreCutBetweenPositions(t *testing.T) {
	entries := someEntries(20_000, 100)
	for i := range entries {
		entries[i].Position = ring.Position(i / 3) // Small crowds everywhere.
	}
	file, info := writePart(t, sorted(entries), WriterOptions{})
	r, err := openPart(file, ReaderOptions{})
	must(t, err)
	if info.Blocks < 10 {
		t.Fatalf("%d blocks prove nothing", info.Blocks)
	}
	for i := range r.Blocks() {
		b := r.Block(i)
		if i > 0 && b.First == r.Block(i-1).Last {
			t.Errorf("position %d is in blocks %d and %d", b.First, i-1, i)
		}
		if b.Raw > blockTarget+1000 || i < r.Blocks()-1 && b.Raw < blockTarget-1000 {
			t.Errorf("block %d has %d bytes, want about %d", i, b.Raw, blockTarget)
		}
	}
}

func TestAHugeValueHasABlockOfItsOwn(t *testing.T) {
	entries := someEntries(1000, 10)
	entries[500].Value = make([]byte, 3<<20)
	file, _ := writePart(t, entries, WriterOptions{})
	r, err := openPart(file, ReaderOptions{})
	must(t, err)
	sizes := []uint32{r.Block(0).Entries, r.Block(1).Entries, r.Block(2).Entries}
	if r.Blocks() != 3 || !slices.Equal(sizes, []uint32{500, 1, 499}) {
		t.Errorf("%d blocks, the first with %v entries, want 500, 1 and 499", r.Blocks(), sizes)
	}
}

func TestACrowdOnOnePositionIsCutAll(t *testing.T) {
	var entries []Entry
	for i := range 100 {
		entries = append(entries, Entry{Position: 9, Key: fmt.Appendf(nil, "%03d", i), Value: make([]byte, 100<<10)})
	}
	file, _ := writePart(t, entries, WriterOptions{})
	r, err := openPart(file, ReaderOptions{})
	must(t, err)
	for i := range r.Blocks() {
		if b := r.Block(i); b.Raw > blockLimit {
			t.Errorf("block %d has %d bytes, want at most %d", i, b.Raw, blockLimit)
		}
	}
	got, err := collect(r.Range(t.Context(), ring.Range{Start: 8, End: 9}))
	must(t, err)
	expectEntries(t, got, entries)
}

func TestWriterRefusesWhatCannotBeRead(t *testing.T) {
	entry := func(position ring.Position, key string) Entry { return Entry{Position: position, Key: []byte(key)} }
	for _, test := range []struct {
		name  string
		first Entry
		then  Entry
		want  error
	}{
		{"the same key twice", entry(5, "a"), entry(5, "a"), ErrOrder},
		{"keys in the wrong order", entry(5, "b"), entry(5, "a"), ErrOrder},
		{"positions in the wrong order", entry(5, "a"), entry(4, "b"), ErrOrder},
		{"a position before a huge value", Entry{Position: 5, Value: make([]byte, 1<<20)}, entry(4, "b"), ErrOrder},
		{"a key that is too large", entry(1, ""), Entry{Position: 5, Key: make([]byte, MaxKey+1)}, ErrLimit},
		{"a time before 1970", entry(1, ""), Entry{Position: 5, ExpireAt: -1}, ErrLimit},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, err := NewWriter(io.Discard, WriterOptions{Workers: 1})
			must(t, err)
			must(t, w.Add(test.first))
			if err := w.Add(test.then); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if _, err := w.Close(); !errors.Is(err, test.want) {
				t.Errorf("Close: got %v, want %v: the file is worth nothing", err, test.want)
			}
		})
	}
}

// failingWriter fails when more than left bytes are written.
type failingWriter struct{ left int }

var errDisk = errors.New("the disk is full")

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		return 0, errDisk
	}
	return len(b), nil
}

func TestAFailingStreamIsToldByClose(t *testing.T) {
	entries := someEntries(10_000, 100)
	file, _ := writePart(t, entries, WriterOptions{})
	for _, workers := range []int{0, 2} {
		for _, room := range []int{0, 63, 64, 1000, len(file) / 2, len(file) - 1} {
			w, err := NewWriter(&failingWriter{room}, WriterOptions{Snapshot: testID, Workers: workers})
			if err == nil {
				for _, e := range entries {
					if err = w.Add(e); err != nil {
						break
					}
				}
				_, err = w.Close()
			}
			if !errors.Is(err, errDisk) {
				t.Errorf("%d workers, room for %d of %d bytes: got %v", workers, room, len(file), err)
			}
		}
	}
}

func TestRangesEqualAFilterOfEverything(t *testing.T) {
	entries := someEntries(6000, 60)
	for i := range entries { // Some positions beside each other, some shared, some at the ends.
		if i < 2000 {
			entries[i].Position = ring.Position(i / 2)
		} else if i > 5000 {
			entries[i].Position = ring.MaxPosition - ring.Position((6000-i)/2)
		}
	}
	entries = sorted(entries)
	file, _ := writePart(t, entries, WriterOptions{})
	position := rapid.OneOf(rapid.Uint32(), rapid.Uint32Range(0, 1100), rapid.Uint32Range(1<<32-600, 1<<32-1),
		rapid.Custom(func(t *rapid.T) uint32 {
			return uint32(entries[rapid.IntRange(0, len(entries)-1).Draw(t, "entry")].Position)
		}))
	rapid.Check(t, func(t *rapid.T) {
		r, err := openPart(file, ReaderOptions{
			RequestBytes: rapid.Int64Range(1, 300<<10).Draw(t, "request"),
			GapBytes:     rapid.Int64Range(1, 200<<10).Draw(t, "gap"),
			InFlight:     rapid.IntRange(1, 4).Draw(t, "in flight"),
		})
		must(t, err)
		in := ring.Range{Start: ring.Position(position.Draw(t, "start")), End: ring.Position(position.Draw(t, "end"))}
		got, err := collect(r.Range(context.Background(), in))
		must(t, err)
		var want []Entry
		for _, e := range entries {
			if in.Contains(e.Position) {
				want = append(want, e)
			}
		}
		expectEntries(t, got, want)
	})
}

// countingSource counts reads and how many there are at once.
type countingSource struct {
	Source
	reads, bytes, now, most atomic.Int64
}

func (s *countingSource) ReadRange(ctx context.Context, offset, length int64, buf []byte) ([]byte, error) {
	s.reads.Add(1)
	s.bytes.Add(length)
	now := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	return s.Source.ReadRange(ctx, offset, length, buf)
}

func TestAReadTakesFewRequestsAndFewBytes(t *testing.T) {
	entries := someEntries(60_000, 100)
	file, info := writePart(t, entries, WriterOptions{})
	s := &countingSource{Source: InFile(bytes.NewReader(file))}
	r, err := OpenReader(t.Context(), s, ReaderOptions{Object: "part", Size: info.Size, RequestBytes: 1 << 20, InFlight: 3})
	must(t, err)
	if got := s.reads.Swap(0); got != 3 {
		t.Errorf("opening took %d reads, want 3", got)
	}
	s.bytes.Store(0)
	_, err = collect(r.Range(t.Context(), ring.Range{Start: 1 << 31, End: 1<<31 + 1<<20}))
	must(t, err)
	if reads, size := s.reads.Swap(0), s.bytes.Swap(0); reads != 1 || size > 2*blockTarget {
		t.Errorf("a small range took %d reads and %d bytes, want one of one or two blocks", reads, size)
	}
	_, err = collect(r.All(t.Context()))
	must(t, err)
	if reads := s.reads.Load(); reads < info.Size>>20 || reads > info.Size>>20+3 {
		t.Errorf("%d bytes took %d reads, want one for each megabyte", info.Size, reads)
	}
	if s.most.Load() > 3 {
		t.Errorf("%d reads at once, want at most 3", s.most.Load())
	}
}

func TestAnIterationCanBeLeftAndCancelled(t *testing.T) {
	file, _ := writePart(t, someEntries(20_000, 100), WriterOptions{})
	r, err := openPart(file, ReaderOptions{RequestBytes: 1, InFlight: 4})
	must(t, err)
	n := 0
	for _, err := range r.All(t.Context()) {
		must(t, err)
		if n++; n == 2000 {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n = 0
	for _, err := range r.All(ctx) {
		if n++; n == 2000 {
			cancel()
		}
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			return // goleak sees to the reads under way.
		}
	}
	t.Error("a cancelled iteration went on to the end")
}

// stuckSource answers reads behind a place only when they are given up.
type stuckSource struct {
	countingSource
	place int64
}

func (s *stuckSource) ReadRange(ctx context.Context, offset, length int64, buf []byte) ([]byte, error) {
	if offset >= s.place {
		s.now.Add(1)
		defer s.now.Add(-1)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.countingSource.ReadRange(ctx, offset, length, buf)
}

func TestNoReadIsUnderWayAfterAnIteration(t *testing.T) {
	file, info := writePart(t, someEntries(20_000, 100), WriterOptions{})
	s := &stuckSource{countingSource{Source: InFile(bytes.NewReader(file))}, info.Size}
	r, err := OpenReader(t.Context(), s, ReaderOptions{Object: "part", Size: info.Size, RequestBytes: 1, InFlight: 4})
	must(t, err)
	s.place = r.Block(1).Offset
	for _, err := range r.All(t.Context()) {
		must(t, err)
		break
	}
	if n := s.now.Load(); n != 0 {
		t.Errorf("%d reads are still under way", n)
	}
}

// onceDamaged flips a bit in the first read that touches a place.
type onceDamaged struct {
	Source
	place int64
	done  atomic.Bool
}

func (s *onceDamaged) ReadRange(ctx context.Context, offset, length int64, _ []byte) ([]byte, error) {
	b, err := s.Source.ReadRange(ctx, offset, length, nil)
	if err == nil && offset <= s.place && s.place < offset+length && s.done.CompareAndSwap(false, true) {
		b[s.place-offset] ^= 4
	}
	return b, err
}

func TestDamageOnTheWayIsReadOnceMore(t *testing.T) {
	entries := someEntries(5000, 100)
	file, info := writePart(t, entries, WriterOptions{})
	s := &onceDamaged{Source: InFile(bytes.NewReader(file)), place: 200_000}
	r, err := OpenReader(t.Context(), s, ReaderOptions{Object: "part", Size: info.Size, Expect: &info})
	must(t, err)
	got, err := collect(r.All(t.Context()))
	must(t, err)
	expectEntries(t, got, entries)
	if !s.done.Load() {
		t.Error("nothing was damaged")
	}
	s.done.Store(false)
	must(t, r.Verify(t.Context(), nil, nil))
	if !s.done.Load() {
		t.Error("nothing was damaged")
	}
}

func TestAManifestsPartMustBeThatPart(t *testing.T) {
	file, info := writePart(t, someEntries(100, 10), WriterOptions{Part: 3})
	for name, change := range map[string]func(*PartInfo){
		"another snapshot": func(p *PartInfo) { p.Snapshot[0]++ },
		"another number":   func(p *PartInfo) { p.Number++ },
		"other entries":    func(p *PartInfo) { p.Entries++ },
		"another index":    func(p *PartInfo) { p.IndexOffset++ },
	} {
		want := info
		change(&want)
		_, err := openPart(file, ReaderOptions{Expect: &want})
		if c := corruption(t, err); c.Section != SectionFile || !strings.Contains(c.Reason, "manifest") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	want := info
	want.CRC++
	r, err := openPart(file, ReaderOptions{Expect: &want})
	must(t, err)
	if c := corruption(t, r.Verify(t.Context(), nil, nil)); c.Section != SectionFile {
		t.Errorf("another checksum: got %v", c)
	}
}
