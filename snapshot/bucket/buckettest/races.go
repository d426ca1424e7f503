package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/quoitdb/quoit/snapshot/bucket"
)

const (
	raceWriters = 32
	raceRounds  = 12
)

// racingCreations has writers create the same object through two handles.
func (s *suite) racingCreations() {
	handles := [2]bucket.Bucket{s.b, s.handle()}
	for round := range raceRounds {
		key := fmt.Sprintf("race/%d", round)
		var winner atomic.Pointer[string]
		s.together(raceWriters, func(writer int) {
			body := fmt.Sprintf("round %d, writer %d", round, writer)
			_, err := retried(func() (bucket.ETag, error) {
				return handles[writer%2].PutIfAbsent(s.ctx, key, []byte(body))
			})
			switch {
			case err == nil && !winner.CompareAndSwap(nil, &body):
				s.Errorf("%s: two winners: %q and %q", key, *winner.Load(), body)
			case err != nil:
				s.want(err, bucket.ErrConditionFailed, "a loser")
			}
		})
		if winner.Load() == nil {
			s.Fatalf("%s: nobody won", key)
		}
		s.holds(key, *winner.Load())
	}
}

// racingSwaps has writers count up one object; no step may be lost.
func (s *suite) racingSwaps() {
	const writers, steps = 8, 10
	s.created("counter", "0")
	handles := [2]bucket.Bucket{s.b, s.handle()}
	s.together(writers, func(writer int) {
		for range steps {
			if err := Increment(s.ctx, handles[writer%2], "counter"); err != nil {
				s.Errorf("writer %d: %v", writer, err)
				return
			}
		}
	})
	s.holds("counter", strconv.Itoa(writers*steps))
}

// racingWrites mixes unconditional writes and deletions into swaps: a swap that
// succeeds has replaced the very object that it had read.
func (s *suite) racingWrites() {
	other := s.handle()
	var swapped atomic.Int64
	s.together(4, func(writer int) {
		for i := range raceRounds {
			body := fmt.Appendf(nil, "%d by %d", i, writer)
			switch writer {
			case 0:
				if _, err := other.Put(s.ctx, "object", bytes.NewReader(body), int64(len(body))); err != nil {
					s.Errorf("Put: %v", err)
				}
			case 1:
				if err := s.b.Delete(s.ctx, "object"); err != nil {
					s.Errorf("Delete: %v", err)
				}
			default:
				o, err := s.b.Get(s.ctx, "object")
				if err != nil {
					s.want(err, bucket.ErrNotFound, "Get")
					continue
				}
				if _, err = other.PutIfMatch(s.ctx, "object", body, o.ETag); err == nil {
					swapped.Add(1)
				} else {
					s.want(err, bucket.ErrConditionFailed, "PutIfMatch")
				}
			}
		}
	})
	s.Logf("%d swaps among them", swapped.Load())
}

// probe: what passes the suite passes the probe, which leaves nothing behind.
func (s *suite) probe() {
	s.created("object", "neighbour")
	if err := bucket.Probe(s.ctx, s.b); err != nil {
		s.Fatal(err)
	}
	if keys := s.keys("", ""); len(keys) != 1 || keys[0] != "object" {
		s.Errorf("objects after the probe: %q", keys)
	}
}

// together runs fn n times at once.
func (s *suite) together(n int, fn func(i int)) {
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-gate
			fn(i)
		})
	}
	close(gate)
	wg.Wait()
}

// retried makes a call again while the bucket says that nothing happened.
func retried[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if !bucket.IsRetryable(err) {
			return v, err
		}
	}
}

// errNotNumber: a counter's object does not hold what Increment wrote.
var errNotNumber = errors.New("counter is not a number")

// Increment adds one to the decimal number that an object holds, by swapping it
// until that succeeds: what the processes of a cross-process race do.
func Increment(ctx context.Context, b bucket.Bucket, key string) error {
	for {
		o, err := retried(func() (bucket.Object, error) { return b.Get(ctx, key) })
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(o.Body))
		if err != nil {
			return fmt.Errorf("%w: %.40q", errNotNumber, o.Body)
		}
		_, err = retried(func() (bucket.ETag, error) {
			return b.PutIfMatch(ctx, key, strconv.AppendInt(nil, int64(n)+1, 10), o.ETag)
		})
		if !errors.Is(err, bucket.ErrConditionFailed) {
			return err
		}
	}
}
