package client

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDecide(t *testing.T) {
	const read, write = true, false
	for _, tc := range []struct {
		name     string
		outcome  outcome
		harmless bool
		tries    int
		hops     int
		action   action
		pause    time.Duration // with the dice at 0: half of the nominal
		refresh  bool
	}{
		{"a good answer to a read", answered, read, 1, 0, finish, 0, false},
		{"a good answer to a write", answered, write, 3, 2, finish, 0, false},
		{"moved: at once", redirected, write, 1, 0, follow, 0, false},
		{"moved four times: at once", redirected, write, 4, 3, follow, 0, false},
		{"moved in a circle: wait and look", redirected, write, 5, 4, again, 8 * time.Millisecond, true},
		{"sent back by a node that lags", behind, write, 1, 0, again, 500 * time.Microsecond, false},
		{"range changes hands", held, write, 1, 0, again, 500 * time.Microsecond, false},
		{"range still changes hands", held, write, 4, 0, again, 4 * time.Millisecond, false},
		{"range never changes hands", held, write, 99, 0, again, 10 * time.Millisecond, false},
		{"node is starting", refused, write, 1, 0, again, 5 * time.Millisecond, false},
		{"node goes on starting", refused, write, 2, 0, again, 10 * time.Millisecond, true},
		{"nobody listens", unsent, write, 1, 0, again, 2500 * time.Microsecond, true},
		{"nobody owns it", unowned, read, 1, 0, again, 2500 * time.Microsecond, true},
		{"a read is lost", lost, read, 1, 0, again, 2500 * time.Microsecond, true},
		{"a write is lost", lost, write, 1, 0, finish, 0, false},
		{"a read is abandoned", abandoned, read, 1, 0, finish, 0, false},
		{"a write is abandoned", abandoned, write, 1, 0, finish, 0, false},
	} {
		got := decide(tc.outcome, tc.harmless, tc.tries, tc.hops, 0)
		if want := (verdict{tc.action, tc.pause, tc.refresh}); got != want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, want)
		}
	}
}

// Whatever else is changed in the table, this must hold.
func TestAWriteThatMayHaveHappenedIsNeverSentAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := rapid.SampledFrom([]outcome{answered, lost, abandoned}).Draw(t, "outcome")
		v := decide(o, false, rapid.IntRange(0, 1000).Draw(t, "tries"), rapid.IntRange(0, 9).Draw(t, "hops"),
			rapid.Float64Range(0, 0.999).Draw(t, "dice"))
		if v.action != finish {
			t.Fatalf("%+v", v)
		}
	})
}

func TestPausesGrowAndStayInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom([]pauses{heldPause, refusedPause, brokenPause, dialPause, refreshPause}).Draw(t, "kind")
		n := rapid.IntRange(0, 1<<40).Draw(t, "failures")
		d := pauseAfter(p, n, rapid.Float64Range(0, 0.999999).Draw(t, "dice"))
		if d < p.base/2 || d > p.limit {
			t.Fatalf("pause %v of %+v", d, p)
		}
		if pauseAfter(p, n+1, 0) < pauseAfter(p, n, 0) {
			t.Fatalf("pause %d is longer than the next", n)
		}
	})
}
