package cluster

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quoitdb/quoit/ring"
)

// Registration is what a node says of itself.
type Registration struct {
	Cluster   string // the cluster in its data folder, "" for a fresh one
	ID        NodeID
	Address   string
	Tokens    int // 1 to ring.MaxTokens
	Endpoints []ring.Endpoint
}

// Bootstrap registers nodes in a document without members and makes all of them
// active: the first owners of the ring.
func (d Document) Bootstrap(nodes ...Registration) (Document, error) {
	if len(d.Nodes) > 0 {
		return d, &MemberError{d.Nodes[0].Address, errors.New("the cluster has members already")}
	}
	next, addresses := d, make([]string, len(nodes))
	for i, r := range nodes {
		var err error
		if next, err = next.Register(r); err != nil {
			return d, err
		}
		addresses[i] = r.Address
	}
	next, err := next.Join(addresses...)
	if err != nil {
		return d, err
	}
	return next, nil
}

// Register notes that a node has started: as a known member if it is new, else
// with the next incarnation, which fences off whatever ran before under its name:
// every uncommitted move from or to it starts again under a new id. Another id at
// a known address, another address for a known id, and another cluster are each
// an [IdentityError].
func (d Document) Register(r Registration) (Document, error) {
	if err := d.checkRegistration(r); err != nil {
		return d, err
	}
	next := d.copied()
	next.Incarnations++
	i, found := next.indexOf(r.Address)
	if !found {
		next.Nodes = slices.Insert(next.Nodes, i, Member{
			Address: r.Address, ID: r.ID, Incarnation: next.Incarnations, Since: d.Counter + 1,
			Tokens: r.Tokens, State: Known, Endpoints: r.Endpoints,
		})
		return orKeep(d)(next.bounded())
	}
	m := &next.Nodes[i]
	if m.State != Known && !slices.Equal(m.Endpoints, r.Endpoints) {
		next.Epoch++ // Clients have to learn of it.
	}
	m.Incarnation, m.Tokens, m.Endpoints = next.Incarnations, r.Tokens, r.Endpoints
	for j := range next.Moves {
		if mv := &next.Moves[j]; mv.Phase == Planned && (mv.Source == r.Address || mv.Target == r.Address) {
			mv.ID = next.nextMove()
		}
	}
	// The number of tokens may have changed.
	owned, err := d.Ownership()
	if err != nil {
		return d, err
	}
	return orKeep(d)(next.replan(owned))
}

// orKeep returns d in place of a document that comes with an error.
func orKeep(d Document) func(Document, error) (Document, error) {
	return func(next Document, err error) (Document, error) {
		if err != nil {
			return d, err
		}
		return next, nil
	}
}

func (d Document) checkRegistration(r Registration) error {
	if r.Cluster != "" && r.Cluster != d.Cluster {
		return &IdentityError{
			"cluster", r.Cluster, d.Cluster,
			"the data folder belongs to another cluster; give this node a folder of its own, or that cluster's bucket",
		}
	}
	if fault := idFault(r.ID); fault != "" {
		return &MemberError{r.Address, fmt.Errorf("node id %.80q: %s", r.ID, fault)}
	}
	if r.Tokens < 1 {
		return &MemberError{r.Address, fmt.Errorf("%d tokens, want 1 to %d", r.Tokens, ring.MaxTokens)}
	}
	alone := []ring.Node{{Address: r.Address, Tokens: r.Tokens, Endpoints: r.Endpoints}}
	if _, err := ring.NewMap(alone); err != nil {
		return &MemberError{r.Address, err}
	}
	if m, ok := d.Member(r.Address); ok && m.ID != r.ID {
		return &IdentityError{
			"node id", string(r.ID), string(m.ID),
			"another node, or this one with its data lost, has the address " + r.Address +
				"; bring its data back, or forget the lost node first",
		}
	}
	if m, ok := d.memberByID(r.ID); ok && m.Address != r.Address {
		return &IdentityError{
			"address", r.Address, m.Address,
			"the place of a node on the ring is its address; start it with that one, or with an empty folder to join as a new node",
		}
	}
	return nil
}

