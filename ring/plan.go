package ring

import "slices"

// Move is a range that has to go from one node to another.
type Move struct {
	Range          Range
	Source, Target string // addresses
}

// String returns the move as "(start, end] source -> target".
func (m Move) String() string { return m.Range.String() + " " + m.Source + " -> " + m.Target }

// Plan returns what has to move for one map to become another: exactly the
// positions whose owner differs, sorted by the end of the range, neighbours with
// the same source and target as one. A move over the top comes first. Positions
// that have no owner before, or none after, do not move.
func Plan(from, to *Map) []Move {
	type change struct{ source, target string }
	cuts := sortedSet(slices.Concat(from.ends, to.ends))
	pieces := make([]piece[change], len(cuts))
	for i, end := range cuts {
		// No owner changes within a piece, so its end stands for all of it.
		c := change{from.Owner(end), to.Owner(end)}
		if c.source == c.target || c.source == "" || c.target == "" {
			c = change{}
		}
		pieces[i] = piece[change]{end, c}
	}
	pieces = merge(pieces)
	var moves []Move
	for i, p := range pieces {
		if p.label == (change{}) {
			continue
		}
		start := pieces[(i+len(pieces)-1)%len(pieces)].end
		moves = append(moves, Move{Range{start, p.end}, p.label.source, p.label.target})
	}
	return moves
}
