package manager

import (
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/member"
)

// clock is a time that stands still until the test moves it.
type clock struct{ at time.Time }

func (c *clock) now() time.Time       { return c.at }
func (c *clock) pass(d time.Duration) { c.at = c.at.Add(d) }

func testRegistry() (*registry, *clock) {
	c := &clock{time.Unix(1000, 0)}
	return newRegistry(5*time.Second, c.now), c
}

var memberA = cluster.Member{Address: nodeA, ID: "id-a", Incarnation: 3}

func heartbeatA(ops int64) member.Heartbeat {
	return member.Heartbeat{Address: nodeA, ID: "id-a", Incarnation: 3, Ops: ops}
}

func TestNodesAreUpUntilTheyAreSilent(t *testing.T) {
	r, c := testRegistry()
	if !r.up(nodeA) || r.heardOf(memberA) {
		t.Error("a manager that has just started knows nothing: nobody is down, nobody was heard of")
	}
	if !r.note(heartbeatA(0), memberA) {
		t.Error("the first heartbeat is no news")
	}
	c.pass(4 * time.Second)
	if !r.up(nodeA) || !r.heardOf(memberA) || r.note(heartbeatA(0), memberA) {
		t.Error("a node that speaks in time is down, or news")
	}
	c.pass(5 * time.Second)
	if r.up(nodeA) || r.heardOf(memberA) || r.up(nodeB) {
		t.Error("a silent node is up")
	}
	if !r.note(heartbeatA(0), memberA) {
		t.Error("the end of a silence is no news")
	}
}

func TestHeartbeatsOfOthersAreIgnored(t *testing.T) {
	r, _ := testRegistry()
	for name, h := range map[string]member.Heartbeat{
		"another folder":        {Address: nodeA, ID: "id-x", Incarnation: 3},
		"an older start":        {Address: nodeA, ID: "id-a", Incarnation: 2},
		"another node":          {Address: nodeB, ID: "id-a", Incarnation: 3},
		"a heartbeat of nobody": {},
	} {
		if r.note(h, memberA) || len(r.all()) > 0 {
			t.Errorf("%s was noted", name)
		}
	}
	newer := heartbeatA(0)
	newer.Incarnation = 4 // this manager has not read the document yet
	r.note(newer, memberA)
	if r.note(heartbeatA(9), memberA); r.all()[nodeA].Incarnation != 4 {
		t.Error("a paused process that woke took the place of the one that runs")
	}
}

// TestAddressWithAnotherNode: a node that was forgotten, and another one that has
// come in its place.
func TestAddressWithAnotherNode(t *testing.T) {
	r, _ := testRegistry()
	old := heartbeatA(0)
	old.Incarnation = 9
	r.note(old, memberA)
	fresh := cluster.Member{Address: nodeA, ID: "id-new", Incarnation: 4}
	if r.heardOf(fresh) {
		t.Error("the new one was heard of, before it spoke")
	}
	if !r.note(member.Heartbeat{Address: nodeA, ID: "id-new", Incarnation: 4}, fresh) || !r.heardOf(fresh) || r.heardOf(memberA) {
		t.Error("the new one is taken for the old one")
	}
}

func TestOnlyMembersAreRemembered(t *testing.T) {
	r, _ := testRegistry()
	r.note(heartbeatA(0), memberA)
	r.keep(cluster.Document{Nodes: []cluster.Member{memberA}})
	if len(r.all()) != 1 {
		t.Error("a member was forgotten")
	}
	r.keep(cluster.Document{Nodes: []cluster.Member{{Address: nodeA, ID: "id-new"}}})
	if len(r.all()) != 0 {
		t.Error("a node that is no member is remembered")
	}
}

func TestRates(t *testing.T) {
	r, c := testRegistry()
	for _, step := range []struct {
		name   string
		passed time.Duration
		ops    int64
		want   float64
	}{
		{"one heartbeat says nothing of the speed", 0, 1000, 0},
		{"a second later", time.Second, 1500, 500},
		{"a report comes between two heartbeats", 10 * time.Millisecond, 1600, 500},
		{"what it brought is counted with the next", 990 * time.Millisecond, 3500, 2000},
		{"idle", time.Second, 3500, 0},
	} {
		c.pass(step.passed)
		r.note(heartbeatA(step.ops), memberA)
		if got := r.all()[nodeA].opsPerSec; got != step.want {
			t.Errorf("%s: %v ops/s, want %v", step.name, got, step.want)
		}
	}
	again := heartbeatA(10)
	again.Incarnation = 4
	c.pass(time.Second)
	if r.note(again, memberA); r.all()[nodeA].opsPerSec != 0 {
		t.Error("a restart made a rate")
	}
}
