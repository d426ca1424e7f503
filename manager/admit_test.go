package manager

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
)

func TestAdmissible(t *testing.T) {
	states := map[string]cluster.State{"k": cluster.Known, "a": cluster.Active, "l": cluster.Leaving}
	for _, c := range []struct {
		name    string
		members []string // name and state
		silent  string
		initial int
		mode    JoinMode
		want    []string
	}{
		{"nobody there", nil, "", 1, JoinAuto, nil},
		{"not enough yet", []string{"1k", "2k"}, "", 3, JoinAuto, nil},
		{"enough to form", []string{"1k", "2k", "3k"}, "", 3, JoinManual, []string{"1", "2", "3"}},
		{"more than enough", []string{"1k", "2k", "3k"}, "", 2, JoinManual, []string{"1", "2", "3"}},
		{"one of them is silent", []string{"1k", "2k", "3k"}, "2", 3, JoinAuto, nil},
		{"one is silent, the others are enough", []string{"1k", "2k", "3k"}, "2", 2, JoinManual, []string{"1", "3"}},
		{"formed, joining by hand", []string{"1a", "2k"}, "", 1, JoinManual, nil},
		{"formed, joining by itself", []string{"1a", "2k"}, "", 3, JoinAuto, []string{"2"}},
		{"formed, the new one is silent", []string{"1a", "2k"}, "2", 1, JoinAuto, nil},
		{"a leaving node is not let in again", []string{"1a", "2l"}, "", 1, JoinAuto, nil},
		{"only a leaving node is a ring too", []string{"1l", "2k"}, "", 9, JoinAuto, []string{"2"}},
	} {
		var d cluster.Document
		for _, m := range c.members {
			d.Nodes = append(d.Nodes, cluster.Member{Address: m[:1], State: states[m[1:]]})
		}
		heardOf := func(m cluster.Member) bool { return m.Address != c.silent }
		if got := admissible(d, heardOf, c.initial, c.mode); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func initial(n int) func(*Config, *Seams) {
	return func(c *Config, _ *Seams) { c.InitialNodes = n }
}

func autoJoin(c *Config, _ *Seams) { c.Join = JoinAuto }

// TestFormation: the first ring is formed at once by all that have come, and only
// when enough of them are alive.
func TestFormation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.manager(initial(3)).dial()
		for _, a := range []string{nodeA, nodeB, nodeC} {
			c.ok("REGISTER", registration(a))
		}
		c.ok("HEARTBEAT", beat(w.document(), nodeA))
		c.ok("HEARTBEAT", beat(w.document(), nodeB))
		pass(10 * time.Second)
		if d := w.document(); formed(d) {
			t.Fatalf("formed with a node that was never heard of: %+v", d.Nodes)
		}
		for _, a := range []string{nodeA, nodeB, nodeC} {
			c.ok("HEARTBEAT", beat(w.document(), a))
		}
		synctest.Wait()
		d := w.document()
		if d.Epoch != 1 || len(d.Moves) > 0 || d.Nodes[0].State != cluster.Active || d.Nodes[2].State != cluster.Active {
			t.Errorf("epoch %d, %d moves, nodes %+v", d.Epoch, len(d.Moves), d.Nodes)
		}
	})
}

func TestAutoJoinLetsInWhoIsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA))
		c := w.manager(autoJoin).dial()
		c.ok("REGISTER", registration(nodeB))
		c.ok("REGISTER", registration(nodeC))
		c.ok("HEARTBEAT", beat(w.document(), nodeC))
		synctest.Wait()
		d := w.document()
		b, _ := d.Member(nodeB)
		if n, _ := d.Member(nodeC); n.State != cluster.Active || b.State != cluster.Known {
			t.Fatalf("nodes are %+v", d.Nodes)
		}
		pass(time.Minute) // B comes back later
		c.ok("HEARTBEAT", beat(w.document(), nodeB))
		synctest.Wait()
		if n, _ := w.document().Member(nodeB); n.State != cluster.Active {
			t.Errorf("it came back and is %s", n.State)
		}
	})
}

func TestManualJoinWaitsForTheOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA))
		c := w.manager().dial()
		c.ok("REGISTER", registration(nodeB))
		c.ok("HEARTBEAT", beat(w.document(), nodeB))
		pass(time.Minute)
		if n, _ := w.document().Member(nodeB); n.State != cluster.Known {
			t.Fatalf("it is %s although nobody let it in", n.State)
		}
		c.ok("CLUSTER", "ADD", nodeB)
		if n, _ := w.document().Member(nodeB); n.State != cluster.Active {
			t.Errorf("it is %s", n.State)
		}
	})
}
