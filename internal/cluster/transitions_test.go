package cluster

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

func TestBootstrapOwnsTheRingAtOnce(t *testing.T) {
	d := clusterOf(t, a, b, c)
	checkDocument(t, d)
	if d.Epoch != 1 || len(d.Moves) > 0 || len(d.Nodes) != 3 {
		t.Errorf("epoch %d, %d moves, %d nodes; want 1, 0, 3", d.Epoch, len(d.Moves), len(d.Nodes))
	}
	if !ownership(t, d).Equal(goal(t, d)) {
		t.Error("ownership is not what the ring says")
	}
	if _, err := d.Bootstrap(node("d:7401")); err == nil {
		t.Error("Bootstrap of a cluster with members")
	}
}

func TestNewRefusesNames(t *testing.T) {
	for _, name := range []string{"", "two words", strings.Repeat("x", ring.MaxClusterLength+1), "ümlaut"} {
		if _, err := New(name); err == nil {
			t.Errorf("New(%q) succeeded", name)
		}
	}
}

func TestRegister(t *testing.T) {
	d := registered(t, clusterOf(t, a, b), c)
	m, found := d.Member(c)
	if !found || m.State != Known || m.Since != d.Counter || m.Incarnation != 3 {
		t.Fatalf("member is %+v", m)
	}
	if d.Epoch != 1 || !ownership(t, d).Equal(ownership(t, clusterOf(t, a, b))) {
		t.Error("a known member changed ownership")
	}
	again := registered(t, d, c)
	m2, _ := again.Member(c)
	if m2.Incarnation <= m.Incarnation || m2.Since != m.Since {
		t.Errorf("member is %+v after %+v", m2, m)
	}
	checkDocument(t, again)
}

func TestRegisterChecksIdentity(t *testing.T) {
	d := clusterOf(t, a, b)
	for _, c := range []struct {
		name          string
		r             Registration
		subject, want string
	}{
		{"another cluster", Registration{Cluster: "other", ID: "id-c", Address: c, Tokens: 1}, "cluster", "test"},
		{"another id", Registration{ID: "id-c", Address: a, Tokens: 1}, "node id", "id-a"},
		{"another address", Registration{ID: "id-a", Address: c, Tokens: 1}, "address", a},
	} {
		got, err := d.Register(c.r)
		var identity *IdentityError
		if !errors.As(err, &identity) || identity.Subject != c.subject || identity.Want != c.want || identity.Hint == "" {
			t.Errorf("%s: %v, want an IdentityError of %q", c.name, err, c.subject)
		}
		if !sameState(got, d) {
			t.Errorf("%s: the refused document is another", c.name)
		}
	}
}

func TestRegisterChecksWhatANodeSays(t *testing.T) {
	d := clusterOf(t, a)
	for _, r := range []Registration{
		{ID: "", Address: b, Tokens: 1},
		{ID: "UPPER", Address: b, Tokens: 1},
		{ID: NodeID(strings.Repeat("x", MaxIDSize+1)), Address: b, Tokens: 1},
		{ID: "id-b", Address: "no-port", Tokens: 1},
		{ID: "id-b", Address: b, Tokens: 0},
		{ID: "id-b", Address: b, Tokens: ring.MaxTokens + 1},
		{ID: "id-b", Address: b, Tokens: 1, Endpoints: []ring.Endpoint{{Kind: "", URL: "x"}}},
	} {
		if _, err := d.Register(r); !errors.As(err, new(*MemberError)) {
			t.Errorf("Register(%+v): %v, want a MemberError", r, err)
		}
	}
}

// TestRegisterFences: what a node began before it started again cannot be
// committed any more, neither as source nor as target.
func TestRegisterFences(t *testing.T) {
	start := ok(t)(registered(t, clusterOf(t, a, b), c).Join(c))
	for _, restarted := range []string{a, c} {
		d := registered(t, start, restarted)
		for _, m := range start.Moves {
			_, err := d.Commit(m.ID)
			involved := m.Source == restarted || m.Target == restarted
			if errors.Is(err, ErrUnknownMove) != involved {
				t.Errorf("%s restarted: commit of %s from %s to %s: %v", restarted, m.ID, m.Source, m.Target, err)
			}
		}
		if len(d.Moves) != len(start.Moves) || d.Epoch != start.Epoch {
			t.Errorf("%d moves became %d, epoch %d became %d", len(start.Moves), len(d.Moves), start.Epoch, d.Epoch)
		}
		checkDocument(t, d)
	}
}

