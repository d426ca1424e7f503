// Package wal is Quoit's write-ahead log: opaque records in, the same records
// in the same order out after a crash, and none missing that was acknowledged.
//
// # What it promises
//
// Append copies a record into the log and returns its LSN, a position in bytes
// that only ever rises. When Wait (or SyncTo) returns nil for that LSN, the
// record and all before it are on disk: no kill and no power failure takes them
// back. Replay after the next Open delivers, in order, all records up to one
// point: at least everything that was durable, at most everything that was
// appended, never a record that was not, and never one without those before it.
//
//   - Writers share syncs. Whoever waits while nobody syncs takes the lead and
//     writes and syncs for all; the others gather the next group meanwhile.
//     There is no timer, and a single writer pays no goroutine switch.
//   - A write or sync that fails poisons the log: nothing more is accepted or
//     acknowledged, and the outcome of whatever was waiting is unknown. The
//     process should exit; the next Open finds out what is there.
//   - A full disk refuses records with ErrDiskFull and harms nothing that was
//     accepted: space is reserved before Append returns. Appending works again
//     once there is space, without a restart.
//   - What is durable can be copied out for an archive while the log is written
//     (Pieces, CopyPiece), and is read back without the log (ArchiveReader).
//   - A torn tail (bytes that no sync had covered when the power failed) is
//     cut. Any other damage is refused with a *CorruptionError that names the
//     file, the offset and what can be done; nothing is skipped, ever.
//
// # What it does not promise
//
// Under SyncInterval and SyncNever Wait does not wait, and a crash takes the
// last records back; still no more than a tail. And a file alone cannot prove
// that it once said more: when the last frame of a log that was not closed is
// damaged or zeroed exactly as a torn write would have left it, or the newest
// segment is deleted as a whole, Open sees a shorter log. See DESIGN.md.
//
// # Use
//
//	l, err := wal.Open(wal.Options{Dir: dir})
//	err = l.Replay(func(payload []byte, end wal.LSN) error { ... })
//	lsn, err := l.Append(record)
//	err = l.Wait(lsn) // now it may be acknowledged
//	err = l.Close()
//
// All methods may be called from any number of goroutines, but Replay comes
// first, once, and nothing follows Close. docs/wal-format.md draws the bytes.
package wal

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// LSN is a position in the endless log, in bytes. It rises across segments and
// restarts, and is never used twice for different records that were durable.
type LSN uint64

// String returns the position as a decimal number.
func (n LSN) String() string { return strconv.FormatUint(uint64(n), 10) }

// ParseLSN is the inverse of String.
func ParseLSN(s string) (LSN, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("wal: %q is not a log position", s)
	}
	return LSN(n), nil
}

// Errors that callers branch on; compare with errors.Is.
var (
	// ErrDiskFull: the record was not accepted and nothing has changed.
	ErrDiskFull = errors.New("wal: disk full")
	// ErrNoSegment: the same, because the next segment could not be made for
	// another reason, such as too many open files.
	ErrNoSegment = errors.New("wal: no segment to go on in")
	// ErrPoisoned: a write or sync has failed; what was waiting may be on disk or not.
	ErrPoisoned = errors.New("wal: poisoned by a failed write")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("wal: closed")
	// ErrTooLarge: the record is longer than Options.MaxRecord.
	ErrTooLarge = errors.New("wal: record too large")

	errNotReplayed = errors.New("wal: Append before Replay")
	errReplayed    = errors.New("wal: Replay called twice")
)

// CorruptionError says that the log is damaged: where, why this cannot be a
// torn tail, and what can be done.
type CorruptionError struct {
	File   string // path of the segment
	Offset int64  // where in it the first bad byte may be
	Reason string
	Hint   string
}

// Error returns everything in one line.
func (e *CorruptionError) Error() string {
	return fmt.Sprintf("wal: %s, offset %d: %s; %s", e.File, e.Offset, e.Reason, e.Hint)
}

// VersionError says that a segment was written in a format that this build
// does not read.
type VersionError struct {
	File    string
	Version uint32
}

// Error names both versions.
func (e *VersionError) Error() string {
	return fmt.Sprintf("wal: %s has format version %d; this build reads version %d: start the newer build that wrote it",
		e.File, e.Version, formatVersion)
}

