package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// bucketHost is the object store's name on the network.
const bucketHost = "bucket"

// bucketPatience is how long a process waits for the store to answer.
const bucketPatience = 3 * time.Second

// store is the object store: it swaps atomically, and it answers late, wrongly or not at
// all as such stores do.
type store struct {
	w      *World
	memory *buckettest.Memory

	mu   sync.Mutex
	dice dice // guarded by mu
}

func (w *World) newStore() *store {
	return &store{w: w, memory: buckettest.NewMemory(), dice: w.dice("bucket")}
}

// handle is the store as one process sees it. It stops working when the process dies.
type handle struct {
	s *store
	p *process
}

var _ bucket.Bucket = (*handle)(nil)

// fate is what becomes of one request.
type fate struct {
	there, back time.Duration
	before      error         // instead of doing it
	after       error         // although it was done
	late        time.Duration // it is done so long after its caller was told that nobody knows
	surely      bool          // it is done although its process has died
}

// draw decides the fate of a request.
func (s *store) draw(writes, conditional bool) fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.dice
	f := fate{
		there: between(d, 200*time.Microsecond, 3*time.Millisecond), back: between(d, 200*time.Microsecond, 3*time.Millisecond),
		surely: d.chance(0.5),
	}
	if s.w.net.isCalm() || !d.chance(s.w.plan.badBucket) {
		return f
	}
	switch n := d.IntN(100); {
	case n < 25:
		f.before = bucket.ErrUnavailable
	case n < 40:
		f.there += between(d, 10*time.Millisecond, time.Second)
	case !writes:
		f.before = bucket.ErrUnavailable
	case n < 55:
		f.before = bucket.ErrInDoubt
	case n < 75:
		f.after = bucket.ErrInDoubt
	case n < 85:
		f.late = between(d, 50*time.Millisecond, 2*time.Second)
	case !conditional:
		f.after = bucket.ErrInDoubt
	case n < 93:
		f.before = bucket.ErrConditionFailed
	default:
		f.after = bucket.ErrConditionFailed
	}
	return f
}

// kind names a fate, "" for an ordinary one.
func (f fate) kind() string {
	switch {
	case f.late > 0:
		return "bucket: write done late"
	case errors.Is(f.before, bucket.ErrUnavailable):
		return "bucket: 409, 503"
	case errors.Is(f.before, bucket.ErrInDoubt):
		return "bucket: request lost"
	case errors.Is(f.before, bucket.ErrConditionFailed):
		return "bucket: 412 for nothing"
	case errors.Is(f.after, bucket.ErrInDoubt):
		return "bucket: reply lost"
	case errors.Is(f.after, bucket.ErrConditionFailed):
		return "bucket: 412 of its own"
	case f.there > 5*time.Millisecond:
		return "bucket: slow"
	}
	return ""
}

// request makes a call and does to it what was drawn.
func request[T any](ctx context.Context, h *handle, op, key string, writes, conditional bool, do func(context.Context) (T, error)) (T, error) {
	var none T
	s := h.s
	fail := func(err error) (T, error) { return none, &bucket.OpError{Op: op, Key: key, Err: err} }
	lost := func() (T, error) {
		if writes {
			return fail(errors.Join(bucket.ErrInDoubt, ctx.Err()))
		}
		return fail(errors.Join(bucket.ErrUnavailable, ctx.Err()))
	}
	h.p.whileFrozen(ctx)
	defer h.p.whileFrozen(ctx)
	if h.p.isDead() {
		return fail(bucket.ErrUnavailable)
	}
	f := s.draw(writes, conditional)
	there, back := link{h.p.host, bucketHost}, link{bucketHost, h.p.host}
	if s.w.net.isDown(there) {
		s.w.trace.count("bucket: out of reach", 1)
		_ = sleep(ctx, bucketPatience)
		return lost()
	}
	if kind := f.kind(); kind != "" {
		s.w.trace.fault(kind, h.p.name+" "+op+" "+key)
	}
	if f.late > 0 {
		time.AfterFunc(f.there+f.late, func() { _, _ = do(context.WithoutCancel(ctx)) })
		if !sleep(ctx, f.there+f.back) {
			return lost()
		}
		return fail(bucket.ErrInDoubt)
	}
	if !sleep(ctx, f.there) {
		if writes && f.surely {
			_, _ = do(context.WithoutCancel(ctx))
		}
		return lost()
	}
	if h.p.isDead() && !f.surely {
		return fail(bucket.ErrUnavailable)
	}
	if f.before != nil {
		_ = sleep(ctx, f.back)
		return fail(f.before)
	}
	v, err := do(ctx)
	s.w.trace.note("bucket", fmt.Sprintf("%s %s %s %v", h.p.name, op, key, err), nil)
	if writes && err == nil && key == cluster.DefaultKey {
		s.w.watcher.look()
	}
	if s.w.net.isDown(back) {
		s.w.trace.count("bucket: out of reach", 1)
		_ = sleep(ctx, bucketPatience)
		return lost()
	}
	if !sleep(ctx, f.back) {
		return lost()
	}
	switch {
	case h.p.isDead():
		return fail(bucket.ErrInDoubt)
	case err == nil && f.after != nil:
		return fail(f.after)
	}
	return v, err
}