// TestRegisterLeavesCommittedMoves: what is committed stays so under its id.
func TestRegisterLeavesCommittedMoves(t *testing.T) {
	d := ok(t)(registered(t, clusterOf(t, a, b), c).Join(c))
	d = ok(t)(d.Commit(d.Moves[0].ID))
	again := registered(t, registered(t, d, d.Moves[0].Source), c)
	if again.Moves[0] != d.Moves[0] {
		t.Errorf("%+v became %+v", d.Moves[0], again.Moves[0])
	}
}

func TestRegisterTellsClientsOfEndpoints(t *testing.T) {
	d := clusterOf(t, a, b)
	r := node(a)
	r.Endpoints = []ring.Endpoint{{Kind: "ws", URL: "wss://a.example.org"}}
	d2 := ok(t)(d.Register(r))
	if d2.Epoch != d.Epoch+1 || !slices.Equal(d2.Topology().Nodes[0].Endpoints, r.Endpoints) {
		t.Errorf("epoch %d after %d, topology %+v", d2.Epoch, d.Epoch, d2.Topology().Nodes[0])
	}
	if d3 := ok(t)(d2.Register(r)); d3.Epoch != d2.Epoch {
		t.Error("the same endpoints raised the epoch")
	}
}

func TestRegisterWithOtherTokensPlans(t *testing.T) {
	d := clusterOf(t, a, b)
	r := node(a)
	r.Tokens = 20
	d2 := ok(t)(d.Register(r))
	checkDocument(t, d2)
	if len(d2.Moves) == 0 || !ownership(t, d2).Equal(ownership(t, d)) {
		t.Errorf("%d moves; want some, and the same owners as before", len(d2.Moves))
	}
	checkDocument(t, finished(t, d2))
}

func TestJoin(t *testing.T) {
	before := registered(t, clusterOf(t, a, b), c)
	d := ok(t)(before.Join(c))
	checkDocument(t, d)
	if len(d.Moves) == 0 || d.Epoch != before.Epoch || !ownership(t, d).Equal(ownership(t, before)) {
		t.Fatalf("%d moves, epoch %d; want some, and nothing else changed", len(d.Moves), d.Epoch)
	}
	for _, m := range d.Moves {
		if m.Target != c {
			t.Errorf("move %s goes to %s", m.ID, m.Target)
		}
	}
	if again := ok(t)(d.Join(c)); !sameState(again, d) {
		t.Error("joining twice differs from joining once")
	}
	end := finished(t, d)
	checkDocument(t, end)
	if len(end.Nodes) != 3 || !ownership(t, end).Equal(goal(t, end)) {
		t.Errorf("%d nodes at the end", len(end.Nodes))
	}
	if _, err := d.Join("d:7401"); !errors.Is(err, ErrUnknownMember) {
		t.Errorf("Join of nobody: %v", err)
	}
}

func TestLeave(t *testing.T) {
	before := clusterOf(t, a, b, c)
	d := ok(t)(before.Leave(b))
	checkDocument(t, d)
	m, _ := d.Member(b)
	if m.State != Leaving || !ownership(t, d).Equal(ownership(t, before)) {
		t.Errorf("member is %+v", m)
	}
	end := finished(t, d)
	if _, found := end.Member(b); found || len(end.Nodes) != 2 {
		t.Errorf("members at the end: %+v", end.Nodes)
	}
	checkDocument(t, end)
	// Changing one's mind half-way brings back what has left.
	half := ok(t)(d.Commit(d.Moves[0].ID))
	back := ok(t)(half.Join(b))
	checkDocument(t, back)
	back = finished(t, back)
	if !ownership(t, back).Equal(ownership(t, before)) {
		t.Error("owners differ after a leave that was called off")
	}
}

func TestLeaveOfAKnownMemberIsAtOnce(t *testing.T) {
	d := ok(t)(registered(t, clusterOf(t, a), b).Leave(b))
	if _, found := d.Member(b); found {
		t.Error("still there")
	}
}

