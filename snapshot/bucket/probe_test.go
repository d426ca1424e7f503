package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// broken is a bucket whose conditional writes are what its fields make of them.
type broken struct {
	*buckettest.Memory
	putIfAbsent func(ctx context.Context, key string, body []byte) (bucket.ETag, error)
	putIfMatch  func(ctx context.Context, key string, body []byte, etag bucket.ETag) (bucket.ETag, error)
}

func (b *broken) PutIfAbsent(ctx context.Context, key string, body []byte) (bucket.ETag, error) {
	if b.putIfAbsent == nil {
		return b.Memory.PutIfAbsent(ctx, key, body)
	}
	return b.putIfAbsent(ctx, key, body)
}

func (b *broken) PutIfMatch(ctx context.Context, key string, body []byte, etag bucket.ETag) (bucket.ETag, error) {
	if b.putIfMatch == nil {
		return b.Memory.PutIfMatch(ctx, key, body, etag)
	}
	return b.putIfMatch(ctx, key, body, etag)
}

// blind writes without a look at any condition, as a store that drops the headers does.
func (b *broken) blind(ctx context.Context, key string, body []byte) (bucket.ETag, error) {
	return b.Put(ctx, key, bytes.NewReader(body), int64(len(body)))
}

// all returns after so many calls of it are under way, so that they surely meet.
func all(n int) func() {
	var wg sync.WaitGroup
	wg.Add(n)
	return func() {
		wg.Done()
		wg.Wait()
	}
}

// TestProbeRefuses holds the probe against stores as they have been seen.
func TestProbeRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		ill   func(b *broken)
		check string
	}{
		{"ignores If-None-Match", func(b *broken) { b.putIfAbsent = b.blind }, "creating an object that exists"},
		{"ignores If-Match", func(b *broken) {
			b.putIfMatch = func(ctx context.Context, key string, body []byte, _ bucket.ETag) (bucket.ETag, error) {
				return b.blind(ctx, key, body)
			}
		}, "swapping with the ETag of an older version"},
		{"accepts If-Match on nothing", func(b *broken) {
			b.putIfMatch = func(ctx context.Context, key string, body []byte, etag bucket.ETag) (bucket.ETag, error) {
				if _, err := b.Get(ctx, key); errors.Is(err, bucket.ErrNotFound) {
					return b.blind(ctx, key, body)
				}
				return b.Memory.PutIfMatch(ctx, key, body, etag)
			}
		}, "swapping an object that does not exist"},
		{"refuses and writes all the same", func(b *broken) {
			b.putIfAbsent = func(ctx context.Context, key string, body []byte) (bucket.ETag, error) {
				tag, err := b.Memory.PutIfAbsent(ctx, key, body)
				if err != nil {
					_, _ = b.blind(ctx, key, body)
				}
				return tag, err
			}
		}, "creating an object that exists"},
		{"checks, then acts, on creation", func(b *broken) {
			met := all(8)
			b.putIfAbsent = func(ctx context.Context, key string, body []byte) (bucket.ETag, error) {
				if _, err := b.Get(ctx, key); err == nil || strings.HasSuffix(key, "-0") {
					return b.Memory.PutIfAbsent(ctx, key, body)
				}
				met()
				return b.blind(ctx, key, body)
			}
		}, "racing creations"},
		{"checks, then acts, on swaps", func(b *broken) {
			met := all(8)
			b.putIfMatch = func(ctx context.Context, key string, body []byte, etag bucket.ETag) (bucket.ETag, error) {
				if o, err := b.Get(ctx, key); err != nil || o.ETag != etag || strings.HasSuffix(key, "-0") {
					return b.Memory.PutIfMatch(ctx, key, body, etag)
				}
				met()
				return b.blind(ctx, key, body)
			}
		}, "racing swaps"},
		{"tells the wrong writer", func(b *broken) {
			b.putIfAbsent = func(ctx context.Context, key string, body []byte) (bucket.ETag, error) {
				tag, err := b.Memory.PutIfAbsent(ctx, key, body)
				if err == nil && bytes.HasPrefix(body, []byte("racing")) {
					_, _ = b.blind(ctx, key, []byte("another"))
				}
				return tag, err
			}
		}, "racing creations"},
		{"lets nobody win", func(b *broken) {
			b.putIfAbsent = func(ctx context.Context, key string, body []byte) (bucket.ETag, error) {
				tag, err := b.Memory.PutIfAbsent(ctx, key, body)
				if bytes.HasPrefix(body, []byte("racing")) {
					return "", bucket.ErrConditionFailed
				}
				return tag, err
			}
		}, "racing creations"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &broken{Memory: buckettest.NewMemory()}
			c.ill(b)
			err := bucket.Probe(t.Context(), b)
			var refused *bucket.ProbeError
			if !errors.As(err, &refused) || refused.Check != c.check || refused.Seen == "" {
				t.Errorf("Probe: %v, want a refusal at %q", err, c.check)
			}
			for info := range b.List(t.Context(), "", "") {
				t.Errorf("left behind: %s", info.Key)
			}
		})
	}
}

// TestProbeToleratesWhatIsNoFault: conflicts and refusals under load are no reason
// to distrust a store.
func TestProbeToleratesWhatIsNoFault(t *testing.T) {
	f := buckettest.NewFaulty(buckettest.NewMemory(), func(op buckettest.Op) buckettest.Fault {
		if op.N%3 == 1 {
			return buckettest.Busy()
		}
		return buckettest.Fault{}
	})
	err := bucket.Probe(t.Context(), f)
	// Deletions are not repeated: what they leave is only garbage, and reported.
	if refused := new(bucket.ProbeError); errors.As(err, &refused) {
		t.Error(err)
	}
}

// TestProbeTellsAbsenceFromDistrust: a bucket that cannot be reached has not been
// caught at anything.
func TestProbeTellsAbsenceFromDistrust(t *testing.T) {
	for name, fault := range map[string]buckettest.Fault{
		"unavailable": buckettest.Busy(), "in doubt": buckettest.LoseReply(), "denied": {Before: errors.New("403")},
	} {
		f := buckettest.NewFaulty(buckettest.NewMemory(), func(buckettest.Op) buckettest.Fault { return fault })
		err := bucket.Probe(t.Context(), f)
		if refused := new(bucket.ProbeError); err == nil || errors.As(err, &refused) {
			t.Errorf("%s: Probe: %v, want an error that is no ProbeError", name, err)
		}
	}
}

// TestProbeSaysItOnce: where the first write was refused there is nothing to remove,
// and the reason is not buried under others.
func TestProbeSaysItOnce(t *testing.T) {
	denied := errors.New("403")
	f := buckettest.NewFaulty(buckettest.NewMemory(), func(buckettest.Op) buckettest.Fault {
		return buckettest.Fault{Before: denied}
	})
	err := bucket.Probe(t.Context(), f)
	if !errors.Is(err, denied) || strings.Count(err.Error(), "403") != 1 || f.Calls("Delete") != 0 {
		t.Errorf("Probe: %v, after %d deletions", err, f.Calls("Delete"))
	}
}
