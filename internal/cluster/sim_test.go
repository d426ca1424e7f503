package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/quoitdb/quoit/ring"
)

// The simulation: a few nodes follow the document with nothing but Reconcile, and
// move ranges as the protocol of moves does, at the grain of its durable steps.
// Messages are late, lost and doubled; nodes are killed between any two steps, with
// what they had not synced lost from any point on; nodes join, leave and are given
// up. After every step: at most one node serves a position, and it serves what was
// acknowledged last.

//
// So that green means something, TestSimulationFindsBugs plants bugs and wants each
// of them found.

const simPositions = 64

func simPosition(i int) ring.Position { return ring.Position(i)<<26 + 1<<25 }

// simData holds a value for each position, 0 where the key is not there.
type simData [simPositions]int

// keep clears every position for which keep is false.
func (d *simData) keep(keep func(ring.Position) bool) {
	for i := range d {
		if !keep(simPosition(i)) {
			d[i] = 0
		}
	}
}

// logState is what the log of a node amounts to at one point.
type logState struct {
	counter uint64
	data    simData
	sealed  []Held
	staged  []simStage
}

type simStage struct {
	Held
	data simData
}

func (s logState) clone() logState {
	s.sealed = slices.Clone(s.sealed)
	s.staged = slices.Clone(s.staged)
	return s
}

// simNode is a node: its log, and what it has in memory while it is up.
type simNode struct {
	Registration
	log         []logState // the first is durable; a crash keeps some prefix
	up          bool
	member      bool // as of the last document that it followed
	incarnation Incarnation
	own         spans
	doc         Document // the last that it has read
	followed    uint64   // the counter of the last that it followed since its start
}

func (n *simNode) now() *logState { return &n.log[len(n.log)-1] }

// record appends a change to the log, which is not durable yet.
func (n *simNode) record(change func(s *logState)) {
	s := n.now().clone()
	change(&s)
	n.log = append(n.log, s)
}

func (n *simNode) sync() { n.log = n.log[len(n.log)-1:] }

// serves reports whether a client would get an answer.
func (n *simNode) serves(i int) bool {
	p := simPosition(i)
	point := ring.Range{Start: p - 1, End: p}
	if !n.up || !n.own.overlaps(point) {
		return false
	}
	for _, h := range n.now().sealed {
		if h.Range.Contains(p) {
			return false
		}
	}
	for _, s := range n.now().staged {
		if s.Range.Contains(p) {
			return false
		}
	}
	return true
}

func (n *simNode) local() Local {
	l := Local{
		Cluster: "test", ID: n.ID, Address: n.Address, Incarnation: n.incarnation,
		Counter: n.now().counter, Sealed: n.now().sealed, HasData: n.now().data != simData{},
	}
	for _, s := range n.now().staged {
		l.Staged = append(l.Staged, s.Held)
	}
	return l
}

// sim is the cluster.
type sim struct {
	fataler
	bug      bug
	random   *rand.Rand
	d        Document
	nodes    []*simNode
	acked    simData      // the value acknowledged last
	doubtful map[int]bool // lost with a forgotten node: either that value or nothing
	commits  []MoveID     // requests on their way; any may arrive at any time, again and again
	dropped  []MoveID     // likewise
	active   []MoveID
	serial   int
	counts   map[string]int
}

// fataler ends a run at the first thing that is wrong.
type fataler struct{}

type simFailure string

func (fataler) Helper() {}

func (fataler) Fatalf(format string, args ...any) { panic(simFailure(fmt.Sprintf(format, args...))) }

func (f fataler) Errorf(format string, args ...any) { f.Fatalf(format, args...) }

// bug is a fault of the protocol that the simulation has to find.
type bug string

const (
	none                    bug = ""
	stageByAnotherDocument  bug = "the target stages by a document that it does not follow"
	sealByAnotherDocument   bug = "the source goes on by a document that it does not follow"
	unsealByTimer           bug = "the source unseals without having read the document"
	neitherSealNorFence     bug = "the seal is not durable, and a restart does not fence"
	completeBeforeDurable   bug = "the target says complete before that is durable"
	commitBeforeComplete    bug = "the commit is asked for before the target has everything"
	activateWithoutDocument bug = "the target serves as soon as it has everything"
	keptStaging             bug = "what is staged outlives its move"
)

