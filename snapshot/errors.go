package snapshot

import (
	"errors"
	"fmt"

	"github.com/quoitdb/quoit/ring"
)

var (
	// ErrOrder: entries have to come in the order of position and key, each key once.
	ErrOrder = errors.New("entry is out of order")
	// ErrLimit: something is larger than the format allows.
	ErrLimit = errors.New("larger than the snapshot format allows")
	// ErrNoSnapshot: the node has never published a snapshot, or not this one.
	ErrNoSnapshot = errors.New("no such snapshot")
	// ErrNotClaimed: the store has to be claimed before it can write.
	ErrNotClaimed = errors.New("the node's snapshots have not been claimed")
	// ErrSuperseded: another snapshot was published while this one was being made.
	ErrSuperseded = errors.New("another snapshot was published meanwhile")
	// ErrRolledBack: the head is older than one seen before, or gone, or another cluster's.
	ErrRolledBack = errors.New("the head of the node's snapshots has gone back in time")
	// ErrInDoubt: whether the change of the head happened is not known.
	ErrInDoubt = errors.New("outcome of the change is unknown")
	// ErrMissing: an object that a manifest names is not in the bucket as it should be.
	ErrMissing = errors.New("an object of the snapshot is missing or has another size")
)

// Section names a piece of a part file.
type Section string

// The sections, in the order of the file.
const (
	SectionHeader Section = "header"
	SectionBlock  Section = "block"
	SectionIndex  Section = "index"
	SectionFooter Section = "footer"
	SectionFile   Section = "file" // the whole of it: its sections are right, but not the ones expected
)

// CorruptionError says which piece of which object cannot be used. Everything
// outside it can.
type CorruptionError struct {
	Object  string // the key in the bucket, or the file
	Section Section
	Block   int   // number of the block, from 0; -1 unless Section is SectionBlock
	Offset  int64 // where the piece begins
	Length  int64 // how long it is, 0 if that is not known
	// First and Last are the positions concerned, both included: those of the block, else the whole ring.
	First, Last ring.Position
	Reason      string
}

func (e *CorruptionError) Error() string {
	where := string(e.Section)
	if e.Section == SectionBlock {
		where = fmt.Sprintf("block %d", e.Block)
	}
	return fmt.Sprintf("%s is damaged: %s at offset %d (%d bytes), ring positions %d to %d: %s",
		e.Object, where, e.Offset, e.Length, e.First, e.Last, e.Reason)
}

// VersionError is the answer to bytes in a format that this build does not know.
type VersionError struct {
	Object    string
	Version   uint32 // what the object has
	Supported uint32 // the newest that this build reads
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has format version %d, and this program reads up to %d: use the release of Quoit that wrote it, or a newer one",
		e.Object, e.Version, e.Supported)
}

// FormatError says why the text of a manifest or a head was refused.
type FormatError struct {
	What   string // "manifest", "head"
	Reason string
}

func (e *FormatError) Error() string { return e.What + ": " + e.Reason }

// FencedError says that the node lives on in a higher incarnation. Whoever gets
// it must not write again.
type FencedError struct {
	Node          string
	Own, Standing uint64 // incarnations
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("snapshots of %s belong to incarnation %d; this is incarnation %d and must not write them any more",
		e.Node, e.Standing, e.Own)
}

// IdentityError refuses snapshots of another cluster or another node.
type IdentityError struct {
	Subject    string // "cluster", "node"
	Have, Want string // what the bucket holds, and what was expected
}

func (e *IdentityError) Error() string {
	return fmt.Sprintf("the bucket holds snapshots of %s %q, not of %q: use another bucket, or move these away", e.Subject, e.Have, e.Want)
}
