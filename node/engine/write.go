package engine

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// Put writes the key and returns its new version.
func (s *Session) Put(pos ring.Position, key, value []byte, o PutOptions) (Version, error) {
	if len(key) > s.e.maxKey || len(value) > s.e.maxValue {
		return 0, ErrTooLarge
	}
	p := s.e.part(pos)
	p.mu.Lock()
	defer p.mu.Unlock()
	seg, err := p.admitWrite(pos)
	if err != nil {
		return 0, err
	}
	expireAt := o.ExpireAt
	if o.conditional() {
		entry, ok := s.find(p, seg, pos, key)
		if err := o.check(entry, ok); err != nil {
			return 0, err
		}
		if o.KeepExpiry {
			expireAt = entry.ExpireAt
		}
	}
	return s.put(p, seg, pos, key, value, expireAt)
}

// conditional says whether what is there now matters to the write.
func (o *PutOptions) conditional() bool {
	return o.KeepExpiry || o.IfAbsent || o.IfPresent || o.HasIfVersion || o.Old != nil
}

// check shows the caller what is there and refuses the write if it must not be.
func (o *PutOptions) check(e table.Entry, ok bool) error {
	if ok && o.Old != nil {
		if err := o.Old(item(e)); err != nil {
			return err
		}
	}
	switch {
	case o.IfAbsent && ok:
		return ErrExists
	case o.IfPresent && !ok:
		return ErrNotFound
	case o.HasIfVersion && Version(e.Version) != o.IfVersion:
		return &VersionError{Current: Version(e.Version)}
	}
	return nil
}

// Delete removes the key; old, if not nil, is given what was there first, and its
// error leaves it there. It says whether the key was there.
func (s *Session) Delete(pos ring.Position, key []byte, old func(Item) error) (bool, error) {
	p := s.e.part(pos)
	p.mu.Lock()
	defer p.mu.Unlock()
	seg, err := p.admitWrite(pos)
	if err != nil {
		return false, err
	}
	entry, ok := s.find(p, seg, pos, key)
	if !ok {
		return false, nil
	}
	if old != nil {
		if err := old(item(entry)); err != nil {
			return true, err
		}
	}
	return true, s.remove(p, seg, pos, key, true)
}

// Append adds to the end of the value (empty when absent), keeps its expiry, and
// returns the new length.
func (s *Session) Append(pos ring.Position, key, tail []byte) (int, error) {
	p := s.e.part(pos)
	p.mu.Lock()
	defer p.mu.Unlock()
	seg, err := p.admitWrite(pos)
	if err != nil {
		return 0, err
	}
	entry, ok := s.find(p, seg, pos, key)
	length := len(entry.Value) + len(tail)
	if len(key) > s.e.maxKey || length > s.e.maxValue {
		return 0, ErrTooLarge
	}
	if !ok {
		_, err := s.put(p, seg, pos, key, tail, 0)
		return length, err
	}
	return length, s.extend(p, seg, pos, key, tail, entry)
}

// put logs and applies a write.
func (s *Session) put(p *partition, seg *segment, pos ring.Position, key, value []byte, expireAt int64) (Version, error) {
	if s.e.full(len(key)+len(value)) && p.grows(pos, key, value) {
		return 0, ErrFull
	}
	version, err := s.e.clock.Next()
	if err != nil {
		return 0, err
	}
	err = s.append(p, entry{
		kind: putKind(expireAt), pos: pos, version: version, expireAt: expireAt, key: key, value: value,
	})
	if err != nil {
		return 0, err
	}
	p.put(seg, pos, key, value, version, expireAt)
	s.finish(p, pos, key, version)
	return version, nil
}

// grows says whether a value needs more memory than what the key has.
func (p *partition) grows(pos ring.Position, key, value []byte) bool {
	entry, ok := p.table.Get(pos, key)
	return !ok || len(value) > len(entry.Value)
}

// remove logs, if urgent in what a full log keeps in reserve, and applies the removal of
// a key that is there.
func (s *Session) remove(p *partition, seg *segment, pos ring.Position, key []byte, urgent bool) error {
	version, err := s.e.clock.Next()
	if err != nil {
		return err
	}
	err = s.appendAs(urgent, p, entry{kind: kindDelete, pos: pos, version: version, key: key})
	if err != nil {
		return err
	}
	p.remove(seg, pos, key)
	p.mourn(s.e.hub.tombLimit, pos, key, version)
	s.finish(p, pos, key, version)
	return nil
}

