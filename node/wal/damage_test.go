package wal

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
)

// A specimen is a small log, and what it holds.
type specimen struct {
	disk    *vfs.Mem
	records int
	last    int // records in frames before the last one
}

// makeSpecimen writes a log of three segments. If it is closed, its closing
// mark vouches for every record; if not, for all but the last group.
func makeSpecimen(t *testing.T, closed bool) specimen {
	m, h := vfs.NewMem(), &history{}
	l := openEmpty(t, small(m))
	for l.Stats().Segments < 3 {
		h.fill(t, l, 1)
	}
	h.fill(t, l, 2)
	last := h.durable
	must(t, h.append(l))
	must(t, h.append(l))
	must(t, h.wait(l))
	disk := m.CrashClone(keepNone)
	must(t, l.Close())
	if closed {
		disk = m.CrashClone(keepNone)
	}
	if n := l.Stats().Segments; n != 3 {
		t.Fatalf("%d segments", n)
	}
	return specimen{disk, len(h.lsn), last}
}

// edit changes bytes of a file.
func edit(t testing.TB, m *vfs.Mem, name string, change func([]byte)) {
	t.Helper()
	f, err := m.Open(name)
	must(t, err)
	size, err := f.Size()
	must(t, err)
	if size == 0 {
		return
	}
	b := make([]byte, size)
	_, err = f.ReadAt(b, 0)
	must(t, err)
	before := bytes.Clone(b)
	change(b)
	if !bytes.Equal(b, before) {
		_, err = f.WriteAt(b, 0)
		must(t, err)
	}
	must(t, f.Sync())
}

func cut(t testing.TB, m *vfs.Mem, name string, size int64) {
	t.Helper()
	f, err := m.Open(name)
	must(t, err)
	must(t, f.Truncate(size))
	must(t, f.Sync())
}

func segmentPath(number uint64) string { return filepath.Join("wal", segmentName(number)) }

// wantRefusal checks that err is a CorruptionError with all its parts.
func wantRefusal(t testing.TB, what string, err error, file string) {
	t.Helper()
	var c *CorruptionError
	if !errors.As(err, &c) {
		t.Errorf("%s: got %v, want a CorruptionError", what, err)
		return
	}
	if c.File != file || c.Reason == "" || c.Hint == "" || c.Offset < 0 || c.Offset > 1<<20 {
		t.Errorf("%s: %+v", what, c)
	}
}

func open(disk vfs.FS) (first, next int, err error) {
	return (&history{appended: 1 << 30, dropped: 1 << 30}).check(disk)
}

// usedEnd is the offset in the newest segment behind its last whole frame.
func usedEnd(t *testing.T, disk *vfs.Mem, number uint64) int64 {
	tail, err := readTail(small(disk), number)
	must(t, err)
	end := headerSize + int64(tail.end-tail.start)
	if tail.clean {
		end += frameHeader
	}
	return end
}

// Every bit of the log flips once. That is noticed, or harmless; in a log that
// was not closed, damage to the very last group looks like a torn write, and
// leaves exactly the records before it.
func TestFlipEveryBit(t *testing.T) {
	for _, closed := range []bool{true, false} {
		t.Run(fmt.Sprintf("closed=%v", closed), func(t *testing.T) {
			s := makeSpecimen(t, closed)
			noticed := 0
			for number := uint64(1); number <= 3; number++ {
				end := s.end(t, number)
				for off := int64(0); off < end; off++ {
					if off >= headerLen && off < headerSize-8 && off%97 != 0 {
						continue // dead space between header and frames
					}
					for bit := off % int64(stride(1, 5)); bit < 8; bit += int64(stride(1, 5)) {
						if s.flip(t, number, off, bit) {
							noticed++
						}
					}
				}
			}
			t.Logf("%d flips noticed", noticed)
		})
	}
}

// end is how much of a segment to damage.
func (s specimen) end(t *testing.T, number uint64) int64 {
	if number == 3 {
		return usedEnd(t, s.disk, number)
	}
	return minSegment
}

func (s specimen) flip(t *testing.T, number uint64, off, bit int64) (noticed bool) {
	t.Helper()
	disk := s.disk.CrashClone(keepNone)
	edit(t, disk, segmentPath(number), func(b []byte) { b[off] ^= 1 << bit })
	first, next, err := open(disk)
	what := fmt.Sprintf("segment %d, offset %d, bit %d", number, off, bit)
	switch {
	case err != nil:
		var future *VersionError
		if !errors.As(err, &future) {
			wantRefusal(t, what, err, segmentPath(number))
		}
		return true
	case first != 0 || next != s.records && next != s.last:
		t.Errorf("%s: records %d to %d, want %d or %d", what, first, next, s.records, s.last)
	case next == s.last && s.last != s.records && !s.lastFrame(t, number, off):
		t.Errorf("%s: the last group was cut off, but the damage is not in it", what)
	}
	return false
}

