package wal

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
)

func TestTruncate(t *testing.T) {
	m, h := vfs.NewMem(), &history{}
	o := small(m)
	o.Recycle = -1
	l := openEmpty(t, o)
	h.fill(t, l, 60)
	before := l.Stats().Segments
	must(t, l.Truncate(0))
	must(t, l.Truncate(1))
	if l.Start() != 0 || l.Stats().Segments != before {
		t.Fatalf("truncating nothing left %d of %d segments", l.Stats().Segments, before)
	}
	must(t, h.truncate(l, 40))
	if l.Start() == 0 || l.Start() > h.lsn[39] || h.lsn[39]-l.Start() > minSegment {
		t.Errorf("the log begins at %d; record 39 ends at %d", l.Start(), h.lsn[39])
	}
	if got := l.Stats().Segments; got >= before/2+2 {
		t.Errorf("%d of %d segments are left", got, before)
	}
	h.fill(t, l, 10)
	must(t, l.Close())

	l, err := Open(o)
	must(t, err)
	start := l.Start()
	first, next, err := contents(l)
	if err != nil || next != 70 || first == 0 || first > 40 || start == 0 {
		t.Errorf("records %d to %d from position %d, error %v", first, next, start, err)
	}
	must(t, l.Truncate(h.lsn[69]+1<<40))
	must(t, l.Close())
	if _, _, err = (&history{dropped: 70, appended: 70}).check(m); err != nil {
		t.Errorf("after truncating everything: %v", err)
	}
}

// After a truncation the first segment may be missing; the next may not.
func TestMissingSegmentAfterTruncate(t *testing.T) {
	m, h := vfs.NewMem(), &history{}
	l := openEmpty(t, small(m))
	h.fill(t, l, 60)
	must(t, h.truncate(l, 30))
	must(t, l.Close())
	names, err := m.ReadDir("wal")
	must(t, err)
	must(t, m.Remove(filepath.Join("wal", names[0])))
	_, _, err = h.check(m)
	wantRefusal(t, "the first segment left is gone", err, filepath.Join("wal", names[0]))
}

// Truncated segments come back as new ones, full of old frames at the very
// offsets where new ones would lie. None of them is ever seen again.
func TestRecycledSegmentsDoNotLeak(t *testing.T) {
	m := vfs.NewMem()
	o := small(m)
	o.Recycle = 3
	l := openEmpty(t, o)
	rec := func(generation byte) []byte { return bytes.Repeat([]byte{generation}, 40) }
	write := func(generation byte, n int) (lsn LSN) {
		for range n {
			var err error
			lsn, err = l.Append(rec(generation))
			must(t, err)
			must(t, l.Wait(lsn))
		}
		return lsn
	}
	reused := 0
	for generation := byte(1); generation < 20; generation++ {
		last := write(generation, 30)
		must(t, l.Truncate(last))
		write(generation+100, 3)
		if l.cur.wet == l.cur.size && l.cur.number > 2 {
			reused++
		}
		leakCheck(t, o, m.CrashClone(keepNone), generation)
	}
	if reused == 0 {
		t.Fatal("no segment was ever recycled")
	}
	must(t, l.Close())
	names, err := m.ReadDir("wal")
	must(t, err)
	if strings.Contains(strings.Join(names, " "), sparePrefix) {
		t.Errorf("spares are left: %q", names)
	}
}

// leakCheck opens a log and accepts only records of the last generations.
func leakCheck(t *testing.T, o Options, disk *vfs.Mem, generation byte) {
	t.Helper()
	o.FS = disk
	l, err := Open(o)
	must(t, err)
	defer l.Close()
	fresh := 0
	must(t, l.Replay(func(payload []byte, _ LSN) error {
		for len(payload) > 0 {
			rec, rest, err := NextRecord(payload)
			must(t, err)
			switch rec[0] {
			case generation + 100:
				fresh++
			case generation, generation + 99:
			default:
				t.Errorf("generation %d: a record of generation %d is back", generation, rec[0])
			}
			payload = rest
		}
		return nil
	}))
	if fresh != 3 {
		t.Errorf("generation %d: %d of 3 new records", generation, fresh)
	}
}

// Segments of another size than the log now uses are not recycled.
func TestRecyclingNeedsTheRightSize(t *testing.T) {
	m, h := vfs.NewMem(), &history{}
	l := openEmpty(t, small(m))
	h.fill(t, l, 30)
	must(t, l.Close())
	o := small(m)
	o.SegmentSize = 2 * minSegment
	l, err := Open(o)
	must(t, err)
	_, _, err = contents(l)
	must(t, err)
	must(t, h.truncate(l, 30))
	h.fill(t, l, 60)
	must(t, l.Close())
	if _, next, err := h.check(m); next != 90 || err != nil {
		t.Errorf("records to %d, error %v", next, err)
	}
}

// Segments that a failed truncation has left behind are removed by the next
// Open, unread.
func TestLeftoversOfTruncateAreRemoved(t *testing.T) {
	m, h := vfs.NewMem(), &history{}
	ill := errors.New("the disk is ill")
	o := small(vfs.Inject(m, func(op vfs.Op) error {
		if op.Kind == vfs.OpRemove {
			return ill
		}
		return nil
	}))
	o.Recycle = -1
	l := openEmpty(t, o)
	h.fill(t, l, 40)
	if err := h.truncate(l, 30); !errors.Is(err, ill) {
		t.Errorf("truncate: %v", err)
	}
	must(t, h.append(l))
	must(t, h.wait(l))
	l.Close() // cannot remove the spare either

	edit(t, m, segmentPath(1), func(b []byte) { clear(b) })
	first, next, err := h.check(m)
	if first == 0 || next != 41 || err != nil {
		t.Errorf("records %d to %d, error %v", first, next, err)
	}
	if _, err := m.Open(segmentPath(1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("segment 1 is still there: %v", err)
	}
}
