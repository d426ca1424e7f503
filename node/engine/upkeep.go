package engine

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/ring"
)

const (
	// tickBudget is how many entries Run lets one Tick look at.
	tickBudget = 512
	// idleTick and busyTick are how long Run rests between ticks.
	idleTick = 100 * time.Millisecond
	busyTick = 2 * time.Millisecond
	// maintainBytes is what compaction may copy in one visit of a partition.
	maintainBytes = 16 << 10
)

// upkeep is where Tick goes on.
type upkeep struct {
	mu    sync.Mutex
	s     *Session
	next  int         // partition
	dooms atomic.Bool // a segment may be doomed
}

// Run calls [Engine.Tick] until the context ends, often while there is work and
// seldom while there is none.
func (e *Engine) Run(ctx context.Context) {
	timer := time.NewTimer(idleTick)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		rest := idleTick
		if e.Tick(tickBudget) {
			rest = busyTick
		}
		timer.Reset(rest)
	}
}

// Tick does a bounded step of upkeep: expired keys, dropped ranges, table growth
// and compaction. The budget is in entries looked at; more says that it is worth
// coming back soon.
func (e *Engine) Tick(budget int) (more bool) {
	u := &e.upkeep
	u.mu.Lock()
	defer u.mu.Unlock()
	more = e.freeDoomed(budget)
	now := e.clock.Now()
	for range partitions {
		if budget <= 0 {
			break
		}
		used, left := u.s.keep(&e.parts[u.next], now, min(budget, walkChunk))
		budget -= used
		more = more || left
		u.next = (u.next + 1) % partitions
	}
	return more
}

// keep sweeps and compacts a part of one partition.
func (s *Session) keep(p *partition, now int64, budget int) (used int, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	looked, worthwhile := s.sweepStep(p, now, budget)
	p.horizon = max(p.horizon, p.tombs.expire(versionAt(now-s.e.hub.o.Retention.Milliseconds())))
	compacts := p.table.Maintain(maintainBytes)
	return looked, worthwhile || compacts
}

// freeDoomed frees about budget entries of ranges that are no longer ours.
func (e *Engine) freeDoomed(budget int) (more bool) {
	u := &e.upkeep
	if !u.dooms.Swap(false) {
		return false
	}
	for i := range e.parts {
		for budget > 0 {
			freed, found := u.s.freeStep(&e.parts[i], walkChunk)
			if !found {
				break
			}
			budget -= freed + 1
		}
	}
	if budget <= 0 {
		u.dooms.Store(true)
	}
	return budget <= 0
}

// freeStep frees entries of the first doomed segment of a partition.
func (s *Session) freeStep(p *partition, budget int) (freed int, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.segs, func(seg segment) bool { return seg.state == doomed })
	if i < 0 {
		return 0, false
	}
	freed, through := s.purge(p, p.begin(i), p.segs[i].end, budget)
	if through {
		p.segs[i].state = foreign
		p.join()
	}
	return freed, true
}

// purge removes about budget entries of from..to, whole segments, from memory.
// The log knows already that they are gone.
func (s *Session) purge(p *partition, from, to ring.Position, budget int) (freed int, through bool) {
	if from == p.lo && to == p.hi {
		freed = p.table.Len()
		p.table.Release()
		if p.picture != nil {
			p.picture.reset()
		}
		for i := range p.segs {
			p.segs[i].keys = 0
		}
		return freed, true
	}
	s.dead.reset()
	_, through = p.walk(from, to, budget, func(pos ring.Position, e table.Entry) int {
		s.dead.add(pos, e.Key)
		return 1
	})
	_ = s.dead.each(func(pos ring.Position, key []byte) error {
		p.remove(p.at(pos), pos, key)
		return nil
	})
	return len(s.dead.items), through
}

// purgeAll removes all entries of from..to, whole segments, under one hold of the lock.
func (s *Session) purgeAll(p *partition, from, to ring.Position) {
	for through := false; !through; {
		_, through = s.purge(p, from, to, walkChunk)
	}
}
