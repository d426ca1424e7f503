package engine

import (
	"slices"
	"sort"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// member is one watch: what it is told comes from a queue, which the walker fills,
// and from the ring of its group. All but g is guarded by the Watcher's mu.
//
// For each position it knows the version up to which it has told: changes of a live
// piece that are not newer are passed over, so it does no harm to read a part of the
// ring again. Within a partition versions rise along the ring, so one version for a
// piece is enough.
type member struct {
	w  *Watcher
	id int64
	g  *group

	cursor    uint64
	pieces    []wpiece // in ring order from 0, disjoint
	ranges    []*watched
	q         []queued
	away      []watched // what is not here, to be queued
	told      Version   // by WatchProgress
	next      progress  // to be told when all before it has been read; version 0: none
	needy     bool      // a piece may be waiting or held
	unsettled bool      // a range may have become synced
	foldAt    int       // pieces from which on it is worth looking for neighbours alike
}

// watched is a range as it was asked for, or what is left of it.
type watched struct {
	r       ring.Range
	asked   ring.Range // it was
	state   bool       // what is there is told where nothing is known
	stated  bool       // and that this is so has been said
	synced  bool       // has been said
	since   Version    // what was known at first
	promise Version    // what will have been told when it is live
	lsn     wal.LSN    // of promise
	birth   uint64     // what lies before this in the ring does not end it
}

// wpiece is a part of a watched range that lies in one partition.
type wpiece struct {
	from, to ring.Position
	state    pieceState
	told     Version // all changes up to it have been told, or are queued
	end      uint64  // in the ring, when it became live
	of       *watched
}

type pieceState uint8

const (
	// waiting is for the walker to come to.
	waiting pieceState = iota
	// held waits for a move's outcome.
	held
	// live is told from the ring what is newer than told.
	live
)

// queued is something to tell that does not come from the ring.
type queued struct {
	kind    WatchKind
	c       *change // of WatchPut and WatchDelete
	r       ring.Range
	version Version
	lsn     wal.LSN
}

func (q *queued) size() int64 {
	if q.c == nil {
		return changeOverhead
	}
	return int64(q.c.size())
}

func (m *member) enqueue(q queued) {
	m.q = append(m.q, q)
	m.w.queued += q.size()
	if b := m.w.h.o.Budget; b != nil && b.Take(q.size()) { // Whoever queues much has asked before.
		m.w.charged += q.size()
	}
}

// dequeue takes the first n away.
func (m *member) dequeue(n int) {
	size := int64(0)
	for i := range m.q[:n] {
		size += m.q[i].size()
		m.q[i] = queued{}
	}
	m.w.queued -= size
	if b := m.w.h.o.Budget; b != nil {
		size = min(size, m.w.charged)
		m.w.charged -= size
		b.Give(size)
	}
	if m.q = m.q[n:]; len(m.q) == 0 {
		m.q = nil
	}
}

// addRanges adds ranges, in the place of what is watched of them already.
func (m *member) addRanges(all []WatchRange, state bool) {
	birth := m.g.end()
	for _, r := range all {
		m.cut(r.Range, birth, func(ring.Range, bool) {})
		x := &watched{r: r.Range, asked: r.Range, state: state, since: r.Since, birth: birth}
		m.ranges = append(m.ranges, x)
		for _, pc := range m.g.pieces(r.Range) {
			m.pieces = append(m.pieces, wpiece{from: pc.from, to: pc.to, told: r.Since, of: x})
		}
	}
	slices.SortFunc(m.pieces, func(a, b wpiece) int { return int(int64(a.from) - int64(b.from)) })
	m.unsettled, m.needy = true, true
}

// pieces is the part of a range where keys of the selector lie.
func (g *group) pieces(r ring.Range) []piece {
	if g.prefix {
		return pieces(r)
	}
	pos := ring.PositionOfString(g.selector)
	if !r.Contains(pos) {
		return nil
	}
	return []piece{{from: pos, to: pos}}
}

// find returns the first piece that ends at a position or behind it.
func (m *member) find(pos ring.Position) int {
	return sort.Search(len(m.pieces), func(i int) bool { return m.pieces[i].to >= pos })
}

// take tells what there is.
func (m *member) take(t *taking) {
	n := 0
	for n < len(m.q) && t.left > 0 && m.q[n].lsn <= t.durable {
		m.q[n].tell(m.id, t)
		n++
	}
	m.dequeue(n)
	if len(m.q) > 0 {
		return
	}
	m.follow(t) // Before what may use up all that is left, and behind it.
	for t.left > 0 && m.read(t) {
	}
	m.follow(t)
	if m.unsettled && t.left > 0 && len(m.away) == 0 {
		m.settle(t)
	}
}

func (q *queued) tell(id int64, t *taking) {
	e := WatchEvent{Kind: q.kind, Watch: id, Range: q.r, Version: q.version}
	if q.c != nil {
		e.Key, e.Value, e.Version, e.ExpireAt = q.c.key, q.c.value, q.c.version, q.c.expireAt
	}
	t.tell(e)
}

// read tells what comes next in the ring, and says whether there may be more.
func (m *member) read(t *taking) bool {
	const some = 64
	w := m.w
	var behind bool
	if w.scratch, behind = m.g.copyFrom(w.scratch[:0], m.cursor, some); behind {
		m.fallBehind(t)
		return false
	}
	for _, c := range w.scratch {
		if c.lsn > t.durable || t.left <= 0 {
			return false
		}
		m.hear(c, t)
		m.cursor++
	}
	return len(w.scratch) == some
}

// hear takes one change from the ring.
func (m *member) hear(c *change, t *taking) {
	switch c.kind {
	case changeGone:
		m.cut(c.r, m.cursor, func(part ring.Range, live bool) {
			e := WatchEvent{Kind: WatchMoved, Watch: m.id, Range: part}
			if live {
				e.Version = c.version
			}
			t.tell(e)
		})
	default:
		i := m.find(c.pos)
		if i == len(m.pieces) || m.pieces[i].from > c.pos || m.pieces[i].state != live || c.version <= m.pieces[i].told {
			return
		}
		m.pieces[i].told = c.version
		e := WatchEvent{Kind: WatchPut, Watch: m.id, Key: c.key, Value: c.value, Version: c.version, ExpireAt: c.expireAt}
		if c.kind == changeDelete {
			e.Kind = WatchDelete
		}
		t.tell(e)
	}
}

// follow takes the group's progress once it has read what lies before. It holds on to
// one until then: a slow reader would never reach the newest.
func (m *member) follow(t *taking) {
	if m.next.version == 0 {
		m.g.mu.Lock()
		m.next = m.g.progress
		m.g.mu.Unlock()
	}
	switch p := m.next; {
	case p.version <= m.told:
		m.next = progress{}
	case m.cursor >= p.at && p.lsn <= t.durable && t.left > 0:
		m.next = progress{}
		m.progress(p.version, t)
	}
}

// progress notes that everything up to a version has been told.
func (m *member) progress(v Version, t *taking) {
	some := false
	for i := range m.pieces {
		if p := &m.pieces[i]; p.state == live {
			p.told, some = max(p.told, v), true
		}
	}
	if some && v > m.told {
		m.told = v
		t.tell(WatchEvent{Kind: WatchProgress, Watch: m.id, Version: v})
	}
}

// fallBehind lets what was live catch up again from what was told.
func (m *member) fallBehind(t *taking) {
	m.cursor = m.g.end()
	some := false
	for i := range m.pieces {
		if p := &m.pieces[i]; p.state == live {
			p.state, some = waiting, true
			p.of.synced, p.of.promise = false, 0
		}
	}
	if some {
		m.unsettled, m.needy, t.lost = true, true, true
		m.w.h.behinds.Add(1)
		t.tell(WatchEvent{Kind: WatchBehind, Watch: m.id})
	}
}

// settle says of ranges that they are synced: all is live, and what had been in the
// ring when the last piece became so has been read.
func (m *member) settle(t *taking) {
	m.fold()
	unready := map[*watched]bool{}
	for i := range m.pieces {
		p := &m.pieces[i]
		if p.state != live || p.end > m.cursor {
			unready[p.of] = true
		}
	}
	m.unsettled = false
	for _, x := range m.ranges {
		switch {
		case x.synced:
		case unready[x] || x.lsn > t.durable:
			m.unsettled = true
		default:
			x.synced = true
			t.tell(WatchEvent{Kind: WatchSynced, Watch: m.id, Range: x.r, Version: max(x.promise, x.since)})
		}
	}
}

// fold makes one piece of neighbours for which all has been read that may be told
// differently.
func (m *member) fold() {
	if len(m.pieces) == 0 {
		return
	}
	kept := m.pieces[:1]
	for _, p := range m.pieces[1:] {
		last := &kept[len(kept)-1]
		if last.of == p.of && last.state == live && p.state == live && last.to+1 == p.from &&
			p.from%partitionSpan != 0 && max(last.end, p.end) <= m.cursor {
			last.to, last.told, last.end = p.to, max(last.told, p.told), max(last.end, p.end)
			continue
		}
		kept = append(kept, p)
	}
	clear(m.pieces[len(kept):])
	m.pieces = kept
	m.foldAt = max(64, 2*len(kept))
}

// cut ends the watching of a range, as far as it was asked for before a place in the
// ring, and says of each part whether it was live.
func (m *member) cut(r ring.Range, before uint64, said func(part ring.Range, live bool)) {
	for again := true; again; {
		again = false
		for _, x := range m.ranges {
			parts := x.r.Intersect(r)
			if x.birth > before || len(parts) == 0 {
				continue
			}
			said(parts[0], m.cutPart(x, parts[0]))
			again = true
			break
		}
	}
}

// cutPart takes a part out of a range, and says whether all of it was live.
func (m *member) cutPart(x *watched, part ring.Range) (wasLive bool) {
	wasLive = true
	left := x.without(part)
	m.ranges = slices.DeleteFunc(m.ranges, func(o *watched) bool { return o == x })
	m.ranges = append(m.ranges, left...)
	m.unsettled = m.unsettled || len(left) > 0
	old := m.pieces
	m.pieces = make([]wpiece, 0, len(old)+1)
	for _, p := range old {
		if p.of != x {
			m.pieces = append(m.pieces, p)
			continue
		}
		kept := uint64(0)
		for _, y := range left {
			for _, sub := range p.within(y.r) {
				sub.of = y
				kept += uint64(sub.to-sub.from) + 1
				m.pieces = append(m.pieces, sub)
			}
		}
		if kept <= uint64(p.to-p.from) && p.state != live {
			wasLive = false
		}
	}
	slices.SortFunc(m.pieces, func(a, b wpiece) int { return int(int64(a.from) - int64(b.from)) })
	return wasLive
}

// without is what is left of a range.
func (x *watched) without(part ring.Range) (left []*watched) {
	var rest []ring.Range
	switch {
	case part.Size() == x.r.Size():
	case x.r.Start == x.r.End:
		rest = []ring.Range{{Start: part.End, End: part.Start}}
	default:
		if part.Start != x.r.Start {
			rest = append(rest, ring.Range{Start: x.r.Start, End: part.Start})
		}
		if part.End != x.r.End {
			rest = append(rest, ring.Range{Start: part.End, End: x.r.End})
		}
	}
	for _, r := range rest {
		y := *x
		y.r = r
		left = append(left, &y)
	}
	return left
}

// within is the piece as far as it lies in a range.
func (p wpiece) within(r ring.Range) (parts []wpiece) {
	for _, both := range (ring.Range{Start: p.from - 1, End: p.to}).Intersect(r) {
		q := p
		q.from, q.to = both.Start+1, both.End
		parts = append(parts, q)
	}
	return parts
}
