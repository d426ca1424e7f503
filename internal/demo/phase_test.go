package demo

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/oracle"
)

// noon is when the demo of these tests begins.
func noon() time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) }

func TestAPhaseSortsOutWhatHappenedToItsOperations(t *testing.T) {
	p := &phase{name: "a node is killed", event: true, began: noon()}
	for i := range 98 {
		p.record(time.Duration(98-i)*time.Millisecond, nil)
	}
	p.record(time.Second, fmt.Errorf("put: %w", client.ErrOutcomeUnknown))
	p.record(time.Millisecond, &oracle.WrongAnswer{Text: "counted elsewhere"})
	want := Row{Phase: "a node is killed", Event: true, Seconds: 2, Ops: 100, P50: 50 * time.Millisecond, P99: time.Second, Longest: time.Second, Unknown: 1}
	if got := p.row(noon().Add(2 * time.Second)); got != want {
		t.Errorf("row is\n%+v, want\n%+v", got, want)
	}
	for i := range 10 {
		p.record(0, fmt.Errorf("failure %d", i))
	}
	if r := p.row(noon()); r.Errors != 10 || !slices.Equal(p.failures, []string{"failure 0", "failure 1", "failure 2"}) {
		t.Errorf("%d errors, told as %q", r.Errors, p.failures)
	}
}

func TestAPhaseWithoutOperationsHasARow(t *testing.T) {
	if got, want := (&phase{name: "before", began: noon()}).row(noon()), (Row{Phase: "before"}); got != want {
		t.Errorf("row is %+v", got)
	}
}

func TestAPhaseThatHasEndedLastsNoLonger(t *testing.T) {
	line := newTimeline("before", noon())
	line.enter("a node joins", true, noon().Add(3*time.Second))
	line.current().end(noon().Add(4 * time.Second))
	for i, want := range []float64{3, 1} {
		if got := line.phases()[i].row(noon().Add(time.Hour)).Seconds; got != want {
			t.Errorf("phase %d lasted %v s, want %v", i, got, want)
		}
	}
}

func TestAnOperationBelongsToWhatDisturbedIt(t *testing.T) {
	at := func(s float64) time.Time { return noon().Add(time.Duration(s * float64(time.Second))) }
	line := newTimeline("before", at(0))
	line.enter("join", true, at(10))
	line.enter("after the join", false, at(20))
	line.enter("kill", true, at(30))
	line.enter("after the kill", false, at(40))
	line.enter("leave", true, at(50))
	for _, c := range []struct {
		began, took float64
		want        string
	}{
		{1, 1, "before"},
		{9, 0.9, "before"},
		{9, 1, "join"},
		{9, 25, "join"}, // the first of two
		{10, 1, "join"},
		{15, 8, "join"}, // it lasted longer than the event, because of it
		{21, 1, "after the join"},
		{29, 2, "kill"}, // broken off by the kill
		{39, 5, "kill"},
		{41, 1, "after the kill"},
		{51, 0, "leave"},
		{-1, 0, "before"}, // begun before the clock was read
	} {
		if got := line.phaseOf(at(c.began), time.Duration(c.took*float64(time.Second))).name; got != c.want {
			t.Errorf("from %v s for %v s: %q, want %q", c.began, c.took, got, c.want)
		}
	}
}

func TestTheVerdict(t *testing.T) {
	good := Result{Rows: []Row{{Phase: "before", Longest: 3}, {Phase: "kill", Longest: 9, Unknown: 5}, {Phase: "after", Longest: 1}}, Checked: 10}
	if good.Failed() {
		t.Error("a write of unknown outcome is no failure")
	}
	if got := good.Longest().Phase; got != "kill" {
		t.Errorf("the longest pause was in %q", got)
	}
	for name, r := range map[string]Result{
		"lost":   {Lost: []string{"a"}},
		"wrong":  {Wrong: 1},
		"errors": {Rows: []Row{{}, {Errors: 1}}},
	} {
		if !r.Failed() {
			t.Errorf("%s is no failure", name)
		}
	}
}
