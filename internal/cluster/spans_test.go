package cluster

import (
	"slices"
	"testing"

	"github.com/quoitdb/quoit/ring"
	"pgregory.net/rapid"
)

// genPosition draws positions from around the seam and from few other places, so
// that ranges touch and overlap.
func genPosition() *rapid.Generator[ring.Position] {
	return rapid.Custom(func(t *rapid.T) ring.Position {
		base := rapid.SampledFrom([]ring.Position{0, 1 << 16, 1 << 31}).Draw(t, "base")
		return base + ring.Position(rapid.IntRange(-3, 3).Draw(t, "offset"))
	})
}

func genRange() *rapid.Generator[ring.Range] {
	return rapid.Custom(func(t *rapid.T) ring.Range {
		return ring.Range{Start: genPosition().Draw(t, "start"), End: genPosition().Draw(t, "end")}
	})
}

// landmarks are the positions at which an answer about drawn ranges could change.
func landmarks() []ring.Position {
	var all []ring.Position
	for _, base := range []ring.Position{0, 1 << 16, 1 << 31} {
		for offset := -5; offset <= 5; offset++ {
			all = append(all, base+ring.Position(offset))
		}
	}
	return all
}

// has is the definition: some range contains the position.
func has(ranges []ring.Range, p ring.Position) bool {
	return slices.ContainsFunc(ranges, func(r ring.Range) bool { return r.Contains(p) })
}

func TestSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		left := rapid.SliceOfN(genRange(), 0, 4).Draw(t, "left")
		right := rapid.SliceOfN(genRange(), 0, 4).Draw(t, "right")
		r := genRange().Draw(t, "range")
		set := spansOf(left...)
		both := set.intersect(spansOf(right...))
		overlaps, covers := false, true
		for _, p := range landmarks() {
			point := ring.Range{Start: p - 1, End: p}
			if set.overlaps(point) != has(left, p) || set.covers(point) != has(left, p) {
				t.Fatalf("%v, as a set %v, is wrong about %v", left, set, p)
			}
			if both.overlaps(point) != (has(left, p) && has(right, p)) {
				t.Fatalf("%v intersected with %v is wrong about %v", left, right, p)
			}
			if r.Contains(p) {
				overlaps = overlaps || has(left, p)
				covers = covers && has(left, p)
			}
		}
		if set.overlaps(r) != overlaps || set.covers(r) != covers {
			t.Fatalf("%v and %v: overlaps %v, covers %v; want %v, %v",
				left, r, set.overlaps(r), set.covers(r), overlaps, covers)
		}
		for i := 1; i < len(set); i++ {
			if set[i].lo <= set[i-1].hi {
				t.Fatalf("%v is not in its shortest form", set)
			}
		}
	})
}

func TestDisjoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ranges := rapid.SliceOfN(genRange(), 0, 4).Draw(t, "ranges")
		want := true
		for i, r := range ranges {
			want = want && !spansOf(ranges[:i]...).overlaps(r)
		}
		if got := disjoint(ranges); got != want {
			t.Fatalf("disjoint(%v) = %v", ranges, got)
		}
	})
}

func TestCutAt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genRange().Draw(t, "range")
		cuts := rapid.SliceOfN(genPosition(), 0, 5).Draw(t, "cuts")
		parts := cutAt(r, cuts)
		if parts[0].Start != r.Start || parts[len(parts)-1].End != r.End {
			t.Fatalf("%v cut at %v into %v", r, cuts, parts)
		}
		var size uint64
		for i, p := range parts {
			size += p.Size()
			if i > 0 && p.Start != parts[i-1].End {
				t.Fatalf("%v cut at %v into %v: a gap", r, cuts, parts)
			}
			for _, c := range cuts {
				if p.Contains(c) && c != p.End {
					t.Fatalf("%v cut at %v into %v: %v lies inside a part", r, cuts, parts, c)
				}
			}
		}
		if size != r.Size() {
			t.Fatalf("%v cut at %v into %v: %d positions of %d", r, cuts, parts, size, r.Size())
		}
	})
}
