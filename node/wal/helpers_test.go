package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/internal/vfs"
)

func TestMain(m *testing.M) { leak.Main(m) }

// record returns record number i: its number, and filler of a length that
// varies with it. A changed, missing or invented record is recognised.
func record(i int) []byte {
	b := append(strconv.AppendInt(nil, int64(i), 10), ':')
	return append(b, bytes.Repeat([]byte{'a' + byte(i%26)}, i*37%180)...)
}

// contents replays l and returns the numbers of its first record and of the
// one behind its last, having checked all in between.
func contents(l *Log) (first, next int, err error) {
	first = -1
	err = l.Replay(func(payload []byte, end LSN) error {
		for len(payload) > 0 {
			rec, rest, err := NextRecord(payload)
			if err != nil {
				return err
			}
			digits, _, _ := bytes.Cut(rec, []byte(":"))
			i, err := strconv.Atoi(string(digits))
			if err != nil || !bytes.Equal(rec, record(i)) {
				return fmt.Errorf("wrong record before position %d: %q", end, rec)
			}
			if first < 0 {
				first, next = i, i
			}
			if i != next {
				return fmt.Errorf("record %d follows %d", i, next-1)
			}
			next++
			payload = rest
		}
		return nil
	})
	return max(first, 0), next, err
}

// A history is what a test knows about a log: records 0 to appended-1 were
// tried, those below durable acknowledged, those below dropped given up.
type history struct {
	mu                         sync.Mutex
	appended, durable, dropped int
	lsn                        []LSN // of each appended record
}

