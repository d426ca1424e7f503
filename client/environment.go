package client

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// environment is what all parts of a client share: its options, its lifetime,
// its pool of calls and its counters.
type environment struct {
	options
	ctx    context.Context // ends when the client is closed
	cancel context.CancelFunc
	calls  *sync.Pool
	stats  counters
	opened atomic.Uint64 // connections begun, with the tokens of their time

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // every goroutine that the client started
}

// counters are Stats while they are counted.
type counters struct {
	dials, redirects, retries, refreshes, abandoned atomic.Uint64
}

func newEnvironment(o options) *environment {
	ctx, cancel := context.WithCancel(context.Background())
	return &environment{options: o, ctx: ctx, cancel: cancel, calls: newCallPool()}
}

// spawn runs fn in a goroutine that stop waits for. It reports false, and does
// nothing, once stop was called.
func (e *environment) spawn(fn func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.running.Add(1)
	go func() {
		defer e.running.Done()
		fn()
	}()
	return true
}

// stop refuses new goroutines and reports whether it was the first to do so.
func (e *environment) stop() bool {
	e.mu.Lock()
	first := !e.closed
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	return first
}

// newCall gives an empty call for one reply.
func (e *environment) newCall() *call {
	k := e.calls.Get().(*call)
	k.want = 1
	return k
}

// sleep returns after d, or when ctx or the client ends.
func (e *environment) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-e.ctx.Done():
	}
}
