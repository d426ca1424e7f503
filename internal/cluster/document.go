package cluster

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/quoitdb/quoit/ring"
)

// Format is the version of the document that this build reads and writes.
const Format = 1

// Bounds on a document, for transitions and decoding alike.
const (
	MaxMoves  = 1 << 14 // moves under way
	MaxIDSize = 64      // bytes of a node's id
	MaxNonce  = 64      // bytes of a nonce
	MaxRecent = 32      // nonces remembered
)

// NodeID names a data folder, and with it the node that works on it, for ever.
type NodeID string

// Incarnation counts registrations over the whole cluster: each start of a node
// gets a higher one than any node had before, so the lower of two is the older.
type Incarnation uint64

// MoveID names one attempt to hand over one range. It is never used again.
type MoveID string

// State says what a member is there for.
type State string

// The states of a member.
const (
	Known   State = "known"   // registered, waits to be asked in; owns nothing
	Active  State = "active"  // places tokens
	Leaving State = "leaving" // places no tokens, still owns what has not been handed over
)

// Member is a node that the cluster knows.
type Member struct {
	Address     string
	ID          NodeID
	Incarnation Incarnation
	// Since is the counter of the document in which this membership began. What a
	// node noted before is from another life.
	Since uint64
	// Gained is the counter of the document by which this node last came to own
	// something, 0 if it never did.
	Gained    uint64
	Tokens    int
	State     State
	Endpoints []ring.Endpoint
}

// Phase is how far a move has come.
type Phase string

// The phases of a move.
const (
	Planned   Phase = "planned"   // the source owns the range
	Committed Phase = "committed" // the target owns it; the ends have not both finished
)

// Move is a range on its way from one node to another.
type Move struct {
	ID             MoveID
	Range          ring.Range
	Source, Target string // addresses
	Phase          Phase
	// CommittedAt is the counter of the document that committed the move, 0 before.
	CommittedAt uint64
	// SourceDropped and TargetActive say which end of a committed move has finished.
	// With both the move leaves the document.
	SourceDropped, TargetActive bool
	// Lost marks a committed move whose source was forgotten: the target owns the
	// range with what it had received in full, or with nothing.
	Lost bool
}

// Settings are what an operator may change while the cluster runs.
type Settings struct {
	MoveBytesPerSecond int64 // for each source; 0 means no limit
	MovesPaused        bool  // start no further move
}

// Document is the state of the cluster at one moment.
type Document struct {
	Cluster string // names the cluster for ever
	// Counter rises by one with each swap, and Nonce is random in each: no two
	// bodies are equal, and a writer can tell its own. Recent are the nonces of the
	// documents before, the newest first.
	Counter uint64
	Nonce   string
	Recent  []string
	Epoch   ring.Epoch
	// Incarnations and MoveCount are the last ones given out.
	Incarnations Incarnation
	MoveCount    uint64
	Nodes        []Member // sorted by address
	Moves        []Move   // planned and committed ones, roughly in the order of planning
	Settings     Settings
}

// New returns the document of a cluster that has no members yet.
func New(cluster string) (Document, error) {
	d := Document{Cluster: cluster}
	return d, d.Topology().Validate()
}

// Ownership returns who owns each position at this moment: what the ring says,
// except that a planned move's range still belongs to its source.
func (d Document) Ownership() (*ring.Map, error) {
	goal, err := d.Goal()
	if err != nil {
		return nil, err
	}
	return goal.With(d.held()), nil
}

// Goal returns who will own each position when every move is done.
func (d Document) Goal() (*ring.Map, error) {
	nodes := d.ringNodes()
	if last := lastGoal.Load(); last != nil && slices.EqualFunc(last.nodes, nodes, samePlace) {
		return last.owners, nil
	}
	owners, err := ring.NewMap(nodes)
	if err == nil {
		lastGoal.Store(&goalOf{nodes, owners})
	}
	return owners, err
}

// goalOf is a map, which nobody changes, and what it was made of.
type goalOf struct {
	nodes  []ring.Node
	owners *ring.Map
}

// lastGoal spares hashing and sorting all tokens again for every document: in a
// rebalancing there are hundreds, and all of them have the same members.
var lastGoal atomic.Pointer[goalOf]

func samePlace(a, b ring.Node) bool { return a.Address == b.Address && a.Tokens == b.Tokens }

