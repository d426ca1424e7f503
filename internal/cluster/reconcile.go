package cluster

import (
	"fmt"

	"github.com/quoitdb/quoit/ring"
)

// Local is what a node knows by itself: who it is, and what its log says is
// unfinished.
type Local struct {
	Cluster     string // in the data folder, "" for a fresh one
	ID          NodeID
	Address     string
	Incarnation Incarnation // what it was registered with when it started
	// Counter is the newest document that the node has noted in its log.
	Counter uint64
	Sealed  []Held // ranges of which it is the source
	Staged  []Held // ranges of which it is the target and which are not activated
	// HasData: there are keys, beyond those staged.
	HasData bool
	// Restored: the node's disk was lost, and what it holds comes from the bucket. Its
	// log then may have lost its end, and with it ranges that it had come to own.
	Restored bool
	// Accepted: whoever runs the node has said that it may go on without what it came to
	// own and what the bucket lacks. Only the first document is reconciled so.
	Accepted bool
}

// Held is a range that a move holds on a node.
type Held struct {
	Move     MoveID
	Range    ring.Range
	Complete bool // staged only: everything is durably here
}

// ActionKind is what to do about one move's range.
type ActionKind string

// The kinds of an [Action].
const (
	KeepSealed ActionKind = "keep-sealed" // the move goes on; or have it aborted in the document
	Unseal     ActionKind = "unseal"      // the move is gone, and the range is this node's
	Drop       ActionKind = "drop"        // the sealed range is someone else's
	KeepStaged ActionKind = "keep-staged" // the move goes on
	Activate   ActionKind = "activate"    // what is staged is this node's
	Unstage    ActionKind = "unstage"     // forget what is staged
)

// Action is one thing to do.
type Action struct {
	Kind  ActionKind
	Move  MoveID
	Range ring.Range
}

// Decision is what a node has to do to follow a document, in this order:
//
//  1. Append the mark (cluster, epoch, counter) to the log.
//  2. Do the actions.
//  3. Set the ownership to Own.
//  4. Wipe what is neither owned, sealed nor staged.
//  5. When the log is durable up to here: have Dropped and Active marked in the document.
//
// It finishes one document before it begins the next, and never takes an older one
// after a newer one: neither one that it has followed, nor one by which it has begun
// to stage or to send a range. Doing the same decision twice is harmless.
type Decision struct {
	// Member is false if the document does not know this node: it owns nothing,
	// and after these steps it may register.
	Member  bool
	Actions []Action
	// Own is everything that this node owns, ranges that are sealed included.
	Own             []ring.Range
	Dropped, Active []MoveID
}

// Reconcile compares what a node holds with the document. An error means that
// node and document do not belong together: nothing may be served, marked, or
// deleted then.
//
// Its premise is how nodes work: a target calls a range complete only when that
// is durable, and before the commit; the mark of the document that commits is in
// its log after that, and before the activation.
func Reconcile(local Local, d Document) (Decision, error) {
	if err := local.belongsTo(d); err != nil {
		return Decision{}, err
	}
	owned, err := d.Ownership()
	if err != nil {
		return Decision{}, err
	}
	r := reconciler{local: local, d: d}
	r.Own = owned.ArcsOf(local.Address)
	_, r.Member = d.Member(local.Address)
	r.own = spansOf(r.Own...)
	r.lost = r.lostToMe()
	for _, step := range []func() error{r.sealed, r.staged, r.committed} {
		if err := step(); err != nil {
			return Decision{}, err
		}
	}
	return r.Decision, nil
}

// belongsTo checks that the document is this node's, and no older than the last.
func (l Local) belongsTo(d Document) error {
	if l.Cluster != "" && l.Cluster != d.Cluster {
		return &IdentityError{
			"cluster", l.Cluster, d.Cluster,
			"the data folder belongs to another cluster than the bucket",
		}
	}
	if d.Counter < l.Counter {
		return fmt.Errorf("%w: its counter is %d, and this node has acted on %d", ErrRolledBack, d.Counter, l.Counter)
	}
	if other, ok := d.memberByID(l.ID); ok && other.Address != l.Address {
		return &IdentityError{
			"address", l.Address, other.Address,
			"start the node with the address that its data belongs to",
		}
	}
	m, ok := d.Member(l.Address)
	if !ok {
		return nil
	}
	return l.isMember(m)
}

