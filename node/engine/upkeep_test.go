package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/ring"
)

// Run sweeps and frees by itself, and ends with its context.
func TestRunDoesTheUpkeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, nil)
		must(t, m.SetOwnership([]ring.Range{wholeRing}))
		u := m.user()
		for _, key := range keysIn(wholeRing, 1000) {
			_, err := u.Put(at(key), []byte(key), nil, PutOptions{ExpireAt: m.Now() + 10})
			must(t, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			m.Run(ctx)
			close(ended)
		}()
		m.clock.add(10)
		<-time.After(time.Minute) // Of the bubble: no time passes outside.
		synctest.Wait()
		if n := m.Count(); n != 0 {
			t.Errorf("%d expired keys are left after a minute", n)
		}
		cancel()
		<-ended
		m.stop()
	})
}

// Nothing to do costs next to nothing: no partition is walked while nothing is due.
func TestIdleTicksWalkNothing(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	for _, key := range keysIn(wholeRing, 1000) {
		_, err := u.Put(at(key), []byte(key), nil, PutOptions{ExpireAt: m.Now() + 1000})
		must(t, err)
	}
	for m.Tick(1 << 20) {
	}
	looked := 0
	for i := range m.parts {
		n, _ := m.upkeep.s.keep(&m.parts[i], m.Now(), 1000)
		looked += n
	}
	if looked != 0 {
		t.Fatalf("%d entries were looked at with nothing due", looked)
	}
}

// A budget bounds one tick, and ticks together come round to everything.
func TestTicksShareTheWork(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	for _, key := range keysIn(wholeRing, 4000) {
		_, err := u.Put(at(key), []byte(key), nil, PutOptions{ExpireAt: m.Now() + 1})
		must(t, err)
	}
	m.clock.add(1)
	last := m.Count()
	for ticks := 0; last > 0; ticks++ {
		if ticks > 1000 {
			t.Fatalf("%d keys are left after %d ticks", last, ticks)
		}
		m.Tick(100)
		n := m.Count()
		if last-n > 100+walkChunk {
			t.Fatalf("one tick removed %d", last-n)
		}
		last = n
	}
}
