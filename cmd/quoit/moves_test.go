package main

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/ring"
)

// eighth is a range of an eighth of the ring.
func eighth(n uint32) ring.Range {
	return ring.Range{Start: ring.Position(n << 29), End: ring.Position((n + 1) << 29)}
}

// moving is a status in which these moves are left.
func movingStatus(moves ...manager.MoveStatus) manager.Status {
	return manager.Status{Cluster: "quoit-1", Formed: true, Moves: moves}
}

func TestWhatIsLeftToMove(t *testing.T) {
	for name, c := range map[string]struct {
		moves []manager.MoveStatus
		want  float64
	}{
		"nothing":           {nil, 0},
		"one that waits":    {[]manager.MoveStatus{{Range: eighth(0), Phase: "planned"}}, 0.125},
		"one half copied":   {[]manager.MoveStatus{{Range: eighth(0), Phase: "copy", Share: 0.5}}, 0.0625},
		"one handed over":   {[]manager.MoveStatus{{Range: eighth(0), Phase: "committed"}}, 0},
		"nonsense as share": {[]manager.MoveStatus{{Range: eighth(0), Share: 7}, {Range: eighth(1), Share: -7}}, 0.125},
		"all together":      {[]manager.MoveStatus{{Range: eighth(0), Phase: "planned"}, {Range: eighth(3), Phase: "seal", Share: 1}, {Range: eighth(5), Phase: "waiting"}}, 0.25},
	} {
		if got := toMove(movingStatus(c.moves...)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestAnEstimateFollowsTheMoves(t *testing.T) {
	at := func(s int) time.Time { return time.Date(2026, 1, 1, 12, 0, s, 0, time.UTC) }
	waits := func(n int) manager.Status {
		var all []manager.MoveStatus
		for i := range n {
			all = append(all, manager.MoveStatus{ID: cluster.MoveID(fmt.Sprint("m", i)), Range: eighth(uint32(i)), Phase: "planned"})
		}
		return movingStatus(all...)
	}
	var e estimate
	if _, ok := e.left(); ok || e.done() != 1 {
		t.Error("an estimate of nothing")
	}
	for i, step := range []struct {
		left    int // eighths
		done    float64
		seconds int // -1: not known
	}{
		{4, 0, -1},      // the plan
		{4, 0, -1},      // nothing has happened yet
		{3, 0.25, 6},    // one in two seconds, three are left
		{2, 0.5, 3},     // two in three
		{2, 0.5, 4},     // it takes longer
		{7, 0, -1},      // a new plan: begin again
		{6, 1.0 / 7, 6}, // one a second
		{0, 1, -1},      // done
	} {
		e.note(waits(step.left), at(i))
		left, ok := e.left()
		if d := e.done() - step.done; d > 1e-9 || d < -1e-9 {
			t.Errorf("step %d: %.2f done, want %.2f", i, e.done(), step.done)
		}
		if ok != (step.seconds >= 0) || ok && left.Round(time.Second) != time.Duration(step.seconds)*time.Second {
			t.Errorf("step %d: %v left (%v), want %d s", i, left, ok, step.seconds)
		}
	}
}

// After a long pause the speed of long ago says nothing.
func TestAnEstimateForgets(t *testing.T) {
	var e estimate
	began := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	status := func(copied float64) manager.Status {
		return movingStatus(manager.MoveStatus{Range: eighth(0), Phase: "copy", Share: copied})
	}
	for i := range 5 { // fast
		e.note(status(float64(i)*0.1), began.Add(time.Duration(i)*time.Second))
	}
	for i := range 2 * window { // slow: a thousandth a second
		e.note(status(0.5+float64(i)*0.001), began.Add(time.Duration(10+i)*time.Second))
	}
	left, ok := e.left()
	if want := 461 * time.Second; !ok || left < want-5*time.Second || left > want+5*time.Second {
		t.Errorf("%v left, want about %v", left, want)
	}
	if len(e.samples) > window {
		t.Errorf("%d samples are kept", len(e.samples))
	}
}

func TestWhatHasBecomeOfAnAdd(t *testing.T) {
	for _, c := range []struct {
		moved moved
		want  string
	}{
		{moved{Done: true, Ranges: 129, Share: 0.2311, Seconds: 2.04}, "moved 129 ranges, 23.1% of the ring, in 2.0s: n is in the ring\n"},
		{moved{Done: true, Ranges: 1, Share: 0.01, Seconds: 0.0123}, "moved 1 range, 1.0% of the ring, in 12.3ms: n is in the ring\n"},
		{moved{Done: true}, "nothing had to move: n is in the ring\n"},
		{moved{Ranges: 12, Share: 0.5}, "12 ranges to move, 50.0% of the ring; quoit cluster status --watch shows them\n"},
	} {
		var out bytes.Buffer
		if err := c.moved.print(&out, "n is in the ring"); err != nil || out.String() != c.want {
			t.Errorf("%+v is told as %q (%v), want %q", c.moved, out.String(), err, c.want)
		}
	}
}
