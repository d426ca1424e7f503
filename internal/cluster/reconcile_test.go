package cluster

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// local is what the node at an address knows that has followed D so far and holds
// nothing.
func local(d Document, address string) Local {
	m, _ := d.Member(address)
	return Local{Cluster: d.Cluster, ID: m.ID, Address: address, Incarnation: m.Incarnation, Counter: d.Counter}
}

// story is one move, from a to c, told up to each of its stages.
type story struct {
	move                          Move
	planned, aborted              Document
	committed, dropped, activated Document
	finished, lost, lostFinished  Document
}

func tell(t failer) story {
	var s story
	s.planned = ok(t)(registered(t, clusterOf(t, a, b), c).Join(c))
	for _, m := range s.planned.Moves {
		if m.Source == a {
			s.move = m
		}
	}
	id := s.move.ID
	s.aborted = ok(t)(s.planned.Abort(id))
	s.committed = ok(t)(s.planned.Commit(id))
	s.dropped = ok(t)(s.committed.MarkDropped(id))
	s.activated = ok(t)(s.committed.MarkActive(id))
	s.finished = ok(t)(s.dropped.MarkActive(id))
	s.lost = ok(t)(s.planned.Forget(a))
	s.lostFinished = ok(t)(s.lost.MarkActive(inPhase(s.lost, Committed)...))
	return s
}

// verdict is a decision about the one move of a story.
type verdict struct {
	action   ActionKind // "" for none
	own      bool       // the range is this node's
	report   bool
	conflict bool
}

func (s story) judge(t *testing.T, l Local, d Document) verdict {
	t.Helper()
	got, err := Reconcile(l, d)
	if err != nil {
		if !errors.As(err, new(*HeldError)) {
			t.Errorf("error is %v, want a HeldError", err)
		}
		if !reflect.DeepEqual(got, Decision{}) {
			t.Errorf("an error comes with the decision %+v", got)
		}
		return verdict{conflict: true}
	}
	v := verdict{own: spansOf(got.Own...).covers(s.move.Range)}
	if !v.own && spansOf(got.Own...).overlaps(s.move.Range) {
		t.Error("a part of the range is owned")
	}
	if len(got.Actions) > 1 {
		t.Errorf("actions are %+v", got.Actions)
	}
	for _, action := range got.Actions {
		v.action = action.Kind
	}
	v.report = slices.Contains(slices.Concat(got.Dropped, got.Active), s.move.ID)
	return v
}

// TestReconcileSource: what the source holds, against every state of the document.
func TestReconcileSource(t *testing.T) {
	s := tell(t)
	for _, c := range []struct {
		name         string
		d            Document
		none, sealed verdict
	}{
		{"planned", s.planned, verdict{own: true}, verdict{action: KeepSealed, own: true}},
		{"aborted", s.aborted, verdict{own: true}, verdict{action: Unseal, own: true}},
		{"committed", s.committed, verdict{report: true}, verdict{action: Drop, report: true}},
		{"committed, target active", s.activated, verdict{report: true}, verdict{action: Drop, report: true}},
		{"committed, dropped before", s.dropped, verdict{}, verdict{action: Drop}},
		{"finished", s.finished, verdict{}, verdict{action: Drop}},
		{"itself forgotten", s.lost, verdict{}, verdict{action: Drop}},
	} {
		l := local(c.d, a)
		l.ID, l.Counter, l.HasData = "id-a", s.planned.Counter, true
		if got := s.judge(t, l, c.d); got != c.none {
			t.Errorf("%s, nothing held: %+v, want %+v", c.name, got, c.none)
		}
		l.Sealed = []Held{{Move: s.move.ID, Range: s.move.Range}}
		if got := s.judge(t, l, c.d); got != c.sealed {
			t.Errorf("%s, sealed: %+v, want %+v", c.name, got, c.sealed)
		}
	}
}

