package restore

import (
	"slices"

	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// standing is what a node's own records say of a stretch of the ring.
type standing uint8

const (
	// unclaimed: no record says that the node owned it. It may have all the same: the
	// first owners of a ring, and those who took over from a forgotten node, learn it
	// from the cluster document alone.
	unclaimed standing = iota
	// receiving: a move was bringing it.
	receiving
	// received: a move had brought all of it, and nothing says yet that it was served.
	received
	// served: the node owned it.
	served
)

// segment is a stretch of the ring, both ends included, for a stretch of the log:
// what the node held there are the base's entries, if the base was made after start,
// and the records from start to stop.
type segment struct {
	lo, hi   ring.Position
	standing standing
	start    wal.LSN        // records up to here are not of it
	stop     wal.LSN        // nor are those from here on; 0: it is open
	begin    engine.Version // a moment at which the node had it, the earliest that is known
	end      engine.Version // of a sealed or closed one: the newest version that the node had seen then
	late     bool           // and whether that was after the moment asked for
	move     string         // that brought it
	sealed   string         // the move that it went away with
}

// spanOf returns a range as one stretch, or as two where it runs over the top.
func spanOf(r ring.Range) []segment {
	lo := r.Start + 1 // Wraps as the ring does.
	if lo <= r.End {
		return []segment{{lo: lo, hi: r.End}}
	}
	return []segment{{lo: 0, hi: r.End}, {lo: lo, hi: ring.MaxPosition}}
}

// ledger is what the records of one node say about ranges, in the order of its log.
type ledger struct {
	open   []segment // the whole ring, in order
	closed []segment // what the node had before
	// complete has the moment as of which each move had brought everything, and
	// unsealed the moves that did not happen after all.
	complete map[string]engine.Version
	unsealed map[string]bool
	sealed   int            // open segments that are sealed, at least
	newest   engine.Version // that the log has shown, but for those after the moment asked for
	late     bool           // the log is past that moment
}

func newLedger(start wal.LSN) *ledger {
	return &ledger{
		open:     []segment{{lo: 0, hi: ring.MaxPosition, start: start}},
		complete: map[string]engine.Version{}, unsealed: map[string]bool{},
	}
}

// ledgerOf returns the ledger that a checkpoint's state amounts to. When a range was
// sealed it does not say: sealedAfter returns the last moment known before a move's seal.
func ledgerOf(s *engine.State, sealedAfter func(move string) engine.Version) *ledger {
	l := newLedger(s.LSN)
	l.newest = s.HLC
	for _, r := range s.Owned {
		l.each(r, func(g *segment) { g.standing, g.start, g.begin = served, 0, s.HLC })
	}
	for _, h := range s.Sealed {
		l.each(h.Range, func(g *segment) {
			g.standing, g.start, g.begin, g.sealed, g.end = served, 0, s.HLC, h.Move, sealedAfter(h.Move)
		})
		l.sealed++
	}
	for _, h := range s.Staged {
		l.each(h.Range, func(g *segment) {
			g.standing, g.start, g.move = receiving, 0, h.Move
			if h.Complete {
				g.standing, g.begin = received, h.HLC
			}
		})
		if h.Complete {
			l.complete[h.Move] = h.HLC
		}
	}
	return l
}

// each cuts the open segments at the ends of a range and calls fn for those inside.
func (l *ledger) each(r ring.Range, fn func(*segment)) {
	for _, s := range spanOf(r) {
		l.cut(s.lo)
		if s.hi < ring.MaxPosition {
			l.cut(s.hi + 1)
		}
		for i := l.index(s.lo); i < len(l.open) && l.open[i].lo <= s.hi; i++ {
			fn(&l.open[i])
		}
	}
}

// cut makes a segment begin at a position.
func (l *ledger) cut(at ring.Position) {
	i := l.index(at)
	if l.open[i].lo == at {
		return
	}
	upper := l.open[i]
	upper.lo = at
	l.open[i].hi = at - 1
	l.open = slices.Insert(l.open, i+1, upper)
}

// index returns which open segment a position lies in.
func (l *ledger) index(at ring.Position) int {
	i, _ := slices.BinarySearchFunc(l.open, at, func(g segment, p ring.Position) int {
		if g.hi < p {
			return -1
		}
		if g.lo > p {
			return 1
		}
		return 0
	})
	return i
}

// apply adds a record about a range.
func (l *ledger) apply(r engine.Record, lsn wal.LSN) {
	switch r.Kind {
	case engine.RecordSeal:
		l.seal(r)
	case engine.RecordUnseal:
		l.unseal(r.Move)
	case engine.RecordStage:
		l.each(r.Range, func(g *segment) {
			l.close(g, lsn)
			*g = segment{lo: g.lo, hi: g.hi, standing: receiving, start: lsn, move: r.Move}
		})
	case engine.RecordComplete:
		l.complete[r.Move] = r.HLC
		l.each(r.Range, func(g *segment) {
			if g.standing == receiving && g.move == r.Move {
				g.standing, g.begin = received, r.HLC
			}
		})
	case engine.RecordActivate:
		l.each(r.Range, func(g *segment) {
			if g.standing == received {
				g.standing = served
			}
		})
	case engine.RecordWipe:
		l.each(r.Range, func(g *segment) {
			l.close(g, lsn)
			*g = segment{lo: g.lo, hi: g.hi, start: lsn}
		})
	}
}

// seal notes that a move holds a range. Only its owner can seal it, so this also
// says that it was owned until now, whether or not anything has said so before.
func (l *ledger) seal(r engine.Record) {
	l.sealed++
	l.each(r.Range, func(g *segment) {
		if g.standing == unclaimed {
			g.begin = l.newest
		}
		g.standing, g.sealed, g.end, g.late = served, r.Move, l.newest, l.late
	})
}

// unseal says that a move did not happen: its source goes on.
func (l *ledger) unseal(move string) {
	l.unsealed[move] = true
	for i := range l.open {
		if g := &l.open[i]; g.sealed == move {
			g.sealed, g.end, g.late = "", 0, false
		}
	}
}

// close ends a segment. What was received and never served was not the node's, and
// what it wrote without a claim and forgot again belongs to the past only if the
// moment asked for is further back.
func (l *ledger) close(g *segment, lsn wal.LSN) {
	if g.standing == served || g.standing == unclaimed && l.late {
		done := *g
		done.stop = lsn
		if done.sealed == "" {
			done.end, done.late = l.newest, l.late
		}
		l.closed = append(l.closed, done)
	}
}

// wrote notes a write of a client. One to a sealed range means that the range had been
// unsealed, and that the log had no room for the note of it.
func (l *ledger) wrote(at ring.Position) {
	if l.sealed == 0 {
		return
	}
	if g := &l.open[l.index(at)]; g.sealed != "" && g.standing == served {
		l.unseal(g.sealed)
	}
}

// forgets notes records between a base's cuts and its ledger: the ledger knows them,
// the pictures of partitions that were cut before do not.
func (l *ledger) forgets(r engine.Record, lsn wal.LSN) {
	switch r.Kind {
	case engine.RecordStage, engine.RecordWipe:
		l.each(r.Range, func(g *segment) { g.start = max(g.start, lsn) })
	case engine.RecordComplete:
		l.complete[r.Move] = r.HLC
	case engine.RecordUnseal:
		l.unsealed[r.Move] = true
	}
}
