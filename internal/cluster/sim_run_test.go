package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// step does something at random.
func (s *sim) step() {
	n := s.nodes[s.random.IntN(len(s.nodes))]
	switch kind := s.random.IntN(100); {
	case kind < 12:
		s.write(s.random.IntN(simPositions), s.random.IntN(4) == 0)
	case kind < 15:
		s.stopOrStart(n)
	case kind < 35:
		s.read(n)
	case kind < 40:
		s.changeMembers(n)
	case kind < 44:
		s.deliver(Document.MarkDropped, s.one(s.dropped))
	case kind < 48:
		s.deliver(Document.MarkActive, s.one(s.active))
	case kind < 60:
		if id := s.one(s.commits); s.swap(func(d Document) (Document, error) { return d.Commit(id) }) == nil {
			s.counts["commit"]++
		}
	case kind < 62 && len(n.now().sealed) > 0:
		s.abort(n, n.now().sealed[0])
	default:
		s.advance(s.one(s.candidates()))
	}
	s.check()
}

// candidates are a few startable moves that have a key, so that the same ones are
// met again and again.
func (s *sim) candidates() []MoveID {
	var ids []MoveID
	for _, m := range s.d.Startable() {
		for i := 0; i < simPositions && len(ids) < 4; i++ {
			if m.Range.Contains(simPosition(i)) {
				ids = append(ids, m.ID)
			}
		}
	}
	return ids
}

// abort: a source that has waited for long enough, or an operator.
func (s *sim) abort(n *simNode, h Held) {
	if s.bug == unsealByTimer && n.up {
		n.act(Action{Unseal, h.Move, h.Range})
	}
	if s.swap(func(d Document) (Document, error) { return d.Abort(h.Move) }) == nil {
		s.counts["abort"]++
	}
}

// one draws from the newest messages, most often.
func (s *sim) one(ids []MoveID) MoveID {
	switch {
	case len(ids) == 0:
		return "m0"
	case s.random.IntN(4) == 0:
		return ids[s.random.IntN(len(ids))]
	}
	return ids[len(ids)-1-s.random.IntN(min(3, len(ids)))]
}

func (s *sim) stopOrStart(n *simNode) {
	if !n.up {
		s.start(n)
		return
	}
	s.crash(n, s.random.IntN(12))
}

// read has a node read the document, or follow what it has read before; sometimes
// it is killed over that.
func (s *sim) read(n *simNode) {
	if !n.up {
		if s.random.IntN(2) == 0 {
			s.start(n)
		}
		return
	}
	if s.random.IntN(3) > 0 {
		n.doc = s.d
	}
	if s.random.IntN(3) > 0 {
		s.follow(n, s.random.IntN(40))
	}
}

func (s *sim) changeMembers(n *simNode) {
	_, known := s.d.Member(n.Address)
	switch kind := s.random.IntN(8); {
	case kind == 0:
		s.forget(n, s.random.IntN(2) == 0)
	case kind == 1:
		_ = s.swap(func(d Document) (Document, error) { return d.Leave(n.Address) })
	case known:
		_ = s.swap(func(d Document) (Document, error) { return d.Join(n.Address) })
	case n.up && !n.member && n.followed == n.doc.Counter && n.followed > 0:
		s.register(n)
	}
}

// deliver marks moves; the reports are true, so they are never refused.
func (s *sim) deliver(mark func(Document, ...MoveID) (Document, error), ids ...MoveID) {
	if err := s.swap(func(d Document) (Document, error) { return mark(d, ids...) }); err != nil {
		s.Fatalf("reports: %v", err)
	}
}

// heal: everything is up and every message arrives. All moves come to their end,
// every position is served, and nothing is left where it does not belong.
func (s *sim) heal() {
	for round := 0; ; round++ {
		if round > 40 {
			s.Fatalf("the moves do not come to an end: %+v", s.d.Moves)
		}
		for _, n := range s.nodes {
			if !n.up {
				s.start(n)
			}
			n.doc = s.d
			s.follow(n, -1)
		}
		if len(s.d.Moves) == 0 {
			break
		}
		for _, m := range s.d.Startable() {
			for range 4 {
				s.advance(m.ID)
			}
		}
		s.commits = slices.DeleteFunc(s.commits, func(id MoveID) bool { _, ok := s.d.Move(id); return !ok })
		_ = s.swap(func(d Document) (Document, error) { return d.Commit(s.commits...) })
		s.deliver(Document.MarkDropped, s.dropped...)
		s.deliver(Document.MarkActive, s.active...)
		s.commits, s.dropped, s.active = nil, nil, nil
	}
	s.check()
	s.checkEnd()
}