// swap makes a transition of the document, unless it is refused.
func (s *sim) swap(do func(Document) (Document, error)) error {
	next, err := do(s.d)
	if err == nil && !sameState(next, s.d) {
		s.d = swapped(next)
	}
	return err
}

func (s *sim) node(address string) *simNode {
	for _, n := range s.nodes {
		if n.Address == address {
			return n
		}
	}
	return nil
}

// check is what must hold at every moment.
func (s *sim) check() {
	for i := range simPositions {
		var server *simNode
		for _, n := range s.nodes {
			if !n.serves(i) {
				continue
			}
			if server != nil {
				s.Fatalf("position %d is served by %s and %s", i, server.Address, n.Address)
			}
			server = n
		}
		if server != nil {
			s.checkValue(server, i)
		}
	}
}

func (s *sim) checkValue(n *simNode, i int) {
	value, want := n.now().data[i], s.acked[i]
	if value != want && (!s.doubtful[i] || value != 0) {
		s.Fatalf("%s serves %d at position %d, acknowledged was %d", n.Address, value, i, want)
	}
}

// write writes or deletes a key at whichever node serves it.
func (s *sim) write(i int, remove bool) {
	for _, n := range s.nodes {
		if !n.serves(i) {
			continue
		}
		s.serial++
		value := s.serial
		if remove {
			value = 0
		}
		n.record(func(st *logState) { st.data[i] = value })
		n.sync()
		s.acked[i] = value
		delete(s.doubtful, i)
		s.counts["write"]++
		return
	}
}

// crash kills a node; of what was not synced some prefix survives.
func (s *sim) crash(n *simNode, keep int) {
	n.log = n.log[:1+keep%len(n.log)]
	n.sync()
	n.up, n.own, n.doc, n.followed, n.member = false, nil, Document{}, 0, false
	s.counts["crash"]++
}

// start brings a node up: it registers anew if it is a member, else it first
// follows the document as a stranger.
func (s *sim) start(n *simNode) {
	n.up = true
	if m, ok := s.d.Member(n.Address); ok && m.ID == n.ID {
		s.register(n)
	}
	n.doc = s.d
	s.follow(n, -1)
}

func (s *sim) register(n *simNode) {
	err := s.swap(func(d Document) (Document, error) {
		next, err := d.Register(n.Registration)
		if s.bug == neitherSealNorFence && len(next.Moves) == len(d.Moves) {
			next.Moves = d.Moves
		}
		return next, err
	})
	if err != nil {
		s.Fatalf("Register(%s): %v", n.Address, err)
	}
	m, _ := s.d.Member(n.Address)
	n.incarnation = m.Incarnation
}

// follow does what the document that the node has read demands. After so many
// steps, unless negative, it is killed.
func (s *sim) follow(n *simNode, kill int) {
	if n.doc.Counter <= n.followed && n.followed > 0 {
		return
	}
	decision, err := Reconcile(n.local(), n.doc)
	if err != nil {
		s.Fatalf("%s and document %d: %v", n.Address, n.doc.Counter, err)
	}
	for _, action := range decision.Actions {
		s.counts[string(action.Kind)]++
	}
	if s.bug == keptStaging {
		decision.Actions = slices.DeleteFunc(decision.Actions, func(a Action) bool { return a.Kind == Unstage })
	}
	for i, step := range n.stepsOf(decision) {
		if i == kill {
			s.crash(n, s.serial)
			return
		}
		step()
		s.check()
	}
	n.followed, n.member = n.doc.Counter, decision.Member
	n.sync()
	s.dropped = append(s.dropped, decision.Dropped...)
	s.active = append(s.active, decision.Active...)
	s.counts["follow"]++
}

// stepsOf are the steps of a decision as the engine makes them.
func (n *simNode) stepsOf(d Decision) []func() {
	steps := []func(){func() {
		counter := n.doc.Counter
		n.record(func(s *logState) { s.counter = counter })
	}}
	for _, action := range d.Actions {
		steps = append(steps, func() { n.act(action) })
	}
	return append(
		steps,
		func() { n.own = spansOf(d.Own...) },
		func() {
			n.record(func(s *logState) {
				s.data.keep(func(p ring.Position) bool { return n.own.overlaps(ring.Range{Start: p - 1, End: p}) })
			})
		},
	)
}

