package gateway

import (
	"sync"
	"sync/atomic"
	"time"
)

// clock is the time of day, read once for each batch and looked at by the sweeper.
type clock struct {
	now    func() time.Time
	millis atomic.Int64
}

func newClock(now func() time.Time) *clock {
	c := &clock{now: now}
	c.refresh()
	return c
}

func (c *clock) refresh()      { c.millis.Store(c.now().UnixMilli()) }
func (c *clock) coarse() int64 { return c.millis.Load() }

// overdue says whether something that began at since has taken longer than
// allowed; 0 allows everything.
func (c *clock) overdue(since int64, allowed time.Duration) bool {
	return allowed > 0 && c.coarse()-since > allowed.Milliseconds()
}

// phase is what a goroutine of a connection is doing, for the sweeper.
type phase uint64

const (
	idle      phase = iota // waiting for a request, or for a node that owes nothing
	idleLarge              // the same, with buffers that could be given back
	partial                // waiting for the rest of a request
	running                // executing, or passing on
	writing                // waiting for the other side to take bytes
)

const (
	phaseBits = 3
	phaseMask = 1<<phaseBits - 1
)

// stamp is a phase and when it began.
type stamp struct{ v atomic.Uint64 }

func (s *stamp) mark(c *clock, p phase) { s.v.Store(uint64(c.coarse())<<phaseBits | uint64(p)) }

func (s *stamp) read() (phase, int64) {
	v := s.v.Load()
	return phase(v & phaseMask), int64(v >> phaseBits)
}

// guest is a connection as those see it who look after all of them. None of the
// methods may block.
type guest interface {
	sweep()  // look for what takes too long
	drain()  // finish what was asked, then go
	cutOff() // go now
}

// roster is who is connected, through either door.
type roster struct {
	mu     sync.Mutex
	guests map[guest]struct{} // guarded by mu
	ended  bool               // nobody new comes in; guarded by mu
	busy   sync.WaitGroup     // counts guests
}

// enter adds a guest unless the gateway ends. Each who entered must leave.
func (r *roster) enter(g guest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	if r.guests == nil {
		r.guests = make(map[guest]struct{})
	}
	r.guests[g] = struct{}{}
	r.busy.Add(1)
	return true
}

func (r *roster) leave(g guest) {
	r.mu.Lock()
	delete(r.guests, g)
	r.mu.Unlock()
	r.busy.Done()
}

func (r *roster) each(do func(guest)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for g := range r.guests {
		do(g)
	}
}

// end lets nobody in any more, and does something to each who is.
func (r *roster) end(do func(guest)) {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.each(do)
}

// sweepEvery is a quarter of the shortest time that has to be noticed.
func sweepEvery(t TimeConfig) time.Duration {
	every := time.Second
	for _, d := range []time.Duration{t.Idle, t.RedisIdle, t.Request, t.Write, t.Ping} {
		if d > 0 {
			every = min(every, d/4)
		}
	}
	return max(every, 5*time.Millisecond)
}
