package engine

import (
	"errors"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/ring"
)

// walkChunk bounds how many entries are visited under one hold of a lock.
const walkChunk = 256

// Scan calls fn with up to about count entries in ring order from the cursor (0
// at first) and returns the cursor to go on with, 0 when the ring is through.
// Every key that is there from the first call to the last is given at least once.
// All keys of one position come in one page, so a page may be larger than count.
// Positions that are not owned are skipped; at a held range the page ends, and a
// page that would begin there returns its *HeldError without having called fn.
//
// The cursor is the first position not visited yet.
func (s *Session) Scan(cursor uint64, count int, fn func(Item)) (next uint64, err error) {
	return s.scan(cursor, count, fn, true)
}

// ScanOwned is Scan for a caller that walks the ring over several nodes: it does
// not skip. At a position that is not owned the page ends, and a page that would
// begin there returns ErrNotOwned.
func (s *Session) ScanOwned(cursor uint64, count int, fn func(Item)) (next uint64, err error) {
	return s.scan(cursor, count, fn, false)
}

func (s *Session) scan(cursor uint64, count int, fn func(Item), skip bool) (uint64, error) {
	if cursor > uint64(ring.MaxPosition) {
		return 0, ErrCursor
	}
	now, given := s.e.clock.Now(), 0
	for at := cursor; at <= uint64(ring.MaxPosition); {
		if given >= max(count, 1) {
			return at, nil
		}
		next, err := s.scanSegment(ring.Position(at), now, max(count, 1)-given, func(it Item) {
			given++
			fn(it)
		})
		switch {
		case err == nil || skip && errors.Is(err, ErrNotOwned):
			at = next
		case given > 0:
			return at, nil
		default:
			return cursor, err
		}
	}
	return 0, nil
}

// scanSegment gives fn up to about count entries of the segment that begins with
// or contains from, and returns the next position to visit (2^32 at the top).
func (s *Session) scanSegment(from ring.Position, now int64, count int, fn func(Item)) (uint64, error) {
	p := s.e.part(from)
	p.mu.Lock()
	defer p.mu.Unlock()
	end := p.at(from).end
	if _, err := p.admit(from); err != nil {
		return uint64(end) + 1, err
	}
	s.seen = max(s.seen, p.last)
	s.dead.reset()
	next, through := p.walk(from, end, min(count, walkChunk), func(pos ring.Position, e table.Entry) int {
		if e.ExpireAt != 0 && e.ExpireAt <= now {
			s.dead.add(pos, e.Key)
			return 1
		}
		fn(item(e))
		return 1
	})
	_ = s.bury(p, true) // A refusal changes nothing for the reader.
	if through {
		return uint64(end) + 1, nil
	}
	return uint64(next), nil
}
