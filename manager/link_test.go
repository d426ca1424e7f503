package manager

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/protocol"
)

func refresh(d cluster.Document) string { return fmt.Sprintf("REFRESH %d", d.Counter) }

func migrate(m cluster.Move) string {
	return fmt.Sprintf("MIGRATE_RANGE %d %d %s %s", m.Range.Start, m.Range.End, m.Target, m.ID)
}

// asks are the requests for moves that a manager may make of one source at first.
func asks(d cluster.Document, source string, n int) []string {
	var all []string
	for _, m := range d.Startable() {
		if m.Source == source && len(all) < n {
			all = append(all, migrate(m))
		}
	}
	return all
}

// expectTold compares what a node has heard, in any order.
func (n *node) expectTold(what string, want ...string) {
	n.w.t.Helper()
	got := n.told()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		n.w.t.Errorf("%s: %s heard %q, want %q", what, n.address, got, want)
	}
}

// TestHints: every member is told of every document, and sources of what to move.
func TestHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA, nodeB))
		a, b, c := w.node(nodeA), w.node(nodeB), w.node(nodeC)
		operator := w.manager(func(c *Config, _ *Seams) { c.MovesPerNode = 2 }).dial()
		synctest.Wait()
		for _, n := range []*node{a, b} {
			n.expectTold("at the start", refresh(w.document()))
		}
		c.expectTold("a stranger")

		operator.ok("REGISTER", registration(nodeC))
		synctest.Wait()
		for _, n := range []*node{a, b, c} {
			n.expectTold("a new member", refresh(w.document()))
		}

		operator.ok("CLUSTER", "ADD", nodeC)
		synctest.Wait()
		d := w.document()
		a.expectTold("C joins", append(asks(d, nodeA, 2), refresh(d))...)
		b.expectTold("C joins", append(asks(d, nodeB, 2), refresh(d))...)
		c.expectTold("C joins", refresh(d))
		if len(asks(d, nodeA, 2)) == 0 {
			t.Fatal("A has nothing to give to C, so this test shows nothing")
		}

		pass(askAgain - 100*time.Millisecond)
		a.expectTold("in the meantime")
		pass(2 * time.Second)
		a.expectTold("to be sure", asks(d, nodeA, 2)...)
	})
}

// TestMovesFollowEachOther: when one is committed the next is asked for at once.
func TestMovesFollowEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(joining(t))
		a := w.node(nodeA)
		c := w.manager(func(c *Config, _ *Seams) { c.MovesPerNode = 1 }).dial()
		synctest.Wait()
		d := w.document()
		list := asks(d, nodeA, 1000)
		a.expectTold("at the start", refresh(d), list[0])
		for _, next := range list[1:4] {
			words := strings.Fields(list[0])
			c.ok("COMMIT_MOVE", words[len(words)-1])
			synctest.Wait()
			a.expectTold("after a commit", refresh(w.document()), next)
			list = list[1:]
		}
		c.ok("CLUSTER", "PAUSE")
		words := strings.Fields(list[0])
		c.ok("COMMIT_MOVE", words[len(words)-1])
		synctest.Wait()
		if got := a.told(); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "MIGRATE") }) {
			t.Errorf("moves are paused, and A is asked %q", got)
		}
		c.ok("CLUSTER", "RESUME")
		synctest.Wait()
		a.expectTold("after the pause", refresh(w.document()), list[1])
	})
}

// TestRefusedMovesAreAskedForAgain: the node starts, or has not read the document.
func TestRefusedMovesAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(joining(t))
		a := w.node(nodeA)
		a.answer(func([]string) string { return "-UNAVAILABLE the node is starting\r\n" })
		w.manager(func(c *Config, _ *Seams) { c.MovesPerNode = 1 })
		synctest.Wait()
		a.expectTold("at the start", refresh(w.document()), asks(w.document(), nodeA, 1)[0])
		for range 3 {
			pass(time.Second)
			a.expectTold("a second later", asks(w.document(), nodeA, 1)[0])
		}
	})
}

// TestANodeThatAnswersNothing: it hangs, or cannot even be dialled. Everything else
// goes on as if it were not there, and it is told when it is back.
func TestANodeThatAnswersNothing(t *testing.T) {
	for _, how := range []string{"hangs", "is cut off", "is gone"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t).with(documentOf(t, nodeA, nodeB))
				a, b := w.node(nodeA), w.node(nodeB)
				switch how {
				case "hangs":
					a.answer(func([]string) string { return "" })
				case "is cut off":
					w.net.setCut(nodeA, true)
				case "is gone":
					a.stop()
				}
				c := w.manager().dial()
				synctest.Wait()
				b.expectTold("at the start", refresh(w.document()))
				began := time.Now()
				for i := range 50 {
					c.ok("CLUSTER", "THROTTLE", fmt.Sprint(i+1))
					synctest.Wait()
					b.expectTold("at once", refresh(w.document()))
				}
				if took := time.Since(began); took > 0 {
					t.Errorf("the others waited %v", took)
				}
				pass(10 * time.Minute)
				a.stop()
				w.net.setCut(nodeA, false)
				a = w.node(nodeA)
				pass(linkTimeout + maxBackoff)
				a.expectTold("when it is back", refresh(w.document()))
			})
		})
	}
}

