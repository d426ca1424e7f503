package ring_test

import (
	"math"
	"slices"
	"testing"

	"github.com/quoitdb/quoit/ring"
	"pgregory.net/rapid"
)

func TestEmptyMap(t *testing.T) {
	for name, m := range map[string]*ring.Map{
		"zero":             {},
		"no nodes":         mustMap(t),
		"no tokens":        mustMap(t, ring.Node{Address: "a:1"}),
		"owned by nobody":  mustMap(t, nodes(2)...).With([]ring.Arc{{Range: ring.Range{3, 3}}}),
		"held and let go":  (&ring.Map{}).With([]ring.Arc{{ring.Range{3, 9}, "a:1"}, {ring.Range{3, 9}, ""}}),
		"overridden by no": (&ring.Map{}).With(nil),
	} {
		if !m.Equal(&ring.Map{}) || len(m.Arcs()) != 0 || len(m.Owners()) != 0 || m.Owner(0) != "" || m.Owner(top) != "" {
			t.Errorf("%s: %v", name, m.Arcs())
		}
	}
}

func TestOneNodeOwnsTheWholeRing(t *testing.T) {
	m := mustMap(t, nodes(1)...)
	want := []ring.Arc{{ring.Range{top, top}, "10.0.0.1:7401"}}
	if got := m.Arcs(); !slices.Equal(got, want) {
		t.Errorf("arcs %v, want %v", got, want)
	}
	if got := m.Share("10.0.0.1:7401"); got != 1 {
		t.Errorf("share %v, want 1", got)
	}
}

func TestWithOverrides(t *testing.T) {
	const a, b, c = "a:1", "b:1", "c:1"
	whole := func(owner string) *ring.Map { return (&ring.Map{}).With([]ring.Arc{{ring.Range{0, 0}, owner}}) }
	for _, test := range []struct {
		name      string
		in        *ring.Map
		overrides []ring.Arc
		want      []ring.Arc
	}{
		{"nothing", whole(a), nil, []ring.Arc{{ring.Range{top, top}, a}}},
		{"everything", whole(a), []ring.Arc{{ring.Range{9, 9}, b}}, []ring.Arc{{ring.Range{top, top}, b}}},
		{"the same owner", whole(a), []ring.Arc{{ring.Range{5, 9}, a}}, []ring.Arc{{ring.Range{top, top}, a}}},
		{"a piece", whole(a), []ring.Arc{{ring.Range{5, 9}, b}}, []ring.Arc{{ring.Range{9, 5}, a}, {ring.Range{5, 9}, b}}},
		{"one key", whole(a), []ring.Arc{{ring.Range{top, 0}, b}}, []ring.Arc{{ring.Range{top, 0}, b}, {ring.Range{0, top}, a}}},
		{"all but one key", whole(a), []ring.Arc{{ring.Range{5, 4}, b}}, []ring.Arc{{ring.Range{5, 4}, b}, {ring.Range{4, 5}, a}}},
		{"over the top", whole(a), []ring.Arc{{ring.Range{top - 1, 1}, b}}, []ring.Arc{{ring.Range{top - 1, 1}, b}, {ring.Range{1, top - 1}, a}}},
		{"of nobody's", &ring.Map{}, []ring.Arc{{ring.Range{5, 9}, b}}, []ring.Arc{{ring.Range{5, 9}, b}}},
		{"neighbours", &ring.Map{}, []ring.Arc{{ring.Range{5, 9}, b}, {ring.Range{9, 12}, b}}, []ring.Arc{{ring.Range{5, 12}, b}}},
		{
			"the later one counts", &ring.Map{},
			[]ring.Arc{{ring.Range{0, 100}, a}, {ring.Range{50, 150}, b}, {ring.Range{40, 60}, c}},
			[]ring.Arc{{ring.Range{0, 40}, a}, {ring.Range{40, 60}, c}, {ring.Range{60, 150}, b}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := test.in.Arcs()
			if got := test.in.With(test.overrides).Arcs(); !slices.Equal(got, test.want) {
				t.Errorf("arcs %v, want %v", got, test.want)
			}
			if !slices.Equal(test.in.Arcs(), before) {
				t.Error("the map changed")
			}
		})
	}
}

func TestManyOverlappingOverridesStayCheap(t *testing.T) {
	overrides := make([]ring.Arc, ring.MaxHeld)
	for i := range overrides {
		p := ring.Position(i)
		overrides[i] = ring.Arc{Range: ring.Range{p, top - p}, Owner: []string{"a:1", "b:1"}[i%2]}
	}
	m := mustMap(t, nodes(3)...).With(overrides) // Minutes, were each arc laid over each piece.
	if got := len(m.Arcs()); got < 2*len(overrides)-1 {
		t.Errorf("%d arcs of %d nested overrides", got, len(overrides))
	}
}

func TestHottestNodeStaysNearItsShare(t *testing.T) {
	all := nodes(5)
	m := mustMap(t, all...)
	var sum float64
	for _, n := range all {
		share := m.Share(n.Address)
		sum += share
		if share < 0.2/1.35 || share > 0.2*1.35 {
			t.Errorf("%s has %.3f of the ring, want about 0.2", n.Address, share)
		}
	}
	if math.Abs(sum-1) > 1e-9 {
		t.Errorf("shares add up to %v", sum)
	}
}

