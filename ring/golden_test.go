package ring_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/need"
	"github.com/quoitdb/quoit/ring"
)

const goldenFile = "testdata/golden.txt"

// golden checks the lines of the golden file one after another. A ring or plan
// line opens a paragraph that the lines after it are about.
type golden struct {
	t     *testing.T
	line  int
	name  string
	nodes []ring.Node
	held  []ring.Arc
	maps  map[string]*ring.Map
	arcs  []ring.Arc  // listed so far in this paragraph
	moves []ring.Move // listed so far in this paragraph
	plan  []ring.Move // computed for this paragraph
	count map[string]int
}

func TestGolden(t *testing.T) {
	text, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	g := &golden{t: t, maps: map[string]*ring.Map{}, count: map[string]int{}}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		g.line++
		if fields := strings.Fields(lines.Text()); fields[0] != "#" {
			g.count[fields[0]]++
			g.check(fields[0], fields[1:])
		}
	}
	g.finish()
	for _, verb := range []string{"position", "token", "ring", "held", "owner", "key", "arc", "plan", "move"} {
		if g.count[verb] == 0 {
			t.Errorf("%s has no %s lines", goldenFile, verb)
		}
	}
}

func (g *golden) check(verb string, f []string) {
	switch verb {
	case "position":
		g.equal(ring.PositionOf(g.key(f[0])).String(), f[1])
	case "token":
		i := g.number(f[1])
		g.equal(ring.TokensOf(f[0], i+1)[i].String(), f[2])
	case "ring":
		g.finish()
		g.open(f[0], f[1:])
	case "held":
		g.held = append(g.held, ring.Arc{Range: g.span(f), Owner: f[2]})
	case "owner":
		g.equal(g.current().Owner(ring.Position(g.number(f[0]))), owner(f[1]))
	case "key":
		g.equal(g.current().Owner(ring.PositionOf(g.key(f[0]))), owner(f[1]))
	case "arc":
		g.arcs = append(g.arcs, ring.Arc{Range: g.span(f), Owner: f[2]})
	case "plan":
		g.finish()
		g.plan = ring.Plan(g.maps[f[0]], g.maps[f[1]])
	case "move":
		g.moves = append(g.moves, ring.Move{Range: g.span(f), Source: f[2], Target: f[3]})
	default:
		g.t.Fatalf("%s:%d: unknown word %q", goldenFile, g.line, verb)
	}
}

// open begins the paragraph of a ring of nodes written address/tokens.
func (g *golden) open(name string, members []string) {
	g.name = name
	for _, member := range members {
		address, tokens, _ := strings.Cut(member, "/")
		g.nodes = append(g.nodes, ring.Node{Address: address, Tokens: g.number(tokens)})
	}
}

// finish compares the lists of the paragraph that ends here.
func (g *golden) finish() {
	if g.name != "" && len(g.arcs) > 0 && !slices.Equal(g.current().Arcs(), g.arcs) {
		g.t.Errorf("%s:%d: arcs of %s\n got %v\nwant %v", goldenFile, g.line, g.name, g.current().Arcs(), g.arcs)
	}
	if !slices.Equal(g.plan, g.moves) {
		g.t.Errorf("%s:%d: moves\n got %v\nwant %v", goldenFile, g.line, g.plan, g.moves)
	}
	g.name, g.nodes, g.held, g.arcs, g.moves, g.plan = "", nil, nil, nil, nil, nil
}

// current returns the map of the paragraph, made from its topology.
func (g *golden) current() *ring.Map {
	if m := g.maps[g.name]; m != nil {
		return m
	}
	m, err := ring.Topology{Cluster: g.name, Nodes: g.nodes, Held: g.held}.Map()
	if err != nil {
		g.t.Fatalf("%s:%d: %v", goldenFile, g.line, err)
	}
	g.maps[g.name] = m
	return m
}

func (g *golden) equal(got, want string) {
	g.t.Helper()
	if got != want {
		g.t.Errorf("%s:%d: %s: got %q, want %q", goldenFile, g.line, g.name, got, want)
	}
}

func (g *golden) number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		g.t.Fatalf("%s:%d: %v", goldenFile, g.line, err)
	}
	return n
}

func (g *golden) span(f []string) ring.Range {
	return ring.Range{Start: ring.Position(g.number(f[0])), End: ring.Position(g.number(f[1]))}
}

func (g *golden) key(text string) []byte {
	key, err := hex.DecodeString(owner(text))
	if err != nil {
		g.t.Fatalf("%s:%d: %v", goldenFile, g.line, err)
	}
	return key
}

// owner reads a field in which "-" stands for nothing.
func owner(text string) string {
	if text == "-" {
		return ""
	}
	return text
}

// TestGoldenAgainstPython has the vectors computed anew by an implementation that
// shares nothing with this one.
func TestGoldenAgainstPython(t *testing.T) {
	python := need.Program(t, "python3")
	computed, err := exec.CommandContext(t.Context(), python, "testdata/golden.py").CombinedOutput()
	if err != nil {
		t.Fatalf("golden.py: %v\n%s", err, computed)
	}
	recorded, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(computed, recorded) {
		t.Errorf("golden.py computes %d bytes that differ from the %d of %s", len(computed), len(recorded), goldenFile)
	}
}
