package ring_test

import (
	"slices"
	"testing"

	"github.com/quoitdb/quoit/ring"
	"pgregory.net/rapid"
)

const top = ring.MaxPosition

func TestRangeContains(t *testing.T) {
	for _, test := range []struct {
		in      ring.Range
		size    uint64
		holds   []ring.Position
		lacks   []ring.Position
		printed string
	}{
		{ring.Range{10, 20}, 10, []ring.Position{11, 15, 20}, []ring.Position{0, 10, 21, top}, "(10, 20]"},
		{ring.Range{10, 11}, 1, []ring.Position{11}, []ring.Position{10, 12}, "(10, 11]"},
		{ring.Range{top, 0}, 1, []ring.Position{0}, []ring.Position{1, top}, "(4294967295, 0]"},
		{ring.Range{top - 1, top}, 1, []ring.Position{top}, []ring.Position{0, top - 1}, "(4294967294, 4294967295]"},
		{ring.Range{top - 5, 5}, 11, []ring.Position{top - 4, top, 0, 5}, []ring.Position{top - 5, 6, 1 << 31}, "(4294967290, 5]"},
		{ring.Range{11, 10}, 1<<32 - 1, []ring.Position{12, top, 0, 10}, []ring.Position{11}, "(11, 10]"},
		{ring.Range{0, top}, 1<<32 - 1, []ring.Position{1, top}, []ring.Position{0}, "(0, 4294967295]"},
		{ring.Range{7, 7}, 1 << 32, []ring.Position{0, 6, 7, 8, top}, nil, "(7, 7]"},
		{ring.Range{}, 1 << 32, []ring.Position{0, 1, top}, nil, "(0, 0]"},
		{ring.Range{top, top}, 1 << 32, []ring.Position{0, 1, top}, nil, "(4294967295, 4294967295]"},
	} {
		if got := test.in.Size(); got != test.size {
			t.Errorf("%v has size %d, want %d", test.in, got, test.size)
		}
		if got := test.in.String(); got != test.printed {
			t.Errorf("printed %q, want %q", got, test.printed)
		}
		for _, p := range test.holds {
			if !test.in.Contains(p) {
				t.Errorf("%v does not contain %v", test.in, p)
			}
		}
		for _, p := range test.lacks {
			if test.in.Contains(p) {
				t.Errorf("%v contains %v", test.in, p)
			}
		}
	}
}

func TestArcAndMovePrintWhoIsConcerned(t *testing.T) {
	r := ring.Range{Start: 1, End: 2}
	if got, want := (ring.Arc{Range: r, Owner: "a:1"}).String(), "(1, 2] a:1"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if got, want := (ring.Move{Range: r, Source: "a:1", Target: "b:1"}).String(), "(1, 2] a:1 -> b:1"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestRangeIntersect(t *testing.T) {
	for _, test := range []struct {
		a, b ring.Range
		want []ring.Range
	}{
		{ring.Range{10, 20}, ring.Range{20, 30}, nil},
		{ring.Range{10, 20}, ring.Range{19, 30}, []ring.Range{{19, 20}}},
		{ring.Range{10, 20}, ring.Range{0, 11}, []ring.Range{{10, 11}}},
		{ring.Range{10, 20}, ring.Range{12, 15}, []ring.Range{{12, 15}}},
		{ring.Range{10, 20}, ring.Range{10, 20}, []ring.Range{{10, 20}}},
		{ring.Range{10, 20}, ring.Range{3, 3}, []ring.Range{{10, 20}}},
		{ring.Range{3, 3}, ring.Range{10, 20}, []ring.Range{{10, 20}}},
		{ring.Range{3, 3}, ring.Range{20, 10}, []ring.Range{{20, 10}}},
		{ring.Range{top - 5, 5}, ring.Range{top, 0}, []ring.Range{{top, 0}}},
		{ring.Range{top - 5, 5}, ring.Range{5, top - 5}, nil},
		// o leaves r at its end and comes round to it again.
		{ring.Range{10, 20}, ring.Range{15, 12}, []ring.Range{{10, 12}, {15, 20}}},
		{ring.Range{20, 10}, ring.Range{5, 25}, []ring.Range{{20, 25}, {5, 10}}},
	} {
		if got := test.a.Intersect(test.b); !slices.Equal(got, test.want) {
			t.Errorf("%v with %v: %v, want %v", test.a, test.b, got, test.want)
		}
	}
}

func TestIntersectHoldsWhatBothHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genRange().Draw(t, "a"), genRange().Draw(t, "b")
		both := a.Intersect(b)
		if len(both) > 2 || a.Overlaps(b) != (len(both) > 0) || a.Overlaps(b) != b.Overlaps(a) {
			t.Fatalf("%v with %v: %v, Overlaps %v", a, b, both, a.Overlaps(b))
		}
		probes := []ring.Position{
			a.Start, a.Start + 1, a.End, a.End + 1,
			b.Start, b.Start + 1, b.End, b.End + 1, genPosition().Draw(t, "p"),
		}
		for _, p := range probes {
			found := 0
			for _, r := range both {
				if r.Contains(p) {
					found++
				}
			}
			if want := a.Contains(p) && b.Contains(p); (found == 1) != want || found > 1 {
				t.Fatalf("%v is in %d parts of %v, in both: %v", p, found, both, want)
			}
		}
	})
}

func TestSplit(t *testing.T) {
	for _, test := range []struct {
		in    ring.Range
		limit uint64
		want  []ring.Range
	}{
		{ring.Range{10, 20}, 10, []ring.Range{{10, 20}}},
		{ring.Range{10, 20}, 0, []ring.Range{{10, 20}}},
		{ring.Range{10, 20}, 9, []ring.Range{{10, 15}, {15, 20}}},
		{ring.Range{10, 20}, 3, []ring.Range{{10, 12}, {12, 15}, {15, 17}, {17, 20}}},
		{ring.Range{10, 12}, 1, []ring.Range{{10, 11}, {11, 12}}},
		{ring.Range{top - 1, 1}, 1, []ring.Range{{top - 1, top}, {top, 0}, {0, 1}}},
		{ring.Range{5, 5}, 1 << 32, []ring.Range{{5, 5}}},
		{ring.Range{5, 5}, 1 << 31, []ring.Range{{5, 1<<31 + 5}, {1<<31 + 5, 5}}},
		{ring.Range{5, 5}, 1<<64 - 1, []ring.Range{{5, 5}}},
	} {
		if got := ring.Split(test.in, test.limit); !slices.Equal(got, test.want) {
			t.Errorf("Split(%v, %d) = %v, want %v", test.in, test.limit, got, test.want)
		}
	}
}

func TestSplitCoversExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genRange().Draw(t, "range")
		n := rapid.Uint64Range(1, 300).Draw(t, "parts")
		limit := (in.Size() + n - 1) / n
		at, total, smallest, largest := in.Start, uint64(0), in.Size(), uint64(0)
		parts := ring.Split(in, limit)
		for _, part := range parts {
			if part.Start != at {
				t.Fatalf("part %v does not begin at %v", part, at)
			}
			at = part.End
			total += part.Size()
			smallest, largest = min(smallest, part.Size()), max(largest, part.Size())
		}
		if at != in.End || total != in.Size() || largest > limit || largest-smallest > 1 {
			t.Fatalf("Split(%v, %d): ends at %v, total %d, sizes %d to %d", in, limit, at, total, smallest, largest)
		}
		if uint64(len(parts)) != (in.Size()+limit-1)/limit {
			t.Fatalf("Split(%v, %d): %d parts", in, limit, len(parts))
		}
	})
}