// Log is an open write-ahead log.
type Log struct {
	o    Options
	id   uint64
	lock io.Closer

	durable atomic.Uint64 // <= written; everything below survives a power failure
	written atomic.Uint64 // <= pend.base; everything below survives the process
	oldest  atomic.Uint64 // the log begins here
	fault   atomic.Pointer[error]

	admin sync.Mutex // held by Truncate, and by Close at its end

	mu       sync.Mutex
	refuse   error   // why Append refuses: errNotReplayed, ErrClosed, the fault
	pend     *batch  // where records gather; its last frame is for the last of segs
	idle     *batch  // the other one, while no leader writes it
	inflight *batch  // the one being written
	leading  bool    // somebody has the right to write; inflight and cur are theirs
	fastEnd  int     // as long as pend stays shorter than this, a record needs no look around
	segs     segList // every segment of the log, oldest first
	stock    stock   // segments reserved for later
	reading  readers // who copies from which segment
	counts   Stats

	cur *segment // the one being written; the leader's

	wake, full, quit chan struct{} // for the background writer of the lazy modes
	commits          chan struct{} // holds the lead on its way to the committer
	work             sync.WaitGroup
	committer        sync.WaitGroup
	committing       bool // the committer has been started; guarded by mu
	closing          sync.Once
	closeErr         error
	free             sync.Pool // payload buffers for Replay
}

// Durable returns the position up to which records survive a power failure.
func (l *Log) Durable() LSN { return LSN(l.durable.Load()) }

// Written returns the position up to which records survive the process. It is
// at or after Durable.
func (l *Log) Written() LSN { return LSN(l.written.Load()) }

// Start returns the position where the log begins: 0, Options.Start, or where
// Truncate last cut it.
func (l *Log) Start() LSN { return LSN(l.oldest.Load()) }

// Appended returns the position behind the last record appended.
func (l *Log) Appended() LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pend.end()
}

// Err returns nil, or the error that poisoned the log.
func (l *Log) Err() error {
	if p := l.fault.Load(); p != nil {
		return *p
	}
	return nil
}

// Stats are counters since Open, and what recovery found.
type Stats struct {
	Records  uint64        // appended
	Bytes    uint64        // written, framing included
	Groups   uint64        // batches written
	Syncs    uint64        // of data; Records/Syncs is the group size
	SyncTime time.Duration // spent in them
	SyncMax  time.Duration // the slowest
	Segments int           // in the log now
	Pending  int           // bytes appended and not yet written
	Recovery Recovery
}

// Recovery tells what Open found.
type Recovery struct {
	Fresh     bool  // there was no log
	Clean     bool  // the log had been closed in order
	TornBytes int64 // bytes cut off behind the last whole frame
	Rewritten int64 // bytes written again, since nothing proved them synced
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.counts
	s.Segments = len(l.segs)
	s.Pending = len(l.pend.buf)
	return s
}

// Close writes and syncs what is pending, leaves the mark of an orderly end,
// and gives the directory back. Further calls return the same error. On a
// poisoned log it returns why.
func (l *Log) Close() error {
	l.closing.Do(func() { l.closeErr = l.close() })
	return l.closeErr
}

func (l *Log) close() error {
	l.mu.Lock()
	clean := l.refuse == nil
	if l.refuse == nil || errors.Is(l.refuse, errNotReplayed) {
		l.setRefuse(ErrClosed)
	}
	end := l.pend.end()
	l.mu.Unlock()
	close(l.quit)

	err := l.Err()
	if clean && err == nil {
		err = l.SyncTo(end)
	}
	if clean && err == nil {
		err = l.o.Points.Hit(pointClose)
	}
	if clean && err == nil {
		err = l.leaveMark()
	}
	l.work.Wait()
	l.admin.Lock()
	defer l.admin.Unlock()
	l.mu.Lock()
	for l.leading {
		l.await(l.roundDone())
	}
	close(l.commits) // nobody leads, so nobody hands the lead over
	l.mu.Unlock()
	l.committer.Wait()
	return errors.Join(err, l.release())
}

// leaveMark writes the closing mark. Its promise covers the whole log, since
// all of it has been synced.
func (l *Log) leaveMark() error {
	l.mu.Lock()
	l.pend.openFrame(l.segs.last(), true)
	end := alignUp(l.pend.end())
	l.mu.Unlock()
	return l.SyncTo(end)
}

// release gives back files, spares and the lock.
func (l *Log) release() error {
	err := l.stock.drop(l.o)
	for _, s := range l.segs {
		if s.file != nil {
			err = errors.Join(err, s.file.Close())
		}
	}
	return errors.Join(err, l.lock.Close())
}
