package manager

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/ring"
)

// joining returns a cluster of A and B into which C is moving: two moves of it are
// committed.
func joining(t *testing.T) cluster.Document {
	d := documentOf(t, nodeA, nodeB)
	d = must(t)(d.Register(cluster.Registration{ID: "id-c", Address: nodeC, Tokens: 3}))
	d = must(t)(d.Join(nodeC))
	return must(t)(d.Commit(d.Moves[0].ID, d.Moves[1].ID))
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestStatusFigures(t *testing.T) {
	d := joining(t)
	now := time.Unix(5000, 0)
	views := map[string]view{
		nodeA: {
			Heartbeat: member.Heartbeat{
				Address: nodeA, ID: "id-a", Incarnation: 1, Keys: 7, Serving: true,
				Moves: []member.MoveProgress{{ID: d.Moves[2].ID, Phase: "copy", Keys: 5, Bytes: 50, Share: 0.25, Pause: 1.5, Reason: "because"}},
			},
			at: now.Add(-700 * time.Millisecond), opsPerSec: 12,
		},
		nodeB: {Heartbeat: member.Heartbeat{Address: nodeB, ID: "id-b", Incarnation: 2, Keys: 9, Serving: true}, at: now.Add(-6 * time.Second), opsPerSec: 34},
	}
	s := statusOf(d, views, now, 5*time.Second, 3)
	if s.Cluster != "test" || s.Epoch != d.Epoch || s.Counter != d.Counter || !s.Formed || s.WaitingFor != 0 || len(s.Nodes) != 3 || len(s.Moves) != len(d.Moves) {
		t.Fatalf("status is %+v", s)
	}
	a, b, c := s.Nodes[0], s.Nodes[1], s.Nodes[2]
	if !a.Up || a.SilentMS != 700 || a.OpsPerSec != 12 || a.Keys != 7 || !a.Serving || a.Heartbeat.Moves != nil {
		t.Errorf("A is %+v", a)
	}
	if b.Up || b.SilentMS != 6000 || b.OpsPerSec != 0 || b.Serving || b.Keys != 9 {
		t.Errorf("B, which is down, is %+v", b)
	}
	if c.Up || c.SilentMS != -1 || c.ID != "id-c" || c.Incarnation != 3 || c.Heartbeat.Address != nodeC {
		t.Errorf("C, which was never heard of, is %+v", c)
	}
	moved := share(d.Moves[0].Range) + share(d.Moves[1].Range)
	if !near(c.Share, moved) || !near(a.Share+b.Share+c.Share, 1) || !near(a.GoalShare+b.GoalShare+c.GoalShare, 1) || c.GoalShare <= c.Share {
		t.Errorf("shares %v %v %v, goals %v %v %v; %v has moved", a.Share, b.Share, c.Share, a.GoalShare, b.GoalShare, c.GoalShare, moved)
	}
	if s.Moves[0].Phase != "committed" || s.Moves[3].Phase != "planned" {
		t.Errorf("phases %s, %s", s.Moves[0].Phase, s.Moves[3].Phase)
	}
	want := MoveStatus{
		ID: d.Moves[2].ID, Range: d.Moves[2].Range, Source: d.Moves[2].Source, Target: nodeC,
		Phase: "copy", Keys: 5, Bytes: 50, Share: 0.25, PauseMS: 1.5, Reason: "because",
	}
	if s.Moves[2] != want {
		t.Errorf("move is %+v, want %+v", s.Moves[2], want)
	}
}

// TestStatusOfACommittedMove: what its source still says of it does not take the
// commit back.
func TestStatusOfACommittedMove(t *testing.T) {
	d := joining(t)
	views := map[string]view{nodeA: {Heartbeat: member.Heartbeat{Moves: []member.MoveProgress{{ID: d.Moves[0].ID, Phase: "seal", Keys: 3}}}}}
	s := statusOf(d, views, time.Unix(1, 0), time.Second, 1)
	if s.Moves[0].Phase != "committed" || s.Moves[0].Keys != 3 {
		t.Errorf("move is %+v", s.Moves[0])
	}
}

func TestStatusBeforeTheFirstRing(t *testing.T) {
	d := documentOf(t)
	d = must(t)(d.Register(cluster.Registration{ID: "id-a", Address: nodeA, Tokens: 3}))
	d = must(t)(d.Register(cluster.Registration{ID: "id-b", Address: nodeB, Tokens: 3}))
	now := time.Unix(50, 0)
	s := statusOf(d, map[string]view{nodeA: {at: now}}, now, time.Second, 3)
	if s.Formed || s.WaitingFor != 2 || s.Nodes[0].Share != 0 || s.Nodes[0].State != cluster.Known {
		t.Errorf("status is %+v: one of two that have registered is alive, of three that are needed", s)
	}
	text, err := json.Marshal(s)
	if err != nil || !strings.Contains(string(text), `"moves":[]`) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestStatusAsJSON: the node's own address and state are not hidden by those of its
// heartbeat, and it can be read back.
func TestStatusAsJSON(t *testing.T) {
	s := statusOf(joining(t), nil, time.Unix(1, 0), time.Second, 1)
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var again Status
	if err := json.Unmarshal(text, &again); err != nil || again.Nodes[1].Address != nodeB || again.Nodes[1].State != cluster.Active || again.Nodes[2].ID != "id-c" {
		t.Errorf("%v: %s", err, text)
	}
}

func TestPlanFigures(t *testing.T) {
	d := documentOf(t, nodeA, nodeB)
	p, err := planFor(d, []string{nodeC, nodeC}, []string{nodeA})
	if err != nil {
		t.Fatal(err)
	}
	shares := make(map[string]PlannedNode)
	for _, n := range p.Nodes {
		shares[n.Address] = n
	}
	if len(p.Nodes) != 3 || shares[nodeA].After != 0 || shares[nodeC].Before != 0 || !near(shares[nodeB].After+shares[nodeC].After, 1) {
		t.Errorf("nodes are %+v", p.Nodes)
	}
	moved := 0.0
	for _, m := range p.Moves {
		moved += share(m.Range)
		if m.Target == nodeA {
			t.Errorf("%v goes to the node that leaves", m)
		}
	}
	gained := shares[nodeC].After + max(0, shares[nodeB].After-shares[nodeB].Before)
	if !near(p.Share, moved) || !near(p.Ideal, gained) || p.Share < p.Ideal-1e-9 {
		t.Errorf("share %v, ideal %v; %v moves and %v is gained", p.Share, p.Ideal, moved, gained)
	}
	if !slices.Equal(p.Remove, []string{nodeA}) {
		t.Errorf("remove %v", p.Remove)
	}
}

// TestPlanIsWhatHappens: the plan's moves are those of the document when it is done.
func TestPlanIsWhatHappens(t *testing.T) {
	d := documentOf(t, nodeA, nodeB)
	d = must(t)(d.Register(cluster.Registration{ID: "id-c", Address: nodeC, Tokens: 3}))
	p, err := planFor(d, []string{nodeC}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d = must(t)(d.Join(nodeC))
	var planned, made float64
	for _, m := range p.Moves {
		planned += share(m.Range)
	}
	for _, m := range d.Moves {
		made += share(m.Range)
	}
	if !near(planned, made) || !near(p.Share, p.Ideal) || p.Nodes[2].After != sharesOf(d.Goal())[nodeC] {
		t.Errorf("planned %v, made %v; plan is %+v", planned, made, p.Nodes)
	}
}

func TestPlanOfTheFirstNodes(t *testing.T) {
	p, err := planFor(documentOf(t), []string{nodeA, nodeB}, nil)
	if err != nil || p.Share != 0 || p.Ideal != 0 || len(p.Moves) != 0 || p.Moves == nil || !near(p.Nodes[0].After+p.Nodes[1].After, 1) {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestPlanRefusals(t *testing.T) {
	d := documentOf(t, nodeA)
	if _, err := planFor(d, nil, []string{nodeB}); !errors.Is(err, cluster.ErrUnknownMember) {
		t.Errorf("removing a stranger: %v", err)
	}
	if _, err := planFor(d, nil, []string{nodeA}); !errors.Is(err, cluster.ErrLastMember) {
		t.Errorf("removing the last node: %v", err)
	}
	if _, err := planFor(d, []string{"no-port"}, nil); err == nil {
		t.Error("adding what is no address")
	}
	known := must(t)(d.Register(cluster.Registration{ID: "id-b", Address: nodeB, Tokens: 3}))
	if p, err := planFor(known, nil, []string{nodeB}); err != nil || len(p.Moves) > 0 {
		t.Errorf("removing a node that owns nothing: %+v, %v", p, err)
	}
}

func TestSharesWithoutARing(t *testing.T) {
	if s := sharesOf(nil, errors.New("no ring")); len(s) != 0 {
		t.Errorf("shares %v", s)
	}
	if got := share(ring.Range{}); got != 1 {
		t.Errorf("the whole ring is %v", got)
	}
}
