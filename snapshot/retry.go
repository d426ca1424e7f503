package snapshot

import (
	"context"
	mathrand "math/rand/v2"
	"time"

	"github.com/quoitdb/quoit/snapshot/bucket"
)

// tries bounds how often a call is made that the bucket refuses for the moment:
// with the pauses of pacer some seconds. So does tryFor where it is no refusal that
// comes back but silence, until the bucket's own limit. Whoever is told then decides
// for himself when to come back.
const (
	tries  = 12
	tryFor = 10 * time.Second
)

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
	began time.Time // zero: what was sent already is worth as many tries as it takes
}

// newPacer counts from now.
func newPacer(wait func(context.Context, time.Duration) error) pacer {
	return pacer{wait: wait, began: time.Now()}
}

// pause reports false when it is time to give up.
func (p *pacer) pause(ctx context.Context) bool {
	const first, longest = 2 * time.Millisecond, time.Second
	limit := min(first<<min(p.tries, 20), longest)
	p.tries++
	return p.tries < tries && (p.began.IsZero() || time.Since(p.began) < tryFor) && p.wait(ctx, time.Duration(mathrand.Int64N(int64(limit)))) == nil
}

// again makes a call until the bucket does not refuse it any more.
func again[T any](ctx context.Context, wait func(context.Context, time.Duration) error, call func() (T, error)) (T, error) {
	for pace := newPacer(wait); ; {
		v, err := call()
		if err == nil || !bucket.IsRetryable(err) || !pace.pause(ctx) {
			return v, err
		}
	}
}
