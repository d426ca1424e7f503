package ring

import (
	"cmp"
	"slices"
)

// piece is one of a list of ranges that cover the ring without a gap: the range
// from the end of the piece before it, or for the first of the last, to its own.
// The list is sorted by end.
type piece[L comparable] struct {
	end   Position
	label L
}

// merge joins neighbours with the same label, over the top too, in place. If only
// one label is there at all, its piece ends at MaxPosition.
func merge[L comparable](pieces []piece[L]) []piece[L] {
	if len(pieces) == 0 {
		return nil
	}
	first := pieces[0].label
	merged := pieces[:0]
	for i, p := range pieces {
		next := first
		if i+1 < len(pieces) {
			next = pieces[i+1].label
		}
		if p.label != next {
			merged = append(merged, p)
		}
	}
	if len(merged) == 0 {
		merged = append(merged, piece[L]{MaxPosition, first})
	}
	return merged
}

// painter gives pieces new labels, each at most once, so that whoever paints first
// wins. Painted pieces are skipped in next to no time: any number of arcs, however
// they overlap, costs little more than the number of pieces.
type painter struct {
	pieces []piece[string]
	// next[i] leads to the first unpainted piece at or after i: i itself while it
	// is unpainted, a later one once it is not. One past the end stops the search.
	next []int
}

func newPainter(pieces []piece[string]) *painter {
	next := make([]int, len(pieces)+1)
	for i := range next {
		next[i] = i
	}
	return &painter{pieces: pieces, next: next}
}

// paint gives the arc to its owner where nobody painted before. Both ends of the
// arc must be ends of pieces.
func (p *painter) paint(a Arc) {
	before, last := p.index(a.Start), p.index(a.End)
	if before < last {
		p.fill(before+1, last, a.Owner)
		return
	}
	p.fill(before+1, len(p.pieces)-1, a.Owner)
	p.fill(0, last, a.Owner)
}

func (p *painter) fill(first, last int, owner string) {
	for i := p.unpainted(first); i <= last; i = p.unpainted(i) {
		p.pieces[i].label = owner
		p.next[i] = i + 1
	}
}

func (p *painter) unpainted(i int) int {
	for p.next[i] != i {
		p.next[i] = p.next[p.next[i]]
		i = p.next[i]
	}
	return i
}

func (p *painter) index(end Position) int {
	i, _ := slices.BinarySearchFunc(p.pieces, end, func(p piece[string], end Position) int {
		return cmp.Compare(p.end, end)
	})
	return i
}

// sortedSet sorts positions and drops those that occur twice, in place.
func sortedSet(positions []Position) []Position {
	slices.Sort(positions)
	return slices.Compact(positions)
}
