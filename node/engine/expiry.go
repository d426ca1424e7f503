package engine

import (
	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/ring"
)

// Expire sets when the key expires, in unix milliseconds; a time that has passed
// deletes it. It says whether it did anything: the key is there and the condition held.
func (s *Session) Expire(pos ring.Position, key []byte, at int64, when ExpireWhen) (bool, error) {
	p := s.e.part(pos)
	p.mu.Lock()
	defer p.mu.Unlock()
	seg, err := p.admitWrite(pos)
	if err != nil {
		return false, err
	}
	entry, ok := s.find(p, seg, pos, key)
	if !ok || !when.holds(entry.ExpireAt, at) {
		return false, nil
	}
	if at <= s.e.clock.Now() {
		err = s.remove(p, seg, pos, key, true)
	} else {
		err = s.touch(p, pos, key, at)
	}
	return err == nil, err
}

// holds says whether an expiry may be changed to at.
func (w ExpireWhen) holds(current, at int64) bool {
	if current == 0 {
		current = never
	}
	switch w {
	case ExpireIfNone:
		return current == never
	case ExpireIfSome:
		return current != never
	case ExpireIfLater:
		return at > current
	case ExpireIfSooner:
		return at < current
	}
	return true
}

// Persist removes the key's expiry and says whether there was one.
func (s *Session) Persist(pos ring.Position, key []byte) (bool, error) {
	p := s.e.part(pos)
	p.mu.Lock()
	defer p.mu.Unlock()
	seg, err := p.admitWrite(pos)
	if err != nil {
		return false, err
	}
	entry, ok := s.find(p, seg, pos, key)
	if !ok || entry.ExpireAt == 0 {
		return false, nil
	}
	err = s.touch(p, pos, key, 0)
	return err == nil, err
}

// expire removes a key whose time has passed, for a reader (who is told) or for the
// sweeper, who tells nobody and leaves what a full log keeps in reserve alone.
func (s *Session) expire(p *partition, seg *segment, pos ring.Position, key []byte, urgent bool) error {
	if err := s.remove(p, seg, pos, key, urgent); err != nil {
		return err
	}
	s.e.expired.Add(1)
	return nil
}

// batch is a list of keys copied out of a walk, which must not change the table
// it walks over.
type batch struct {
	keys  []byte
	items []batchKey
}

type batchKey struct {
	pos ring.Position
	end int // where the key ends in keys
}

func (b *batch) reset() { b.keys, b.items = b.keys[:0], b.items[:0] }

func (b *batch) add(pos ring.Position, key []byte) {
	b.keys = append(b.keys, key...)
	b.items = append(b.items, batchKey{pos, len(b.keys)})
}

// each calls fn for each key, in the order of adding, until it fails.
func (b *batch) each(fn func(pos ring.Position, key []byte) error) error {
	start := 0
	for _, it := range b.items {
		if err := fn(it.pos, b.keys[start:it.end]); err != nil {
			return err
		}
		start = it.end
	}
	return nil
}

// restMillis is how long the sweeper leaves a partition alone after a pass that
// removed nothing.
const restMillis = 1000

// sweep is how far the search for expired keys has come in one partition.
//
// Invariant: an entry that expires before due has been found expired by a pass
// that could not remove it; while a pass runs, least covers what it has passed.
type sweep struct {
	due     int64 // no pass is needed before
	least   int64 // the earliest expiry met in the pass that is running
	next    ring.Position
	running bool
	reaped  bool
}

// expect notes an expiry that was set.
func (w *sweep) expect(expireAt int64) {
	if expireAt != 0 {
		w.due, w.least = min(w.due, expireAt), min(w.least, expireAt)
	}
}

// worthwhile is the share of expired entries, one in so many, at which the
// sweeper comes back soon. Below it, it strolls: memory held by the expired stays
// below about that share.
const worthwhile = 8

// sweepStep looks at about budget entries for expired ones and removes them. It
// returns how many it looked at, and whether going on soon is worthwhile.
func (s *Session) sweepStep(p *partition, now int64, budget int) (looked int, soon bool) {
	w := &p.sweep
	if !w.running {
		if now < w.due {
			return 0, false
		}
		*w = sweep{due: w.due, least: never, next: p.lo, running: true}
	}
	s.dead.reset()
	next, through := p.walk(w.next, p.hi, budget, func(pos ring.Position, e table.Entry) int {
		looked++
		switch {
		case e.ExpireAt == 0:
		case e.ExpireAt <= now && p.at(pos).state == owned:
			s.dead.add(pos, e.Key)
		default:
			w.least = min(w.least, e.ExpireAt)
		}
		return 1
	})
	w.next = next
	err := s.bury(p, false)
	w.reaped = w.reaped || len(s.dead.items) > 0
	if through || err != nil {
		w.finish(now, err)
	}
	return looked, err == nil && len(s.dead.items)*worthwhile > looked
}

// finish ends a pass. Where nothing could be removed, because it is not ours or
// because the log refuses, there is no point in looking again at once.
func (w *sweep) finish(now int64, err error) {
	w.running = false
	w.due = w.least
	if !w.reaped {
		w.due = max(w.due, now+restMillis)
	}
	if err != nil {
		w.due = now + restMillis
	}
}

// bury removes the expired keys that a walk has found, all in owned segments.
func (s *Session) bury(p *partition, urgent bool) error {
	return s.dead.each(func(pos ring.Position, key []byte) error {
		return s.expire(p, p.at(pos), pos, key, urgent)
	})
}
