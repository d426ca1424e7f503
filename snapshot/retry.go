package snapshot

import (
	"context"
	mathrand "math/rand/v2"
	"time"

	"github.com/quoitdb/quoit/snapshot/bucket"
)

// tries bounds how often a call is made that the bucket refuses for the moment:
// with the pauses of pacer some seconds. Whoever is told then decides for himself
// when to come back.
const tries = 12

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pacer spreads retries, so that writers who met once do not meet for ever.
type pacer struct {
	wait  func(context.Context, time.Duration) error
	tries int
}

// pause reports false when it is time to give up.
func (p *pacer) pause(ctx context.Context) bool {
	const first, longest = 2 * time.Millisecond, time.Second
	limit := min(first<<min(p.tries, 20), longest)
	p.tries++
	return p.tries < tries && p.wait(ctx, time.Duration(mathrand.Int64N(int64(limit)))) == nil
}

// again makes a call until the bucket does not refuse it any more.
func again[T any](ctx context.Context, wait func(context.Context, time.Duration) error, call func() (T, error)) (T, error) {
	for pace := (pacer{wait: wait}); ; {
		v, err := call()
		if err == nil || !bucket.IsRetryable(err) || !pace.pause(ctx) {
			return v, err
		}
	}
}