func TestOwnerDoesNotAllocate(t *testing.T) {
	m := mustMap(t, nodes(10)...)
	p := ring.Position(0)
	if allocs := testing.AllocsPerRun(1000, func() { p += ring.Position(len(m.Owner(p))) << 20 }); allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

func TestEveryPositionHasExactlyOneOwner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := genMap().Draw(t, "map")
		arcs := m.Arcs()
		for _, p := range interesting(t, m) {
			var owners []string
			for _, a := range arcs {
				if a.Contains(p) {
					owners = append(owners, a.Owner)
				}
			}
			want := m.Owner(p)
			if want == "" && len(owners) == 0 {
				continue // In a hole, which only overrides of an empty map leave.
			}
			if len(owners) != 1 || owners[0] != want {
				t.Fatalf("%v is in arcs of %q, Owner says %q", p, owners, want)
			}
		}
	})
}

func TestNodesWithTokensLeaveNoHole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := append(genNodes().Draw(t, "nodes"), ring.Node{Address: "last:1", Tokens: 1})
		m := mustMap(t, all...)
		var size uint64
		for _, a := range m.Arcs() {
			size += a.Size()
		}
		if size != 1<<32 {
			t.Fatalf("arcs hold %d positions", size)
		}
	})
}

func TestKeysBelongToTheFirstTokenAtOrAfter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := append(genNodes().Draw(t, "nodes"), ring.Node{Address: "last:1", Tokens: 1})
		m := mustMap(t, all...)
		for _, p := range interesting(t, m) {
			nearest, want := uint64(1<<33), ""
			for _, n := range all {
				for _, token := range ring.TokensOf(n.Address, n.Tokens) {
					steps := uint64(token - p)
					if steps < nearest || steps == nearest && n.Address < want {
						nearest, want = steps, n.Address
					}
				}
			}
			if got := m.Owner(p); got != want {
				t.Fatalf("%v belongs to %s, want %s", p, got, want)
			}
		}
	})
}

func TestArcsAreSortedMergedAndAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := genMap().Draw(t, "map")
		arcs := m.Arcs()
		for i, a := range arcs {
			before := arcs[(i+len(arcs)-1)%len(arcs)]
			if i > 0 && before.End >= a.End {
				t.Fatalf("%v does not come before %v", before, a)
			}
			if len(arcs) > 1 && before.End == a.Start && before.Owner == a.Owner {
				t.Fatalf("%v and %v could be one", before, a)
			}
		}
		var share float64
		var fromOwners []ring.Arc
		for _, owner := range m.Owners() {
			share += m.Share(owner)
			for _, r := range m.ArcsOf(owner) {
				fromOwners = append(fromOwners, ring.Arc{Range: r, Owner: owner})
			}
		}
		var size uint64
		for _, a := range arcs {
			size += a.Size()
		}
		if math.Abs(share-float64(size)/(1<<32)) > 1e-9 {
			t.Fatalf("shares add up to %v, arcs to %d positions", share, size)
		}
		slices.SortFunc(fromOwners, func(a, b ring.Arc) int { return int(int64(a.End) - int64(b.End)) })
		if !slices.Equal(fromOwners, arcs) {
			t.Fatalf("ArcsOf gives %v, Arcs %v", fromOwners, arcs)
		}
		if !(&ring.Map{}).With(arcs).Equal(m) {
			t.Fatal("the arcs do not make the same map")
		}
		if m.Share("") != 0 || m.Share("stranger:1") != 0 || m.ArcsOf("") != nil {
			t.Fatal("somebody unknown owns something")
		}
	})
}

func TestJoiningOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := genNodes().Draw(t, "nodes")
		shuffled := rapid.Permutation(all).Draw(t, "shuffled")
		if a, b := mustMap(t, all...), mustMap(t, shuffled...); !a.Equal(b) {
			t.Fatalf("%v, but shuffled %v", a.Arcs(), b.Arcs())
		}
	})
}

func TestHeldOverrides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, overrides := genMap().Draw(t, "map"), genArcs().Draw(t, "overrides")
		over := m.With(overrides)
		positions := interesting(t, m, over)
		for _, o := range overrides {
			positions = append(positions, o.Start, o.Start+1, o.End, o.End+1)
		}
		for _, p := range positions {
			want := m.Owner(p)
			for _, o := range overrides {
				if o.Contains(p) {
					want = o.Owner
				}
			}
			if got := over.Owner(p); got != want {
				t.Fatalf("%v belongs to %q, want %q", p, got, want)
			}
		}
	})
}

func TestEqualMeansTheSameOwnerEverywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genMap().Draw(t, "a"), genMap().Draw(t, "b")
		same := true
		for _, p := range interesting(t, a, b) {
			same = same && a.Owner(p) == b.Owner(p)
		}
		if a.Equal(b) != same || !a.Equal(a) {
			t.Fatalf("Equal = %v for %v and %v", a.Equal(b), a.Arcs(), b.Arcs())
		}
	})
}
