package cluster

import (
	"errors"
	"testing"
)

// lostMoves returns the moves that tell of a loss.
func lostMoves(d Document) []Move {
	var lost []Move
	for _, m := range d.Moves {
		if m.Lost {
			lost = append(lost, m)
		}
	}
	return lost
}

// TestForget: all that the lost node owned has new owners at once, each told so by
// a committed move; what others owned stays where it was.
func TestForget(t *testing.T) {
	before := clusterOf(t, a, b, c)
	d := ok(t)(before.Forget(b))
	checkDocument(t, d)
	if d.Epoch != before.Epoch+1 {
		t.Errorf("epoch %d after %d", d.Epoch, before.Epoch)
	}
	was, is := ownership(t, before), ownership(t, d)
	if !is.Equal(goal(t, d)) || len(is.ArcsOf(b)) > 0 {
		t.Error("owners are not what the ring says without the node")
	}
	told := map[string]bool{}
	var size, want uint64
	for _, m := range lostMoves(d) {
		if m.Phase != Committed || !m.SourceDropped || m.TargetActive || m.CommittedAt != d.Counter || !uniform(was, m.Range, b) {
			t.Errorf("move is %+v", m)
		}
		size += m.Range.Size()
		told[m.Target] = true
	}
	for _, r := range was.ArcsOf(b) {
		want += r.Size()
	}
	if size != want || len(d.Moves) != len(lostMoves(d)) {
		t.Errorf("moves tell of %d lost positions of %d", size, want)
	}
	end := ok(t)(d.MarkActive(idsOf(d.Moves)...))
	if len(end.Moves) > 0 {
		t.Errorf("moves at the end: %+v", end.Moves)
	}
	if _, err := d.Forget(b); !errors.Is(err, ErrUnknownMember) {
		t.Errorf("forgetting twice: %v", err)
	}
}

// TestForgetASource: a planned move from the lost node is committed as it is, under
// its id, because its target may have everything.
func TestForgetASource(t *testing.T) {
	d := ok(t)(registered(t, clusterOf(t, a, b), c).Join(c))
	var from Move
	for _, m := range d.Moves {
		if m.Source == a {
			from = m
		}
	}
	end := ok(t)(d.Forget(a))
	checkDocument(t, end)
	m, found := end.Move(from.ID)
	if !found || m.Phase != Committed || !m.Lost || !m.SourceDropped || m.Target != c || m.Range != from.Range {
		t.Errorf("%+v became %+v", from, m)
	}
	checkDocument(t, finished(t, end))
}

// TestForgetATarget: what was on its way to the lost node finds another, or stays.
func TestForgetATarget(t *testing.T) {
	before := registered(t, clusterOf(t, a, b), c)
	d := ok(t)(before.Join(c))
	committed := d.Moves[0]
	d = ok(t)(d.Commit(committed.ID))
	end := ok(t)(d.Forget(c))
	checkDocument(t, end)
	if !ownership(t, end).Equal(ownership(t, before)) {
		t.Error("owners differ from those before the node joined")
	}
	lost := lostMoves(end)
	if len(lost) != 1 || lost[0].Range != committed.Range || lost[0].Target != committed.Source || len(end.Moves) != 1 {
		t.Errorf("want the one committed range as lost: %+v", end.Moves)
	}
}

// TestForgetALeavingSource: the other end of its committed moves still has to say
// that it serves.
func TestForgetALeavingSource(t *testing.T) {
	d := ok(t)(clusterOf(t, a, b, c).Leave(b))
	done, half := d.Moves[0].ID, d.Moves[1].ID
	d = ok(t)(d.Commit(done, half))
	d = ok(t)(d.MarkActive(done))
	end := ok(t)(d.Forget(b))
	checkDocument(t, end)
	if _, found := end.Move(done); found {
		t.Error("a move waits for a source that is forgotten")
	}
	if m, found := end.Move(half); !found || m.Lost || !m.SourceDropped {
		t.Errorf("move is %+v, want it committed, not lost, and without its source", m)
	}
	checkDocument(t, finished(t, end))
}

// TestForgetTwoInARow: the second may own what it has just been given.
func TestForgetTwoInARow(t *testing.T) {
	d := clusterOf(t, a, b, c)
	d = ok(t)(d.Forget(b))
	d = ok(t)(d.Forget(c))
	checkDocument(t, d)
	for _, m := range d.Moves {
		if m.Target != a {
			t.Errorf("move is %+v", m)
		}
	}
	if _, err := d.Forget(a); !errors.Is(err, ErrLastMember) {
		t.Errorf("forgetting the last: %v", err)
	}
}

// TestForgetAKnownMember: nothing but its name goes.
func TestForgetAKnownMember(t *testing.T) {
	before := clusterOf(t, a, b)
	d := ok(t)(registered(t, before, c).Forget(c))
	if d.Epoch != before.Epoch || len(d.Nodes) != 2 || len(d.Moves) > 0 {
		t.Errorf("document is %+v", d)
	}
}

// TestAForgottenNodeComesBack as a new one: with a higher incarnation than ever, and
// a membership that begins anew.
func TestAForgottenNodeComesBack(t *testing.T) {
	before := clusterOf(t, a, b, c)
	old, _ := before.Member(b)
	d := registered(t, ok(t)(before.Forget(b)), b)
	m, _ := d.Member(b)
	if m.Incarnation <= old.Incarnation || m.Since <= old.Since || m.State != Known {
		t.Errorf("%+v came back as %+v", old, m)
	}
	d = ok(t)(d.Join(b))
	checkDocument(t, d)
	checkDocument(t, finished(t, d))
}
