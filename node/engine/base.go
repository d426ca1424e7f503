package engine

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// Base is a finished [Checkpoint] to start from, with the log behind it.
//
// The log must reach back to the least cut of the base and forward to its newest.
// Where the disk was lost, Archive fills in between base and log, and the log is a
// new one with wal.Options.Start at the archive's end; the next checkpoint makes
// the archive unnecessary.
type Base struct {
	// State is what [State.Encode] returned.
	State []byte
	// Load returns the entries of a partition as [Checkpoint.Partition] delivered
	// them. It is called from several goroutines, once for each partition; key and
	// value are views until the next entry. The first error ends the start.
	Load func(partition int) iter.Seq2[Entry, error]
	// Archive, if set, calls fn with the records of the log behind from, as
	// [wal.ArchiveReader] does, and returns up to where it has them all. fn keeps
	// the payload.
	Archive func(from wal.LSN, fn func(payload []byte, end wal.LSN) error) (end wal.LSN, err error)
}

// loadedBase is a base that fits its log; with the zero State, none.
type loadedBase struct {
	State
	load    func(int) iter.Seq2[Entry, error]
	archive func(wal.LSN, func([]byte, wal.LSN) error) (wal.LSN, error)
	log     *wal.Log
}

// open reads the state and compares it with the log. b may be nil.
func (b *Base) open(log *wal.Log) (*loadedBase, error) {
	l := &loadedBase{log: log}
	if b == nil {
		return l, l.reaches(0)
	}
	s, err := DecodeState(b.State)
	if err != nil {
		return nil, err
	}
	if b.Load == nil {
		return nil, fmt.Errorf("%w: nothing says how to load it", ErrBase)
	}
	l.State, l.load, l.archive = *s, b.Load, b.Archive
	if l.archive == nil {
		err = l.reaches(s.MinCut())
	}
	return l, errors.Join(err, l.endsAfter(s.LSN))
}

// reaches refuses a log that begins behind what is known from elsewhere.
func (l *loadedBase) reaches(known wal.LSN) error {
	if start := l.log.Start(); start > known {
		return fmt.Errorf("the log begins behind what its base has: %w", &wal.GapError{From: known, Start: start})
	}
	return nil
}

// endsAfter refuses a log that is shorter than its base: new records would get
// positions that the base claims to contain.
func (l *loadedBase) endsAfter(known wal.LSN) error {
	if end := l.log.Appended(); end < known {
		return fmt.Errorf("%w: the log ends at position %d, but was at %d when the base was made: it is another log, or has lost its end",
			ErrBase, end, known)
	}
	return nil
}

// archived feeds the records between base and log.
func (l *loadedBase) archived(feed func([]byte, wal.LSN) error) error {
	if l.archive == nil {
		return nil
	}
	end, err := l.archive(l.MinCut(), feed)
	if err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	return errors.Join(l.reaches(end), l.endsAfter(end))
}

// ledger returns the ledger of the base.
func (l *loadedBase) ledger() *ledger {
	led := &ledger{mark: l.Mark, sealed: map[string]HeldRange{}, staged: map[string]HeldRange{}}
	for _, h := range l.Sealed {
		led.sealed[h.Move] = h
	}
	for _, h := range l.Staged {
		led.staged[h.Move] = h
	}
	return led
}

// load fills the worker's own partitions from the base.
func (w *replayWorker) load() error {
	base := w.replay.base
	if base.load == nil {
		return nil
	}
	w.newest = base.HLC
	for i := w.index; i < partitions; i += len(w.replay.workers) {
		if w.replay.failed.Load() {
			return nil // Another worker says why.
		}
		if err := w.s.e.parts[i].load(base.load(i), base.HLC); err != nil {
			return fmt.Errorf("partition %d of the base: %w", i, err)
		}
		p := &w.s.e.parts[i]
		p.last, p.newest, p.horizon = base.Cuts[i], base.HLC, base.HLC
	}
	return nil
}

// load fills an empty partition.
func (p *partition) load(entries iter.Seq2[Entry, error], hlc Version) error {
	order := entryOrder{lo: p.lo, hi: p.hi, hlc: hlc}
	for e, err := range entries {
		if err == nil {
			err = order.check(&e)
		}
		if err != nil {
			return err
		}
		p.put(&p.segs[0], e.Position, e.Key, e.Value, e.Version, e.ExpireAt)
	}
	return nil
}

// entryOrder refuses what no checkpoint has delivered.
type entryOrder struct {
	lo, hi ring.Position
	hlc    Version
	began  bool
	pos    ring.Position // of the entry before
	key    []byte
}

func (o *entryOrder) check(e *Entry) error {
	order := 1
	if o.began && e.Position <= o.pos {
		order = cmp.Or(cmp.Compare(e.Position, o.pos), bytes.Compare(e.Key, o.key))
	}
	var reason string
	switch {
	case e.Position < o.lo || e.Position > o.hi:
		reason = "is not of this partition"
	case order == 0:
		reason = "is there twice"
	case order < 0:
		reason = "is out of order"
	case e.Version == 0 || e.Version > o.hlc:
		reason = "has a version that is newer than the base, or none"
	case e.ExpireAt < 0:
		reason = "has a negative expiry"
	default:
		o.began, o.pos, o.key = true, e.Position, append(o.key[:0], e.Key...)
		return nil
	}
	return fmt.Errorf("%w: the entry at position %s with version %s %s", ErrBase, e.Position, e.Version, reason)
}

// MinCut returns the least cut: the log from here on belongs to the checkpoint,
// what lies before can be dropped once it is published.
func (s *State) MinCut() wal.LSN { return slices.Min(s.Cuts[:]) }
