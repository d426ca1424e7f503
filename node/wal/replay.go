package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// Replay calls fn for every group of records in the log, oldest first, and
// then opens the log for appending. end is the position that this and the
// earlier calls cover. Iterate over the payload with NextRecord; PayloadStart
// leads to the LSN of each record.
//
// The payload belongs to fn: it may be handed to another goroutine, and given
// back with Release for reuse. An error from fn ends the replay and is
// returned; damage is returned as a *CorruptionError. Appending stays closed
// then.
func (l *Log) Replay(fn func(payload []byte, end LSN) error) error {
	l.mu.Lock()
	refuse, segs, end := l.refuse, slices.Clone(l.segs), l.pend.end()
	l.mu.Unlock()
	if refuse == nil {
		return errReplayed
	}
	if !errors.Is(refuse, errNotReplayed) {
		return refuse
	}
	for i, seg := range segs {
		segEnd := end
		if i+1 < len(segs) {
			segEnd = segs[i+1].start
		}
		if err := l.replaySegment(seg, segEnd, fn); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !errors.Is(l.refuse, errNotReplayed) {
		return l.refuse
	}
	l.setRefuse(nil)
	return nil
}

// replaySegment delivers the frames of seg up to end. Open has made sure that
// all of them were durable, so the first that is bad is damage.
func (l *Log) replaySegment(seg *segment, end LSN, fn func([]byte, LSN) error) error {
	name := filepath.Join(l.o.Dir, segmentName(seg.number))
	file, err := l.o.FS.Open(name)
	if err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	r := &frameReader{file: file, seed: seg.seed, off: headerSize, end: seg.offset(end)}
	for err == nil && r.off < r.end {
		err = l.replayFrame(r, seg, name, fn)
	}
	return errors.Join(err, file.Close())
}

func (l *Log) replayFrame(r *frameReader, seg *segment, name string, fn func([]byte, LSN) error) error {
	f, payload, ok, err := r.next()
	if err != nil {
		return fmt.Errorf("wal: read %s, offset %d: %w", name, r.off, err)
	}
	if !ok {
		return &CorruptionError{
			File: name, Offset: r.off, Hint: hintRestore,
			Reason: fmt.Sprintf("a bad frame; the log goes on to offset %d", r.end),
		}
	}
	if f.mark {
		return nil
	}
	own := append(l.buffer(len(payload)), payload...)
	return fn(own, seg.start+LSN(r.off-headerSize))
}

// buffer returns an empty slice with room for n bytes.
func (l *Log) buffer(n int) []byte {
	if b, ok := l.free.Get().(*[]byte); ok && cap(*b) >= n {
		return (*b)[:0]
	}
	return make([]byte, 0, n)
}

// Release takes a payload that Replay has delivered back, for reuse. The
// caller must not touch it any more.
func (l *Log) Release(payload []byte) { l.free.Put(&payload) }