// idFault returns what is wrong with a node's id, or nothing.
func idFault(id NodeID) string {
	if id == "" || len(id) > MaxIDSize {
		return fmt.Sprintf("want 1 to %d characters", MaxIDSize)
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return "want lower-case letters, digits and dashes"
		}
	}
	return ""
}

// Join makes members active, also ones that were leaving, and plans the moves
// that follow. The first to join own the whole ring at once.
func (d Document) Join(addresses ...string) (Document, error) {
	return d.setStates(Active, addresses)
}

// Leave plans to move everything away from members; each is gone from the
// document when it owns nothing and its moves have finished.
func (d Document) Leave(addresses ...string) (Document, error) {
	return d.setStates(Leaving, addresses)
}

func (d Document) setStates(state State, addresses []string) (Document, error) {
	owned, err := d.Ownership()
	if err != nil {
		return d, err
	}
	next := d.copied()
	for _, address := range addresses {
		i, ok := next.indexOf(address)
		if !ok {
			return d, &MemberError{address, ErrUnknownMember}
		}
		next.Nodes[i].State = state
	}
	if len(owned.Owners()) == 0 && slices.ContainsFunc(next.Nodes, func(m Member) bool { return m.State == Active }) {
		next.Epoch++ // From nobody to somebody: nothing moves, and still ownership changes.
		for _, m := range next.Nodes {
			if m.State == Active {
				next.gain(m.Address)
			}
		}
	}
	return orKeep(d)(next.replan(owned))
}

// Forget gives up on a member that will not come back, and accepts the loss of
// what only it had. Only for a node that is known to be dead: nothing can stop one
// that still runs from serving until it reads the document.
//
// Whoever owns its ranges from now on learns by a committed move marked Lost that
// they begin empty: ownership never changes without a record of it.
func (d Document) Forget(address string) (Document, error) {
	owned, err := d.Ownership()
	if err != nil {
		return d, err
	}
	i, ok := d.indexOf(address)
	if !ok {
		return d, &MemberError{address, ErrUnknownMember}
	}
	next := d.copied()
	next.Nodes = slices.Delete(next.Nodes, i, i+1)
	goal, err := next.Goal()
	if err != nil {
		return d, err
	}
	if len(owned.ArcsOf(address)) > 0 {
		if len(goal.Owners()) == 0 {
			return d, &MemberError{address, ErrLastMember}
		}
		next.Epoch++
	}
	next.closeMoves(address)
	for _, m := range ring.Plan(owned.With(next.givenUp()), goal) {
		if m.Source == address {
			next.add(Move{
				Range: m.Range, Source: m.Source, Target: m.Target, Phase: Committed,
				CommittedAt: d.Counter + 1, SourceDropped: true, Lost: true,
			})
			next.gain(m.Target)
		}
	}
	return orKeep(d)(next.replan(owned.With(next.givenUp())))
}

// closeMoves ends the part that a forgotten node had in moves.
func (d *Document) closeMoves(forgotten string) {
	d.Moves = slices.DeleteFunc(d.Moves, func(m Move) bool { return m.Target == forgotten })
	for i := range d.Moves {
		m := &d.Moves[i]
		if m.Source != forgotten {
			continue
		}
		if m.Phase == Planned {
			// The target may have everything already: with this same id it may keep it.
			m.Phase, m.CommittedAt, m.Lost = Committed, d.Counter+1, true
			d.gain(m.Target)
		}
		m.SourceDropped = true
	}
	*d = d.cleared()
}

// givenUp returns the ranges that came to their owners because a node was forgotten.
func (d Document) givenUp() []ring.Arc {
	var arcs []ring.Arc
	for _, m := range d.Moves {
		if m.Lost {
			arcs = append(arcs, ring.Arc{Range: m.Range, Owner: m.Target})
		}
	}
	return arcs
}

// SetPaused says whether moves may start.
func (d Document) SetPaused(paused bool) (Document, error) {
	d.Settings.MovesPaused = paused
	return d, nil
}

// SetThrottle bounds the bytes each second that a source sends; 0 is no bound.
func (d Document) SetThrottle(bytesPerSecond int64) (Document, error) {
	if bytesPerSecond < 0 {
		return d, fmt.Errorf("throttle of %d bytes each second: want 0 (no limit) or more", bytesPerSecond)
	}
	d.Settings.MoveBytesPerSecond = bytesPerSecond
	return d, nil
}
