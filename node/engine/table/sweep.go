package table

const (
	// victimShare bounds what one sweep copies: the copies and the victims
	// exist side by side until a victim is empty.
	victimShare = 16
	// slotCost is what looking at a slot counts beside copying a byte.
	slotCost = 8
	// A change does sweepRate..maxSweepRate bytes of sweeping for each byte
	// it made dead, and minStep besides; never more than maxStep.
	minSweepRate = 4
	maxSweepRate = 16
	minStep      = 256
	maxStep      = 64 << 10
)

// sweep is compaction under way. It empties some chunks, the victims, by walking
// the index once around in ring order and moving every block it finds in one. A
// slot that slips behind the walk while pages are evened out is found on the
// next round: a sweep ends when the last victim is empty, not after a round.
type sweep struct {
	victims int
	at      cursor
	rate    int64 // see minSweepRate
	retry   int64 // dead bytes up to which looking for victims again is futile

	moved int64 // bytes ever copied
	seen  int64 // slots ever looked at
}

// pay does the housekeeping that a change owes which made so many bytes dead.
func (t *Table) pay(dead uint32) {
	if t.sweep.victims == 0 && !t.beginSweep() {
		return
	}
	t.sweepOn(min(maxStep, minStep+int64(dead)*t.sweep.rate))
}

// sweepDue reports whether it is time for another sweep.
func (t *Table) sweepDue() bool {
	return t.arena.wasteful() && t.arena.dead() > t.sweep.retry
}

// beginSweep chooses victims if a sweep is due, and reports whether there are any.
func (t *Table) beginSweep() bool {
	a := &t.arena
	if !t.sweepDue() {
		return false
	}
	a.forget()
	copying := t.chooseVictims()
	t.sweep.retry = 0
	if t.sweep.victims == 0 {
		if a.wasteful() {
			t.sweep.retry = a.dead() + chunkSize/2
		}
		return false
	}
	work := copying + int64(len(t.index.pages))*pageSlots*slotCost
	t.sweep.rate = min(maxSweepRate, max(minSweepRate, work*victimShare/max(1, a.used)))
	return true
}

// chooseVictims marks the chunks with the least live bytes, as many as a sweep
// may copy, and returns how many bytes that is. It gives chunks back that are
// empty already. It looks at a few bytes for each chunk, no more.
func (t *Table) chooseVictims() (copying int64) {
	a := &t.arena
	budget := max(chunkSize, a.used/victimShare)
	limit := a.worthEmptying(budget)
	for id := range a.meta {
		id, m := uint32(id), &a.meta[id] // Below maxChunks.
		if m.used == 0 || id == a.open || m.live > limit {
			continue
		}
		if m.live == 0 {
			a.freeChunk(id)
			continue
		}
		if m.worth() && copying+int64(m.live) <= budget {
			copying += int64(m.live)
			m.victim = true
			t.sweep.victims++
		}
	}
	return copying
}

// worth reports whether emptying the chunk gains a sixteenth of it.
func (m *chunkMeta) worth() bool { return m.live <= m.used-m.used/16 }

// worthEmptying returns a number of live bytes, such that the chunks with as many
// or fewer hold the budget together or a little more.
func (a *arena) worthEmptying(budget int64) uint32 {
	const step = chunkSize / 64
	var live [chunkSize/step + 1]int64
	for _, m := range a.meta {
		if m.worth() {
			live[m.live/step] += int64(m.live)
		}
	}
	for i, n := range live {
		if budget -= n; budget < 0 {
			return uint32(i+1) * step // At most a chunk and a step.
		}
	}
	return chunkSize
}

// sweepOn goes on with a sweep for so many bytes of work, or until it is done. It
// returns what is left of the budget.
func (t *Table) sweepOn(budget int64) (left int64) {
	s := &t.sweep
	for budget > 0 && s.victims > 0 {
		if s.at.page >= len(t.index.pages) {
			s.at = cursor{}
		}
		p := t.index.pages[s.at.page]
		for s.at.slot < pageSlots && budget > 0 {
			budget -= slotCost
			budget -= t.evacuate(&p[s.at.slot])
			s.at.slot++
			s.seen++
		}
		if s.at.slot == pageSlots {
			s.at = cursor{page: s.at.page + 1}
		}
	}
	return budget
}

// evacuate moves the block of a slot if it is in a victim, and returns how many
// bytes it copied.
func (t *Table) evacuate(s *slot) int64 {
	r := s.ref()
	if r == 0 || r&bigBit != 0 || !t.arena.meta[r.chunk()].victim {
		return 0
	}
	b := t.arena.at(r)
	units, _ := unitsOf(blockSizes(b))
	to, slack := t.arena.alloc(units)
	if to == 0 {
		e := blockEntry(b)
		*s = makeSlot(s.pos(), t.bigs.add(e.Key, e.Value, e.Version, e.ExpireAt))
	} else {
		copied := t.arena.at(to)
		copy(copied, b[:units*unit])
		setBlockSlack(copied, slack)
		*s = makeSlot(s.pos(), to)
	}
	t.dropBlock(r)
	t.sweep.moved += int64(units) * unit
	return int64(units) * unit
}

// dropBlock makes a block free, and gives its chunk back if that was the last
// block of a victim.
func (t *Table) dropBlock(r ref) {
	t.arena.drop(r)
	if m := t.arena.meta[r.chunk()]; m.victim && m.live == 0 {
		t.arena.freeChunk(r.chunk())
		t.sweep.victims--
	}
}
