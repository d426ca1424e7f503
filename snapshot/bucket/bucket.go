// Package bucket is the object store as Quoit needs it: a small interface, the
// local folder that implements it without a server, S3 stores, and a probe that
// proves a store's compare-and-swap before anything is trusted to it.
//
// # What every Bucket promises
//
//   - A key holds one whole object or none. A reader sees an object that some
//     writer wrote in full, never a mixture and never a part of one.
//   - The writes of one key have one order, also between processes and hosts,
//     and PutIfAbsent and PutIfMatch are atomic in it: of any number of racing
//     writers with the same condition exactly one succeeds.
//   - A write that returned nil is durable, and so is every object that a read
//     returned: what has been read once is not taken back by a crash.
//   - Get after a successful write of the same key returns that write or a newer one.
//
// # What it does not promise
//
//   - An [ETag] names the content, not the write: two writes of equal bytes may
//     have equal ETags, so an old condition can match again (ABA). A body that is
//     swapped has to carry a counter and a nonce, so that no two are equal.
//   - Delete has no condition, because some stores ignore it there. Never let go
//     of a lock, a lease or a name by deleting it: write a tombstone.
//   - List is for finding garbage, never for finding the truth: it may miss an
//     object that is written while it runs.
//   - A GetRange over a network has the right length, and nobody has compared its
//     bytes with anything. What is read in ranges has to carry checksums.
//
// # How a write ends
//
// A write returns nil: it happened. [ErrConditionFailed]: the condition did not
// hold, or a hidden retry met its own first attempt. [ErrUnavailable]: nothing
// happened, ask again. [ErrInDoubt]: it happened, or will, or will not. After
// ErrConditionFailed and ErrInDoubt read the object and look for the nonce of the
// write; and since a write in doubt may still be under way, not finding it proves
// nothing until another swap with the same condition has been decided. Any other
// error: nothing happened, and asking again will not help.
//
// Methods may be called by any number of goroutines at once.
package bucket

import (
	"context"
	"io"
	"iter"
	"time"
)

// MaxConditional bounds the body of a conditional write, and what Get returns:
// larger objects are written by Put and read by GetRange.
const MaxConditional = 16 << 20

// ETag names the content of an object, as the store counts it: equal bytes have
// equal ETags, different bytes have different ones. Compare it, never read it.
type ETag string

// Object is what a key holds.
type Object struct {
	Body []byte
	ETag ETag
}

// Info describes an object without its body.
type Info struct {
	Key  string
	Size int64
	// ETag is empty in listings, where it would cost reading every object.
	ETag ETag
	// Modified is the store's wall clock at the write: good for guessing the age of
	// garbage, never for ordering writes.
	Modified time.Time
}

// Bucket is an object store. The package comment is its contract;
// [github.com/quoitdb/quoit/snapshot/bucket/buckettest.Test] checks it.
type Bucket interface {
	// Get returns the object, or ErrNotFound, or ErrTooLarge above MaxConditional.
	Get(ctx context.Context, key string) (Object, error)
	// GetRange returns exactly length bytes from offset on. A range that does not
	// lie in the object is ErrOutOfRange; a short answer is an error, never data.
	GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error)
	// Head returns size and ETag, or ErrNotFound.
	Head(ctx context.Context, key string) (Info, error)
	// Put writes exactly size bytes of body, whatever the key held before. If body
	// ends sooner, goes on longer or fails, the key keeps what it held.
	Put(ctx context.Context, key string, body io.Reader, size int64) (ETag, error)
	// PutIfAbsent writes body if the key holds nothing, else ErrConditionFailed.
	PutIfAbsent(ctx context.Context, key string, body []byte) (ETag, error)
	// PutIfMatch writes body if the key holds an object with this ETag, else, also
	// where it holds nothing, ErrConditionFailed.
	PutIfMatch(ctx context.Context, key string, body []byte, etag ETag) (ETag, error)
	// List yields the objects whose keys begin with prefix and come after the key
	// after, in the order of their bytes. It stops at the first error, which it
	// yields last. Nothing found is no error. To go on later, pass the last key seen.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]
	// Delete removes the object. Nothing to remove is no error.
	Delete(ctx context.Context, key string) error
	// Close releases what the handle itself holds; the objects stay.
	Close() error
}
