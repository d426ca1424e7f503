package integration

import (
	"syscall"
	"testing"
	"time"

	"github.com/quoitdb/quoit/manager"
)

// cell is one place of the fault matrix: who is hit, and in which phase of a move.
type cell struct {
	role  string // source, target or manager
	phase string
	point string // the fail point, with @n for the n-th time
}

// cells are the places at which a process can be hit from outside: the point is
// inside the step of that phase, on the side that is named.
func cells() []cell {
	return []cell{
		{"source", "PLAN", "migrate.source.plan"},
		{"source", "COPY", "migrate.source.copy"},
		{"source", "SEAL", "migrate.source.sealed"},
		{"source", "COMMIT", "migrate.source.commit"},
		{"source", "ACTIVATE", "migrate.source.activate"},
		{"source", "DROP", "migrate.source.drop"},
		{"target", "PLAN", "migrate.target.plan"},
		{"target", "COPY", "migrate.target.copied"},
		{"target", "SEAL", "migrate.target.sealed"},
		{"target", "COMMIT", "migrate.target.commit"},
		{"target", "ACTIVATE", "migrate.target.activate"},
		{"target", "DROP", "migrate.target.activated"},
		{"manager", "PLAN", "manager.migrate"},
		{"manager", "COPY", "manager.migrate"}, // @2: the first range is being copied
		{"manager", "SEAL", "manager.commit.before"},
		{"manager", "COMMIT", "manager.commit.after"},
		{"manager", "ACTIVATE", "manager.done"},
		{"manager", "DROP", "manager.done"}, // @2: the other end's word
	}
}

// hit is which time the point is reached when the fault fires.
func (c cell) hit() string {
	if c.role == "manager" && (c.phase == "COPY" || c.phase == "DROP") {
		return "@2"
	}
	return "@1"
}

// TestMatrixPause freezes one process with SIGSTOP in each phase, for longer than a
// range may stay sealed, and lets it go on: what it believes is then out of date.
func TestMatrixPause(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute; run without -short")
	}
	t.Parallel()
	for _, c := range cells() {
		t.Run(c.role+"/"+c.phase, func(t *testing.T) {
			t.Parallel()
			s := stageMove(t, c, "pause")
			s.untilFrozen(c)
			<-time.After(2500 * time.Millisecond) // the pause itself, not a wait for something
			s.victim.signal(syscall.SIGCONT)
			s.finish()
		})
	}
}

// move is a join under load, with one process that will be hit.
type move struct {
	t      *testing.T
	fleet  *fleet
	load   *load
	victim *process
	joins  string // the address of the third node
}

// add lets the third node in; asking twice is like asking once.
func (s *move) add() {
	operate(s.t, s.fleet.address, func(m *manager.Control) error { return m.Add(s.joins) })
}

// tryAdd asks once, and does not mind when nobody answers.
func (s *move) tryAdd() {
	m, err := manager.Dial(s.t.Context(), s.fleet.address, time.Second)
	if err != nil {
		return
	}
	defer func() { _ = m.Close() }()
	_ = m.Add(s.joins)
}

// stageMove starts two nodes, a load, and the join of a third.
func stageMove(t *testing.T, c cell, action string) *move {
	t.Helper()
	return stageMoveWith(t, c, map[string]string{c.role: c.point + "=" + action + c.hit()})
}

// stageMoveWith is stageMove with fail points for each role.
func stageMoveWith(t *testing.T, c cell, points map[string]string) *move {
	t.Helper()
	f := newFleet(t, 2)
	f.manager.start(t, points["manager"])
	first, second, third := f.node(), f.node(), f.node()
	first.start(t, points["source"])
	second.start(t, "")
	f.until("two nodes to serve", settled(2))
	l := startLoad(t, f.address)
	third.start(t, points["target"])
	f.until("the third node to register", known(third.name))
	victims := map[string]*process{"source": first, "target": third, "manager": f.manager}
	s := &move{t: t, fleet: f, load: l, victim: victims[c.role], joins: third.name}
	if c.role == "manager" {
		s.tryAdd() // it may be hit before it has answered: finish asks again
	} else {
		s.add()
	}
	return s
}

func (s *move) untilFrozen(c cell) {
	s.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !s.victim.frozen() {
		select {
		case <-deadline:
			s.t.Fatalf("%s never reached %s", s.victim.name, c.point)
		case <-tick.C:
		}
	}
}

// finish waits until the move is over and audits.
func (s *move) finish() {
	s.t.Helper()
	s.add()
	s.fleet.until("three nodes to serve and nothing to move", settled(3))
	s.load.audit()
}