// Topology returns what clients and nodes need to find the owner of a key.
func (d Document) Topology() ring.Topology {
	// Neighbours with one owner become one range: moves are small, so that is most.
	var none ring.Map
	held := none.With(d.held()).Arcs()
	return ring.Topology{Cluster: d.Cluster, Epoch: d.Epoch, Nodes: d.ringNodes(), Held: held}
}

// ringNodes returns the members that own something or will.
func (d Document) ringNodes() []ring.Node {
	nodes := make([]ring.Node, 0, len(d.Nodes))
	for _, m := range d.Nodes {
		switch m.State {
		case Active:
			nodes = append(nodes, ring.Node{Address: m.Address, Tokens: m.Tokens, Endpoints: m.Endpoints})
		case Leaving:
			nodes = append(nodes, ring.Node{Address: m.Address, Endpoints: m.Endpoints})
		case Known:
		}
	}
	return nodes
}

// held returns the ranges of the planned moves with their sources.
func (d Document) held() []ring.Arc {
	var arcs []ring.Arc
	for _, m := range d.Moves {
		if m.Phase == Planned {
			arcs = append(arcs, ring.Arc{Range: m.Range, Owner: m.Source})
		}
	}
	return arcs
}

// Member returns the member at an address.
func (d Document) Member(address string) (Member, bool) {
	i, ok := d.indexOf(address)
	if !ok {
		return Member{}, false
	}
	return d.Nodes[i], true
}

func (d Document) indexOf(address string) (int, bool) {
	return slices.BinarySearchFunc(d.Nodes, address, func(m Member, a string) int {
		return strings.Compare(m.Address, a)
	})
}

// memberByID returns the member with an id, wherever it is.
func (d Document) memberByID(id NodeID) (Member, bool) {
	for _, m := range d.Nodes {
		if m.ID == id {
			return m, true
		}
	}
	return Member{}, false
}

// Move returns the move with this id, while it is in the document.
func (d Document) Move(id MoveID) (Move, bool) {
	if i := d.moveIndex(id); i >= 0 {
		return d.Moves[i], true
	}
	return Move{}, false
}

func (d Document) moveIndex(id MoveID) int {
	return slices.IndexFunc(d.Moves, func(m Move) bool { return m.ID == id })
}

// Startable returns the planned moves that may run now: those whose range is not
// part of a committed move that has not finished. Pausing is up to the caller.
func (d Document) Startable() []Move {
	busy := d.unfinished()
	var moves []Move
	for _, m := range d.Moves {
		if m.Phase == Planned && !busy.overlaps(m.Range) {
			moves = append(moves, m)
		}
	}
	return moves
}

// unfinished returns the ranges of the committed moves.
func (d Document) unfinished() spans {
	var ranges []ring.Range
	for _, m := range d.Moves {
		if m.Phase == Committed {
			ranges = append(ranges, m.Range)
		}
	}
	return spansOf(ranges...)
}

// CheckStage tells a target whether it may take in a move: planned, meant for it,
// and startable. The error wraps [ErrUnknownMove], [ErrCommitted], [ErrBlocked] or
// [ErrNotTarget].
//
// Ask only the document that the node follows (see [Decision]), after it has
// followed one that was read for this purpose. A node that takes in a move by a
// newer document, and then follows an older one that it had read before, would find
// no such move there, and forget what it has promised to keep.
func (d Document) CheckStage(id MoveID, target string) (Move, error) {
	m, ok := d.Move(id)
	switch {
	case !ok:
		return m, &MoveError{id, ErrUnknownMove}
	case m.Target != target:
		return m, &MoveError{id, ErrNotTarget}
	case m.Phase == Committed:
		return m, &MoveError{id, ErrCommitted}
	case d.unfinished().overlaps(m.Range):
		return m, &MoveError{id, ErrBlocked}
	}
	return m, nil
}

// gain notes that the next document gives something to a node.
func (d *Document) gain(address string) {
	if i, ok := d.indexOf(address); ok {
		d.Nodes[i].Gained = d.Counter + 1
	}
}

// copied returns a document whose members and moves can be changed.
func (d Document) copied() Document {
	d.Nodes = slices.Clone(d.Nodes)
	d.Moves = slices.Clone(d.Moves)
	return d
}
