package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"
)

// retryPause is how long a failed reservation is believed before the next
// Append tries again.
const retryPause = 100 * time.Millisecond

// stock keeps the segments reserved for later. At most one is ready; a
// goroutine makes the next while the log still writes the one before. All
// fields are guarded by Log.mu.
type stock struct {
	next     *segment      // reserved, or nil
	busy     chan struct{} // while a reservation runs; closed at its end
	failure  error         // of the last reservation
	failedAt time.Time
	recycled []string // names of dropped segments that may be written over
	names    int      // spare names handed out
}

func (s *stock) ready() bool { return s.next != nil }

func (s *stock) take() *segment {
	next := s.next
	s.next = nil
	return next
}

func (s *stock) newName() string {
	s.names++
	return spareName(s.names)
}

// refusal returns the last failure while there is no reason to try again: a
// full disk is not asked by every record.
func (s *stock) refusal() error {
	if s.ready() || s.busy != nil || s.failure == nil || len(s.recycled) > 0 || time.Since(s.failedAt) >= retryPause {
		return nil
	}
	if noSpace(s.failure) {
		return fmt.Errorf("%w: %w", ErrDiskFull, s.failure)
	}
	return fmt.Errorf("%w: %w", ErrNoSegment, s.failure)
}

// Full says that the disk had no room for the next segment when it was last asked for:
// appending is refused, or soon will be.
func (l *Log) Full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.stock.ready() && l.stock.failure != nil && noSpace(l.stock.failure)
}

// noSpace says whether freeing space would help.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// reserveNext starts reserving the next segment unless that is done or under
// way. Called with the lock.
func (l *Log) reserveNext() {
	s := &l.stock
	if s.ready() || s.busy != nil || errors.Is(l.refuse, ErrClosed) {
		return
	}
	busy := make(chan struct{})
	s.busy = busy
	var recycled string
	if n := len(s.recycled); n > 0 {
		recycled = s.recycled[n-1]
		s.recycled = s.recycled[:n-1]
	}
	fresh := s.newName()
	l.work.Go(func() {
		seg, err := l.reserve(recycled, fresh)
		l.mu.Lock()
		defer l.mu.Unlock()
		s.next, s.failure, s.failedAt, s.busy = seg, err, time.Now(), nil
		l.fastEnd = min(l.fastEnd, len(l.pend.buf)) // the limits have changed
		close(busy)
	})
}

// reserve makes the next segment of a dropped one's file, or of a fresh file.
func (l *Log) reserve(recycled, fresh string) (*segment, error) {
	if err := l.o.Points.Hit(pointReserve); err != nil {
		return nil, err
	}
	if seg, err := reuseSegment(l.o, recycled); err == nil && seg != nil {
		return seg, nil
	}
	return newSegment(l.o, fresh, l.o.SegmentSize)
}

// newSegment makes a file of the given size whose space is reserved.
func newSegment(o Options, name string, size int64) (*segment, error) {
	path := filepath.Join(o.Dir, name)
	file, err := o.FS.Create(path)
	if err != nil {
		return nil, fmt.Errorf("reserve the next segment: %w", err)
	}
	if err = file.Allocate(size); err == nil {
		err = file.Sync()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reserve the next segment: %w", err), file.Close(), o.FS.Remove(path))
	}
	return &segment{size: size, file: file, spare: name}, nil
}

// reuseSegment opens a dropped segment for another life. Its blocks have all
// been written, which is what makes it worth keeping.
func reuseSegment(o Options, name string) (*segment, error) {
	if name == "" {
		return nil, nil
	}
	path := filepath.Join(o.Dir, name)
	file, err := o.FS.Open(path)
	if err != nil {
		return nil, err
	}
	size, err := file.Size()
	if err != nil || size != o.SegmentSize {
		return nil, errors.Join(err, file.Close(), o.FS.Remove(path))
	}
	return &segment{size: size, file: file, spare: name, wet: size}, nil
}

// drop removes what is in stock.
func (s *stock) drop(o Options) error {
	var errs []error
	names := s.recycled
	if s.next != nil {
		errs = append(errs, s.next.file.Close())
		names = append(names, s.next.spare)
	}
	for _, name := range names {
		errs = append(errs, o.FS.Remove(filepath.Join(o.Dir, name)))
	}
	s.next, s.recycled = nil, nil
	return errors.Join(errs...)
}
