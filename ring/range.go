package ring

// ringSize is the number of positions on the ring.
const ringSize = uint64(MaxPosition) + 1

// Range is the part of the ring after Start, up to and including End, written
// (Start, End]. With Start above End it runs over the top: (4294967290, 5] holds
// 4294967291 to 5. With Start equal to End it is the whole ring. There is no
// empty Range.
type Range struct {
	Start, End Position
}

// Contains reports whether p lies in the range.
func (r Range) Contains(p Position) bool {
	// Distances from the first position of the range. They wrap as the ring does,
	// and for the whole ring End lies as far away as possible.
	return p-r.first() <= r.End-r.first()
}

// Size returns the number of positions in the range, 1 to 2^32.
func (r Range) Size() uint64 { return uint64(r.End-r.first()) + 1 }

// Overlaps reports whether some position lies in both ranges.
func (r Range) Overlaps(o Range) bool { return r.Contains(o.first()) || o.Contains(r.first()) }

// Intersect returns the positions that lie in both ranges: nothing, one range, or
// two where o both begins and ends inside r. They come clockwise from r.Start.
func (r Range) Intersect(o Range) []Range {
	switch {
	case r.Start == r.End:
		return []Range{o}
	case o.Start == o.End:
		return []Range{r}
	}
	// Seen from r.Start, r spans (0, size] and o spans (begin, end], where an end
	// past ringSize means that o comes round to r.Start and enters r once more.
	size, begin := r.Size(), uint64(o.Start-r.Start)
	end := begin + o.Size()
	var both []Range
	if end > ringSize {
		both = append(both, Range{r.Start, r.at(min(end-ringSize, size))})
	}
	if begin < size {
		both = append(both, Range{o.Start, r.at(min(end, size))})
	}
	return both
}

// Split cuts a range into the fewest consecutive ranges of at most limit
// positions each, in clockwise order; their sizes differ by one at most. A limit
// of 0 does not cut. The result has Size/limit entries: choose limit accordingly.
func Split(r Range, limit uint64) []Range {
	size := r.Size()
	if limit == 0 || size <= limit {
		return []Range{r}
	}
	n := (size + limit - 1) / limit
	parts := make([]Range, 0, n)
	start := r.Start
	for i := uint64(1); i <= n; i++ {
		end := r.at(share(size, i, n))
		parts = append(parts, Range{start, end})
		start = end
	}
	return parts
}

// share returns size*i/n for i <= n <= size <= 2^32. The product fits: it is at
// most 2^64-2^32 for i < n, and i = n is answered without it.
func share(size, i, n uint64) uint64 {
	if i == n {
		return size
	}
	return size * i / n
}

// String returns the range as "(start, end]".
func (r Range) String() string { return "(" + r.Start.String() + ", " + r.End.String() + "]" }

// first returns the lowest position of the range, clockwise.
func (r Range) first() Position { return r.Start + 1 }

// at returns the position that lies n steps after Start.
func (r Range) at(n uint64) Position {
	return r.Start + Position(n&uint64(MaxPosition))
}
