package wal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
)

// copies returns the pieces of l behind from, as an archive would keep them.
func copies(t testing.TB, l *Log, from LSN) (pieces []Piece, archive [][]byte) {
	t.Helper()
	pieces, err := l.Pieces(from)
	must(t, err)
	for i, p := range pieces {
		var b bytes.Buffer
		must(t, l.CopyPiece(&b, p))
		if int64(b.Len()) != p.Size() {
			t.Fatalf("piece %d has %d bytes, its size is %d", i, b.Len(), p.Size())
		}
		if i > 0 && (p.From != pieces[i-1].To || !pieces[i-1].Closed) {
			t.Fatalf("piece %+v follows %+v", p, pieces[i-1])
		}
		archive = append(archive, b.Bytes())
	}
	return pieces, archive
}

// readArchive returns the records of an archive with their positions.
func readArchive(from LSN, archive [][]byte) (lsns []LSN, records [][]byte, err error) {
	a := NewArchiveReader(from)
	for i, piece := range archive {
		err = a.Read(fmt.Sprint("piece ", i), bytes.NewReader(piece), func(payload []byte, end LSN) error {
			at := PayloadStart(payload, end)
			for len(payload) > 0 {
				rec, rest, err := NextRecord(payload)
				if err != nil {
					return err
				}
				at += LSN(len(payload) - len(rest))
				lsns, records = append(lsns, at), append(records, rec)
				payload = rest
			}
			return nil
		})
		if err != nil {
			return lsns, records, err
		}
	}
	return lsns, records, nil
}

// wantRecords checks that an archive holds records first to next-1, each at the
// position that Append had returned.
func (h *history) wantRecords(t *testing.T, first, next int, lsns []LSN, records [][]byte) {
	t.Helper()
	if len(records) != next-first {
		t.Fatalf("%d records, want %d to %d", len(records), first, next)
	}
	for i, rec := range records {
		if !bytes.Equal(rec, record(first+i)) || lsns[i] != h.lsn[first+i] {
			t.Fatalf("record %d is %q at %d, want it at %d", first+i, rec, lsns[i], h.lsn[first+i])
		}
	}
}

func TestAnArchiveHoldsEveryRecordAtItsPosition(t *testing.T) {
	m, h := vfs.NewMem(), &history{}
	l := openEmpty(t, small(m))
	defer l.Close()
	if p, err := l.Pieces(0); err != nil || len(p) != 0 {
		t.Fatalf("an empty log has pieces %v, %v", p, err)
	}
	var archive [][]byte
	archived := LSN(0)
	for range 10 {
		for range 3 {
			must(t, h.append(l))
		}
		must(t, h.append(l))
		must(t, h.wait(l))
		must(t, h.append(l)) // Not durable: not in the archive yet.
		pieces, more := copies(t, l, archived)
		archived = pieces[len(pieces)-1].To
		if archived != l.Durable() {
			t.Fatalf("archived up to %d, durable up to %d", archived, l.Durable())
		}
		archive = append(archive, more...)
	}
	lsns, records, err := readArchive(0, archive)
	must(t, err)
	h.wantRecords(t, 0, h.durable, lsns, records)
	if l.Stats().Segments < 3 {
		t.Fatalf("%d segments: the test is too small", l.Stats().Segments)
	}
	// From anywhere, and with pieces that overlap.
	for from := LSN(0); from <= archived; from += 3 {
		_, some := copies(t, l, from)
		lsns, records, err := readArchive(from, some)
		must(t, err)
		if first := h.durable - len(records); len(records) > 0 {
			h.wantRecords(t, first, h.durable, lsns, records)
			if first > 0 && h.lsn[first-1] > from {
				t.Fatalf("from %d: record %d at %d is missing", from, first-1, h.lsn[first-1])
			}
		}
	}
	_, again := copies(t, l, 0)
	lsns, records, err = readArchive(0, append(archive[:len(archive)/2:len(archive)/2], again...))
	must(t, err)
	h.wantRecords(t, 0, h.durable, lsns, records)
}

// What recovery writes again keeps its positions, so an archive goes on over a crash.
func TestAnArchiveGoesOnOverACrash(t *testing.T) {
	m, h := vfs.NewMem(), &history{}
	l := openEmpty(t, small(m))
	h.fill(t, l, 13)
	pieces, archive := copies(t, l, 0)
	m = m.CrashClone(keepNone)
	l.Close()
	l, err := Open(small(m))
	must(t, err)
	defer l.Close()
	_, next, err := contents(l)
	must(t, err)
	h.lsn = h.lsn[:next]
	h.fill(t, l, 20)
	_, more := copies(t, l, pieces[len(pieces)-1].To)
	lsns, records, err := readArchive(0, append(archive, more...))
	must(t, err)
	h.wantRecords(t, 0, h.durable, lsns, records)
}

