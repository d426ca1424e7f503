package engine

import (
	"fmt"
	"slices"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// SetOwnership makes this node the owner of exactly these ranges. Ranges that
// are sealed or staged keep their state: only [Engine.Unseal], [Engine.Drop],
// [Engine.Activate] and [Engine.Unstage] end those. A range that is no longer
// owned is hidden, not deleted: see [Engine.WipeForeign].
//
// The first call after [Open] decides what was recovered. From then on a range
// with leftovers is never taken over as it is: its entries could be older than
// what its last owner acknowledged. It stays hidden, all others are set, and the
// error is [ErrConflict]: wipe, then call again.
func (e *Engine) SetOwnership(own []ring.Range) error {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	if e.closed {
		return ErrConflict
	}
	var mine [partitions][]piece
	for _, r := range own {
		for _, pc := range pieces(r) {
			mine[pc.index] = append(mine[pc.index], pc)
		}
	}
	s, leftovers := e.NewSession(), 0
	var lost []ring.Range
	for i := range e.parts {
		leftovers += s.setOwnership(&e.parts[i], mine[i], &lost)
	}
	for _, r := range lost {
		e.hub.gone(r, 0)
	}
	e.hub.released()
	if leftovers > 0 {
		return fmt.Errorf("%w: %d keys are left from an earlier ownership", ErrConflict, leftovers)
	}
	return nil
}

// setOwnership decides one partition in one hold of its lock, so that no request
// finds it half decided. It returns how many keys of leftovers it left hidden, and adds
// to lost what was owned and is no more.
func (s *Session) setOwnership(p *partition, mine []piece, lost *[]ring.Range) (leftovers int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pc := range mine {
		p.carve(pc.from, pc.to)
	}
	for i := range p.segs {
		seg := &p.segs[i]
		isMine := slices.ContainsFunc(mine, func(pc piece) bool { return pc.from <= seg.end && seg.end <= pc.to })
		if isMine && seg.state == doomed {
			s.purgeAll(p, p.begin(i), seg.end)
			seg.state = foreign
		}
		was := seg.state
		seg.state = seg.after(isMine)
		switch {
		case was == owned && seg.state == foreign:
			*lost = addRange(*lost, ring.Range{Start: p.begin(i) - 1, End: seg.end})
		case was == foreign && seg.state == owned:
			// Whoever had it before may have removed what a watcher still has, until now.
			p.arrive(p.begin(i), seg.end, s.e.Version())
		}
		if isMine && seg.state == foreign {
			leftovers += seg.keys
		}
	}
	p.join()
	return leftovers
}

// after returns the state of a segment once the document has said whether it is ours.
func (s *segment) after(isMine bool) state {
	switch s.state {
	case owned, recovered:
		if isMine {
			return owned
		}
		return foreign
	case foreign:
		if isMine && s.keys == 0 {
			return owned
		}
	}
	return s.state
}

// WipeForeign durably forgets every entry that is neither owned, sealed nor
// staged. The caller has read the document that says who owns it. The LSN is
// zero when there was nothing to forget.
func (e *Engine) WipeForeign() (wal.LSN, error) {
	e.ranges.Lock()
	defer e.ranges.Unlock()
	if e.closed {
		return 0, ErrConflict
	}
	var lsn wal.LSN
	for _, r := range e.leftovers() {
		var err error
		if lsn, err = e.logEvent(event{kind: kindWipe, r: r}); err != nil {
			return 0, err
		}
		e.setState(r, doomed, nil)
	}
	return lsn, nil
}

// leftovers returns the foreign ranges that hold entries, neighbours merged.
// Their state cannot change meanwhile: ranges is held.
func (e *Engine) leftovers() []ring.Range {
	var found []ring.Range
	for i := range e.parts {
		p := &e.parts[i]
		p.mu.Lock()
		for j, seg := range p.segs {
			if seg.state == foreign && seg.keys > 0 {
				found = addRange(found, ring.Range{Start: p.begin(j) - 1, End: seg.end})
			}
		}
		p.mu.Unlock()
	}
	return found
}

// addRange adds the next range of a walk from 0 upwards.
func addRange(all []ring.Range, r ring.Range) []ring.Range {
	// From MaxPosition round to itself would be the whole ring by accident only
	// if everything is foreign, and then it is right.
	if n := len(all); n > 0 && all[n-1].End == r.Start {
		all[n-1].End = r.End
		return all
	}
	return append(all, r)
}

// setState gives every segment of a range a state. The caller holds ranges.
func (e *Engine) setState(r ring.Range, to state, h *hold) {
	for _, pc := range pieces(r) {
		e.parts[pc.index].setState(e.log, pc, to, h)
	}
	if to == doomed {
		e.upkeep.dooms.Store(true)
	}
}

func (p *partition) setState(log *wal.Log, pc piece, to state, h *hold) {
	p.mu.Lock()
	defer p.mu.Unlock()
	segs := p.carve(pc.from, pc.to)
	for i := range segs {
		was := segs[i].gone()
		segs[i].state, segs[i].hold = to, h
		if segs[i].keys > 0 && segs[i].gone() != was {
			p.last = log.Appended() // The record of it is in the log already.
		}
	}
	p.join()
}

// all says whether every segment that touches the range satisfies is. What it
// says stays true while the caller holds ranges.
func (e *Engine) all(r ring.Range, is func(*segment) bool) bool {
	for _, pc := range pieces(r) {
		if !e.parts[pc.index].all(pc, is) {
			return false
		}
	}
	return true
}

func (p *partition) all(pc piece, is func(*segment) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.allLocked(pc.from, pc.to, is)
}

func (p *partition) allLocked(from, to ring.Position, is func(*segment) bool) bool {
	for i := range p.segs {
		if p.segs[i].end >= from && p.begin(i) <= to && !is(&p.segs[i]) {
			return false
		}
	}
	return true
}

// count returns how many entries a range holds.
func (e *Engine) count(r ring.Range) uint64 {
	n := 0
	for _, pc := range pieces(r) {
		p := &e.parts[pc.index]
		p.mu.Lock()
		n += p.count(pc.from, pc.to)
		p.mu.Unlock()
	}
	return uint64(n)
}

// logEvent appends a range record, also to a disk that is full: these records are
// few, and moving data away must go on.
func (e *Engine) logEvent(ev event) (wal.LSN, error) {
	lsn, err := e.log.AppendUrgent(appendEvent(nil, ev))
	if err != nil {
		return 0, logError(err)
	}
	return lsn, nil
}
