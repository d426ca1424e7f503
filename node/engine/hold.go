package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// hold is a range that a move has taken out of ordinary service.
type hold struct {
	move     string
	r        ring.Range
	refusal  *HeldError    // what requests get, made once
	resolved chan struct{} // refusal.Resolved, closed when the hold ends
	lsn      wal.LSN       // of the record that made it (or made it complete)
	ready    atomic.Bool   // staged: what was left in the range is gone
	complete bool          // staged: everything is here
	hlc      Version       // of complete
	count    uint64        // of complete
	sealedAt Version       // sealed: newer than all that was written before; see Engine.sealVersion
}

func newHold(move string, r ring.Range, reason HeldReason) *hold {
	resolved := make(chan struct{})
	return &hold{
		move: move, r: r, resolved: resolved,
		refusal: &HeldError{Move: move, Reason: reason, Resolved: resolved},
	}
}

func (h *hold) public() HeldRange {
	return HeldRange{Move: h.move, Range: h.r, Complete: h.complete, HLC: h.hlc, Count: h.count}
}

// checkMove bounds what is written into records.
func checkMove(move string) error {
	if move == "" || len(move) > maxName {
		return fmt.Errorf("%w: a move's name has 1 to %d bytes, not %d", ErrConflict, maxName, len(move))
	}
	return nil
}

// Seal makes every read and write of the range return a *HeldError from the
// moment it returns; operations that had begun are through. The seal is in the
// log at the LSN: make it durable with the log's SyncTo before telling anyone.
// Idempotent for the same move and range. [ErrConflict] when the range is not
// all owned.
func (e *Engine) Seal(move string, r ring.Range) (wal.LSN, error) {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	if err := checkMove(move); err != nil {
		return 0, err
	}
	if h := e.sealed[move]; h != nil {
		if h.r != r {
			return 0, fmt.Errorf("%w: %s has sealed %s, not %s", ErrConflict, move, h.r, r)
		}
		return h.lsn, nil
	}
	if !e.all(r, func(s *segment) bool { return s.state == owned }) {
		return 0, fmt.Errorf("%w: seal of %s, which is not all owned", ErrConflict, r)
	}
	h := newHold(move, r, HeldSealed)
	// Memory first: a write is logged and applied under its partition's lock, so
	// every write that was let in has a place in the log before the seal's.
	e.setState(r, sealed, h)
	lsn, err := e.logEvent(event{kind: kindSeal, name: move, r: r})
	if err != nil {
		e.setState(r, owned, nil)
		close(h.resolved)
		return 0, err
	}
	h.lsn, h.sealedAt = lsn, e.Version()
	e.sealed[move] = h
	return lsn, nil
}

// SealVersion returns the version that divides what was written to a sealed range
// here from what will be written to it at its next owner: what the target is told to
// complete its stage with, and whoever watches to go on from.
func (e *Engine) SealVersion(move string) (Version, error) {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	h := e.sealed[move]
	if h == nil {
		return 0, ErrUnknownMove
	}
	return e.sealVersion(h), nil
}

// sealVersion makes the version of a seal that comes from the log. The caller holds ranges.
func (e *Engine) sealVersion(h *hold) Version {
	if h.sealedAt == 0 {
		h.sealedAt = e.Version()
	}
	return h.sealedAt
}

// Unseal makes the range owned again. Only after reading in the document that the
// move is gone and this node still owns the range. Its record is a note for the
// next start, which asks the document anyway: a full disk does not keep the range
// from serving.
func (e *Engine) Unseal(move string) (wal.LSN, error) {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	h := e.sealed[move]
	if h == nil {
		return 0, ErrUnknownMove
	}
	lsn, err := e.logEvent(event{kind: kindUnseal, name: move, r: h.r})
	if err != nil && !errors.Is(err, ErrReadOnly) {
		return 0, err
	}
	delete(e.sealed, move)
	e.release(h, owned)
	return lsn, nil
}

// Drop forgets a sealed range for ever: invisible at once, its memory freed by
// Tick. Only after reading in the document that someone else owns it. When the log
// refuses the record, the range is hidden all the same, and the error is returned:
// [Engine.WipeForeign] can forget it later.
func (e *Engine) Drop(move string) (wal.LSN, error) {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	h := e.sealed[move]
	if h == nil {
		return 0, ErrUnknownMove
	}
	delete(e.sealed, move)
	return e.forget(h)
}

// forget ends a hold by wiping its range. The caller holds ranges.
func (e *Engine) forget(h *hold) (wal.LSN, error) {
	lsn, err := e.logEvent(event{kind: kindWipe, name: h.move, r: h.r})
	if err != nil {
		e.release(h, foreign)
		return 0, err
	}
	e.release(h, doomed)
	return lsn, nil
}

// release ends a hold and lets waiting requests try again.
func (e *Engine) release(h *hold, to state) {
	e.setState(h.r, to, nil)
	close(h.resolved)
	if to != owned {
		e.hub.gone(h.r, h.sealedAt)
	}
	e.hub.released()
}

// Held returns the ranges that moves hold at this moment, in the order of their
// names.
func (e *Engine) Held() (sealed, staged []HeldRange) {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	return publicHolds(e.sealed), publicHolds(e.staged)
}

func publicHolds(holds map[string]*hold) []HeldRange {
	list := make([]HeldRange, 0, len(holds))
	for _, name := range slices.Sorted(maps.Keys(holds)) {
		list = append(list, holds[name].public())
	}
	return list
}