// Get implements bucket.Bucket.
func (h *handle) Get(ctx context.Context, key string) (bucket.Object, error) {
	return request(ctx, h, "get", key, false, false, func(ctx context.Context) (bucket.Object, error) { return h.s.memory.Get(ctx, key) })
}

// GetRange implements bucket.Bucket.
func (h *handle) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	return request(ctx, h, "get range", key, false, false, func(ctx context.Context) ([]byte, error) {
		return h.s.memory.GetRange(ctx, key, offset, length)
	})
}

// Head implements bucket.Bucket.
func (h *handle) Head(ctx context.Context, key string) (bucket.Info, error) {
	return request(ctx, h, "head", key, false, false, func(ctx context.Context) (bucket.Info, error) { return h.s.memory.Head(ctx, key) })
}

// Put implements bucket.Bucket.
func (h *handle) Put(ctx context.Context, key string, body io.Reader, size int64) (bucket.ETag, error) {
	b, err := io.ReadAll(body)
	if err != nil {
		return "", &bucket.OpError{Op: "put", Key: key, Err: err}
	}
	return request(ctx, h, "put", key, true, false, func(ctx context.Context) (bucket.ETag, error) {
		return h.s.memory.Put(ctx, key, bytes.NewReader(b), size)
	})
}

// PutIfAbsent implements bucket.Bucket.
func (h *handle) PutIfAbsent(ctx context.Context, key string, body []byte) (bucket.ETag, error) {
	body = bytes.Clone(body)
	return request(ctx, h, "put if absent", key, true, true, func(ctx context.Context) (bucket.ETag, error) {
		return h.s.memory.PutIfAbsent(ctx, key, body)
	})
}

// PutIfMatch implements bucket.Bucket.
func (h *handle) PutIfMatch(ctx context.Context, key string, body []byte, etag bucket.ETag) (bucket.ETag, error) {
	body = bytes.Clone(body)
	return request(ctx, h, "put if match", key, true, true, func(ctx context.Context) (bucket.ETag, error) {
		return h.s.memory.PutIfMatch(ctx, key, body, etag)
	})
}

// List implements bucket.Bucket.
func (h *handle) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	objects, err := request(ctx, h, "list", prefix, false, false, func(ctx context.Context) (iter.Seq2[bucket.Info, error], error) {
		return h.s.memory.List(ctx, prefix, after), nil
	})
	if err != nil {
		return func(yield func(bucket.Info, error) bool) { yield(bucket.Info{}, err) }
	}
	return objects
}

// Delete implements bucket.Bucket.
func (h *handle) Delete(ctx context.Context, key string) error {
	_, err := request(ctx, h, "delete", key, true, false, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, h.s.memory.Delete(ctx, key)
	})
	return err
}

// Close implements bucket.Bucket.
func (h *handle) Close() error { return nil }
