package cluster

import (
	"bytes"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/ring"
)

func TestMain(m *testing.M) { leak.Main(m) }

// failer is what *testing.T and *rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// a, b, c, ... are addresses that sort as their names do.
const (
	a = "a:7401"
	b = "b:7401"
	c = "c:7401"
)

// node returns the registration of a node with few tokens.
func node(address string) Registration {
	name, _, _ := strings.Cut(address, ":")
	return Registration{ID: NodeID("id-" + name), Address: address, Tokens: 3}
}

// ok takes the result of a transition that must succeed, and swaps it in: its
// counter and nonce are new, as the store makes them.
func ok(t failer) func(Document, error) Document {
	return func(d Document, err error) Document {
		t.Helper()
		if err != nil {
			t.Fatalf("transition: %v", err)
		}
		return swapped(d)
	}
}

func swapped(d Document) Document {
	if d.Nonce != "" {
		d.Recent = append([]string{d.Nonce}, d.Recent...)
		d.Recent = d.Recent[:min(len(d.Recent), MaxRecent)]
	}
	d.Counter++
	d.Nonce = "n" + strconv.FormatUint(d.Counter, 10)
	return d
}

// clusterOf returns a document with these members, all active and nothing to move.
func clusterOf(t failer, addresses ...string) Document {
	t.Helper()
	d := ok(t)(New("test"))
	var nodes []Registration
	for _, address := range addresses {
		nodes = append(nodes, node(address))
	}
	return ok(t)(d.Bootstrap(nodes...))
}

// registered returns the document with more, known members.
func registered(t failer, d Document, addresses ...string) Document {
	t.Helper()
	for _, address := range addresses {
		d = ok(t)(d.Register(node(address)))
	}
	return d
}

func idsOf(moves []Move) []MoveID {
	ids := make([]MoveID, len(moves))
	for i, m := range moves {
		ids[i] = m.ID
	}
	return ids
}

// inPhase returns the ids of the moves in a phase.
func inPhase(d Document, p Phase) []MoveID {
	return idsOf(slices.DeleteFunc(slices.Clone(d.Moves), func(m Move) bool { return m.Phase != p }))
}

// finished runs all moves to their end.
func finished(t failer, d Document) Document {
	t.Helper()
	for round := 0; len(d.Moves) > 0; round++ {
		if round > 10 {
			t.Fatalf("moves do not come to an end: %+v", d.Moves)
		}
		d = ok(t)(d.Commit(idsOf(d.Startable())...))
		committed := inPhase(d, Committed)
		d = ok(t)(d.MarkActive(committed...))
		d = ok(t)(d.MarkDropped(committed...))
	}
	return d
}

func ownership(t failer, d Document) *ring.Map {
	t.Helper()
	m, err := d.Ownership()
	if err != nil {
		t.Fatalf("Ownership: %v", err)
	}
	return m
}

func goal(t failer, d Document) *ring.Map {
	t.Helper()
	m, err := d.Goal()
	if err != nil {
		t.Fatalf("Goal: %v", err)
	}
	return m
}

// uniform reports whether all of a range has one owner.
func uniform(m *ring.Map, r ring.Range, owner string) bool {
	return m.With([]ring.Arc{{Range: r, Owner: owner}}).Equal(m)
}

// checkDocument holds a document against everything that is true of every one.
func checkDocument(t failer, d Document) {
	t.Helper()
	owned, target := ownership(t, d), goal(t, d)
	var planned []ring.Range
	for _, m := range d.Moves {
		owner := m.Source
		if m.Phase == Committed {
			owner = m.Target
		} else {
			planned = append(planned, m.Range)
			if !uniform(target, m.Range, m.Target) {
				t.Errorf("move %s does not lead to the goal", m.ID)
			}
			if m.Range.Size() > maxRange {
				t.Errorf("move %s takes %d positions", m.ID, m.Range.Size())
			}
		}
		if !uniform(owned, m.Range, owner) {
			t.Errorf("%s move %s %v: the range is not all owned by %s", m.Phase, m.ID, m.Range, owner)
		}
	}
	var different []ring.Range
	for _, m := range ring.Plan(owned, target) {
		different = append(different, m.Range)
	}
	if !reflect.DeepEqual(spansOf(planned...), spansOf(different...)) {
		t.Errorf("planned moves and the way to the goal differ")
	}
	if len(target.Owners()) > 0 && !spansOf(rangesOf(owned)...).covers(ring.Range{}) {
		t.Errorf("a part of the ring has no owner")
	}
	topology, err := d.Topology().Map()
	if err != nil || !topology.Equal(owned) {
		t.Errorf("the topology differs from the ownership: %v", err)
	}
	checkCoding(t, d)
}

func rangesOf(m *ring.Map) []ring.Range {
	var ranges []ring.Range
	for _, arc := range m.Arcs() {
		ranges = append(ranges, arc.Range)
	}
	return ranges
}

// checkCoding writes a document and reads it back.
func checkCoding(t failer, d Document) {
	t.Helper()
	text, err := d.Encode()
	if err != nil {
		t.Fatalf("Encode: %v", err)
	}
	again, err := Decode(text)
	if err != nil {
		t.Fatalf("Decode: %v", err)
	}
	if text2, err := again.Encode(); err != nil || !bytes.Equal(text, text2) {
		t.Errorf("a document changes when it is read and written: %v", err)
	}
}

// cloned returns a deep copy.
func cloned(d Document) Document {
	d = d.copied()
	d.Recent = slices.Clone(d.Recent)
	for i := range d.Nodes {
		d.Nodes[i].Endpoints = slices.Clone(d.Nodes[i].Endpoints)
	}
	return d
}
