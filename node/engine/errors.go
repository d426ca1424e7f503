package engine

import (
	"errors"
	"strconv"
)

var (
	// ErrNotFound: no such key (or it has expired).
	ErrNotFound = errors.New("engine: no such key")
	// ErrExists: the key is there and the write wanted it absent.
	ErrExists = errors.New("engine: key exists")
	// ErrNotOwned: this node does not serve the key's position.
	ErrNotOwned = errors.New("engine: position is not owned by this node")
	// ErrNotInteger: the value is not a decimal 64-bit integer.
	ErrNotInteger = errors.New("engine: value is not an integer or out of range")
	// ErrOverflow: the sum would not fit 64 bits.
	ErrOverflow = errors.New("engine: increment or decrement would overflow")
	// ErrTooLarge: key or value is over its limit.
	ErrTooLarge = errors.New("engine: key or value is too large")
	// ErrReadOnly: the log cannot grow; nothing happened, reads go on. It wraps the
	// log's reason, wal.ErrDiskFull as a rule.
	ErrReadOnly = errors.New("engine: writes are refused")
	// ErrFull: the write would take more memory than there may be; reads, removals and
	// writes that need no more than what is there go on.
	ErrFull = errors.New("engine: memory is full")
	// ErrCursor: a scan cursor that no scan returned.
	ErrCursor = errors.New("engine: scan cursor is out of range")
	// ErrComplete: the staged range is complete and must not be wiped.
	ErrComplete = errors.New("engine: the staged range is complete")
	// ErrUnknownMove: no range is sealed or staged under this move.
	ErrUnknownMove = errors.New("engine: unknown move")
	// ErrConflict: the range is in a state that does not allow this step.
	ErrConflict = errors.New("engine: the range is not in the state for this step")
	// ErrCount: the staged range does not hold as many keys as the source counted.
	ErrCount = errors.New("engine: staged keys do not match the source's count")
	// ErrVersions: the clock is at the end of what versions can tell.
	ErrVersions = errors.New("engine: the clock has reached the largest version")
	// ErrBase: the base is damaged, or it and the log do not belong together.
	ErrBase = errors.New("engine: the base cannot be used")
	// ErrRecord: a record that does not decode.
	ErrRecord = errors.New("engine: malformed record")
)

// VersionError refuses a write whose IfVersion is not the key's version.
type VersionError struct {
	// Current is the key's version, 0 when there is no such key.
	Current Version
}

// Error names the current version.
func (e *VersionError) Error() string {
	return "engine: version is " + strconv.FormatUint(uint64(e.Current), 10)
}

// HeldError says that the key's range is changing hands, or that its move cannot
// take more writes at this moment: wait for Resolved within a budget and try
// again, or give up with a retryable error.
type HeldError struct {
	// Move is the move that holds the range.
	Move string
	// Reason says which of the three it is.
	Reason HeldReason
	// Resolved is closed when it is worth trying again.
	Resolved <-chan struct{}
}

// HeldReason is why a range is held.
type HeldReason uint8

// The reasons of a [HeldError].
const (
	// HeldSealed: this node is the source; the range is sealed until the document
	// says who owns it.
	HeldSealed HeldReason = iota + 1
	// HeldStaged: this node is the target and has everything; it serves as soon as
	// it has read in the document that it owns the range. Reading it now helps.
	HeldStaged
	// HeldThrottled: writes of the moving range arrive faster than the target
	// takes them; Resolved is closed when there is room. Reads go on.
	HeldThrottled
)

// Error names the move.
func (e *HeldError) Error() string { return "engine: range is held by move " + e.Move }
