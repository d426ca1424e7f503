package cluster

import (
	"reflect"
	"strconv"
	"testing"

	"github.com/quoitdb/quoit/ring"
	"pgregory.net/rapid"
)

// world is a document under random transitions, and what must never come back.
type world struct {
	d      Document
	issued uint64                   // the highest number of a move ever seen
	gone   map[MoveID]bool          // moves that were there and are not any more
	epochs map[ring.Epoch]*ring.Map // who owned what in each epoch
	fenced map[string]Incarnation   // the last incarnation of each address
}

// step is one transition. free says that it may change owners.
type step struct {
	name string
	free bool
	do   func(Document) (Document, error)
}

// draw picks a transition that makes some sense, or a little less.
func (w *world) draw(t *rapid.T) step {
	address := "n" + strconv.Itoa(rapid.IntRange(1, 6).Draw(t, "node")) + ":7401"
	some := func(ids []MoveID) []MoveID {
		return rapid.SliceOfN(rapid.SampledFrom(append(ids, "m0")), 0, 8).Draw(t, "moves")
	}
	switch kind := rapid.IntRange(0, 13).Draw(t, "kind"); kind {
	case 0, 1:
		r := node(address)
		r.Tokens = rapid.IntRange(1, 4).Draw(t, "tokens")
		return step{"register " + address, false, func(d Document) (Document, error) { return d.Register(r) }}
	case 2, 3:
		return step{"join " + address, len(ownership(t, w.d).Owners()) == 0, func(d Document) (Document, error) { return d.Join(address) }}
	case 4:
		return step{"leave " + address, false, func(d Document) (Document, error) { return d.Leave(address) }}
	case 5:
		return step{"forget " + address, true, func(d Document) (Document, error) { return d.Forget(address) }}
	case 6, 7, 8:
		ids := some(inPhase(w.d, Planned))
		return step{"commit", true, func(d Document) (Document, error) { return d.Commit(ids...) }}
	case 9:
		ids := some(inPhase(w.d, Planned))
		return step{"abort", false, func(d Document) (Document, error) { return d.Abort(ids...) }}
	case 10, 11:
		ids := some(inPhase(w.d, Committed))
		return step{"dropped", false, func(d Document) (Document, error) { return d.MarkDropped(ids...) }}
	case 12:
		ids := some(inPhase(w.d, Committed))
		return step{"active", false, func(d Document) (Document, error) { return d.MarkActive(ids...) }}
	}
	return step{"replan", false, Document.Replan}
}

// take makes a step and checks what it did.
func (w *world) take(t *rapid.T, s step) {
	before := cloned(w.d)
	next, err := s.do(w.d)
	if !reflect.DeepEqual(before, w.d) {
		t.Fatalf("%s changed the document that it was given", s.name)
	}
	if err != nil {
		if !sameState(next, w.d) {
			t.Fatalf("%s: %v, and the document that comes with it is another", s.name, err)
		}
		return
	}
	next = swapped(next)
	checkDocument(t, next)
	w.checkEpoch(t, s, next)
	w.checkIDs(t, s, next)
	w.d = next
}

// checkEpoch: owners change only where they may, and never without a new epoch.
func (w *world) checkEpoch(t *rapid.T, s step, next Document) {
	owned := ownership(t, next)
	changed := !owned.Equal(ownership(t, w.d))
	if changed && !s.free {
		t.Fatalf("%s changed owners", s.name)
	}
	if next.Epoch < w.d.Epoch || changed && next.Epoch == w.d.Epoch {
		t.Fatalf("%s: epoch %d after %d, owners changed: %v", s.name, next.Epoch, w.d.Epoch, changed)
	}
	if seen, ok := w.epochs[next.Epoch]; ok && !seen.Equal(owned) {
		t.Fatalf("%s: epoch %d has two sets of owners", s.name, next.Epoch)
	}
	w.epochs[next.Epoch] = owned
}

// checkIDs: ids are fresh, what has gone stays away, what is committed stays so.
func (w *world) checkIDs(t *rapid.T, s step, next Document) {
	for _, m := range w.d.Moves {
		if n, found := next.Move(m.ID); !found {
			w.gone[m.ID] = true
		} else if n.Range != m.Range || n.Source != m.Source || n.Target != m.Target || m.Phase == Committed && n.Phase != Committed {
			t.Fatalf("%s: %+v became %+v", s.name, m, n)
		}
	}
	for _, m := range next.Moves {
		if w.gone[m.ID] {
			t.Fatalf("%s: move %s is back", s.name, m.ID)
		}
		if _, old := w.d.Move(m.ID); !old {
			if n, _ := m.ID.number(); n <= w.issued {
				t.Fatalf("%s: move %s is not new", s.name, m.ID)
			}
		}
	}
	w.issued = next.MoveCount
	for _, m := range next.Nodes {
		if m.Incarnation < w.fenced[m.Address] {
			t.Fatalf("%s: incarnation of %s went back", s.name, m.Address)
		}
		w.fenced[m.Address] = m.Incarnation
	}
}

// TestTransitions: whatever the order of transitions, the document stays sound, and
// once nothing disturbs it any more, the moves lead to the goal.
func TestTransitions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, err := New("test")
		if err != nil {
			t.Fatal(err)
		}
		w := &world{
			d: swapped(d), gone: map[MoveID]bool{}, epochs: map[ring.Epoch]*ring.Map{}, fenced: map[string]Incarnation{},
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			w.take(t, w.draw(t))
		}
		for round := 0; len(w.d.Moves) > 0; round++ {
			if round == 10 {
				t.Fatalf("moves do not come to an end: %+v", w.d.Moves)
			}
			startable := idsOf(w.d.Startable())
			w.take(t, step{"commit all", true, func(d Document) (Document, error) { return d.Commit(startable...) }})
			committed := inPhase(w.d, Committed)
			w.take(t, step{"drop all", false, func(d Document) (Document, error) { return d.MarkDropped(committed...) }})
			w.take(t, step{"activate all", false, func(d Document) (Document, error) { return d.MarkActive(committed...) }})
		}
		if !ownership(t, w.d).Equal(goal(t, w.d)) {
			t.Fatal("without moves the owners are not what the ring says")
		}
		for _, m := range w.d.Nodes {
			if m.State == Leaving {
				t.Fatalf("%s has not left", m.Address)
			}
		}
	})
}

// TestTransitionsTwice: applied again to its own result, a transition changes
// nothing more; an update may be applied twice when a reply is lost for long.
func TestTransitionsTwice(t *testing.T) {
	d := ok(t)(registered(t, clusterOf(t, a, b), c).Join(c))
	committed := ok(t)(d.Commit(d.Moves[0].ID))
	for name, do := range map[string]func(Document) (Document, error){
		"join":     func(d Document) (Document, error) { return d.Join(b, c) },
		"leave":    func(d Document) (Document, error) { return d.Leave(b) },
		"commit":   func(d Document) (Document, error) { return d.Commit(committed.Moves[1].ID) },
		"dropped":  func(d Document) (Document, error) { return d.MarkDropped(committed.Moves[0].ID) },
		"active":   func(d Document) (Document, error) { return d.MarkActive(committed.Moves[0].ID) },
		"replan":   Document.Replan,
		"paused":   func(d Document) (Document, error) { return d.SetPaused(true) },
		"throttle": func(d Document) (Document, error) { return d.SetThrottle(7) },
	} {
		once := ok(t)(do(committed))
		if twice := ok(t)(do(once)); !sameState(twice, once) {
			t.Errorf("%s twice differs from %s once", name, name)
		}
	}
}