// TestReconcileTarget: what the target holds, against every state of the document;
// once with the mark of a document before the commit, once with the mark of this.
func TestReconcileTarget(t *testing.T) {
	s := tell(t)
	conflict := verdict{conflict: true}
	for _, q := range []struct {
		name                               string
		d                                  Document
		noneBefore, none, partly, complete verdict
	}{
		{
			"planned", s.planned,
			verdict{},
			verdict{},
			verdict{action: KeepStaged},
			verdict{action: KeepStaged},
		},
		{
			"aborted", s.aborted,
			verdict{},
			verdict{},
			verdict{action: Unstage},
			verdict{action: Unstage},
		},
		{
			"committed", s.committed,
			conflict,
			verdict{own: true, report: true},
			conflict,
			verdict{action: Activate, own: true, report: true},
		},
		{
			"committed, source dropped", s.dropped,
			conflict,
			verdict{own: true, report: true},
			conflict,
			verdict{action: Activate, own: true, report: true},
		},
		{
			"committed, active before", s.activated,
			verdict{own: true},
			verdict{own: true},
			conflict,
			verdict{action: Activate, own: true},
		},
		{
			"finished", s.finished,
			verdict{own: true},
			verdict{own: true},
			conflict,
			verdict{action: Activate, own: true},
		},
		{
			"source forgotten", s.lost,
			verdict{own: true, report: true},
			verdict{own: true, report: true},
			verdict{action: Unstage, own: true, report: true},
			verdict{action: Activate, own: true, report: true},
		},
		{
			"source forgotten, finished", s.lostFinished,
			verdict{own: true},
			verdict{own: true},
			conflict,
			verdict{action: Activate, own: true},
		},
	} {
		before, after := local(q.d, c), local(q.d, c)
		before.Counter = s.planned.Counter
		partly, complete := before, before
		partly.Staged = []Held{{Move: s.move.ID, Range: s.move.Range}}
		complete.Staged = []Held{{Move: s.move.ID, Range: s.move.Range, Complete: true}}
		for _, held := range []struct {
			name string
			l    Local
			want verdict
		}{
			{"nothing held, marked before", before, q.noneBefore},
			{"nothing held, marked", after, q.none},
			{"staged in part", partly, q.partly},
			{"staged", complete, q.complete},
		} {
			if got := s.judge(t, held.l, q.d); got != held.want {
				t.Errorf("%s, %s: %+v, want %+v", q.name, held.name, got, held.want)
			}
		}
	}
}

// TestReconcileAccepted: a disk is lost while a range is coming, the bucket has a part of it,
// and somebody has said that the node may go on without the rest. There is no other way on:
// nobody else has the range any more.
func TestReconcileAccepted(t *testing.T) {
	s := tell(t)
	for name, d := range map[string]Document{
		"committed": s.committed, "dropped": s.dropped, "active": s.activated, "finished": s.finished, "source forgotten": s.lostFinished,
	} {
		l := local(d, c)
		l.Restored, l.Accepted = true, true
		l.Staged = []Held{{Move: s.move.ID, Range: s.move.Range}}
		if got := s.judge(t, l, d); got.conflict || got.action != Unstage || !got.own {
			t.Errorf("%s: %+v, want what is here forgotten, and the range owned", name, got)
		}
	}
	whole := Held{Move: "m0"} // more than a owns
	l := local(s.planned, a)
	l.Accepted, l.Sealed = true, []Held{whole}
	if got := s.judge(t, l, s.planned); got.conflict || got.action != Unseal {
		t.Errorf("a seal over more than is owned: %+v, want it gone", got)
	}
}

// TestReconcileLostBack: a range went from a to c, c is forgotten, and a has it
// again. What a still holds is from before; the loss is of the whole range.
func TestReconcileLostBack(t *testing.T) {
	s := tell(t)
	d := ok(t)(s.committed.Forget(c))
	back := lostMoves(d)
	if len(back) != 1 || back[0].Target != a {
		t.Fatalf("moves are %+v", d.Moves)
	}
	l := local(d, a)
	l.Counter, l.HasData = s.planned.Counter, true
	l.Sealed = []Held{{Move: s.move.ID, Range: s.move.Range}}
	got, err := Reconcile(l, d)
	want := []Action{{Drop, s.move.ID, s.move.Range}}
	if err != nil || !slices.Equal(got.Actions, want) || !slices.Equal(got.Active, []MoveID{back[0].ID}) {
		t.Errorf("%+v, %v; want %+v and %s active", got, err, want, back[0].ID)
	}
}

// TestReconcileStaleStaging: c holds all of a move that was aborted, and comes to
// own the range by the loss of a. What it holds is older than what a has
// acknowledged since, deletions among it: it must not be served.
func TestReconcileStaleStaging(t *testing.T) {
	s := tell(t)
	d := ok(t)(s.aborted.Forget(a))
	l := local(d, c)
	l.Counter = s.planned.Counter
	l.Staged = []Held{{Move: s.move.ID, Range: s.move.Range, Complete: true}}
	got := s.judge(t, l, d)
	if got.action != Unstage || !got.own {
		t.Errorf("%+v, want it unstaged, and the range owned", got)
	}
}

// TestReconcileContradictions: ids and ranges that cannot come from this document.
func TestReconcileContradictions(t *testing.T) {
	s := tell(t)
	wider := ring.Range{Start: s.move.Range.Start - 1, End: s.move.Range.End}
	whole := ring.Range{}
	for name, l := range map[string]Local{
		"sealed at the target":       {Address: c, Sealed: []Held{{Move: s.move.ID, Range: s.move.Range}}},
		"staged at the source":       {Address: a, Staged: []Held{{Move: s.move.ID, Range: s.move.Range}}},
		"sealed another range":       {Address: a, Sealed: []Held{{Move: s.move.ID, Range: wider}}},
		"staged another range":       {Address: c, Staged: []Held{{Move: s.move.ID, Range: wider}}},
		"sealed more than is owned":  {Address: a, Sealed: []Held{{Move: "m0", Range: whole}}},
		"staged with a part of ours": {Address: a, Staged: []Held{{Move: "m0", Range: whole, Complete: true}}},
	} {
		node := local(s.planned, l.Address)
		node.Sealed, node.Staged = l.Sealed, l.Staged
		if got := s.judge(t, node, s.planned); !got.conflict {
			t.Errorf("%s: %+v, want a conflict", name, got)
		}
	}
}