func (n *simNode) act(action Action) {
	outside := func(p ring.Position) bool { return !action.Range.Contains(p) }
	n.record(func(s *logState) {
		switch action.Kind {
		case Unseal, Drop:
			s.sealed = slices.DeleteFunc(s.sealed, func(h Held) bool { return h.Move == action.Move })
			if action.Kind == Drop {
				s.data.keep(outside)
				n.own = n.own.without(action.Range)
			}
		case Activate, Unstage:
			i := slices.IndexFunc(s.staged, func(g simStage) bool { return g.Move == action.Move })
			if action.Kind == Activate {
				for at, value := range s.staged[i].data {
					if !outside(simPosition(at)) {
						s.data[at] = value
					}
				}
				n.own = n.own.with(action.Range)
			}
			s.staged = slices.Delete(s.staged, i, i+1)
		case KeepSealed, KeepStaged:
		}
	})
}

func (s spans) with(r ring.Range) spans {
	ranges := []ring.Range{r}
	for _, o := range s {
		ranges = append(ranges, ring.Range{Start: ring.Position(o.lo - 1), End: ring.Position(o.hi - 1)})
	}
	return spansOf(ranges...)
}

func (s spans) without(r ring.Range) spans {
	if r.Start == r.End {
		return nil
	}
	return s.intersect(spansOf(ring.Range{Start: r.End, End: r.Start}))
}

// advance takes a move one step further, if its ends are in a state for it.
func (s *sim) advance(id MoveID) {
	m, found := s.d.Move(id)
	if !found || m.Phase != Planned {
		return
	}
	source, target := s.node(m.Source), s.node(m.Target)
	if !source.up || !target.up {
		return
	}
	// The source acts on what it has followed, which may be old.
	known, ok := source.doc.Move(id)
	if !ok || known.Phase != Planned || source.followed != source.doc.Counter && s.bug != sealByAnotherDocument {
		return
	}
	sealed := slices.ContainsFunc(source.now().sealed, func(h Held) bool { return h.Move == id })
	i := slices.IndexFunc(target.now().staged, func(g simStage) bool { return g.Move == id })
	switch {
	case i < 0:
		s.stage(target, id)
	case target.now().staged[i].Complete, s.bug == commitBeforeComplete && sealed:
		s.commits = append(s.commits, id)
		s.counts["request"]++
		if s.bug == activateWithoutDocument {
			target.act(Action{Activate, id, m.Range})
		}
	case sealed:
		s.complete(source, target, i)
	case source.own.covers(m.Range):
		source.record(func(st *logState) { st.sealed = append(st.sealed, Held{Move: id, Range: m.Range}) })
		if s.bug != neitherSealNorFence {
			source.sync()
		}
		s.counts["seal"]++
	}
}

// stage: the target reads the document, follows it, and begins with nothing.
func (s *sim) stage(target *simNode, id MoveID) {
	if s.bug != stageByAnotherDocument {
		target.doc = s.d
		s.follow(target, -1)
	}
	m, err := s.d.CheckStage(id, target.Address)
	self, _ := s.d.Member(target.Address)
	if err != nil || self.Incarnation != target.incarnation || !target.member || target.own.overlaps(m.Range) {
		return
	}
	for _, h := range target.local().Staged {
		if spansOf(h.Range).overlaps(m.Range) {
			return // It will be unstaged once the newer document is followed.
		}
	}
	for _, h := range target.now().sealed {
		if spansOf(h.Range).overlaps(m.Range) {
			return
		}
	}
	target.record(func(st *logState) {
		st.staged = append(st.staged, simStage{Held: Held{Move: id, Range: m.Range}})
	})
	target.sync()
	s.counts["stage"]++
}

// complete: the sealed range is durably at the target.
func (s *sim) complete(source, target *simNode, i int) {
	target.record(func(st *logState) {
		g := &st.staged[i]
		g.Complete, g.data = true, source.now().data
		g.data.keep(g.Range.Contains)
	})
	if s.bug != completeBeforeDurable {
		target.sync()
	}
	s.counts["complete"]++
}

// forget gives up on a node that is down, for good: its folder is gone too, or
// comes back as it was.
func (s *sim) forget(n *simNode, wipe bool) {
	owned := ownership(s, s.d)
	if n.up || s.swap(func(d Document) (Document, error) { return d.Forget(n.Address) }) != nil {
		return
	}
	for i := range simPositions {
		if owned.Owner(simPosition(i)) == n.Address {
			s.doubtful[i] = true
		}
	}
	if wipe {
		n.ID += "x"
		n.log = []logState{{}}
	}
	s.counts["forget"]++
}