func (s *sim) checkEnd() {
	owned := ownership(s, s.d)
	for i := range simPositions {
		for _, n := range s.nodes {
			if n.serves(i) != (owned.Owner(simPosition(i)) == n.Address) {
				s.Fatalf("position %d belongs to %q; %s serves it: %v", i, owned.Owner(simPosition(i)), n.Address, n.serves(i))
			}
			if n.now().data[i] != 0 && !n.serves(i) {
				s.Fatalf("%s still has position %d", n.Address, i)
			}
		}
	}
	for _, n := range s.nodes {
		if len(n.now().sealed)+len(n.now().staged) > 0 {
			s.Fatalf("%s still holds %+v, %+v", n.Address, n.now().sealed, n.now().staged)
		}
	}
}

func newSim(seed uint64, b bug, counts map[string]int) *sim {
	s := &sim{bug: b, random: rand.New(rand.NewPCG(seed, 1)), doubtful: map[int]bool{}, counts: counts}
	d, err := New("test")
	if err != nil {
		s.Fatalf("New: %v", err)
	}
	s.d = swapped(d)
	for i := range 4 {
		n := &simNode{Registration: node(fmt.Sprintf("n%d:7401", i)), log: []logState{{}}}
		n.Tokens = 1
		s.nodes = append(s.nodes, n)
		s.start(n)
		s.register(n)
	}
	for _, n := range s.nodes[:1+s.random.IntN(3)] {
		if err := s.swap(func(d Document) (Document, error) { return d.Join(n.Address) }); err != nil {
			s.Fatalf("Join: %v", err)
		}
	}
	for _, n := range s.nodes {
		n.doc = s.d
		s.follow(n, -1)
	}
	for i := range simPositions {
		s.write(i, false)
	}
	return s
}

// simulate makes one run and returns what was found wrong, or nothing.
func simulate(seed uint64, b bug, counts map[string]int) (failure string) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case simFailure:
			failure = string(r)
		default:
			panic(r)
		}
	}()
	s := newSim(seed, b, counts)
	for range 300 {
		s.step()
	}
	s.heal()
	return ""
}

// simSeeds is how many runs there are; QUOIT_SIM_SEEDS=from-to asks for others.
func simSeeds(t *testing.T) (from, to uint64) {
	from, to = 0, 60
	if text := os.Getenv("QUOIT_SIM_SEEDS"); text != "" {
		if _, err := fmt.Sscanf(text, "%d-%d", &from, &to); err != nil {
			t.Fatalf("QUOIT_SIM_SEEDS=%s: want from-to", text)
		}
	}
	return from, to
}

func TestSimulation(t *testing.T) {
	counts := map[string]int{}
	from, to := simSeeds(t)
	for seed := from; seed < to; seed++ {
		if failure := simulate(seed, none, counts); failure != "" {
			t.Errorf("seed %d: %s", seed, failure)
		}
	}
	t.Logf("what happened: %v", counts)
	for _, what := range []string{
		"write", "crash", "follow", "stage", "seal", "complete", "request", "commit", "abort", "forget",
		"keep-sealed", "unseal", "drop", "keep-staged", "activate", "unstage",
	} {
		if counts[what] == 0 {
			t.Errorf("no %s ever happened: the simulation shows nothing about it", what)
		}
	}
}

// TestSimulationFindsBugs: each planted bug is found within a few hundred runs. The
// search begins where it was found last, so that this is quick.
func TestSimulationFindsBugs(t *testing.T) {
	for b, from := range map[bug]uint64{
		stageByAnotherDocument:  88,
		sealByAnotherDocument:   24,
		unsealByTimer:           7,
		neitherSealNorFence:     103,
		completeBeforeDurable:   8,
		commitBeforeComplete:    0,
		activateWithoutDocument: 0,
		keptStaging:             0,
	} {
		t.Run(string(b), func(t *testing.T) {
			for seed := from; seed < from+400; seed++ {
				if failure := simulate(seed, b, map[string]int{}); failure != "" {
					t.Logf("seed %d: %.200s", seed, failure)
					return
				}
			}
			t.Error("not found")
		})
	}
}