func TestReconcileIdentity(t *testing.T) {
	d := registered(t, clusterOf(t, a, b), c)
	d = registered(t, d, c) // Started again.
	for _, q := range []struct {
		name    string
		change  func(*Local)
		subject string // of an IdentityError
		back    bool   // ErrRolledBack
	}{
		{"itself", func(*Local) {}, "", false},
		{"a fresh folder", func(l *Local) { l.Cluster, l.Counter = "", 0 }, "", false},
		{"another cluster", func(l *Local) { l.Cluster = "other" }, "cluster", false},
		{"another id", func(l *Local) { l.ID = "id-x" }, "node id", false},
		{"another address", func(l *Local) { l.Address = "x:1" }, "address", false},
		{"a newer process", func(l *Local) { l.Incarnation-- }, "incarnation", false},
		{"an older document", func(l *Local) { l.Incarnation++ }, "", true},
		{"a document that has gone back", func(l *Local) { l.Counter++ }, "", true},
		{"data of an earlier membership", func(l *Local) { l.Counter, l.HasData = 2, true }, "membership", false},
		{"a seal of an earlier membership", func(l *Local) { l.Counter, l.Sealed = 2, []Held{{}} }, "membership", false},
		{"a stage of an earlier membership", func(l *Local) { l.Counter, l.Staged = 2, []Held{{}} }, "membership", false},
		{"an earlier document of this membership", func(l *Local) { l.Counter, l.HasData = 3, true }, "", false},
		{"restored as of the newest document", func(l *Local) { l.Restored = true }, "", false},
		{"restored as of a document from before it was a member", func(l *Local) { l.Restored, l.Counter = true, 1 }, "", false},
	} {
		l := local(d, c)
		q.change(&l)
		_, err := Reconcile(l, d)
		var identity *IdentityError
		if got := errors.As(err, &identity); got != (q.subject != "") || got && (identity.Subject != q.subject || identity.Hint == "") {
			t.Errorf("%s: %v, want an IdentityError of %q", q.name, err, q.subject)
		}
		if errors.Is(err, ErrRolledBack) != q.back {
			t.Errorf("%s: %v, rolled back should be %v", q.name, err, q.back)
		}
		if q.subject == "" && !q.back && err != nil {
			t.Errorf("%s: %v", q.name, err)
		}
	}
}

// TestReconcileRestored: what comes back from the bucket has to be as new as the last
// time at which the node came to own something, whatever the move's record says by now.
func TestReconcileRestored(t *testing.T) {
	s := tell(t)
	first := clusterOf(t, a, b)
	for name, q := range map[string]struct {
		d       Document
		address string
		counter uint64
		refused bool
	}{
		"the first ring":                        {first, a, first.Counter, false},
		"before the first ring":                 {first, a, first.Counter - 1, true},
		"the target, as of the commit":          {s.finished, c, s.committed.Counter, false},
		"the target, before the commit":         {s.finished, c, s.committed.Counter - 1, true},
		"the source, before the commit":         {s.finished, a, s.committed.Counter - 1, false},
		"who got what was lost, before it knew": {s.lostFinished, c, s.lost.Counter - 1, true},
		"who got what was lost, as of it":       {s.lostFinished, c, s.lost.Counter, false},
	} {
		l := local(q.d, q.address)
		l.Restored, l.Counter = true, q.counter
		_, err := Reconcile(l, q.d)
		var identity *IdentityError
		if got := errors.As(err, &identity); got != q.refused || err != nil && !got {
			t.Errorf("%s: %v, want refused %v", name, err, q.refused)
		}
		l.Restored = false
		if _, err := Reconcile(l, q.d); errors.As(err, &identity) {
			t.Errorf("%s, not restored: %v", name, err)
		}
	}
}

// TestReconcileStranger: a node that the document does not know owns nothing, and
// lets go of what it holds.
func TestReconcileStranger(t *testing.T) {
	d := ok(t)(clusterOf(t, a, b, c).Forget(c))
	l := Local{Cluster: "test", ID: "id-c", Address: c, Incarnation: 3, Counter: 2, HasData: true}
	l.Sealed = []Held{{Move: "m77", Range: ring.Range{Start: 1, End: 2}}}
	l.Staged = []Held{{Move: "m78", Range: ring.Range{Start: 3, End: 4}, Complete: true}}
	got, err := Reconcile(l, d)
	if err != nil || got.Member || len(got.Own) > 0 || len(got.Actions) != 2 ||
		got.Actions[0].Kind != Drop || got.Actions[1].Kind != Unstage {
		t.Errorf("%+v, %v", got, err)
	}
}
