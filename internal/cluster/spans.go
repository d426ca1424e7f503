package cluster

import (
	"cmp"
	"slices"

	"github.com/quoitdb/quoit/ring"
)

// span is the positions from lo up to, not including, hi. Unlike a [ring.Range] it
// never runs over the top, so that a set of them can be sorted.
type span struct{ lo, hi uint64 }

const ringSize = uint64(ring.MaxPosition) + 1

// spans is a set of positions: sorted, and with a gap between each two.
type spans []span

func spansOf(ranges ...ring.Range) spans {
	all := make(spans, 0, len(ranges)+1)
	for _, r := range ranges {
		all = append(all, cutOpen(r)...)
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.lo, b.lo) })
	merged := all[:0]
	for _, s := range all {
		if last := len(merged) - 1; last >= 0 && s.lo <= merged[last].hi {
			merged[last].hi = max(merged[last].hi, s.hi)
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// cutOpen returns a range as one span, or as two where it runs over the top.
func cutOpen(r ring.Range) []span {
	lo := uint64(r.Start + 1) // The addition wraps as the ring does.
	hi := lo + r.Size()
	if hi <= ringSize {
		return []span{{lo, hi}}
	}
	return []span{{lo, ringSize}, {0, hi - ringSize}}
}

// overlaps reports whether some position of r is in the set.
func (s spans) overlaps(r ring.Range) bool {
	return slices.ContainsFunc(cutOpen(r), func(c span) bool {
		i := s.after(c.lo)
		return i < len(s) && s[i].lo < c.hi
	})
}

// covers reports whether every position of r is in the set.
func (s spans) covers(r ring.Range) bool {
	return !slices.ContainsFunc(cutOpen(r), func(c span) bool {
		i := s.after(c.lo)
		return i == len(s) || s[i].lo > c.lo || s[i].hi < c.hi
	})
}

// after returns the index of the first span that ends after a position.
func (s spans) after(position uint64) int {
	i, _ := slices.BinarySearchFunc(s, position, func(s span, p uint64) int { return cmp.Compare(s.hi, p+1) })
	return i
}

// intersect returns the positions that are in both sets.
func (s spans) intersect(o spans) spans {
	var both spans
	for i, j := 0, 0; i < len(s) && j < len(o); {
		if lo, hi := max(s[i].lo, o[j].lo), min(s[i].hi, o[j].hi); lo < hi {
			both = append(both, span{lo, hi})
		}
		if s[i].hi < o[j].hi {
			i++
		} else {
			j++
		}
	}
	return both
}

// disjoint reports whether no two of the ranges share a position.
func disjoint(ranges []ring.Range) bool {
	var all spans
	for _, r := range ranges {
		all = append(all, cutOpen(r)...)
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.lo, b.lo) })
	for i := 1; i < len(all); i++ {
		if all[i].lo < all[i-1].hi {
			return false
		}
	}
	return true
}

// cutAt cuts a range at those of the given positions that lie inside it.
func cutAt(r ring.Range, positions []ring.Position) []ring.Range {
	inside := make([]ring.Position, 0, len(positions))
	for _, p := range positions {
		if r.Contains(p) && p != r.End {
			inside = append(inside, p)
		}
	}
	// Clockwise from the first position of the range.
	slices.SortFunc(inside, func(a, b ring.Position) int { return cmp.Compare(a-r.Start-1, b-r.Start-1) })
	inside = append(slices.Compact(inside), r.End)
	parts := make([]ring.Range, len(inside))
	for i, end := range inside {
		parts[i] = ring.Range{Start: r.Start, End: end}
		r.Start = end
	}
	return parts
}
