package node

import (
	"sync/atomic"
	"time"
)

// clock is the time of day, read once for each batch of requests and looked at
// by all of its commands: reading it for each command would cost more than
// finding the key. What nobody refreshes (an idle node) the sweeper does.
type clock struct {
	now    func() time.Time
	start  time.Time
	millis atomic.Int64
	mono   atomic.Int64 // milliseconds since start; only rises
}

func newClock(now func() time.Time) *clock {
	t := now()
	c := &clock{now: now, start: t}
	c.millis.Store(t.UnixMilli())
	return c
}

// refresh reads the machine's clock and returns it in unix milliseconds. The
// store is skipped within a millisecond, so that connections on several
// processors do not fight for the cache line.
func (c *clock) refresh() int64 {
	now := c.now()
	ms := now.UnixMilli()
	for mono := now.Sub(c.start).Milliseconds(); ; {
		last := c.mono.Load()
		if mono <= last || c.mono.CompareAndSwap(last, mono) {
			break
		}
	}
	if c.millis.Load() != ms {
		c.millis.Store(ms)
	}
	return ms
}

// coarse is the time as of the last refresh.
func (c *clock) coarse() int64 { return c.millis.Load() }

// monotonic is what the engine's clock goes on with when the machine's is set back.
func (c *clock) monotonic() int64 { return c.mono.Load() }
