package engine

import (
	"slices"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// walkBytes is about how much is copied for watchers under one hold of a lock.
const walkBytes = 64 << 10

// round visits every partition that somebody waits for, once for all of them, and
// says whether that brought anybody further. It looks at all of them first, which is
// enough for who needs nothing but what is in the ring, and tells what is not owned
// here; then it walks where that was not enough.
func (h *hub) round() (progress bool) {
	resolved := h.resolved.Swap(false)
	var claims [partitions][]*member
	some := false
	watchers := h.everybody()
	for _, w := range watchers {
		some = w.claim(&claims, resolved) || some
	}
	if !some {
		return false
	}
	promise := h.logged(false)
	lsn := h.e.log.Appended()
	for _, walk := range []bool{false, true} {
		for i := range claims {
			if len(claims[i]) > 0 {
				ps := &pass{h: h, p: &h.e.parts[i], claims: claims[i], promise: promise, promiseLSN: lsn}
				progress = ps.run(walk) || progress
			}
		}
		for _, w := range watchers {
			w.sayAway()
		}
	}
	return progress
}

// claim notes where the watcher's watches wait, if there is room for what they are
// told.
func (w *Watcher) claim(claims *[partitions][]*member, resolved bool) (some bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queued >= queueLimit {
		return false
	}
	for _, m := range w.order {
		if !m.needy {
			continue
		}
		m.needy = false
		for i := range m.pieces {
			p := &m.pieces[i]
			if p.state == held && resolved {
				p.state = waiting
			}
			m.needy = m.needy || p.state != live
			at := &claims[p.from/partitionSpan]
			if p.state == waiting && (len(*at) == 0 || (*at)[len(*at)-1] != m) {
				*at = append(*at, m)
				some = true
			}
		}
	}
	return some
}

// pass is one visit of a partition for all who wait for it.
type pass struct {
	h          *hub
	p          *partition
	claims     []*member
	promise    Version
	promiseLSN wal.LSN

	groups   map[*group]*share
	keys     map[string]*share
	prefixes map[string]*share
	lengths  []int
	tombs    bool // somebody wants to know what was removed
}

// share is what the members of one group have in common in a step.
type share struct {
	g       *group
	least   Version // of what has been told to any of them
	deletes bool    // somebody among them wants to know what was removed
	found   []*change
	next    uint64 // of the ring, at the step
}

// step is a part of a partition at one moment.
type step struct {
	from, to ring.Position
	state    state
	walked   bool // the shares have found what is there
	at       Version
	newest   Version
	horizon  Version
	acquired Version
	arrivals []arrival
	lsn      wal.LSN
}

// run goes through what somebody waits for, step by step.
func (ps *pass) run(walk bool) (progress bool) {
	for _, iv := range ps.gather() {
		for from, more := iv.from, true; more; {
			st := ps.step(from, iv.to, walk)
			for _, m := range ps.claims {
				progress = m.hand(ps, &st) || progress
			}
			from, more = st.to+1, st.to != iv.to
		}
	}
	return progress
}

// gather makes shares for the groups of who still waits here, and returns where they
// wait, in ring order.
func (ps *pass) gather() (where []piece) {
	ps.groups, ps.keys, ps.prefixes = map[*group]*share{}, map[string]*share{}, map[string]*share{}
	ps.lengths, ps.tombs = ps.lengths[:0], false
	for _, m := range ps.claims {
		m.w.mu.Lock()
		for i := m.find(ps.p.lo); i < len(m.pieces) && m.pieces[i].from <= ps.p.hi; i++ {
			p := &m.pieces[i]
			if p.state != waiting {
				continue
			}
			where = append(where, piece{from: p.from, to: p.to})
			s := ps.share(m.g, p.told)
			s.deletes = s.deletes || p.told > 0
			ps.tombs = ps.tombs || p.told > 0
		}
		m.w.mu.Unlock()
	}
	return merged(where)
}

func (ps *pass) share(g *group, told Version) *share {
	s := ps.groups[g]
	if s == nil {
		s = &share{g: g, least: told}
		ps.groups[g] = s
		if g.prefix {
			ps.prefixes[g.selector] = s
			if !slices.Contains(ps.lengths, len(g.selector)) {
				ps.lengths = append(ps.lengths, len(g.selector))
			}
		} else {
			ps.keys[g.selector] = s
		}
	}
	s.least = min(s.least, told)
	return s
}

// merged joins pieces that overlap or touch.
func merged(all []piece) []piece {
	slices.SortFunc(all, func(a, b piece) int { return int(int64(a.from) - int64(b.from)) })
	kept := all[:0]
	for _, p := range all {
		if n := len(kept); n > 0 && (p.from <= kept[n-1].to || p.from == kept[n-1].to+1) {
			kept[n-1].to = max(kept[n-1].to, p.to)
			continue
		}
		kept = append(kept, p)
	}
	return kept
}

// step takes the picture of a part that begins at from and lies in one segment.
func (ps *pass) step(from, to ring.Position, walk bool) step {
	p := ps.p
	p.mu.Lock()
	defer p.mu.Unlock()
	seg := p.at(from)
	st := step{from: from, to: min(to, seg.end), state: seg.state, walked: walk && seg.state == owned}
	for _, s := range ps.groups {
		clear(s.found)
		s.found = s.found[:0]
	}
	if st.walked {
		ps.collect(&st)
	}
	st.at = max(1, Version(ps.h.e.clock.last.Load()))
	st.newest, st.horizon, st.lsn = p.newest, p.horizon, p.last
	st.acquired, st.arrivals = p.acquired, p.arrivals
	for _, s := range ps.groups {
		s.next = s.g.end()
	}
	return st
}

// collect finds what is there, and what was removed, for all groups at once.
func (ps *pass) collect(st *step) {
	p, s := ps.p, ps.h.s
	now := ps.h.e.clock.Now()
	s.dead.reset()
	const cost = walkBytes / walkChunk // of an entry that nobody wants
	next, through := p.walk(st.from, st.to, walkBytes, func(pos ring.Position, e table.Entry) int {
		if e.ExpireAt != 0 && e.ExpireAt <= now {
			s.dead.add(pos, e.Key)
			return cost
		}
		if c := ps.offer(e.Key, Version(e.Version), false, func() *change { return putChange(pos, e) }); c != nil {
			return max(cost, c.size())
		}
		return cost
	})
	if !through {
		st.to = next - 1
	}
	_ = s.bury(p, false) // Where the log refuses, nobody sees them either.
	if !ps.tombs {
		return
	}
	p.tombs.each(func(d tomb) {
		if d.pos < st.from || d.pos > st.to {
			return
		}
		ps.offer(d.key, d.version, true, func() *change {
			if _, ok := p.table.Get(d.pos, d.key); ok {
				return nil // It was put again.
			}
			return &change{kind: changeDelete, pos: d.pos, version: d.version, key: slices.Clone(d.key), lsn: p.last}
		})
	})
}

// offer gives something to the shares that want it, made once.
func (ps *pass) offer(key []byte, version Version, removed bool, made func() *change) (c *change) {
	give := func(s *share) {
		if s == nil || version <= s.least || removed && !s.deletes {
			return
		}
		if c == nil {
			c = made()
		}
		if c != nil {
			s.found = append(s.found, c)
		}
	}
	if len(ps.keys) > 0 {
		give(ps.keys[string(key)])
	}
	for _, length := range ps.lengths {
		if length <= len(key) {
			give(ps.prefixes[string(key[:length])])
		}
	}
	return c
}

// hand gives a member what a step has found for it, and says whether that brought it
// further.
func (m *member) hand(ps *pass, st *step) (progress bool) {
	w := m.w
	w.mu.Lock()
	defer w.mu.Unlock()
	s := ps.groups[m.g]
	if s == nil || w.members[m.id] != m {
		return false
	}
	for from, more := st.from, true; more; {
		i := m.find(from)
		if i == len(m.pieces) || m.pieces[i].from > st.to {
			break
		}
		to := min(m.pieces[i].to, st.to)
		if m.pieces[i].state == waiting {
			progress = m.handPart(ps, st, s, i, max(from, m.pieces[i].from), to) || progress
		}
		from, more = to+1, to != st.to
	}
	if progress {
		w.handed()
	}
	return progress
}

// handed wakes the reader, and once more when what it was given is durable.
func (w *Watcher) handed() {
	h := w.h
	raise(&h.written, h.e.log.Appended()) // Before the pump can take the reader off the list.
	h.newsMu.Lock()
	h.handed = append(h.handed, w)
	h.newsMu.Unlock()
	knock(h.signal)
}

// handPart decides about a part of a waiting piece.
func (m *member) handPart(ps *pass, st *step, s *share, i int, from, to ring.Position) bool {
	p, x := m.pieces[i], m.pieces[i].of
	if x.promise == 0 {
		x.promise, x.lsn = ps.promise, ps.promiseLSN
	}
	switch st.state {
	case owned:
	case sealed, staged, recovered:
		m.put(i, wpiece{from: from, to: to, state: held, told: p.told, of: x})
		return true
	default:
		m.cut(ring.Range{Start: from - 1, End: to}, x.birth, func(part ring.Range, _ bool) { m.goesAway(x.asked, part) })
		return true
	}
	h := ps.h
	arrived := latest(st.arrivals, from, to)
	reached := p.told != 0 && p.told >= max(st.acquired, arrived) && m.reach(p.told)
	switch {
	case p.told == 0 && !x.state:
		m.live(i, from, to, st.at, s.next)
	case p.told == 0:
		return st.walked && m.tell(st, s, i, from, to)
	case p.told > st.at || p.told > h.newest && p.told < h.born || p.told < max(st.horizon, arrived) && !reached:
		m.restate(x)
	case p.told >= st.newest || reached:
		m.live(i, from, to, p.told, s.next)
	default:
		return st.walked && m.tell(st, s, i, from, to)
	}
	return true
}

// reach lets the member read the ring from behind a version on, if everything newer is
// still there. What the ring forgets from then on, the member notices.
func (m *member) reach(told Version) bool {
	g := m.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if told < g.floor {
		return false
	}
	m.cursor = min(m.cursor, g.after(told))
	return true
}

// live makes a part of a waiting piece live.
func (m *member) live(i int, from, to ring.Position, told Version, next uint64) {
	m.cursor = min(m.cursor, next)
	m.put(i, wpiece{from: from, to: to, state: live, told: told, end: next, of: m.pieces[i].of})
	m.unsettled = true
}

// tell queues what a step has found for a part, if there is room, and makes it live.
func (m *member) tell(st *step, s *share, i int, from, to ring.Position) bool {
	p, x := m.pieces[i], m.pieces[i].of
	if p.told < s.least || p.told > 0 && !s.deletes || !m.w.room() {
		return false // The walker comes again.
	}
	if p.told == 0 && !x.stated {
		x.stated = true
		m.enqueue(queued{kind: WatchState, r: x.r})
	}
	for _, c := range s.found {
		if c.pos < from || c.pos > to || c.version <= p.told || c.kind == changeDelete && p.told == 0 {
			continue
		}
		kind := WatchPut
		if c.kind == changeDelete {
			kind = WatchDelete
		}
		m.enqueue(queued{kind: kind, c: c, lsn: st.lsn})
	}
	m.live(i, from, to, st.at, s.next)
	return true
}

// room says whether something more may be queued.
func (w *Watcher) room() bool {
	if w.queued >= queueLimit {
		return false
	}
	b := w.h.o.Budget
	if b == nil || !b.Take(walkBytes) {
		return b == nil
	}
	b.Give(walkBytes)
	return true
}

// restate lets a range begin anew: what its watcher knows is too old to be brought up
// to date with what is remembered here. Its version counts no more: it may be newer
// than all that comes.
func (m *member) restate(x *watched) {
	x.state, x.stated, x.synced, x.since = true, false, false, 0
	for i := range m.pieces {
		if p := &m.pieces[i]; p.of == x {
			p.state, p.told = waiting, 0
		}
	}
	m.unsettled, m.needy = true, true
}

// goesAway notes that a part is not here. The parts are found partition by partition,
// and told as few when all have been, each a part of one range that was asked for.
func (m *member) goesAway(asked, part ring.Range) {
	if n := len(m.away); n > 0 && m.away[n-1].asked == asked && m.away[n-1].r.End == part.Start {
		m.away[n-1].r.End = part.End
		return
	}
	m.away = append(m.away, watched{r: part, asked: asked})
}

// sayAway queues what goesAway has noted.
func (w *Watcher) sayAway() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.order {
		for i := range m.away {
			m.enqueue(queued{kind: WatchMoved, r: m.away[i].r})
		}
		if len(m.away) > 0 {
			m.away = nil
			knock(w.wake)
		}
	}
}

// put replaces a part of piece i by another piece.
func (m *member) put(i int, part wpiece) {
	p := m.pieces[i]
	var parts []wpiece
	if p.from < part.from {
		left := p
		left.to = part.from - 1
		parts = append(parts, left)
	}
	parts = append(parts, part)
	if part.to < p.to {
		right := p
		right.from = part.to + 1
		parts = append(parts, right)
	}
	m.pieces = slices.Replace(m.pieces, i, i+1, parts...)
	if len(m.pieces) > m.foldAt {
		m.fold()
	}
}
