package ring_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/quoitdb/quoit/ring"
	"pgregory.net/rapid"
)

// mustMap makes a map of "address" with its number of tokens.
func mustMap(t interface {
	Helper()
	Fatalf(string, ...any)
}, nodes ...ring.Node,
) *ring.Map {
	t.Helper()
	m, err := ring.NewMap(nodes)
	if err != nil {
		t.Fatalf("NewMap(%v): %v", nodes, err)
	}
	return m
}

// wantInvalid checks that err refuses the given subject.
func wantInvalid(t *testing.T, err error, subject string) {
	t.Helper()
	var invalid *ring.InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("error = %v, want an InvalidError", err)
	}
	if invalid.Subject != subject || invalid.Reason == "" {
		t.Errorf("refused %q for %q, want subject %q and a reason", invalid.Subject, invalid.Reason, subject)
	}
}

// nodes returns n nodes of the default number of tokens.
func nodes(n int) []ring.Node {
	all := make([]ring.Node, n)
	for i := range all {
		all[i] = ring.Node{Address: "10.0.0." + strconv.Itoa(i+1) + ":7401", Tokens: ring.DefaultTokens}
	}
	return all
}

// without returns the nodes except the i-th.
func without(all []ring.Node, i int) []ring.Node {
	return slices.Delete(slices.Clone(all), i, i+1)
}

// genAddress draws from few addresses, so that draws meet each other.
func genAddress() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		return "node-" + strconv.Itoa(rapid.IntRange(1, 12).Draw(t, "node")) + ":7401"
	})
}

// genNodes draws up to six nodes of few tokens, some of none.
func genNodes() *rapid.Generator[[]ring.Node] {
	node := rapid.Custom(func(t *rapid.T) ring.Node {
		return ring.Node{Address: genAddress().Draw(t, "address"), Tokens: rapid.IntRange(0, 6).Draw(t, "tokens")}
	})
	return rapid.SliceOfNDistinct(node, 0, 6, func(n ring.Node) string { return n.Address })
}

// genPosition draws positions near the seam and round numbers more often than
// others, because that is where arithmetic on a ring goes wrong.
func genPosition() *rapid.Generator[ring.Position] {
	return rapid.Custom(func(t *rapid.T) ring.Position {
		base := rapid.SampledFrom([]uint32{0, 1 << 24, 1 << 31, 255 << 24}).Draw(t, "base")
		near := rapid.Uint32Range(0, 8).Draw(t, "offset") - 4
		anywhere := rapid.Uint32().Draw(t, "anywhere")
		if rapid.Bool().Draw(t, "round") {
			return ring.Position(base + near)
		}
		return ring.Position(anywhere)
	})
}

func genRange() *rapid.Generator[ring.Range] {
	return rapid.Custom(func(t *rapid.T) ring.Range {
		return ring.Range{Start: genPosition().Draw(t, "start"), End: genPosition().Draw(t, "end")}
	})
}

func genArcs() *rapid.Generator[[]ring.Arc] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ring.Arc {
		return ring.Arc{Range: genRange().Draw(t, "range"), Owner: genAddress().Draw(t, "owner")}
	}), 0, 6)
}

// genMap draws maps of every kind: empty, with holes, of one owner, of many.
func genMap() *rapid.Generator[*ring.Map] {
	return rapid.Custom(func(t *rapid.T) *ring.Map {
		m := mustMap(t, genNodes().Draw(t, "nodes")...)
		return m.With(genArcs().Draw(t, "overrides"))
	})
}

// interesting returns the positions at and around which the maps could go wrong.
func interesting(t *rapid.T, maps ...*ring.Map) []ring.Position {
	positions := []ring.Position{0, 1, ring.MaxPosition - 1, ring.MaxPosition, genPosition().Draw(t, "position")}
	for _, m := range maps {
		for _, a := range m.Arcs() {
			positions = append(positions, a.Start, a.Start+1, a.End-1, a.End, a.End+1)
		}
	}
	return positions
}
