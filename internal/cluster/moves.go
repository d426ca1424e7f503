package cluster

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/quoitdb/quoit/ring"
)

// maxRange bounds what one move takes: a 256th of the ring. A range is sealed
// while its rest is sent, and copied again when its move is aborted, so it should
// not be large.
const maxRange = 1 << 24

// Replan makes the moves fit the members: planned moves that still lead to the
// goal stay, others are gone (which aborts them), missing ones are added with
// fresh ids. Ownership does not change. Join, Leave and Forget do this themselves.
func (d Document) Replan() (Document, error) {
	owned, err := d.Ownership()
	if err != nil {
		return d, err
	}
	return d.replan(owned)
}

// replan returns the document in which the moves lead from the given ownership to
// the goal. It is the one place where moves are planned.
func (d Document) replan(owned *ring.Map) (Document, error) {
	goal, err := d.Goal()
	if err != nil {
		return d, fmt.Errorf("%w: %w", ErrLimit, err)
	}
	if len(goal.Owners()) == 0 && len(owned.Owners()) > 0 {
		return d, ErrLastMember
	}
	next := d.copied()
	next.Moves = keptMoves(d.Moves, owned, goal)
	// What is missing is where the moves that stay do not explain the difference.
	cuts := next.cuts()
	for _, m := range ring.Plan(owned, goal.With(next.held())) {
		for _, part := range cutAt(m.Range, cuts) {
			for _, r := range ring.Split(part, maxRange) {
				next.add(Move{Range: r, Source: m.Source, Target: m.Target, Phase: Planned})
			}
		}
	}
	return next.settled().bounded()
}

// keptMoves returns the moves that stay: committed ones, and planned ones whose
// source still owns the range and whose target shall still have it.
func keptMoves(moves []Move, owned, goal *ring.Map) []Move {
	var sources, targets []ring.Arc
	for _, m := range moves {
		if m.Phase == Planned {
			sources = append(sources, ring.Arc{Range: m.Range, Owner: m.Source})
			targets = append(targets, ring.Arc{Range: m.Range, Owner: m.Target})
		}
	}
	// A map that changes when the arcs are laid over it had other owners there.
	wrong := append(ring.Plan(owned, owned.With(sources)), ring.Plan(goal, goal.With(targets))...)
	ranges := make([]ring.Range, len(wrong))
	for i, m := range wrong {
		ranges[i] = m.Range
	}
	misled := spansOf(ranges...)
	return slices.DeleteFunc(slices.Clone(moves), func(m Move) bool {
		return m.Phase == Planned && misled.overlaps(m.Range)
	})
}

// cuts returns where new moves have to be cut so that none is only in part blocked
// by a committed one: the rest need not wait.
func (d Document) cuts() []ring.Position {
	var cuts []ring.Position
	for _, m := range d.Moves {
		if m.Phase == Committed {
			cuts = append(cuts, m.Range.Start, m.Range.End)
		}
	}
	return cuts
}

// add gives a move its id and appends it. The document is a copy of the caller's.
func (d *Document) add(m Move) {
	m.ID = d.nextMove()
	d.Moves = append(d.Moves, m)
}

// nextMove returns an id never used before.
func (d *Document) nextMove() MoveID {
	d.MoveCount++
	return MoveID("m" + strconv.FormatUint(d.MoveCount, 10))
}

// settled lets go of leaving members that nothing depends on any more. All that a
// leaving member owns is the range of a planned move, so without moves it owns
// nothing.
func (d Document) settled() Document {
	busy := map[string]bool{}
	for _, m := range d.Moves {
		busy[m.Source], busy[m.Target] = true, true
	}
	d.Nodes = slices.DeleteFunc(d.Nodes, func(m Member) bool { return m.State == Leaving && !busy[m.Address] })
	return d
}

// bounded refuses a document that could not be written, or not be told to clients.
func (d Document) bounded() (Document, error) {
	if len(d.Moves) > MaxMoves {
		return d, fmt.Errorf("%w: %d moves at once, want at most %d: add or remove fewer nodes at a time",
			ErrLimit, len(d.Moves), MaxMoves)
	}
	if len(d.Nodes) > ring.MaxNodes {
		return d, fmt.Errorf("%w: %d members, want at most %d", ErrLimit, len(d.Nodes), ring.MaxNodes)
	}
	if _, err := d.Topology().AppendText(nil); err != nil {
		return d, fmt.Errorf("%w: %w", ErrLimit, err)
	}
	return d, nil
}

// Commit hands the ranges of planned moves to their targets, all or none. The
// caller has the target's word that everything is durable there and the source's
// that it is sealed. Moves that are committed already are left alone.
func (d Document) Commit(ids ...MoveID) (Document, error) {
	next, busy := d.copied(), d.unfinished()
	changed := false
	for _, id := range ids {
		i := next.moveIndex(id)
		if i < 0 {
			return d, &MoveError{id, ErrUnknownMove}
		}
		m := &next.Moves[i]
		if m.Phase == Committed {
			continue
		}
		if busy.overlaps(m.Range) {
			return d, &MoveError{id, ErrBlocked}
		}
		m.Phase, m.CommittedAt = Committed, d.Counter+1
		next.gain(m.Target)
		changed = true
	}
	if !changed {
		return d, nil
	}
	next.Epoch++
	return next, nil
}

// Abort ends planned moves; each is replaced by one with a fresh id, so that the
// range still gets there. [ErrCommitted] when it is too late, [ErrUnknownMove] when
// it has gone before.
func (d Document) Abort(ids ...MoveID) (Document, error) {
	next := d.copied()
	for _, id := range ids {
		i := next.moveIndex(id)
		switch {
		case i < 0:
			return d, &MoveError{id, ErrUnknownMove}
		case next.Moves[i].Phase == Committed:
			return d, &MoveError{id, ErrCommitted}
		}
		next.Moves[i].ID = next.nextMove()
	}
	return next, nil
}

// MarkDropped notes that the sources have durably deleted the ranges. Moves that
// are not in the document any more are ignored.
func (d Document) MarkDropped(ids ...MoveID) (Document, error) {
	return d.mark(ids, func(m *Move) { m.SourceDropped = true })
}

// MarkActive notes that the targets durably know that they own the ranges. Moves
// that are not in the document any more are ignored.
func (d Document) MarkActive(ids ...MoveID) (Document, error) {
	return d.mark(ids, func(m *Move) { m.TargetActive = true })
}

func (d Document) mark(ids []MoveID, done func(*Move)) (Document, error) {
	next := d.copied()
	for _, id := range ids {
		i := next.moveIndex(id)
		if i < 0 {
			continue
		}
		if next.Moves[i].Phase != Committed {
			return d, &MoveError{id, ErrNotCommitted}
		}
		done(&next.Moves[i])
	}
	return next.cleared().settled(), nil
}

// cleared lets go of moves of which both ends have finished.
func (d Document) cleared() Document {
	d.Moves = slices.DeleteFunc(d.Moves, func(m Move) bool { return m.SourceDropped && m.TargetActive })
	return d
}