// lastFrame reports whether an offset lies in the last frame of a log that was
// not closed.
func (s specimen) lastFrame(t *testing.T, number uint64, off int64) bool {
	tail, err := readTail(small(s.disk), 3)
	must(t, err)
	return !tail.clean && number == 3 && off >= headerSize+int64(tail.durable-tail.start)
}

// The newest segment ends in zeros from every possible byte on, as after a
// torn write: exactly the records in whole frames before that byte are left.
// In a closed log only the mark may be missing.
func TestZeroTheTailFromEveryByte(t *testing.T) {
	s := makeSpecimen(t, false)
	ends := s.frameEnds(t)
	for from := int64(headerSize); from < usedEnd(t, s.disk, 3); from++ {
		disk := s.disk.CrashClone(keepNone)
		edit(t, disk, segmentPath(3), func(b []byte) { clear(b[from:]) })
		want := s.records
		for i := len(ends) - 1; i >= 0 && ends[i].dataEnd > from; i-- {
			want = ends[i].before
		}
		first, next, err := open(disk)
		if first != 0 || next != want || err != nil {
			t.Errorf("zeros from offset %d: records %d to %d, error %v; want those before %d", from, first, next, err, want)
		}
	}
}

type frameEnd struct {
	dataEnd int64 // offset behind the last byte that is not zero
	before  int   // records before the frame
}

// frameEnds lists the frames of segment 3.
func (s specimen) frameEnds(t *testing.T) (ends []frameEnd) {
	l, err := Open(small(s.disk.CrashClone(keepNone)))
	must(t, err)
	defer l.Close()
	start := l.segs[2].start
	n := 0
	must(t, l.Replay(func(payload []byte, end LSN) error {
		before := n
		size := int64(len(payload))
		for rest := payload; len(rest) > 0; n++ {
			if _, rest, err = NextRecord(rest); err != nil {
				return err
			}
		}
		if end > start {
			at := headerSize + int64(end-start) - alignUp(frameHeader+size)
			ends = append(ends, frameEnd{at + frameHeader + size, before})
		}
		return nil
	}))
	return ends
}

// A file that is shorter than it was when it got its name has lost bytes, at
// whatever boundary it ends.
func TestCutTheFileAtEveryByte(t *testing.T) {
	for _, closed := range []bool{true, false} {
		s := makeSpecimen(t, closed)
		for size := int64(0); size < minSegment; size += int64(stride(1, 7)) {
			disk := s.disk.CrashClone(keepNone)
			cut(t, disk, segmentPath(3), size)
			_, _, err := open(disk)
			wantRefusal(t, fmt.Sprintf("newest segment cut to %d bytes", size), err, segmentPath(3))

			disk = s.disk.CrashClone(keepNone)
			cut(t, disk, segmentPath(2), size)
			if _, next, err := open(disk); err == nil {
				if next != s.records {
					t.Errorf("segment 2 cut to %d bytes: records to %d", size, next)
				}
			} else if !strings.Contains(err.Error(), segmentName(2)) {
				t.Errorf("segment 2 cut to %d bytes: %v", size, err)
			}
		}
	}
}

// The remedy that the message offers for a file that was cut works.
func TestCutFileCanBeAccepted(t *testing.T) {
	s := makeSpecimen(t, false)
	ends := s.frameEnds(t)
	cut(t, s.disk, segmentPath(3), ends[len(ends)-1].dataEnd-1)
	_, _, err := open(s.disk)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("truncate -s %d wal/%s", minSegment, segmentName(3))) {
		t.Fatalf("the message does not say what to do: %v", err)
	}
	cut(t, s.disk, segmentPath(3), minSegment)
	if _, next, err := open(s.disk); next != s.last || err != nil {
		t.Errorf("records to %d, error %v; want %d", next, err, s.last)
	}
}

// Zeros in the middle, with whole frames behind: damage if one of those
// promises more, a write torn out of order if not.
func TestHoleInTheTail(t *testing.T) {
	m, h := vfs.NewMem(), &history{}
	o := small(m)
	o.SegmentSize = 16 << 10
	l := openEmpty(t, o)
	h.fill(t, l, 5)
	synced := l.Durable()
	must(t, l.Close())

	hole := func(m *vfs.Mem, from, to LSN) *vfs.Mem {
		m = m.CrashClone(keepNone)
		edit(t, m, segmentPath(1), func(b []byte) { clear(b[headerSize+from : headerSize+to]) })
		return m
	}
	_, _, err := open(hole(m, synced-8, synced))
	wantRefusal(t, "a hole before the closing mark", err, segmentPath(1))

	// Two frames that no sync has covered, the first of them lost.
	m, h = vfs.NewMem(), &history{}
	o.FS = m
	l = openEmpty(t, o)
	h.fill(t, l, 5)
	at := l.Durable()
	b := make([]byte, 64)
	encodeFrame(b[32:56], l.cur.seed, l.cur.offset(at+32), false, 32)
	must(t, l.cur.write(b, at, nil))
	must(t, l.cur.file.Sync())
	if _, next, err := open(m.CrashClone(keepNone)); next != 5 || err != nil {
		t.Errorf("a write torn out of order: records to %d, error %v", next, err)
	}
	must(t, l.Close())
}

