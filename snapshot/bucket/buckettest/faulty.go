package buckettest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"sync"

	"github.com/quoitdb/quoit/snapshot/bucket"
)

// Op is one call of a [bucket.Bucket].
type Op struct {
	Method string // "Get", "PutIfMatch", ...
	Key    string // the prefix, for List
	N      int    // the how-manieth call of this method, from 1
}

// Fault is what becomes of one call. The zero Fault lets it through.
type Fault struct {
	// Wait delays the call until it is closed. If the context ends before, a read
	// returns its error, and a write is in doubt: it is done when Wait is closed.
	Wait <-chan struct{}
	// Before fails the call with this error, and nothing happens.
	Before error
	// After does the call and, if it succeeded, returns this error all the same.
	After error
	// Late returns ErrInDoubt at once and does the call when Late is closed.
	Late <-chan struct{}
}

// LoseRequest is a timeout of a write that never arrived.
func LoseRequest() Fault { return Fault{Before: bucket.ErrInDoubt} }

// LoseReply is a timeout, a reset or a 5xx of a write that happened.
func LoseReply() Fault { return Fault{After: bucket.ErrInDoubt} }

// Busy is a 409, or a 503 to a read: nothing happened, ask again.
func Busy() Fault { return Fault{Before: bucket.ErrUnavailable} }

// Conflict is a 412 out of the blue.
func Conflict() Fault { return Fault{Before: bucket.ErrConditionFailed} }

// OwnConflict is a 412 that the writer caused itself: the write happened, its
// reply was lost, and a retry hidden in a library met it.
func OwnConflict() Fault { return Fault{After: bucket.ErrConditionFailed} }

// Faulty decorates a bucket with faults. Make one with [NewFaulty].
type Faulty struct {
	inner  bucket.Bucket
	decide func(Op) Fault

	mu    sync.Mutex
	calls map[string]int
	late  sync.WaitGroup
}

var _ bucket.Bucket = (*Faulty)(nil)

// NewFaulty returns a bucket that asks decide before each call what shall become
// of it. Calls may come from many goroutines; decide is called by one at a time.
func NewFaulty(b bucket.Bucket, decide func(Op) Fault) *Faulty {
	return &Faulty{inner: b, decide: decide, calls: map[string]int{}}
}

// InTurn decides for one method: its first call meets the first fault, and so on.
// Calls past the last fault, and those of other methods, go through.
func InTurn(method string, faults ...Fault) func(Op) Fault {
	return func(op Op) Fault {
		if op.Method == method && op.N <= len(faults) {
			return faults[op.N-1]
		}
		return Fault{}
	}
}

// Calls returns how often a method has been called.
func (f *Faulty) Calls(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

// Drain returns when every late call has been done; their channels are closed.
func (f *Faulty) Drain() { f.late.Wait() }

// Close waits for late calls and closes the bucket behind.
func (f *Faulty) Close() error {
	f.Drain()
	return f.inner.Close()
}

// Get is Get with faults.
func (f *Faulty) Get(ctx context.Context, key string) (bucket.Object, error) {
	return faulted(ctx, f, "Get", key, func(ctx context.Context) (bucket.Object, error) {
		return f.inner.Get(ctx, key)
	})
}

// GetRange is GetRange with faults.
func (f *Faulty) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	return faulted(ctx, f, "GetRange", key, func(ctx context.Context) ([]byte, error) {
		return f.inner.GetRange(ctx, key, offset, length)
	})
}

// Head is Head with faults.
func (f *Faulty) Head(ctx context.Context, key string) (bucket.Info, error) {
	return faulted(ctx, f, "Head", key, func(ctx context.Context) (bucket.Info, error) {
		return f.inner.Head(ctx, key)
	})
}

// Put is Put with faults. It reads the whole body first, so that it can be late.
func (f *Faulty) Put(ctx context.Context, key string, body io.Reader, size int64) (bucket.ETag, error) {
	b, err := io.ReadAll(body)
	return faulted(ctx, f, "Put", key, func(ctx context.Context) (bucket.ETag, error) {
		return f.inner.Put(ctx, key, io.MultiReader(bytes.NewReader(b), failing{err}), size)
	})
}

// PutIfAbsent is PutIfAbsent with faults.
func (f *Faulty) PutIfAbsent(ctx context.Context, key string, body []byte) (bucket.ETag, error) {
	body = bytes.Clone(body)
	return faulted(ctx, f, "PutIfAbsent", key, func(ctx context.Context) (bucket.ETag, error) {
		return f.inner.PutIfAbsent(ctx, key, body)
	})
}

// PutIfMatch is PutIfMatch with faults.
func (f *Faulty) PutIfMatch(ctx context.Context, key string, body []byte, etag bucket.ETag) (bucket.ETag, error) {
	body = bytes.Clone(body)
	return faulted(ctx, f, "PutIfMatch", key, func(ctx context.Context) (bucket.ETag, error) {
		return f.inner.PutIfMatch(ctx, key, body, etag)
	})
}

// List is List with faults, which all strike before the first object.
func (f *Faulty) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	objects, err := faulted(ctx, f, "List", prefix, func(ctx context.Context) (iter.Seq2[bucket.Info, error], error) {
		return f.inner.List(ctx, prefix, after), nil
	})
	if err != nil {
		return func(yield func(bucket.Info, error) bool) { yield(bucket.Info{}, err) }
	}
	return objects
}

// Delete is Delete with faults.
func (f *Faulty) Delete(ctx context.Context, key string) error {
	_, err := faulted(ctx, f, "Delete", key, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, f.inner.Delete(ctx, key)
	})
	return err
}

// next decides about one more call of a method.
func (f *Faulty) next(method, key string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[method]++
	return f.decide(Op{Method: method, Key: key, N: f.calls[method]})
}

// faulted makes a call and does to it what was decided.
func faulted[T any](ctx context.Context, f *Faulty, method, key string, call func(context.Context) (T, error)) (T, error) {
	var none T
	fault := f.next(method, key)
	fail := func(err error) (T, error) { return none, &bucket.OpError{Op: method, Key: key, Err: err} }
	if fault.Late != nil {
		doLate(ctx, f, fault.Late, call)
		return fail(bucket.ErrInDoubt)
	}
	if fault.Wait != nil {
		select {
		case <-fault.Wait:
		case <-ctx.Done():
			if !writes(method) {
				return fail(ctx.Err())
			}
			doLate(ctx, f, fault.Wait, call)
			return fail(errors.Join(bucket.ErrInDoubt, ctx.Err()))
		}
	}
	if fault.Before != nil {
		return fail(fault.Before)
	}
	v, err := call(ctx)
	if err == nil && fault.After != nil {
		return fail(fault.After)
	}
	return v, err
}

// doLate does a call when the channel is closed, whatever becomes of the context.
func doLate[T any](ctx context.Context, f *Faulty, when <-chan struct{}, call func(context.Context) (T, error)) {
	f.late.Go(func() {
		<-when
		_, _ = call(context.WithoutCancel(ctx)) // Nobody is there to be told.
	})
}

func writes(method string) bool {
	switch method {
	case "Put", "PutIfAbsent", "PutIfMatch", "Delete":
		return true
	}
	return false
}

// failing ends a body with the error that reading it met, if any.
type failing struct{ err error }

func (r failing) Read([]byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	return 0, io.EOF
}
