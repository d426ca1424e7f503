package bucket

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound: the key holds nothing.
	ErrNotFound = errors.New("no such object")
	// ErrConditionFailed: the key holds something else than the condition wants.
	ErrConditionFailed = errors.New("the condition does not hold")
	// ErrUnavailable: the store did not do it, and may do it if asked again.
	ErrUnavailable = errors.New("the bucket is not available")
	// ErrInDoubt: nobody knows yet whether the write happened; see the package comment.
	ErrInDoubt = errors.New("outcome of the write is unknown")
	// ErrInvalidKey: the key cannot name an object; see [ValidateKey].
	ErrInvalidKey = errors.New("invalid key")
	// ErrTooLarge: the body is larger than [MaxConditional].
	ErrTooLarge = errors.New("object is too large to be read or swapped as a whole")
	// ErrOutOfRange: the object has no such range.
	ErrOutOfRange = errors.New("range lies outside the object")
	// ErrSize: the body of a Put was shorter or longer than it was said to be.
	ErrSize = errors.New("body has another size than given")
)

// OpError says which call failed, and why.
type OpError struct {
	Op, Key string
	Err     error
}

func (e *OpError) Error() string { return fmt.Sprintf("bucket: %s %s: %v", e.Op, e.Key, e.Err) }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// IsRetryable reports whether the same call may simply be made again: nothing
// happened, and the reason will pass. It is false for a write in doubt.
func IsRetryable(err error) bool {
	return errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrInDoubt)
}

// IsUndecided reports whether an error of a write leaves open what became of it. A
// refused condition does: libraries and proxies repeat requests whose reply was
// lost, and the repetition meets the first.
func IsUndecided(err error) bool {
	return errors.Is(err, ErrConditionFailed) || errors.Is(err, ErrInDoubt) || IsRetryable(err)
}