func TestWhatIsTruncatedCannotBeArchived(t *testing.T) {
	m, h := vfs.NewMem(), &history{}
	l := openEmpty(t, small(m))
	defer l.Close()
	h.fill(t, l, 60)
	pieces, archive := copies(t, l, 0)
	must(t, h.truncate(l, 40))
	var gap *GapError
	if _, err := l.Pieces(0); !errors.As(err, &gap) || gap.From != 0 || gap.Start != l.Start() {
		t.Errorf("pieces from 0: %v", err)
	}
	if err := l.CopyPiece(io.Discard, pieces[0]); !errors.As(err, &gap) {
		t.Errorf("a piece that is gone: %v", err)
	}
	if _, _, err := readArchive(0, archive[1:]); !errors.As(err, &gap) || gap.From != 0 || gap.Start != pieces[1].From {
		t.Errorf("an archive without its beginning: %v", err)
	}
	if _, _, err := readArchive(0, append(archive[:1:1], archive[2:]...)); !errors.As(err, &gap) || gap.From != pieces[0].To {
		t.Errorf("an archive without its second piece: %v", err)
	}
}

// truncating is a writer that truncates and refills the log when it gets its first bytes.
type truncating struct {
	bytes.Buffer
	then func()
}

func (w *truncating) Write(b []byte) (int, error) {
	if w.then != nil {
		w.then()
		w.then = nil
	}
	return w.Buffer.Write(b)
}

// A segment that is being copied is not written over when it is given up meanwhile.
func TestTruncateDoesNotDisturbACopy(t *testing.T) {
	o := small(vfs.NewMem())
	o.SegmentSize = 3 << 20 // More than a copy reads ahead.
	l := openEmpty(t, o)
	defer l.Close()
	big := func(letter byte) []byte { return bytes.Repeat([]byte{letter}, 100_000) }
	fill := func(letter byte) {
		for range 60 {
			lsn, err := l.Append(big(letter))
			must(t, err)
			must(t, l.Wait(lsn))
		}
	}
	fill('a')
	pieces, err := l.Pieces(0)
	must(t, err)
	if !pieces[0].Closed {
		t.Fatal("the first segment is not full")
	}
	w := &truncating{then: func() {
		must(t, l.Truncate(l.Durable()))
		fill('b')
		must(t, l.Truncate(l.Durable()))
		fill('c')
	}}
	must(t, l.CopyPiece(w, pieces[0]))
	_, records, err := readArchive(0, [][]byte{w.Bytes()})
	must(t, err)
	for _, rec := range records {
		if !bytes.Equal(rec, big('a')) {
			t.Fatalf("a record begins with %q", rec[:1])
		}
	}
	if len(records) < 20 || len(l.reading) != 0 {
		t.Fatalf("%d records; %d readers are left", len(records), len(l.reading))
	}
}

func sumOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func TestDamagedPiecesAreRefusedWithThePlace(t *testing.T) {
	m, h := vfs.NewMem(), &history{}
	l := openEmpty(t, small(m))
	defer l.Close()
	h.fill(t, l, 3)
	_, archive := copies(t, l, 0)
	piece := archive[0]
	refused := func(what string, b []byte, from int) {
		t.Helper()
		_, _, err := readArchive(0, [][]byte{b})
		var damage *CorruptionError
		if !errors.As(err, &damage) || damage.File != "piece 0" || damage.Offset > int64(from) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for n := range piece {
		refused(fmt.Sprint("cut at ", n), piece[:n], n)
		flipped := bytes.Clone(piece)
		for bit := range 8 {
			flipped[n] ^= 1 << bit
			refused(fmt.Sprint("flipped at ", n), flipped, n)
			flipped[n] ^= 1 << bit
		}
	}
	refused("with something behind it", append(bytes.Clone(piece), 0), len(piece))
	refused("twice in one", append(bytes.Clone(piece), piece...), len(piece))
	future := bytes.Clone(piece)
	future[8] = 9
	le.PutUint32(future[56:], sumOf(future[:56]))
	if _, _, err := readArchive(0, [][]byte{future}); err == nil || !strings.Contains(err.Error(), "version 9; this build reads version 1") {
		t.Errorf("a piece of the future: %v", err)
	}
}

func TestADamagedLogIsNotArchived(t *testing.T) {
	m, h := vfs.NewMem(), &history{}
	l := openEmpty(t, small(m))
	defer l.Close()
	h.fill(t, l, 20)
	pieces, _ := copies(t, l, 0)
	edit(t, m, segmentPath(1), func(b []byte) { b[headerSize+frameHeader+1] ^= 1 })
	var damage *CorruptionError
	if err := l.CopyPiece(io.Discard, pieces[0]); !errors.As(err, &damage) || damage.Offset != headerSize {
		t.Errorf("error is %v", err)
	}
	full := errors.New("nobody takes it")
	if err := l.CopyPiece(failing{full}, pieces[1]); !errors.Is(err, full) {
		t.Errorf("error is %v", err)
	}
	if err := NewArchiveReader(0).Read("p", failing{full}, nil); !errors.Is(err, full) {
		t.Errorf("error is %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
func (f failing) Read([]byte) (int, error)  { return 0, f.err }

// Pieces are copied while writers write.
func TestArchivingBesideWriters(t *testing.T) {
	m := vfs.NewMem()
	o := small(m)
	o.SegmentSize = 32 << 10
	l := openEmpty(t, o)
	defer l.Close()
	var work sync.WaitGroup
	const writers, each = 4, 300
	for range writers {
		work.Go(func() {
			for i := range each {
				lsn, err := l.Append(record(i))
				if err == nil && i%3 == 0 {
					err = l.Wait(lsn)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	var archive [][]byte
	archived := LSN(0)
	upload := func() {
		pieces, more := copies(t, l, archived)
		if len(pieces) > 0 {
			archived, archive = pieces[len(pieces)-1].To, append(archive, more...)
		}
	}
	written := make(chan struct{})
	go func() {
		work.Wait()
		close(written)
	}()
	for done := false; !done; {
		upload()
		select {
		case <-written:
			done = true
		default:
		}
	}
	must(t, l.SyncTo(l.Appended()))
	upload()
	lsns, _, err := readArchive(0, archive)
	must(t, err)
	if len(lsns) != writers*each {
		t.Fatalf("%d records in the archive, want %d", len(lsns), writers*each)
	}
}

// A log may begin anywhere, and is a log like any other then.
func TestALogThatBeginsElsewhere(t *testing.T) {
	m, h := vfs.NewMem(), &history{}
	o := small(m)
	o.Start = 1_000_001
	l := openEmpty(t, o)
	if l.Start() != 1_000_008 || l.Durable() != l.Start() || l.Appended() != l.Start() {
		t.Fatalf("begins at %d, durable to %d", l.Start(), l.Durable())
	}
	h.fill(t, l, 30)
	if h.lsn[0] <= l.Start() {
		t.Fatalf("the first record ends at %d", h.lsn[0])
	}
	var gap *GapError
	if _, err := l.Pieces(0); !errors.As(err, &gap) || gap.Start != 1_000_008 {
		t.Errorf("pieces from 0: %v", err)
	}
	must(t, l.Close())
	o.Start = 5 // It exists: its positions stay.
	l, err := Open(o)
	must(t, err)
	if l.Start() != 1_000_008 {
		t.Errorf("begins at %d", l.Start())
	}
	first, next, err := contents(l)
	if first != 0 || next != 30 || err != nil {
		t.Errorf("records %d to %d, %v", first, next, err)
	}
	must(t, l.Close())
	if _, err := l.Pieces(1_000_008); !errors.Is(err, ErrClosed) {
		t.Errorf("pieces of a closed log: %v", err)
	}
}

// FuzzArchiveReader: whatever is in the bucket, it is read or refused, without more
// memory than it has bytes.
func FuzzArchiveReader(f *testing.F) {
	m, h := vfs.NewMem(), &history{}
	l := openEmpty(f, small(m))
	h.fill(f, l, 3)
	_, archive := copies(f, l, 0)
	must(f, l.Close())
	f.Add(archive[0])
	f.Add(archive[0][:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > pieceHeader {
			b = bytes.Clone(b)
			le.PutUint32(b[56:], sumOf(b[:56]))
		}
		a := NewArchiveReader(0)
		err := a.Read("piece", bytes.NewReader(b), func(payload []byte, end LSN) error {
			if PayloadStart(payload, end) > end {
				t.Fatalf("a payload of %d bytes ends at %d", len(payload), end)
			}
			return nil
		})
		if err == nil && a.End() == 0 {
			t.Fatal("a piece with nothing in it was accepted")
		}
	})
}
