package wal

import (
	"fmt"
	"path/filepath"
)

// Truncate gives up the records below before, in whole segments: those that a
// snapshot covers. It makes them durable first, since the log must never end
// before a place where it once began. A mark in the log says what is given up
// before the first file goes, so that a missing file is never mistaken for a
// truncated one. Start tells where the log begins afterwards.
func (l *Log) Truncate(before LSN) error {
	l.admin.Lock()
	defer l.admin.Unlock()
	before = min(before, l.Appended())
	if err := l.SyncTo(before); err != nil {
		return err
	}
	l.mu.Lock()
	dropped, mark, err := l.markTruncation(before)
	l.mu.Unlock()
	if err != nil || len(dropped) == 0 {
		return err
	}
	if err := l.SyncTo(mark); err != nil {
		return err
	}
	if err := l.o.Points.Hit(pointTruncate); err != nil {
		return fmt.Errorf("wal: truncate: %w", err)
	}
	var recycled []string
	for _, seg := range dropped {
		name, err := l.discard(seg, len(recycled))
		if err != nil {
			return fmt.Errorf("wal: truncate: %w", err)
		}
		if name != "" {
			recycled = append(recycled, name)
		}
	}
	if err := l.o.Points.Hit(pointTruncated); err != nil {
		return fmt.Errorf("wal: truncate: %w", err)
	}
	// No sync of the directory: a name that a crash brings back lies before
	// the mark, and Open removes it unread.
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stock.recycled = append(l.stock.recycled, recycled...)
	l.stock.failure = nil // there is space again
	return nil
}

// markTruncation takes the segments that end at or before before out of the
// log, and appends the mark that says so.
func (l *Log) markTruncation(before LSN) (dropped segList, mark LSN, err error) {
	n := 0
	for n+1 < len(l.segs) && l.segs[n+1].start <= before {
		n++
	}
	if n == 0 {
		return nil, 0, nil
	}
	for l.refuse == nil && l.pend.nextFrame()+frameHeader+truncateMarkLen > l.segs.last().end()-frameHeader {
		if err := l.nextSegment(); err != nil {
			return nil, 0, err
		}
	}
	if l.refuse != nil {
		return nil, 0, l.refuse
	}
	cut := l.segs[n].start
	b := l.pend
	b.openFrame(l.segs.last(), true)
	b.buf = le.AppendUint64(b.buf, uint64(cut))
	b.finishFrame()
	l.fastEnd = 0
	l.oldest.Store(uint64(cut))
	dropped = l.segs[:n:n]
	l.segs = append(segList(nil), l.segs[n:]...)
	return dropped, b.end(), nil
}

// discard removes a segment, or keeps its file under a spare name. A file that is
// being copied is removed, not written over: its reader has it open.
func (l *Log) discard(seg *segment, kept int) (spare string, err error) {
	path := filepath.Join(l.o.Dir, segmentName(seg.number))
	l.mu.Lock()
	keep := kept+len(l.stock.recycled) < l.o.Recycle && seg.size == l.o.SegmentSize && l.reading[seg.number] == 0
	spare = l.stock.newName()
	l.mu.Unlock()
	if keep {
		return spare, l.o.FS.Rename(path, filepath.Join(l.o.Dir, spare))
	}
	return "", l.o.FS.Remove(path)
}
