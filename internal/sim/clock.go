package sim

import (
	"sync"
	"time"
)

// maxSkew is how far a machine's wall clock may be from the true time, either way.
const maxSkew = 1500 * time.Millisecond

// clock is the wall clock of one machine: it is wrong, it runs fast or slow, and somebody
// sets it now and then. It survives the crashes of its machine's processes.
type clock struct {
	began time.Time
	drift float64 // seconds a second

	mu     sync.Mutex
	offset time.Duration // guarded by mu
}

func (w *World) newClock(d dice) *clock {
	c := &clock{began: time.Now()}
	if w.plan.clocks {
		c.offset = between(d, -maxSkew/2, maxSkew/2)
		c.drift = (d.Float64() - 0.5) / 50 // at most 1 %
	}
	return c
}

// now is what the machine believes.
func (c *clock) now() time.Time {
	t := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.Add(c.error(t))
}

// error is how far off the clock is, guarded by mu.
func (c *clock) error(t time.Time) time.Duration {
	drifted := time.Duration(float64(t.Sub(c.began)) * c.drift)
	return min(max(c.offset+drifted, -maxSkew), maxSkew)
}

// jump sets the clock.
func (c *clock) jump(to time.Duration) (by time.Duration) {
	t := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.error(t)
	c.offset = to - time.Duration(float64(t.Sub(c.began))*c.drift)
	return c.error(t) - before
}
