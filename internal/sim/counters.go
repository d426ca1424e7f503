package sim

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/quoitdb/quoit/client"
)

// counters are keys that many clients count up, some by compare-and-set and some by INCR:
// no step may be lost, and none done twice.
type counters struct {
	w           *World
	swapped     []string // by compare-and-set
	incremented []string

	mu     sync.Mutex
	counts map[string]*count // guarded by mu
}

// count is what is known of one counter.
type count struct {
	acked, unknown int64
	reached        map[int64]client.Version // by whom who was acknowledged; the version if it was told
	greatest       int64
}

func newCounters(w *World) *counters {
	c := &counters{w: w, swapped: w.keyNames("c", 2), incremented: w.keyNames("i", 2), counts: map[string]*count{}}
	for _, keys := range [][]string{c.swapped, c.incremented} {
		for _, key := range keys {
			c.counts[key] = &count{reached: map[int64]client.Version{}}
		}
	}
	return c
}

func (c *counters) step(ctx context.Context, db *client.Client, d dice, id, _ int) {
	if d.chance(0.5) {
		c.increment(ctx, db, one(d, c.incremented...), id)
	} else {
		c.swap(ctx, db, one(d, c.swapped...), id)
	}
}

func (c *counters) increment(ctx context.Context, db *client.Client, key string, id int) {
	n, err := db.Increment(ctx, key, 1)
	c.w.trace.note("op", fmt.Sprintf("c%d i %s -> %d %v", id+1, key, n, err), nil)
	c.settle(key, n, 0, c.w.outcomeOf(err))
}

// swap reads and writes what it has read and one.
func (c *counters) swap(ctx context.Context, db *client.Client, key string, id int) {
	call := c.w.know.tick()
	b, version, err := db.GetVersion(ctx, key)
	found, answered := c.w.read(err)
	if !answered {
		return
	}
	var n int64
	if found {
		c.w.know.told(key, string(b), version)
		c.w.know.sight(key, call, c.w.know.tick(), version)
		if n, err = strconv.ParseInt(string(b), 10, 64); err != nil {
			c.w.fail("counter: %s holds %q", key, b)
			return
		}
	}
	next := strconv.FormatInt(n+1, 10)
	c.w.know.issue(key, next)
	version, err = db.CompareAndPut(ctx, key, []byte(next), version)
	c.w.trace.note("op", fmt.Sprintf("c%d s %s %s -> %s %v", id+1, key, next, version, err), nil)
	var lost *client.VersionError
	if errors.As(err, &lost) && !errors.Is(err, client.ErrOutcomeUnknown) {
		c.w.trace.count("compare-and-set lost", 1)
		return
	}
	o := c.w.outcomeOf(err)
	if o == done {
		c.w.know.told(key, next, version)
	}
	c.settle(key, n+1, version, o)
}

// settle notes a step that led to n.
func (c *counters) settle(key string, n int64, v client.Version, o outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.counts[key]
	switch o {
	case unknown:
		k.unknown++
	case done:
		k.acked++
		k.greatest = max(k.greatest, n)
		if _, twice := k.reached[n]; twice {
			c.w.fail("counter: two clients were told that they brought %s to %d", key, n)
		}
		k.reached[n] = v
	}
}

func (c *counters) audit(ctx context.Context, when string) {
	for _, keys := range [][]string{c.swapped, c.incremented} {
		for _, key := range keys {
			b, err := c.w.auditor.Get(ctx, key)
			found, answered := c.w.read(err)
			if !answered {
				c.w.fail("liveness: %s %s cannot be read: %v", when, key, err)
				continue
			}
			var n int64
			if found {
				if n, err = strconv.ParseInt(string(b), 10, 64); err != nil {
					c.w.fail("counter: %s holds %q", key, b)
				}
			}
			c.compare(when, key, n)
		}
	}
}

func (c *counters) compare(when, key string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.counts[key]
	if n < k.acked || n > k.acked+k.unknown || n < k.greatest {
		c.w.fail("counter: %s %s is %d; %d steps were acknowledged, the last to %d, and %d may have been done", when, key, n, k.acked, k.greatest, k.unknown)
	}
	c.w.trace.count("counters checked", 1)
}

func (c *counters) check() {
	c.w.know.checkVersions(c.swapped)
	for _, key := range c.swapped {
		k := c.counts[key]
		var before client.Version
		for n := int64(1); n <= k.greatest; n++ {
			v, acked := k.reached[n]
			if acked && v <= before {
				c.w.fail("version: %d of %s has version %s, and what was before it %s", n, key, v, before)
			}
			before = max(before, v)
		}
	}
}