// TestRestartedNode is dialled again at once and told everything again, and its
// moves, which have new ids, are asked for.
func TestRestartedNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(joining(t))
		a := w.node(nodeA)
		c := w.manager(func(c *Config, _ *Seams) { c.MovesPerNode = 1 }).dial()
		synctest.Wait()
		a.told()
		a.stop()
		a = w.node(nodeA)
		d := w.change(func(d cluster.Document) (cluster.Document, error) {
			return d.Register(cluster.Registration{ID: "id-a", Address: nodeA, Tokens: 3})
		})
		c.ok("HEARTBEAT", beat(d, nodeA)) // brings the news of the swap
		pass(2 * readGap)
		a.expectTold("after its restart", refresh(d), asks(d, nodeA, 1)[0])
	})
}

// TestConnectionThatWasClosed, as an idle one is: the next hint is not late.
func TestConnectionThatWasClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA))
		a := w.node(nodeA)
		c := w.manager().dial()
		for range 3 {
			synctest.Wait()
			a.told()
			a.hangUp()
			c.ok("CLUSTER", "PAUSE")
			synctest.Wait()
			a.expectTold("on a new connection", refresh(w.document()))
			c.ok("CLUSTER", "RESUME")
		}
	})
}

// TestNodeThatTalksNonsense costs its own link, and no memory.
func TestNodeThatTalksNonsense(t *testing.T) {
	for _, reply := range []string{"HTTP/1.1 400 Bad Request\r\n", "$99999999999\r\n", "*1000000\r\n", "+" + strings.Repeat("x", 1<<20)} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t).with(documentOf(t, nodeA, nodeB))
			a, b := w.node(nodeA), w.node(nodeB)
			a.answer(func([]string) string { return reply })
			c := w.manager().dial()
			synctest.Wait()
			if got := len(a.told()); got != 1 {
				t.Errorf("%.20q: asked %d times at once", reply, got)
			}
			pass(time.Minute)
			if got := len(a.told()); got == 0 || got > 40 {
				t.Errorf("%.20q: asked %d times in a minute", reply, got)
			}
			b.told()
			c.ok("CLUSTER", "PAUSE")
			synctest.Wait()
			b.expectTold("the other one", refresh(w.document()))
		})
	}
}

// TestLinksEndWithTheirMember: who has left is not dialled any more.
func TestLinksEndWithTheirMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA))
		a, b := w.node(nodeA), w.node(nodeB)
		c := w.manager().dial()
		c.ok("REGISTER", registration(nodeB))
		synctest.Wait()
		b.expectTold("it is a member", refresh(w.document()))
		c.ok("CLUSTER", "REMOVE", nodeB)
		synctest.Wait()
		a.told()
		pass(time.Minute)
		c.ok("CLUSTER", "PAUSE")
		synctest.Wait()
		a.expectTold("it stays", refresh(w.document()))
		b.expectTold("it has left")
		c.ok("REGISTER", registration(nodeB))
		synctest.Wait()
		b.expectTold("it is back", refresh(w.document()))
	})
}

// TestNoMoveToTheDead: moves to a node that is down wait for it, others do not.
func TestNoMoveToTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA))
		a := w.node(nodeA)
		c := w.manager().dial()
		c.ok("REGISTER", registration(nodeB))
		alive := time.NewTicker(time.Second)
		defer alive.Stop()
		live := func(n int) {
			for range n {
				<-alive.C
				c.ok("HEARTBEAT", beat(w.document(), nodeA))
			}
		}
		live(10) // B is silent for longer than the timeout
		c.ok("CLUSTER", "ADD", nodeB)
		live(10)
		for _, heard := range a.told() {
			if strings.HasPrefix(heard, "MIGRATE") {
				t.Fatalf("A was asked: %s", heard)
			}
		}
		c.ok("HEARTBEAT", beat(w.document(), nodeB))
		synctest.Wait()
		a.expectTold("B is back", asks(w.document(), nodeA, DefaultConfig().MovesPerNode)...)
	})
}

// TestRestartedManager goes on where the one before it was killed: it asks for the
// same moves, takes the commit that the old one did not answer, and brings the
// join to its end.
func TestRestartedManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(joining(t))
		a := w.node(nodeA)
		one := func(c *Config, _ *Seams) { c.MovesPerNode = 1 }
		first := w.manager(one)
		synctest.Wait()
		heard := a.told()
		first.end()
		second := w.manager(one)
		synctest.Wait()
		a.expectTold("by the second manager", heard...)
		c := second.dial()
		for d := w.document(); len(d.Moves) > 0; d = w.document() {
			for _, m := range d.Startable() {
				c.ok(protocol.CmdCommitMove.String(), string(m.ID))
			}
			for _, m := range w.document().Moves {
				c.ok(protocol.CmdMoveDone.String(), "dropped", string(m.ID))
				c.ok(protocol.CmdMoveDone.String(), "active", string(m.ID))
			}
		}
		owned, err := w.document().Ownership()
		if err != nil {
			t.Fatal(err)
		}
		if goal, err := w.document().Goal(); err != nil || !goal.Equal(owned) {
			t.Errorf("the ring is not as it should be: %v", err)
		}
	})
}
