package cluster

import (
	"errors"
	"fmt"
)

var (
	// ErrNoDocument: the bucket holds no document.
	ErrNoDocument = errors.New("no cluster document")
	// ErrExists: the bucket holds a document already.
	ErrExists = errors.New("there is a cluster document already")
	// ErrRolledBack: the document is older than one seen before, or of another cluster.
	ErrRolledBack = errors.New("the cluster document has gone back in time")
	// ErrInDoubt: whether the update happened is not known; see [Store.Update].
	ErrInDoubt = errors.New("outcome of the update is unknown")

	// ErrUnknownMove: the move was aborted, or has finished, or never was.
	ErrUnknownMove = errors.New("unknown move")
	// ErrCommitted: the move is committed and cannot be taken back.
	ErrCommitted = errors.New("move is committed")
	// ErrNotCommitted: the move has not been committed.
	ErrNotCommitted = errors.New("move is not committed")
	// ErrBlocked: another move of the range is committed and has not finished.
	ErrBlocked = errors.New("another move of the range has not finished")
	// ErrNotTarget: the move goes to another node.
	ErrNotTarget = errors.New("move goes to another node")

	// ErrUnknownMember: no member has this address.
	ErrUnknownMember = errors.New("no such member")
	// ErrLastMember: nobody would be left to own the ring.
	ErrLastMember = errors.New("the last active member cannot go")
	// ErrLimit: the document would grow beyond its bounds.
	ErrLimit = errors.New("cluster is too large")
)

// MoveError says which move a transition refused, and why.
type MoveError struct {
	ID  MoveID
	Err error
}

func (e *MoveError) Error() string { return fmt.Sprintf("move %s: %v", e.ID, e.Err) }

// Unwrap returns the reason.
func (e *MoveError) Unwrap() error { return e.Err }

// MemberError says which member a transition refused, and why.
type MemberError struct {
	Address string
	Err     error
}

func (e *MemberError) Error() string { return fmt.Sprintf("node %s: %v", e.Address, e.Err) }

// Unwrap returns the reason.
func (e *MemberError) Unwrap() error { return e.Err }

// IdentityError refuses a node that is not who its address, its data folder or
// its cluster says.
type IdentityError struct {
	Subject    string // "cluster", "node id", "address", "incarnation"
	Have, Want string // what the node says, and what the document says
	Hint       string // what to do
}

func (e *IdentityError) Error() string {
	return fmt.Sprintf("%s is %q here and %q in the cluster document: %s", e.Subject, e.Have, e.Want, e.Hint)
}

// FormatError says why bytes are no document that this build can read.
type FormatError struct {
	Reason string
}

func (e *FormatError) Error() string { return "cluster document: " + e.Reason }

// HeldError says at which range a node and the document contradict each other.
type HeldError struct {
	Held   Held
	Reason string
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("range %s of move %s: %s; restore the data folder, or forget this node and start it with an empty one",
		e.Held.Range, e.Held.Move, e.Reason)
}