func TestTheLastMemberStays(t *testing.T) {
	d := clusterOf(t, a, b)
	if _, err := d.Leave(a, b); !errors.Is(err, ErrLastMember) {
		t.Errorf("Leave of all: %v", err)
	}
	d = ok(t)(d.Leave(a))
	if _, err := d.Leave(b); !errors.Is(err, ErrLastMember) {
		t.Errorf("Leave of the last active: %v", err)
	}
	if _, err := d.Forget(b); !errors.Is(err, ErrLastMember) {
		t.Errorf("Forget of the last active: %v", err)
	}
	if _, err := d.Leave("nobody:1"); !errors.Is(err, ErrUnknownMember) {
		t.Errorf("Leave of nobody: %v", err)
	}
}

func TestCommit(t *testing.T) {
	d := ok(t)(registered(t, clusterOf(t, a, b), c).Join(c))
	ids := idsOf(d.Moves)[:3]
	d2 := ok(t)(d.Commit(ids...))
	checkDocument(t, d2)
	if d2.Epoch != d.Epoch+1 {
		t.Errorf("epoch %d after %d: one swap is one step", d2.Epoch, d.Epoch)
	}
	owned := ownership(t, d2)
	for _, id := range ids {
		m, found := d2.Move(id)
		if !found || m.Phase != Committed || m.CommittedAt != d2.Counter || !uniform(owned, m.Range, c) {
			t.Errorf("move is %+v", m)
		}
	}
	if again := ok(t)(d2.Commit(ids[1])); !sameState(again, d2) {
		t.Error("committing twice differs from committing once")
	}
	if got, err := d2.Commit(d2.Moves[4].ID, "m999"); !errors.Is(err, ErrUnknownMove) || !sameState(got, d2) {
		t.Errorf("Commit with one that is unknown: %v, want nothing committed", err)
	}
}

func TestAbort(t *testing.T) {
	d := ok(t)(registered(t, clusterOf(t, a, b), c).Join(c))
	old := d.Moves[1]
	d2 := ok(t)(d.Abort(old.ID))
	checkDocument(t, d2)
	if _, found := d2.Move(old.ID); found {
		t.Fatal("the move is still there")
	}
	fresh := d2.Moves[1]
	if fresh.Range != old.Range || fresh.Target != old.Target || d2.MoveCount != d.MoveCount+1 {
		t.Errorf("%+v was replaced by %+v", old, fresh)
	}
	// Whatever arrives late about the old id has no effect.
	if _, err := d2.Commit(old.ID); !errors.Is(err, ErrUnknownMove) {
		t.Errorf("late commit: %v", err)
	}
	if _, err := d2.Abort(old.ID); !errors.Is(err, ErrUnknownMove) {
		t.Errorf("second abort: %v", err)
	}
	for name, mark := range map[string]func(...MoveID) (Document, error){"dropped": d2.MarkDropped, "active": d2.MarkActive} {
		if got := ok(t)(mark(old.ID)); !sameState(got, d2) {
			t.Errorf("late mark %s changed something", name)
		}
	}
	if _, err := d2.CheckStage(old.ID, c); !errors.Is(err, ErrUnknownMove) {
		t.Errorf("late stage: %v", err)
	}
	d3 := ok(t)(d2.Commit(fresh.ID))
	if got, err := d3.Abort(fresh.ID); !errors.Is(err, ErrCommitted) || !sameState(got, d3) {
		t.Errorf("abort after commit: %v", err)
	}
}

func TestMarks(t *testing.T) {
	d := ok(t)(registered(t, clusterOf(t, a, b), c).Join(c))
	id := d.Moves[0].ID
	for name, mark := range map[string]func(...MoveID) (Document, error){"dropped": d.MarkDropped, "active": d.MarkActive} {
		if _, err := mark(id); !errors.Is(err, ErrNotCommitted) {
			t.Errorf("mark %s before the commit: %v", name, err)
		}
	}
	d = ok(t)(d.Commit(id))
	dropped := ok(t)(d.MarkDropped(id))
	if m, found := dropped.Move(id); !found || !m.SourceDropped || m.TargetActive {
		t.Errorf("move is %+v", m)
	}
	if again := ok(t)(dropped.MarkDropped(id)); !sameState(again, dropped) {
		t.Error("marking twice differs from marking once")
	}
	one := ok(t)(dropped.MarkActive(id))
	two := ok(t)(ok(t)(d.MarkActive(id)).MarkDropped(id))
	if _, found := one.Move(id); found {
		t.Error("the move is still there with both marks")
	}
	if !slices.Equal(one.Moves, two.Moves) {
		t.Error("the order of the marks matters")
	}
	checkDocument(t, one)
}

