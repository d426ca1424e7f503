package ring_test

import (
	"math"
	"slices"
	"testing"

	"github.com/quoitdb/quoit/ring"
	"pgregory.net/rapid"
)

func TestPlan(t *testing.T) {
	const a, b, c = "a:1", "b:1", "c:1"
	arcs := func(arcs ...ring.Arc) *ring.Map { return (&ring.Map{}).With(arcs) }
	allOf := func(owner string) *ring.Map { return arcs(ring.Arc{Owner: owner}) }
	for _, test := range []struct {
		name     string
		from, to *ring.Map
		want     []ring.Move
	}{
		{"nothing to nothing", &ring.Map{}, &ring.Map{}, nil},
		{"the first node", &ring.Map{}, allOf(a), nil},
		{"the last node", allOf(a), &ring.Map{}, nil},
		{"no change", allOf(a), allOf(a), nil},
		{"a replacement", allOf(a), allOf(b), []ring.Move{{ring.Range{top, top}, a, b}}},
		{
			"a piece", allOf(a), allOf(a).With([]ring.Arc{{ring.Range{5, 9}, b}}),
			[]ring.Move{{ring.Range{5, 9}, a, b}},
		},
		{
			"over the top", allOf(a), allOf(a).With([]ring.Arc{{ring.Range{9, 5}, b}}),
			[]ring.Move{{ring.Range{9, 5}, a, b}},
		},
		{
			"neighbours of other sources", arcs(ring.Arc{ring.Range{0, 10}, a}, ring.Arc{ring.Range{10, 20}, b}), allOf(c),
			[]ring.Move{{ring.Range{0, 10}, a, c}, {ring.Range{10, 20}, b, c}},
		},
		{
			"a swap", arcs(ring.Arc{ring.Range{0, 10}, a}, ring.Arc{ring.Range{10, 0}, b}),
			arcs(ring.Arc{ring.Range{0, 10}, b}, ring.Arc{ring.Range{10, 0}, a}),
			[]ring.Move{{ring.Range{10, 0}, b, a}, {ring.Range{0, 10}, a, b}},
		},
		{
			"only where there is an owner on both sides", arcs(ring.Arc{ring.Range{0, 10}, a}), arcs(ring.Arc{ring.Range{5, 15}, b}),
			[]ring.Move{{ring.Range{5, 10}, a, b}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := ring.Plan(test.from, test.to); !slices.Equal(got, test.want) {
				t.Errorf("moves %v, want %v", got, test.want)
			}
		})
	}
}

func TestPlanIsTheExactDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to := genMap().Draw(t, "from"), genMap().Draw(t, "to")
		moves := ring.Plan(from, to)
		for _, p := range interesting(t, from, to) {
			source, target := from.Owner(p), to.Owner(p)
			var found []ring.Move
			for _, m := range moves {
				if m.Range.Contains(p) {
					found = append(found, m)
				}
			}
			if source == target || source == "" || target == "" {
				if len(found) != 0 {
					t.Fatalf("%v stays, but is in %v", p, found)
				}
				continue
			}
			if len(found) != 1 || found[0].Source != source || found[0].Target != target {
				t.Fatalf("%v goes from %s to %s, but is in %v", p, source, target, found)
			}
		}
	})
}

func TestPlanIsSortedAndMerged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		moves := ring.Plan(genMap().Draw(t, "from"), genMap().Draw(t, "to"))
		for i, m := range moves {
			before := moves[(i+len(moves)-1)%len(moves)]
			if i > 0 && before.Range.End >= m.Range.End {
				t.Fatalf("%v does not come before %v", before, m)
			}
			if len(moves) > 1 && before.Range.End == m.Range.Start && before.Source == m.Source && before.Target == m.Target {
				t.Fatalf("%v and %v could be one", before, m)
			}
		}
	})
}

func TestPlanCarriedOutGivesTheNewMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		last := ring.Node{Address: "last:1", Tokens: 1}
		from := mustMap(t, append(genNodes().Draw(t, "from"), last)...)
		to := mustMap(t, append(genNodes().Draw(t, "to"), last)...)
		var moved, held []ring.Arc
		for _, m := range ring.Plan(from, to) {
			moved = append(moved, ring.Arc{Range: m.Range, Owner: m.Target})
			held = append(held, ring.Arc{Range: m.Range, Owner: m.Source})
		}
		if got := from.With(moved); !got.Equal(to) {
			t.Fatalf("after all moves %v, want %v", got.Arcs(), to.Arcs())
		}
		if got := to.With(held); !got.Equal(from) {
			t.Fatalf("with all moves held %v, want %v", got.Arcs(), from.Arcs())
		}
	})
}

// size adds up what moves, as a part of the ring.
func size(moves []ring.Move) float64 {
	var sum uint64
	for _, m := range moves {
		sum += m.Range.Size()
	}
	return float64(sum) / (1 << 32)
}

func TestChangingOneNodeMovesItsShareAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 12).Draw(t, "nodes")
		first := rapid.IntRange(0, 1<<16).Draw(t, "first")
		all := make([]ring.Node, n)
		for i := range all {
			all[i] = ring.Node{Address: "node:" + ring.Position(first%60000+i+1).String(), Tokens: ring.DefaultTokens}
		}
		changed := rapid.IntRange(0, n-1).Draw(t, "changed")
		address := all[changed].Address
		large, small := mustMap(t, all...), mustMap(t, without(all, changed)...)

		join, leave := ring.Plan(small, large), ring.Plan(large, small)
		for i := range join {
			if join[i].Target != address || join[i].Source == address {
				t.Fatalf("%s joins, and %v", address, join[i])
			}
		}
		for i := range leave {
			if leave[i].Source != address || leave[i].Target == address {
				t.Fatalf("%s leaves, and %v", address, leave[i])
			}
		}
		share := large.Share(address)
		if math.Abs(size(join)-share) > 1e-9 || math.Abs(size(leave)-share) > 1e-9 {
			t.Fatalf("%v moves in, %v out, the share is %v", size(join), size(leave), share)
		}
		// With 128 tokens a share has a standard deviation of 9 %; this is 5.5 of them.
		if fair := 1 / float64(n); share < fair/2 || share > fair*1.5 {
			t.Fatalf("one of %d nodes has %.4f of the ring", n, share)
		}
	})
}
