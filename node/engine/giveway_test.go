package engine

import (
	"slices"
	"testing"
	"time"
)

// TestALongWorkSleepsWhereItWouldStarveTheNetwork: with one processor yielding alone
// leaves requests unseen for 10 ms at a time.
func TestALongWorkSleepsWhereItWouldStarveTheNetwork(t *testing.T) {
	for processors, want := range map[int][]string{
		1: {"sleep", "yield", "yield", "sleep", "yield"},
		2: {"yield", "yield", "yield", "yield", "yield"},
	} {
		now, did := time.UnixMilli(1_000_000), []string(nil)
		g := newGiveWay(processors)
		g.now = func() time.Time { return now }
		g.sleep = func(d time.Duration) { now, did = now.Add(20*d), append(did, "sleep") } // longer than asked for, as it happens
		g.yield = func() { did = append(did, "yield") }
		for range 5 {
			g.pause()
			now = now.Add(workTime * 2 / 5)
		}
		if !slices.Equal(did, want) {
			t.Errorf("%d processors: %v, want %v", processors, did, want)
		}
	}
}