// TestOneMoveOfARangeAtATime: a range that has just come cannot go on, nor back,
// before both ends of its move have finished.
func TestOneMoveOfARangeAtATime(t *testing.T) {
	d := ok(t)(registered(t, clusterOf(t, a, b), c).Join(c))
	first := d.Moves[0]
	d = ok(t)(d.Commit(first.ID))
	d = ok(t)(d.Leave(c)) // Everything back.
	checkDocument(t, d)
	var back Move
	for _, m := range d.Moves {
		if m.Phase == Planned && m.Range == first.Range {
			back = m
		}
	}
	if back.Source != c || len(inPhase(d, Planned)) != 1 {
		t.Fatalf("want one move, back: %+v", d.Moves)
	}
	if got := d.Startable(); len(got) > 0 {
		t.Errorf("startable: %+v", got)
	}
	if _, err := d.Commit(back.ID); !errors.Is(err, ErrBlocked) {
		t.Errorf("Commit: %v, want ErrBlocked", err)
	}
	if _, err := d.CheckStage(back.ID, back.Target); !errors.Is(err, ErrBlocked) {
		t.Errorf("CheckStage: %v, want ErrBlocked", err)
	}
	d = ok(t)(ok(t)(d.MarkActive(first.ID)).MarkDropped(first.ID))
	if got := idsOf(d.Startable()); !slices.Equal(got, []MoveID{back.ID}) {
		t.Errorf("startable: %v, want %s", got, back.ID)
	}
	checkDocument(t, finished(t, d))
}

func TestCheckStage(t *testing.T) {
	d := ok(t)(registered(t, clusterOf(t, a, b), c).Join(c))
	d = ok(t)(d.Commit(d.Moves[0].ID))
	for _, q := range []struct {
		id     MoveID
		target string
		want   error
	}{
		{d.Moves[1].ID, c, nil},
		{d.Moves[1].ID, a, ErrNotTarget},
		{d.Moves[0].ID, c, ErrCommitted},
		{d.Moves[0].ID, a, ErrNotTarget},
		{"m999", c, ErrUnknownMove},
		{"", c, ErrUnknownMove},
	} {
		if m, err := d.CheckStage(q.id, q.target); !errors.Is(err, q.want) || err == nil && m.ID != q.id {
			t.Errorf("CheckStage(%q, %s) = %+v, %v; want %v", q.id, q.target, m, err, q.want)
		}
	}
}

// TestReplanKeepsWhatStillFits: a second node that joins does not disturb the
// moves to the first, except where they would go to the second now.
func TestReplanKeepsWhatStillFits(t *testing.T) {
	d := ok(t)(registered(t, clusterOf(t, a, b), c, "d:7401").Join(c))
	both := ok(t)(d.Join("d:7401"))
	checkDocument(t, both)
	after := goal(t, both)
	for _, m := range d.Moves {
		_, stays := both.Move(m.ID)
		if fits := uniform(after, m.Range, c); stays != fits {
			t.Errorf("move %s of %v: fits %v, stays %v", m.ID, m.Range, fits, stays)
		}
	}
	if again := ok(t)(both.Replan()); !sameState(again, both) {
		t.Error("Replan of what is planned changes it")
	}
}

func TestSettings(t *testing.T) {
	d := clusterOf(t, a)
	d = ok(t)(ok(t)(d.SetPaused(true)).SetThrottle(1000))
	if d.Settings != (Settings{MoveBytesPerSecond: 1000, MovesPaused: true}) {
		t.Errorf("settings are %+v", d.Settings)
	}
	if _, err := d.SetThrottle(-1); err == nil {
		t.Error("a negative throttle is accepted")
	}
	checkDocument(t, d)
}

func TestLimits(t *testing.T) {
	d := clusterOf(t, a)
	d.Moves = make([]Move, MaxMoves+1)
	if _, err := d.bounded(); !errors.Is(err, ErrLimit) {
		t.Errorf("too many moves: %v", err)
	}
	d.Moves, d.Nodes = nil, make([]Member, ring.MaxNodes+1)
	if _, err := d.bounded(); !errors.Is(err, ErrLimit) {
		t.Errorf("too many members: %v", err)
	}
	d = clusterOf(t, a)
	d.Nodes[0].Endpoints = make([]ring.Endpoint, ring.MaxEndpoints+1)
	if _, err := d.bounded(); !errors.Is(err, ErrLimit) {
		t.Errorf("a topology that cannot be written: %v", err)
	}
}