func (h *history) change(f func(h *history)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

func (h *history) copy() *history {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &history{appended: h.appended, durable: h.durable, dropped: h.dropped}
}

// append adds the next record to l.
func (h *history) append(l *Log) error {
	n := len(h.lsn)
	h.change(func(h *history) { h.appended = n + 1 })
	lsn, err := l.Append(record(n))
	if err == nil {
		h.lsn = append(h.lsn, lsn)
	}
	return err
}

// wait waits for all records appended so far.
func (h *history) wait(l *Log) error {
	n := len(h.lsn)
	if n == 0 {
		return nil
	}
	err := l.Wait(h.lsn[n-1])
	if err == nil {
		h.change(func(h *history) { h.durable = n })
	}
	return err
}

// truncate gives up the records before number n.
func (h *history) truncate(l *Log, n int) error {
	h.change(func(h *history) { h.dropped = n })
	return l.Truncate(h.lsn[n-1])
}

// small is a log with segments that hold about five records.
func small(fsys vfs.FS) Options {
	return Options{FS: fsys, Dir: "wal", SegmentSize: minSegment}
}

// openEmpty opens a log that is expected to be new.
func openEmpty(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, next, err := contents(l); err != nil || next != 0 {
		t.Fatalf("a new log holds %d records, error %v", next, err)
	}
	return l
}

// fill appends and waits for records, in groups of varying size.
func (h *history) fill(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		must(t, h.append(l))
		if i%3 == 0 || i == n-1 {
			must(t, h.wait(l))
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ways of losing what was not synced
func keepNone() bool { return false }
func keepAll() bool  { return true }

func keepSome(seed uint64) func() bool {
	rng := rand.New(rand.NewPCG(seed, 7))
	return func() bool { return rng.IntN(2) == 0 }
}

// crashes returns disks as a crash of m may leave them.
func crashes(m *vfs.Mem, seed uint64) map[string]*vfs.Mem {
	return map[string]*vfs.Mem{
		"nothing kept":  m.CrashClone(keepNone),
		"all kept":      m.CrashClone(keepAll),
		"some kept":     m.CrashClone(keepSome(seed)),
		"others kept":   m.CrashClone(keepSome(seed + 1<<32)),
		"another third": m.CrashClone(keepSome(seed + 1<<33)),
	}
}

// crashes returns disks as a crash of m may leave them, and what is known of all of
// them. Operations come from two goroutines, so the other one may go on meanwhile:
// what was acknowledged is asked before, what was tried is asked after.
func (h *history) crashes(m *vfs.Mem, seed uint64) (known *history, disks map[string]*vfs.Mem) {
	durable := h.copy().durable
	disks = crashes(m, seed)
	known = h.copy()
	known.durable = durable
	return known, disks
}

// check opens the log on disk and holds it against what is known. It returns
// the range of records found.
func (h *history) check(disk vfs.FS) (first, next int, err error) {
	l, err := Open(small(disk))
	if err != nil {
		return 0, 0, err
	}
	first, next, err = contents(l)
	switch {
	case err != nil:
	case next < h.durable:
		err = fmt.Errorf("%d records were acknowledged, but only those before %d are there", h.durable, next)
	case next > h.appended:
		err = fmt.Errorf("%d records were appended, but there is a number %d", h.appended, next-1)
	case first > h.dropped:
		err = fmt.Errorf("records before %d were given up, but the log begins with %d", h.dropped, first)
	}
	return first, next, errors.Join(err, l.Close())
}

// checkAndGoOn is check, and then proves that the log works on: it takes more
// records, and still has them after the next crash.
func (h *history) checkAndGoOn(disk *vfs.Mem) error {
	_, next, err := h.check(disk)
	if err != nil {
		return err
	}
	l, err := Open(small(disk))
	if err != nil {
		return fmt.Errorf("second open: %w", err)
	}
	defer l.Close()
	if _, again, err := contents(l); err != nil || again != next {
		return fmt.Errorf("second open finds records up to %d, the first up to %d, error %w", again, next, err)
	}
	more := &history{dropped: h.dropped, lsn: make([]LSN, next)}
	for range 7 {
		if err := more.append(l); err != nil {
			return fmt.Errorf("append after recovery: %w", err)
		}
	}
	if err := more.wait(l); err != nil {
		return fmt.Errorf("wait after recovery: %w", err)
	}
	if _, _, err := more.check(disk.CrashClone(keepNone)); err != nil {
		return fmt.Errorf("after going on and another crash: %w", err)
	}
	return nil
}

// story is a small life of a log: records in groups, two clean restarts,
// truncation, recycled segments. It returns the first error. A full disk is
// asked again twice.
func story(fsys vfs.FS, h *history) error {
	for _, chapter := range []func(*Log, *history) error{chapterOne, chapterTwo, chapterThree} {
		if err := withLog(fsys, func(l *Log) error { return chapter(l, h) }); err != nil {
			return err
		}
	}
	return nil
}

func withLog(fsys vfs.FS, do func(*Log) error) (err error) {
	l, err := Open(small(fsys))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if _, _, err := contents(l); err != nil {
		return err
	}
	return do(l)
}

func chapterOne(l *Log, h *history) error { return group(l, h, 4, 1, 3, 2, 1) }

func chapterTwo(l *Log, h *history) error {
	if err := group(l, h, 5, 2, 6); err != nil {
		return err
	}
	if err := h.truncate(l, len(h.lsn)-4); err != nil {
		return err
	}
	return group(l, h, 3, 8, 2)
}

func chapterThree(l *Log, h *history) error {
	if err := group(l, h, 1); err != nil {
		return err
	}
	// Several segments are pending when they are given up.
	if err := appendOnly(l, h, 15); err != nil {
		return err
	}
	if err := h.truncate(l, len(h.lsn)); err != nil {
		return err
	}
	return appendOnly(l, h, 3)
}

// appendOnly appends records that nobody waits for.
func appendOnly(l *Log, h *history, n int) error {
	for range n {
		if err := patiently(func() error { return h.append(l) }); err != nil {
			return err
		}
	}
	return nil
}

// group appends groups of records and waits for each.
func group(l *Log, h *history, sizes ...int) error {
	for _, size := range sizes {
		if err := appendOnly(l, h, size); err != nil {
			return err
		}
		if err := h.wait(l); err != nil {
			return err
		}
	}
	return nil
}

// patiently tries again when the disk is full, as the log does by itself after
// a moment. Callers run in a bubble of synctest, where a moment is nothing.
func patiently(try func() error) error {
	err := try()
	for range 2 {
		if !errors.Is(err, ErrDiskFull) {
			break
		}
		<-time.After(retryPause)
		err = try()
	}
	return err
}