func (l Local) isMember(m Member) error {
	residue := l.HasData || len(l.Sealed) > 0 || len(l.Staged) > 0
	switch {
	case m.ID != l.ID:
		return &IdentityError{"node id", string(l.ID), string(m.ID), "another node has the address " + l.Address}
	case m.Incarnation > l.Incarnation:
		return &IdentityError{
			"incarnation", fmt.Sprint(l.Incarnation), fmt.Sprint(m.Incarnation),
			"another process with the same data folder, or a copy of it, has started since",
		}
	case m.Incarnation < l.Incarnation:
		return fmt.Errorf("%w: it knows this node as of incarnation %d, and this is %d", ErrRolledBack, m.Incarnation, l.Incarnation)
	case l.Restored && l.Counter < m.Gained:
		return &IdentityError{
			"restored state", fmt.Sprintf("as of document %d", l.Counter), fmt.Sprintf("of a node that came to own more by document %d", m.Gained),
			"the bucket lacks the newest part of this node's log, and ranges with it; start it with QUOIT_ALLOW_OLDER_SNAPSHOT=true to go on without what they held",
		}
	case residue && l.Counter < m.Since:
		return &IdentityError{
			"membership", fmt.Sprintf("noted until document %d", l.Counter), fmt.Sprintf("begun in document %d", m.Since),
			"the data is from before the node was removed from the cluster; move the data folder away and start with an empty one",
		}
	}
	return nil
}

// reconciler gathers a decision.
type reconciler struct {
	Decision
	local Local
	d     Document
	own   spans // Own as a set
	lost  spans // what came to this node when another was forgotten, and is not marked active
}

func (r *reconciler) lostToMe() spans {
	var ranges []ring.Range
	for _, m := range r.d.Moves {
		if m.Lost && m.Target == r.local.Address && !m.TargetActive {
			ranges = append(ranges, m.Range)
		}
	}
	return spansOf(ranges...)
}

func (r *reconciler) do(kind ActionKind, h Held) {
	r.Actions = append(r.Actions, Action{kind, h.Move, h.Range})
}

// sealed decides about the ranges of which this node is the source.
func (r *reconciler) sealed() error {
	for _, h := range r.local.Sealed {
		m, ok := r.d.Move(h.Move)
		switch {
		case ok && (m.Source != r.local.Address || m.Range != h.Range):
			return &HeldError{h, "the document has another move under this id"}
		case ok && m.Phase == Planned:
			r.do(KeepSealed, h)
		case ok:
			r.do(Drop, h)
		default:
			if err := r.orphanedSeal(h); err != nil {
				return err
			}
		}
	}
	return nil
}

// orphanedSeal decides about a sealed range whose move is gone: aborted, or, if
// somebody was forgotten, done with.
func (r *reconciler) orphanedSeal(h Held) error {
	mine := spansOf(h.Range).intersect(r.own)
	switch {
	case len(mine) == 0:
		r.do(Drop, h)
	case len(mine.intersect(r.lost)) > 0:
		// The range went away and came back because its new owner is forgotten. What
		// is here is older than what was lost with it; see DESIGN.md.
		r.do(Drop, h)
	case r.own.covers(h.Range), r.local.Accepted: // What is not its own is wiped.
		r.do(Unseal, h)
	default:
		return &HeldError{h, "its move is gone, and only a part of the range is still this node's"}
	}
	return nil
}

// staged decides about the ranges of which this node is the target.
func (r *reconciler) staged() error {
	for _, h := range r.local.Staged {
		m, ok := r.d.Move(h.Move)
		switch {
		case ok && (m.Target != r.local.Address || m.Range != h.Range):
			return &HeldError{h, "the document has another move under this id"}
		case ok && m.Phase == Planned:
			r.do(KeepStaged, h)
		case ok && h.Complete:
			r.do(Activate, h)
		case ok && m.Lost:
			r.do(Unstage, h) // Its source is gone, and with it what had not arrived.
		case ok && r.local.Accepted:
			r.do(Unstage, h)
		case ok:
			return &HeldError{h, "the move is committed, and here it is not complete: the log has lost what was acknowledged"}
		default:
			if err := r.orphanedStage(h); err != nil {
				return err
			}
		}
	}
	return nil
}

// orphanedStage decides about a staged range whose move is gone: aborted, or
// finished while the log lost no more than the note of it.
func (r *reconciler) orphanedStage(h Held) error {
	mine := spansOf(h.Range).intersect(r.own)
	switch {
	case len(mine) == 0, len(mine.intersect(r.lost)) > 0:
		r.do(Unstage, h)
	case h.Complete && r.own.covers(h.Range):
		r.do(Activate, h)
	case r.local.Accepted:
		r.do(Unstage, h)
	default:
		return &HeldError{h, "its move is gone, and the range is this node's although it is not all here"}
	}
	return nil
}

// committed tells what can be marked in the document, and finds ranges that this
// node should have and has not.
func (r *reconciler) committed() error {
	staged := map[MoveID]bool{}
	for _, h := range r.local.Staged {
		staged[h.Move] = true
	}
	for _, m := range r.d.Moves {
		if m.Phase != Committed {
			continue
		}
		if m.Source == r.local.Address && !m.SourceDropped {
			r.Dropped = append(r.Dropped, m.ID)
		}
		if m.Target != r.local.Address || m.TargetActive {
			continue
		}
		if !staged[m.ID] && !m.Lost && r.local.Counter < m.CommittedAt {
			return &HeldError{
				Held{Move: m.ID, Range: m.Range},
				"the move is committed, and here is no trace of it: the log has lost what was acknowledged",
			}
		}
		r.Active = append(r.Active, m.ID)
	}
	return nil
}
