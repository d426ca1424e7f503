package ring

import (
	"slices"
	"strings"
)

// Arc is a range and the node that owns it.
type Arc struct {
	Range
	Owner string // the address of the node
}

// String returns the arc as "(start, end] owner".
func (a Arc) String() string { return a.Range.String() + " " + a.Owner }

// Map tells the owner of every position. It never changes; the methods that seem
// to change it return another one. The zero Map, like one made of no tokens, has
// no owner anywhere.
//
// Two maps with the same owner for every position are equal in every field: no
// two neighbouring arcs have the same owner, and one owner of all has the single
// arc that ends at MaxPosition.
type Map struct {
	// Arc i is (ends[i-1], ends[i]], or (ends[last], ends[0]] for i = 0, and
	// belongs to owners[i], which is "" for nobody.
	ends   []Position
	owners []string
	// jump[b] is the number of ends below b<<24. The arc of p is therefore one of
	// those from jump[p>>24] to jump[p>>24+1], in practice a handful.
	jump [257]uint32
}

// NewMap places the tokens of the nodes. It fails with an [InvalidError] when an
// address is malformed or listed twice, or when a bound is exceeded.
func NewMap(nodes []Node) (*Map, error) {
	if err := validateNodes(nodes); err != nil {
		return nil, err
	}
	byAddress := slices.Clone(nodes)
	slices.SortFunc(byAddress, func(a, b Node) int { return strings.Compare(a.Address, b.Address) })
	return newMap(placeTokens(byAddress)), nil
}

// placeTokens returns one piece per occupied position, in ring order.
func placeTokens(byAddress []Node) []piece[string] {
	// Position above, rank of the address below: sorting the plain numbers puts
	// the smaller address first where positions are equal.
	var placed []uint64
	var tokens []Position
	for rank, n := range byAddress {
		tokens = appendTokens(tokens[:0], n.Address, n.Tokens)
		for _, t := range tokens {
			placed = append(placed, uint64(t)<<32|uint64(rank))
		}
	}
	slices.Sort(placed)
	pieces := make([]piece[string], 0, len(placed))
	for _, p := range placed {
		end, rank := Position(p>>32), p&uint64(MaxPosition)
		if last := len(pieces) - 1; last < 0 || pieces[last].end != end {
			pieces = append(pieces, piece[string]{end, byAddress[rank].Address})
		}
	}
	return pieces
}

// newMap makes a map of pieces in ring order; it takes them over.
func newMap(pieces []piece[string]) *Map {
	pieces = merge(pieces)
	m := &Map{}
	if len(pieces) == 0 || len(pieces) == 1 && pieces[0].label == "" {
		return m
	}
	m.ends = make([]Position, len(pieces))
	m.owners = make([]string, len(pieces))
	for i, p := range pieces {
		m.ends[i], m.owners[i] = p.end, p.label
		m.jump[p.end>>24+1]++
	}
	for b := 1; b < len(m.jump); b++ {
		m.jump[b] += m.jump[b-1]
	}
	return m
}

// Owner returns the address of the node that owns p, or "" if none does. It does
// not allocate.
func (m *Map) Owner(p Position) string {
	low, high := m.jump[p>>24], m.jump[p>>24+1]
	for low < high {
		if middle := (low + high) / 2; m.ends[middle] < p {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if int(low) < len(m.owners) {
		return m.owners[low]
	}
	if len(m.owners) == 0 {
		return ""
	}
	return m.owners[0] // Past the last end: the arc that runs over the top.
}

// Arcs returns all owned arcs, sorted by End. Neighbours with the same owner are
// one arc. An arc that runs over the top is given once, at the front.
func (m *Map) Arcs() []Arc {
	arcs := make([]Arc, 0, len(m.ends))
	for i, owner := range m.owners {
		if owner != "" {
			arcs = append(arcs, Arc{m.rangeOf(i), owner})
		}
	}
	return arcs
}

// ArcsOf returns the ranges of one node, sorted by End.
func (m *Map) ArcsOf(owner string) []Range {
	var ranges []Range
	for i, o := range m.owners {
		if o == owner && o != "" {
			ranges = append(ranges, m.rangeOf(i))
		}
	}
	return ranges
}

// Ends returns the positions after which another arc begins, owned or not, sorted.
func (m *Map) Ends() []Position { return slices.Clone(m.ends) }

// Share returns the part of the ring that a node owns, 0 to 1.
func (m *Map) Share(owner string) float64 {
	var size uint64
	for _, r := range m.ArcsOf(owner) {
		size += r.Size()
	}
	return float64(size) / float64(ringSize)
}

// Owners returns the nodes that own something, sorted by address.
func (m *Map) Owners() []string {
	owners := slices.DeleteFunc(slices.Clone(m.owners), func(o string) bool { return o == "" })
	slices.Sort(owners)
	return slices.Compact(owners)
}

// Equal reports whether both maps give every position the same owner.
func (m *Map) Equal(o *Map) bool {
	return slices.Equal(m.ends, o.ends) && slices.Equal(m.owners, o.owners)
}

// With returns a map in which the given arcs belong to the owners that they name,
// and everything else to whom it belonged. Where arcs overlap, the later one
// counts.
func (m *Map) With(overrides []Arc) *Map {
	if len(overrides) == 0 {
		return m
	}
	cuts := slices.Clone(m.ends)
	for _, o := range overrides {
		cuts = append(cuts, o.Start, o.End)
	}
	cuts = sortedSet(cuts)
	pieces := make([]piece[string], len(cuts))
	for i, end := range cuts {
		pieces[i] = piece[string]{end, m.Owner(end)}
	}
	p := newPainter(pieces)
	for _, o := range slices.Backward(overrides) {
		p.paint(o)
	}
	return newMap(pieces)
}

// rangeOf returns the range of arc i.
func (m *Map) rangeOf(i int) Range {
	if i == 0 {
		return Range{m.ends[len(m.ends)-1], m.ends[0]}
	}
	return Range{m.ends[i-1], m.ends[i]}
}
