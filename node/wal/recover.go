package wal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/quoitdb/quoit/internal/vfs"
)

// Open recovers the log in o.Dir, or starts a new one, and locks the directory
// against a second Open. It cuts a torn tail, and refuses damage with a
// *CorruptionError. What lies behind the last position that the log itself
// proves to have been synced is written again to a new segment: after a failed
// sync the page cache may show bytes that the disk does not have.
func Open(o Options) (*Log, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := makeDir(o.FS, o.Dir); err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	lock, err := o.FS.Lock(filepath.Join(o.Dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	l := &Log{
		o: o, lock: lock, pend: &batch{}, idle: &batch{}, refuse: errNotReplayed,
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), quit: make(chan struct{}), commits: make(chan struct{}, 1),
	}
	if err := l.recover(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if o.Sync != SyncAlways {
		l.work.Go(l.writeBehind)
	}
	return l, nil
}

// makeDir makes dir and its parents, durably.
func makeDir(fsys vfs.FS, dir string) error {
	parent := filepath.Dir(dir)
	_, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(fsys, parent); err != nil {
			return err
		}
		err = fsys.MkdirAll(dir)
	}
	if err != nil {
		return err
	}
	// An earlier process may have made dir and died before this. A parent
	// that is not ours to read is not ours to sync, nor is one above the folder
	// that vfs.Within has opened.
	if err := fsys.SyncDir(parent); !errors.Is(err, fs.ErrPermission) && !errors.Is(err, vfs.ErrOutside) {
		return err
	}
	return nil
}

// recover finds the segments, decides where the log ends, and opens a new
// segment for what comes.
func (l *Log) recover() error {
	numbers, err := l.listFiles()
	if err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	if len(numbers) == 0 {
		return l.begin()
	}
	t, err := readTail(l.o, numbers[len(numbers)-1])
	if err != nil {
		return err
	}
	l.id = t.log
	l.oldest.Store(uint64(t.oldest))
	left, err := l.chain(numbers, t.header)
	if err != nil {
		return err
	}
	l.counts.Recovery = Recovery{Clean: t.clean, TornBytes: t.torn, Rewritten: int64(t.end - t.durable)}
	if err := l.succeed(t); err != nil {
		return err
	}
	return l.removeSegments(left)
}

// listFiles returns the numbers of the segments, in order, and removes what
// was reserved for later and never used.
func (l *Log) listFiles() ([]uint64, error) {
	names, err := l.o.FS.ReadDir(l.o.Dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, name := range names {
		if number, ok := parseSegmentName(name); ok {
			numbers = append(numbers, number)
		} else if strings.HasPrefix(name, sparePrefix) {
			if err := l.o.FS.Remove(filepath.Join(l.o.Dir, name)); err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// begin starts a new log.
func (l *Log) begin() error {
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	l.id = le.Uint64(id[:])
	l.counts.Recovery = Recovery{Fresh: true}
	start := alignUp(l.o.Start)
	l.oldest.Store(uint64(start))
	return l.succeed(tail{header: header{log: l.id, start: start}, end: start, durable: start})
}

// chain walks back from the newest segment to where the log begins, and fails
// if one is missing or foreign. It returns the numbers of older segments that
// Truncate had given up.
func (l *Log) chain(numbers []uint64, newest header) (left []uint64, err error) {
	h := newest
	l.segs = segList{{number: h.number, start: h.start, size: h.size, seed: h.seed()}}
	i := len(numbers) - 1
	for ; h.start > l.Start(); i-- {
		if i == 0 || numbers[i-1] != h.number-1 {
			return nil, &CorruptionError{
				File: filepath.Join(l.o.Dir, segmentName(h.number-1)), Hint: hintMissing,
				Reason: fmt.Sprintf("this segment is missing; the log begins at position %d, the next segment at %d", l.Start(), h.start),
			}
		}
		before, err := readHeader(l.o, numbers[i-1])
		if err != nil {
			return nil, err
		}
		if before.log != h.log || before.start > h.start || before.start < l.Start() {
			return nil, &CorruptionError{
				File: filepath.Join(l.o.Dir, segmentName(before.number)), Hint: hintRestore,
				Reason: "this segment belongs to another log",
			}
		}
		h = before
		l.segs = slices.Insert(l.segs, 0, &segment{number: h.number, start: h.start, size: h.size, seed: h.seed()})
	}
	return numbers[:i], nil
}

// A tail is what the newest segment tells about the end of the log.
type tail struct {
	header
	end     LSN // behind the last whole frame; a closing mark does not count
	durable LSN // proven to have been synced
	torn    int64
	clean   bool
}

// readTail reads the newest segment to its end and decides whether that is the
// end of the log or damage.
func readTail(o Options, number uint64) (tail, error) {
	h, err := readHeader(o, number)
	if err != nil {
		return tail{}, err
	}
	name := filepath.Join(o.Dir, segmentName(number))
	file, err := o.FS.Open(name)
	if err != nil {
		return tail{}, fmt.Errorf("wal: %w", err)
	}
	t := tail{header: h, end: h.start, durable: h.synced}
	err = t.scan(file, name)
	if err = errors.Join(err, file.Close()); err != nil {
		return tail{}, err
	}
	return t, nil
}

func (t *tail) scan(file vfs.File, name string) error {
	size, err := file.Size()
	if err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	if size < t.size {
		return &CorruptionError{
			File: name, Offset: size,
			Reason: fmt.Sprintf("the file is %d bytes long, but was %d before its first use: its end is missing", size, t.size),
			Hint:   fmt.Sprintf("%s; to accept the loss of everything from this offset on: truncate -s %d %s", hintRestore, t.size, name),
		}
	}
	r := &frameReader{file: file, seed: t.seed(), off: headerSize, end: t.size}
	for !t.clean {
		f, payload, ok, err := r.next()
		if err != nil {
			return fmt.Errorf("wal: read %s: %w", name, err)
		}
		if !ok {
			return t.judge(r, name)
		}
		t.add(f, payload, t.position(r.off))
	}
	return nil
}

// position is the LSN of an offset in the segment.
func (t *tail) position(off int64) LSN { return t.start + LSN(off-headerSize) }

// add takes a whole frame that ends at end into account.
func (t *tail) add(f frame, payload []byte, end LSN) {
	at := end - LSN(f.size())
	t.durable = max(t.durable, at-LSN(f.unsynced))
	if f.mark && f.length == 0 {
		t.clean = true
		t.end = at
		return
	}
	if cut, ok := decodeTruncateMark(payload); f.mark && ok {
		t.oldest = max(t.oldest, cut)
	}
	t.end = end
}

// judge decides what a bad frame at r.off means. Only bytes that no sync had
// covered may be torn: if the header, or a whole frame further on, promises
// more, the disk has lost or changed what it had.
func (t *tail) judge(r *frameReader, name string) error {
	promised, reach, err := r.promiseBeyond(r.off)
	if err != nil {
		return fmt.Errorf("wal: read %s: %w", name, err)
	}
	if promised || t.durable > t.end {
		return &CorruptionError{
			File: name, Offset: r.off,
			Reason: "a bad frame, where the log itself says that it had been synced further",
			Hint:   hintRestore,
		}
	}
	t.torn = reach - r.off
	return nil
}

// succeed opens the segment in which the log goes on, and copies what the tail
// does not prove to be durable into it. The new segment gets its name only
// when it is whole. Where it takes over all of the newest segment, it takes
// its number too.
func (l *Log) succeed(t tail) error {
	number, before := t.number+1, len(l.segs) > 0
	if before && t.durable == t.start {
		number, before = t.number, false
		l.segs = l.segs[:len(l.segs)-1]
	}
	seg, err := firstSegment(l.o, l.stock.newName(), int64(t.end-t.durable))
	if err != nil {
		return err
	}
	h := header{
		version: formatVersion, log: l.id, number: number, size: seg.size,
		start: t.durable, synced: t.end, oldest: l.Start(),
	}
	seg.number, seg.start, seg.seed = h.number, h.start, h.seed()
	err = l.copyTail(t, seg)
	if err == nil {
		err = l.o.Points.Hit(pointRecover)
	}
	if err == nil {
		err = seg.publish(l.o, h)
	}
	if err == nil {
		err = l.o.Points.Hit(pointRecovered)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("wal: open a new segment: %w", err), seg.file.Close())
	}
	l.segs = append(l.segs, seg)
	l.cur = seg
	l.pend.base = t.end
	l.written.Store(uint64(t.end))
	l.durable.Store(uint64(t.end))
	if before {
		return l.shrink(t)
	}
	return nil
}

// firstSegment reserves a segment at Open. On a nearly full disk it makes do
// with a small one, so that the node can at least be read and emptied; all that
// it has beyond the least is for urgent records. It does not take all there is:
// others need a few bytes to start, too.
func firstSegment(o Options, name string, carry int64) (*segment, error) {
	least := roundSegment(minSegment + carry)
	size := max(o.SegmentSize, least)
	seg, err := newSegment(o, name, size)
	for extra := int64(urgentFloor); err != nil && errors.Is(err, syscall.ENOSPC) && extra >= 0; extra = smaller(extra) {
		if least+extra > size {
			continue
		}
		if seg, err = newSegment(o, name, least+extra); err == nil {
			seg.urgent = extra
		}
	}
	if err != nil && noSpace(err) {
		err = fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return seg, err
}

// smaller is half of what to try for next, then nothing, then an end.
func smaller(extra int64) int64 {
	switch {
	case extra == 0:
		return -1
	case extra <= 4<<10:
		return 0
	}
	return extra / 2
}

// copyTail writes the frames of t that are not proven durable into seg.
func (l *Log) copyTail(t tail, seg *segment) error {
	if t.end == t.durable {
		return nil
	}
	name := filepath.Join(l.o.Dir, segmentName(t.number))
	file, err := l.o.FS.Open(name)
	if err != nil {
		return err
	}
	from, to := headerSize+int64(t.durable-t.start), headerSize+int64(t.end-t.start)
	r := &frameReader{file: file, seed: t.seed(), off: from, end: to}
	for err == nil && r.off < to {
		err = copyFrame(r, name, seg, t.position(r.off))
	}
	return errors.Join(err, file.Close())
}

func copyFrame(r *frameReader, name string, seg *segment, at LSN) error {
	f, payload, ok, err := r.next()
	if err == nil && !ok {
		err = &CorruptionError{File: name, Offset: r.off, Reason: "no frame where the log was promised to be synced to", Hint: hintRestore}
	}
	if err != nil {
		return err
	}
	b := append(make([]byte, frameHeader, f.size()), payload...)
	encodeFrame(b, seg.seed, seg.offset(at), f.mark, uint32(at-seg.start))
	return seg.write(b[:f.size()], at, nil)
}

// shrink gives back the space behind the end of a segment that has a
// successor.
func (l *Log) shrink(t tail) error {
	file, err := l.o.FS.Open(filepath.Join(l.o.Dir, segmentName(t.number)))
	if err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	err = file.Truncate(headerSize + int64(t.durable-t.start))
	return errors.Join(err, file.Close())
}

// removeSegments deletes what Truncate had given up when the process ended.
func (l *Log) removeSegments(numbers []uint64) error {
	for _, number := range numbers {
		if err := l.o.FS.Remove(filepath.Join(l.o.Dir, segmentName(number))); err != nil {
			return fmt.Errorf("wal: %w", err)
		}
	}
	return nil
}
