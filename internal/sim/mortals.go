package sim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/quoitdb/quoit/client"
)

// mortals are keys that expire. Each has one writer, so that it is known which value could
// be there; all read them.
type mortals struct {
	w    *World
	keys []string // one for each client

	mu     sync.Mutex
	values map[string]*mortal   // by key and value; guarded by mu
	doubt  map[string]time.Time // since when a write of a key may still be done; guarded by mu
	reads  []mortalRead         // guarded by mu
}

// mortal is one value of a key.
type mortal struct {
	key           string
	acked         time.Duration // when it was acknowledged, 0: it was not
	from, to      time.Duration // when it expires, at the earliest and the latest
	replacedSince time.Duration // when the next write of its writer began, 0: never
	doubtful      bool          // an earlier write may still be done
}

// mortalRead is what somebody saw.
type mortalRead struct {
	key, value string // "" if nothing was there
	call, back time.Duration
}

// coarse is how old the time may be that a node goes by.
const coarse = 20 * time.Millisecond

func newMortals(w *World) *mortals {
	return &mortals{w: w, keys: w.keyNames("t", w.plan.clients), values: map[string]*mortal{}, doubt: map[string]time.Time{}}
}

// skew is how wrong the clocks of a run may be.
func (w *World) skew() time.Duration {
	if w.plan.clocks {
		return maxSkew
	}
	return 0
}

func (m *mortals) now() time.Duration { return time.Since(m.w.trace.began) }

func (m *mortals) step(ctx context.Context, c *client.Client, d dice, id, n int) {
	if d.chance(0.35) {
		m.write(ctx, c, d, id, n)
		return
	}
	m.read(ctx, c, one(d, m.keys...), id)
}

// write gives a key a value and a time to live.
func (m *mortals) write(ctx context.Context, c *client.Client, d dice, id, n int) {
	key, value := m.keys[id], fmt.Sprintf("%d.%d", id, n)
	m.w.know.issue(key, value)
	life := between(d, 50*time.Millisecond, 2*time.Second)
	v := &mortal{key: key}
	began := m.now()
	option := client.WithTTL(life)
	absolute := d.chance(0.6)
	if absolute {
		option = client.WithExpireAt(m.w.trace.began.Add(began + life))
		v.from, v.to = began+life-m.w.skew()-coarse, began+life+m.w.skew()+coarse
	}
	m.mu.Lock()
	for _, other := range m.values {
		if other.key == key && other.replacedSince == 0 {
			other.replacedSince = began
		}
	}
	_, v.doubtful = m.doubt[key]
	m.values[key+"\x00"+value] = v
	if !absolute { // until it is acknowledged it may begin at any time
		v.from, v.to = began+life-2*m.w.skew()-coarse, 1<<62
	}
	m.mu.Unlock()
	err := c.Put(ctx, key, []byte(value), option)
	m.w.trace.note("op", fmt.Sprintf("c%d t %s %s %s -> %v", id+1, key, value, life, err), nil)
	o := m.w.outcomeOf(err)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch o {
	case done:
		v.acked = m.now()
		if !absolute {
			v.to = v.acked + life + 2*m.w.skew() + coarse
		}
	case unknown:
		m.doubt[key] = time.Now()
	}
}

func (m *mortals) read(ctx context.Context, c *client.Client, key string, id int) {
	call := m.now()
	b, err := c.Get(ctx, key)
	m.w.trace.note("op", fmt.Sprintf("c%d g %s -> %s %v", id+1, key, b, err), nil)
	found, answered := m.w.read(err)
	if !answered {
		return
	}
	if found {
		m.w.know.told(key, string(b), 0)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads = append(m.reads, mortalRead{key, string(b), call, m.now()})
}

func (m *mortals) audit(ctx context.Context, when string) {
	for _, key := range m.keys {
		call := m.now()
		b, err := m.w.auditor.Get(ctx, key)
		if _, answered := m.w.read(err); !answered {
			m.w.fail("liveness: %s %s cannot be read: %v", when, key, err)
			continue
		}
		m.mu.Lock()
		m.reads = append(m.reads, mortalRead{key, string(b), call, m.now()})
		m.mu.Unlock()
	}
}

func (m *mortals) check() {
	for _, r := range m.reads {
		m.w.trace.count("reads of mortals checked", 1)
		if v := m.values[r.key+"\x00"+r.value]; r.value != "" && v != nil && r.call > v.to {
			m.w.fail("expiry: %s was read at %s and is %q, which expires at %s at the latest", r.key, r.call, r.value, v.to)
		}
		for text, v := range m.values {
			if v.key == r.key {
				m.compare(r, v, text[len(v.key)+1:])
			}
		}
	}
}

// compare looks at a read and a value that had been acknowledged before.
func (m *mortals) compare(r mortalRead, v *mortal, value string) {
	if v.acked == 0 || v.doubtful || r.call < v.acked || r.value == value {
		return
	}
	replaced := v.replacedSince > 0 && v.replacedSince <= r.back
	if !replaced && r.back < v.from {
		m.w.fail("expiry: %s was read from %s to %s and is %q; %q was acknowledged at %s and lives until %s at least", r.key, r.call, r.back, r.value, value, v.acked, v.from)
	}
	for _, later := range m.reads {
		if later.key == r.key && later.value == value && later.call > r.back {
			m.w.fail("expiry: %s was read at %s and was %q, and at %s it is %q again", r.key, r.back, r.value, later.call, value)
		}
	}
}
