package engine

import (
	"fmt"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// Session is one connection's view of an [Engine]: it remembers what the
// connection wrote and saw, so that Wait can cover it. One goroutine at a time.
//
// Operations on a key return [ErrNotOwned], a [*HeldError], and for writes
// [ErrReadOnly] or the log's error; with any of them nothing happened, and what
// a callback was given is void.
type Session struct {
	e     *Engine
	seen  wal.LSN // what Wait has to wait for
	rec   []byte  // the record being written
	value []byte  // the value being made
	torn  bool    // a write is in the log and not whole in memory
	dead  batch   // expired keys found by a scan or the sweeper
}

// Item is one entry. Key and Value are views, valid only inside the callback.
type Item struct {
	Key, Value []byte
	Version    Version
	// ExpireAt is in unix milliseconds; 0 means never.
	ExpireAt int64
}

// PutOptions are the conditions and the expiry of a write; zero means overwrite
// and never expire.
type PutOptions struct {
	// ExpireAt in unix milliseconds, 0 for none; KeepExpiry keeps what the key has.
	ExpireAt   int64
	KeepExpiry bool
	// IfAbsent and IfPresent refuse with ErrExists and ErrNotFound.
	IfAbsent, IfPresent bool
	// HasIfVersion: write only if the key's version is IfVersion (0: no key), else
	// refuse with a *VersionError.
	HasIfVersion bool
	IfVersion    Version
	// Old, if set, is given what was there before (not called when nothing was),
	// also when a condition then refuses the write. An error of it ends the write
	// before anything has happened, and is returned as it is.
	Old func(Item) error
}

// ExpireWhen is a condition of [Session.Expire].
type ExpireWhen uint8

// The conditions of [Session.Expire]; no expiry counts as infinitely late.
const (
	ExpireAlways ExpireWhen = iota
	ExpireIfNone
	ExpireIfSome
	ExpireIfLater
	ExpireIfSooner
)

// scratchLimit is the largest buffer that an idle session keeps.
const scratchLimit = 64 << 10

// Wait returns when everything this session wrote or saw is as durable as the
// log promises. Call it once for a batch, before its replies leave.
func (s *Session) Wait() error {
	s.trim()
	if s.seen == 0 {
		return nil
	}
	if err := s.e.log.Wait(s.seen); err != nil {
		return fmt.Errorf("engine: wait for the log: %w", err)
	}
	s.seen = 0
	return nil
}

// WaitLater is Wait for a caller that has other things to do: when it returns true,
// n is called as soon as Wait would have returned, and the session may go on.
func (s *Session) WaitLater(n *wal.Notice) (later bool, err error) {
	s.trim()
	if s.seen == 0 {
		return false, nil
	}
	if later, err = s.e.log.Notify(s.seen, n); err != nil {
		return false, fmt.Errorf("engine: wait for the log: %w", err)
	}
	s.seen = 0
	return later, nil
}

// trim gives back what a huge value has made grow.
func (s *Session) trim() {
	if cap(s.rec) > scratchLimit {
		s.rec = nil
	}
	if cap(s.value) > scratchLimit {
		s.value = nil
	}
}

// Seen returns the log position that Wait waits for, zero for none.
func (s *Session) Seen() wal.LSN { return s.seen }

// Torn says that a write of this session panicked between log and memory. Whoever
// recovers such a panic must end the process: memory is no longer what the log says.
func (s *Session) Torn() bool { return s.torn }

// see makes Wait cover what the session has learnt about a position.
func (s *Session) see(p *partition, pos ring.Position) {
	s.seen = max(s.seen, p.seen[seenSlot(pos)])
}

// Count is [Engine.Count], covered by Wait.
func (s *Session) Count() int {
	n := 0
	s.e.segments(func(p *partition, seg *segment) {
		s.seen = max(s.seen, p.last)
		if seg.visible() {
			n += seg.keys
		}
	})
	return n
}

func item(e table.Entry) Item {
	return Item{Key: e.Key, Value: e.Value, Version: Version(e.Version), ExpireAt: e.ExpireAt}
}

// find returns the entry that a reader may see. An expired one is removed first:
// its removal is in the log before anyone is told, on a full disk in what the log keeps
// in reserve. Where that is used up too, the entry is hidden all the same; then only a
// restart together with a wall clock that was set back could show it again.
func (s *Session) find(p *partition, seg *segment, pos ring.Position, key []byte) (table.Entry, bool) {
	entry, ok := p.table.Get(pos, key)
	if ok && entry.ExpireAt != 0 && entry.ExpireAt <= s.e.clock.Now() {
		_ = s.expire(p, seg, pos, key, true) // A refusal changes nothing for the reader.
		entry, ok = table.Entry{}, false
	}
	s.see(p, pos)
	return entry, ok
}

// Get calls fn with the entry, or returns ErrNotFound.
func (s *Session) Get(pos ring.Position, key []byte, fn func(Item)) error {
	p := s.e.part(pos)
	p.mu.Lock()
	defer p.mu.Unlock()
	seg, err := p.admit(pos)
	if err != nil {
		return err
	}
	entry, ok := s.find(p, seg, pos, key)
	if !ok {
		return ErrNotFound
	}
	fn(item(entry))
	return nil
}

// Exists says whether the key is there.
func (s *Session) Exists(pos ring.Position, key []byte) (bool, error) {
	p := s.e.part(pos)
	p.mu.Lock()
	defer p.mu.Unlock()
	seg, err := p.admit(pos)
	if err != nil {
		return false, err
	}
	_, ok := s.find(p, seg, pos, key)
	return ok, nil
}
