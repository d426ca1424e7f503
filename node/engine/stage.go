package engine

import (
	"errors"
	"fmt"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// stageChunk is how many records StageApply applies under one hold of a lock.
const stageChunk = 64

// Stage prepares to receive a range: whatever is left there is wiped, and what
// comes stays invisible. Staging again starts again, unless the move is complete
// ([ErrComplete], with its range unharmed). [ErrFull] when there is no memory for a
// move: what was left there is gone then. [ErrConflict] when part of the range
// is owned, sealed or staged by another move.
//
// The caller lets one connection at a time speak for a move: Stage ends what an
// earlier one had begun, but cannot know who calls StageApply after it.
func (e *Engine) Stage(move string, r ring.Range) (wal.LSN, error) {
	h, lsn, err := e.beginStage(move, r)
	if err != nil {
		return 0, err
	}
	// Nobody sees or adds entries of the range before this returns, so other
	// ranges need not wait.
	s := e.NewSession()
	for _, pc := range pieces(r) {
		for through := false; !through; {
			through = s.purgeStep(&e.parts[pc.index], pc)
		}
	}
	h.ready.Store(true)
	if e.fullForMoves(0) {
		return 0, ErrFull
	}
	return lsn, nil
}

// beginStage logs the stage and takes the range.
func (e *Engine) beginStage(move string, r ring.Range) (*hold, wal.LSN, error) {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	if err := checkMove(move); err != nil || e.closed {
		return nil, 0, errors.Join(err, ErrConflict)
	}
	old := e.staged[move]
	switch {
	case old == nil:
	case old.r != r:
		return nil, 0, fmt.Errorf("%w: %s stages %s, not %s", ErrConflict, move, old.r, r)
	case old.complete:
		return nil, old.lsn, ErrComplete
	case !old.ready.Load():
		return nil, 0, fmt.Errorf("%w: %s is being prepared", ErrConflict, move)
	}
	free := func(s *segment) bool {
		return s.state == foreign || s.state == doomed || s.state == recovered || old != nil && s.hold == old
	}
	if !e.all(r, free) {
		return nil, 0, fmt.Errorf("%w: %s is in use and cannot be staged", ErrConflict, r)
	}
	lsn, err := e.logEvent(event{kind: kindStage, name: move, r: r})
	if err != nil {
		return nil, 0, err
	}
	h := newHold(move, r, HeldStaged)
	e.staged[move] = h
	e.setState(r, staging, h)
	return h, lsn, nil
}

// purgeStep frees leftovers of a range that is about to be received.
func (s *Session) purgeStep(p *partition, pc piece) (through bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, through = s.purge(p, pc.from, pc.to, walkChunk)
	return through
}

// StageApply applies what the source's sink was given, in order; the LSN is what
// to make durable before acknowledging. Input is checked whole before any of it
// is applied. A record that is not newer than what is here is passed over, so a
// batch that comes again, together with all that followed it, changes nothing. What
// there is no memory for is refused with [ErrFull]; it is freed by staging again, and
// by [Engine.Unstage].
func (e *Engine) StageApply(move string, records []byte) (wal.LSN, error) {
	h, err := e.receiving(move)
	if err != nil {
		return 0, err
	}
	newest, err := checkStream(records, h.r)
	if err != nil {
		return 0, err
	}
	if err := e.clock.plausible(newest); err != nil {
		return 0, err
	}
	if e.fullForMoves(len(records)) {
		return 0, ErrFull
	}
	e.clock.Observe(newest)
	var lsn wal.LSN
	s := e.NewSession()
	for rest := records; len(rest) > 0; {
		if rest, err = s.applyRun(h, rest); err != nil {
			return lsn, err
		}
		lsn = max(lsn, s.seen)
	}
	return lsn, nil
}

// receiving returns the hold of a move that takes records.
func (e *Engine) receiving(move string) (*hold, error) {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	h := e.staged[move]
	if h == nil {
		return nil, ErrUnknownMove
	}
	if h.complete || !h.ready.Load() {
		return nil, fmt.Errorf("%w: %s does not take records now", ErrConflict, move)
	}
	return h, nil
}

// checkStream decodes every record without applying it and returns the newest version.
func checkStream(records []byte, r ring.Range) (newest Version, err error) {
	for rest := records; len(rest) > 0; {
		var rec entry
		if rec, rest, err = decodeEntry(rest); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrRecord, err)
		}
		if !r.Contains(rec.pos) {
			return 0, fmt.Errorf("%w: position %s is not in %s", ErrRecord, rec.pos, r)
		}
		newest = max(newest, rec.version)
	}
	return newest, nil
}