// touch logs and applies a new expiry of a key that is there.
func (s *Session) touch(p *partition, pos ring.Position, key []byte, expireAt int64) error {
	version, err := s.e.clock.Next()
	if err != nil {
		return err
	}
	err = s.append(p, entry{kind: kindTouch, pos: pos, version: version, expireAt: expireAt, key: key})
	if err != nil {
		return err
	}
	p.setMeta(pos, key, version, expireAt)
	s.finish(p, pos, key, version)
	return nil
}

// extend logs the tail alone, so that appending to a long value costs the log
// what was appended, and applies it.
func (s *Session) extend(p *partition, seg *segment, pos ring.Position, key, tail []byte, old table.Entry) error {
	if s.e.full(len(tail)) && len(tail) > 0 {
		return ErrFull
	}
	version, err := s.e.clock.Next()
	if err != nil {
		return err
	}
	s.value = append(append(s.value[:0], old.Value...), tail...)
	expireAt := old.ExpireAt
	err = s.append(p, entry{kind: kindAppend, pos: pos, version: version, key: key, value: tail})
	if err != nil {
		return err
	}
	p.put(seg, pos, key, s.value, version, expireAt)
	s.finish(p, pos, key, version)
	return nil
}

// append encodes the record into s.rec and puts it in the log. If it fails,
// nothing has happened and nothing will.
func (s *Session) append(p *partition, r entry) error { return s.appendAs(false, p, r) }

func (s *Session) appendAs(urgent bool, p *partition, r entry) error {
	s.rec = appendEntry(slices.Grow(s.rec[:0], maxEntryHead+len(r.key)+len(r.value)), r)
	var lsn wal.LSN
	var err error
	if urgent {
		lsn, err = s.e.log.AppendUrgent(s.rec)
	} else {
		lsn, err = s.e.log.Append(s.rec)
	}
	if err != nil {
		return logError(err)
	}
	p.wrote(r.pos, r.version, lsn)
	s.seen = max(s.seen, lsn)
	s.torn = true // until finish
	return nil
}

// finish ends what append began: memory has what the log has. A write that panics in
// between does not get here, see Torn.
func (s *Session) finish(p *partition, pos ring.Position, key []byte, version Version) {
	p.publish(pos, s.rec)
	if s.e.hub.active.Load() != 0 {
		s.e.hub.publish(p, pos, key, version)
	}
	s.torn = false
}

// logError makes the log's refusal one of ours.
func logError(err error) error {
	switch {
	case errors.Is(err, wal.ErrDiskFull), errors.Is(err, wal.ErrNoSegment):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errors.Is(err, wal.ErrTooLarge):
		return ErrTooLarge
	}
	return fmt.Errorf("engine: append to the log: %w", err)
}

// wrote makes later readers of the position wait for the record at lsn.
func (p *partition) wrote(pos ring.Position, version Version, lsn wal.LSN) {
	p.last, p.newest = lsn, max(p.newest, version)
	p.seen[seenSlot(pos)] = lsn
}

func (p *partition) put(seg *segment, pos ring.Position, key, value []byte, version Version, expireAt int64) {
	if !p.table.Put(pos, key, value, uint64(version), expireAt) {
		seg.keys++
	}
	p.sweep.expect(expireAt)
	p.note(pos, key, len(value))
}

// setMeta says whether the key is there.
func (p *partition) setMeta(pos ring.Position, key []byte, version Version, expireAt int64) bool {
	if !p.table.SetMeta(pos, key, uint64(version), expireAt) {
		return false
	}
	p.sweep.expect(expireAt)
	p.note(pos, key, 0)
	return true
}

func (p *partition) remove(seg *segment, pos ring.Position, key []byte) {
	if p.table.Delete(pos, key) {
		seg.keys--
		p.note(pos, key, 0)
	}
}

// publish gives the record to the moves that have copied its position already.
func (p *partition) publish(pos ring.Position, rec []byte) {
	for _, c := range p.captures {
		if c.passedBy(pos) {
			c.sink.Add(rec)
		}
	}
}