func TestMissingSegments(t *testing.T) {
	for number := uint64(1); number <= 2; number++ {
		s := makeSpecimen(t, true)
		must(t, s.disk.Remove(segmentPath(number)))
		_, _, err := open(s.disk)
		wantRefusal(t, fmt.Sprintf("segment %d is gone", number), err, segmentPath(number))
		if err != nil && !strings.Contains(err.Error(), "missing") {
			t.Error(err)
		}
	}
}

func TestForeignSegments(t *testing.T) {
	t.Run("another log's", func(t *testing.T) {
		a, b := makeSpecimen(t, true), makeSpecimen(t, true)
		var foreign []byte
		edit(t, b.disk, segmentPath(2), func(content []byte) { foreign = bytes.Clone(content) })
		edit(t, a.disk, segmentPath(2), func(content []byte) { copy(content, foreign) })
		_, _, err := open(a.disk)
		wantRefusal(t, "a segment of another log", err, segmentPath(2))
	})
	t.Run("another segment's content", func(t *testing.T) {
		s := makeSpecimen(t, true)
		must(t, s.disk.Rename(segmentPath(1), segmentPath(2)))
		_, _, err := open(s.disk)
		wantRefusal(t, "a renamed segment", err, segmentPath(2))
	})
	t.Run("something else", func(t *testing.T) {
		for _, content := range []string{"", "hello", strings.Repeat("x", 10000)} {
			s := makeSpecimen(t, true)
			cut(t, s.disk, segmentPath(3), int64(len(content)))
			edit(t, s.disk, segmentPath(3), func(b []byte) { copy(b, content) })
			_, _, err := open(s.disk)
			wantRefusal(t, fmt.Sprintf("a file of %d bytes", len(content)), err, segmentPath(3))
		}
	})
	t.Run("other names are left alone", func(t *testing.T) {
		s := makeSpecimen(t, true)
		for _, name := range []string{"notes.txt", "1.wal", "0000000000000001.wal.bak", "x.wal"} {
			_, err := s.disk.Create(filepath.Join("wal", name))
			must(t, err)
		}
		_, next, err := open(s.disk)
		if next != s.records || err != nil {
			t.Errorf("records to %d, error %v", next, err)
		}
		names, err := s.disk.ReadDir("wal")
		must(t, err)
		for _, name := range []string{"notes.txt", "1.wal"} {
			if !strings.Contains(strings.Join(names, " "), name) {
				t.Errorf("%s was removed", name)
			}
		}
	})
}

func TestFutureVersion(t *testing.T) {
	s := makeSpecimen(t, true)
	edit(t, s.disk, segmentPath(3), func(b []byte) {
		h, err := decodeHeader(b)
		must(t, err)
		h.version = 2
		copy(b, h.encode())
	})
	_, _, err := open(s.disk)
	var future *VersionError
	if !errors.As(err, &future) || future.Version != 2 || future.File != segmentPath(3) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"version 2", "version 1"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

// A disk that cannot be read is not a log that is torn.
func TestReadErrorIsNotATornTail(t *testing.T) {
	s := makeSpecimen(t, false)
	reads := 0
	for n := 1; ; n++ {
		reads = 0
		fsys := vfs.Inject(s.disk.CrashClone(keepNone), func(op vfs.Op) error {
			if op.Kind == vfs.OpReadAt {
				if reads++; reads == n {
					return errors.New("the disk is ill")
				}
			}
			return nil
		})
		_, _, err := open(fsys)
		if reads < n {
			must(t, err)
			return
		}
		if err == nil || !strings.Contains(err.Error(), "the disk is ill") {
			t.Errorf("read %d fails: %v", n, err)
		}
	}
}

// The last group of a log that was not closed is vouched for by nothing. Once
// a recovery has written it again, it is.
func TestRecoveryVouchesForTheTail(t *testing.T) {
	s := makeSpecimen(t, false)
	l, err := Open(small(s.disk))
	must(t, err)
	if r := l.Stats().Recovery; r.Rewritten == 0 || r.Clean {
		t.Errorf("%+v", r)
	}
	disk := s.disk.CrashClone(keepNone)
	must(t, l.Close())
	number := l.cur.number
	edit(t, disk, segmentPath(number), func(b []byte) { b[headerSize+frameHeader] ^= 1 })
	before := disk.String()
	_, _, err = open(disk)
	wantRefusal(t, "damage to the group that was written again", err, segmentPath(number))
	if after := disk.String(); after != before {
		t.Errorf("a log that was refused was changed: %s, before %s", after, before)
	}
}