// applyRun logs and applies the first records, as long as they lie in one
// partition, and returns the rest.
func (s *Session) applyRun(h *hold, records []byte) (rest []byte, err error) {
	pos, _ := entryPosition(records)
	p := s.e.part(pos)
	p.mu.Lock()
	defer p.mu.Unlock()
	for range stageChunk {
		rec, after, err := decodeEntry(records)
		if err != nil || rec.pos < p.lo || rec.pos > p.hi {
			break // Checked before: this is the end, or the next partition.
		}
		if err := s.applyStaged(p, h, rec, records[:len(records)-len(after)]); err != nil {
			return nil, err
		}
		records = after
	}
	return records, nil
}

// applyStaged logs and applies one record of a move's stream.
func (s *Session) applyStaged(p *partition, h *hold, rec entry, raw []byte) error {
	seg := p.at(rec.pos)
	if seg.hold != h || seg.state != staging {
		return fmt.Errorf("%w: %s does not take records any more", ErrConflict, h.move)
	}
	here, ok := p.table.Get(rec.pos, rec.key)
	switch {
	case ok && Version(here.Version) >= rec.version, !ok && rec.kind == kindDelete:
		return nil
	case !ok && rec.kind.needsBase():
		return fmt.Errorf("%w: %s changes a key that was not sent", ErrConflict, h.move)
	}
	lsn, err := s.e.log.Append(raw)
	if err != nil {
		return logError(err)
	}
	p.wrote(rec.pos, rec.version, lsn)
	s.seen = max(s.seen, lsn)
	return s.apply(p, seg, rec)
}

// StageComplete records that everything is here: the number of keys must match
// ([ErrCount]); hlc is the source's version at the seal, and every later version
// of this engine is newer. From then on requests for the range get a *HeldError.
// Idempotent.
func (e *Engine) StageComplete(move string, hlc Version, count uint64) (wal.LSN, error) {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	h := e.staged[move]
	switch {
	case h == nil:
		return 0, ErrUnknownMove
	case h.complete && (h.hlc != hlc || h.count != count):
		return 0, fmt.Errorf("%w: %s is complete with other figures", ErrConflict, move)
	case h.complete:
		return h.lsn, nil
	case !h.ready.Load():
		return 0, ErrConflict
	}
	if err := e.clock.plausible(hlc); err != nil {
		return 0, err
	}
	e.setState(h.r, staged, h) // From here on nothing is applied, so the count stands.
	lsn, err := e.complete(h, hlc, count)
	if err != nil {
		e.setState(h.r, staging, h)
		return 0, err
	}
	h.complete, h.hlc, h.count, h.lsn = true, hlc, count, lsn
	return lsn, nil
}

func (e *Engine) complete(h *hold, hlc Version, count uint64) (wal.LSN, error) {
	if here := e.count(h.r); here != count {
		return 0, fmt.Errorf("%w: %d here, %d at the source", ErrCount, here, count)
	}
	e.clock.Observe(hlc)
	return e.logEvent(event{kind: kindComplete, name: h.move, r: h.r, a: uint64(hlc), b: count})
}

// Activate serves a complete staged range. Only after reading in the document
// that this node owns it. Its record is a note for the next start, see [Engine.Unseal].
func (e *Engine) Activate(move string) (wal.LSN, error) {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	h := e.staged[move]
	if h == nil {
		return 0, ErrUnknownMove
	}
	if !h.complete {
		return 0, fmt.Errorf("%w: %s is not complete", ErrConflict, move)
	}
	lsn, err := e.logEvent(event{kind: kindActivate, name: move, r: h.r})
	if err != nil && !errors.Is(err, ErrReadOnly) {
		return 0, err
	}
	delete(e.staged, move)
	e.acquire(h.r, h.hlc)
	e.release(h, owned)
	return lsn, nil
}

// acquire notes that what happened to a range up to a version happened elsewhere: who
// comes with an older one cannot be told what was removed.
func (e *Engine) acquire(r ring.Range, hlc Version) {
	for _, pc := range pieces(r) {
		p := &e.parts[pc.index]
		p.mu.Lock()
		p.newest = max(p.newest, hlc) // It is in the log.
		p.arrive(pc.from, pc.to, hlc)
		p.mu.Unlock()
	}
}

// Unstage forgets a staged range, complete or not. Only after reading in the
// document that the move is gone. See [Engine.Drop] for a log that refuses.
func (e *Engine) Unstage(move string) (wal.LSN, error) {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	h := e.staged[move]
	if h == nil {
		return 0, ErrUnknownMove
	}
	delete(e.staged, move)
	return e.forget(h)
}
