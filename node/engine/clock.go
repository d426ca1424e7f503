package engine

import (
	"fmt"
	"math"
	"strconv"
	"sync/atomic"
	"time"
)

// counterBits is how much of a [Version] counts within one millisecond.
const counterBits = 16

// maxVersion keeps versions positive as signed numbers, which is how the wire
// carries them; its milliseconds reach to the year 6429.
const maxVersion Version = math.MaxInt64

// Version says which of two states of a key is newer: unix milliseconds in the
// upper 48 bits, a counter in the lower 16. Zero means no version (no key).
type Version uint64

// ParseVersion reads a version as [Version.String] writes it.
func ParseVersion(text string) (Version, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	return Version(n), err
}

// String returns the version in decimal.
func (v Version) String() string { return strconv.FormatUint(uint64(v), 10) }

// Millis returns the wall clock part in unix milliseconds.
func (v Version) Millis() int64 { return int64(v >> counterBits) }

// versionAt returns the first version of a millisecond.
func versionAt(millis int64) Version {
	return Version(min(max(millis, 0), maxVersion.Millis())) << counterBits
}

// Clock is a hybrid logical clock: it follows the wall clock, never goes back when
// the wall clock does, and then goes on with a monotonic one: a wall clock that was
// once ahead does not stop it. It is safe for concurrent use.
//
// Invariant: mono() + lead is at least every time of the wall clock and of every
// version that was seen, and only rises.
type Clock struct {
	wall func() int64
	mono func() int64 // milliseconds since some moment; never goes back
	lead atomic.Int64 // what to add to mono
	last atomic.Uint64
}

// newClock takes the machine's clocks for nil ones.
func newClock(wall, mono func() int64) *Clock {
	if wall == nil {
		wall = func() int64 { return time.Now().UnixMilli() }
	}
	if mono == nil {
		start := time.Now()
		mono = func() int64 { return time.Since(start).Milliseconds() }
	}
	c := &Clock{wall: wall, mono: mono}
	c.lead.Store(-mono())
	return c
}

// Next returns a version newer than every version before, and than every time
// that Now has returned; [ErrVersions] when there is none.
func (c *Clock) Next() (Version, error) {
	now := versionAt(c.Now())
	for {
		last := c.last.Load()
		next := max(uint64(now), last+1)
		if next > uint64(maxVersion) {
			return 0, ErrVersions
		}
		if c.last.CompareAndSwap(last, next) {
			return Version(next), nil
		}
	}
}

// Observe makes every later version newer than v, and no later time earlier.
func (c *Clock) Observe(v Version) {
	c.reach(v.Millis())
	for {
		last := c.last.Load()
		if uint64(v) <= last || c.last.CompareAndSwap(last, uint64(v)) {
			return
		}
	}
}

// Now returns unix milliseconds that never go back: a key that has once been
// found expired stays expired, because its removal gets a version of this time
// or later, and recovery observes that version.
func (c *Clock) Now() int64 { return c.reach(c.wall()) }

// reach makes the time at least millis, and returns the time. The monotonic clock is
// read after the wall clock: the other way round, a pause between them would stay in
// the lead for ever.
func (c *Clock) reach(millis int64) int64 {
	mono := c.mono()
	for {
		lead := c.lead.Load()
		if millis <= mono+lead {
			return mono + lead
		}
		if c.lead.CompareAndSwap(lead, millis-mono) {
			return millis
		}
	}
}

// maxAhead is how far versions from elsewhere may be ahead of the wall clock.
const maxAhead = 24 * time.Hour

// plausible refuses a version from elsewhere that would take this node's clock more
// than a day ahead. What is not newer than the clock is harmless.
func (c *Clock) plausible(v Version) error {
	wall := c.wall()
	if v <= maxVersion && v.Millis() <= max(wall+maxAhead.Milliseconds(), c.Now()) {
		return nil
	}
	return fmt.Errorf("%w: version %s is of %s, this node's clock says %s: set the clocks right", ErrConflict, v,
		time.UnixMilli(v.Millis()).UTC().Format(time.RFC3339), time.UnixMilli(wall).UTC().Format(time.RFC3339))
}
