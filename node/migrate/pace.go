package migrate

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// limiterBurst is how much may be sent at once under a throttle.
	limiterBurst = 256 << 10
	// firstLook and lastLook bound the pause between looks at the document while
	// requests may be waiting for its decision.
	firstLook = 25 * time.Millisecond
	lastLook  = time.Second
)

// throttle is the rate that all outgoing moves of a node share.
type throttle struct {
	limiter *rate.Limiter

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when the rate changes; guarded by mu
}

func newThrottle() *throttle {
	return &throttle{limiter: rate.NewLimiter(rate.Inf, limiterBurst), changed: make(chan struct{})}
}

// set bounds what is sent in a second; 0 is no bound.
func (t *throttle) set(bytesPerSecond int64) {
	limit := rate.Inf
	if bytesPerSecond > 0 {
		limit = rate.Limit(bytesPerSecond)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limiter.Limit() != limit {
		t.limiter.SetLimit(limit)
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

func (t *throttle) change() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// pay waits until n bytes may be sent. From hurry on nothing waits: the range is
// sealed then. What was taken is still counted, and the next to pay waits for it.
func (t *throttle) pay(ctx context.Context, n int, hurry <-chan struct{}) error {
	for n > 0 {
		part, changed := min(n, limiterBurst), t.change()
		turn := t.limiter.ReserveN(time.Now(), part)
		delay := turn.Delay()
		if delay == 0 {
			n -= part
			continue
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
			n -= part
		case <-hurry:
			n -= part
		case <-changed:
			turn.Cancel()
		case <-ctx.Done():
			turn.Cancel()
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
	return nil
}

// backoff is the pause before the next attempt: twice the last one, less up to a
// quarter by chance, so that moves that failed together do not try together.
type backoff struct{ next, most time.Duration }

func newBackoff(first, most time.Duration) *backoff { return &backoff{first, most} }

// rest waits; false when ctx has ended. It ends early when the channel closes.
func (b *backoff) rest(ctx context.Context, early <-chan struct{}) bool {
	d := b.next - rand.N(b.next/4+1)
	b.next = min(2*b.next, b.most)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-early:
	case <-ctx.Done():
		return false
	}
	return true
}
