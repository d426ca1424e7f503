package keeper

import (
	"sync"
	"time"
)

const (
	// silence is how long the bucket may take for something small before people are told.
	silence = 10 * time.Second
	// slowest is the speed, in bytes a second, at which a piece of log may take as long
	// as it takes.
	slowest = 1 << 20
)

// stall notices a bucket that does not fail, but says nothing: what is asked of it
// then ends only when its own patience does, which may be minutes later.
type stall struct {
	mu    sync.Mutex
	until time.Time // by when something should have come of what was asked; zero: nothing is; guarded by mu
	since time.Time // when it was asked; guarded by mu
}

// ask notes that something is asked of the bucket now, or got through, and that the
// next news should come soon: not later than it takes to send so many bytes.
func (s *stall) ask(now time.Time, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since, s.until = now, now.Add(silence+time.Duration(bytes)*time.Second/slowest)
}

// rest notes that nothing is asked.
func (s *stall) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since, s.until = time.Time{}, time.Time{}
}

// silent returns how long the bucket has said nothing, 0 if that is not too long.
func (s *stall) silent(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until.IsZero() || now.Before(s.until) {
		return 0
	}
	return now.Sub(s.since).Round(time.Second)
}
