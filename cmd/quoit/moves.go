package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/ring"
)

// toMove is the share of the ring that is still on its way: what has not been
// copied, of the ranges that have not changed hands.
func toMove(s manager.Status) float64 {
	var left float64
	for _, m := range s.Moves {
		if !handedOver(m) {
			left += shareOf(m.Range) * (1 - min(max(m.Share, 0), 1))
		}
	}
	return left
}

// handedOver says that the target owns the range; only tidying up is left.
func handedOver(m manager.MoveStatus) bool { return m.Phase == "committed" }

// waiting says that nothing has been done for the range yet.
func waiting(m manager.MoveStatus) bool { return m.Phase == "planned" || m.Phase == "waiting" }

func shareOf(r ring.Range) float64 { return float64(r.Size()) / (1 << 32) }

// estimate works out how far the moves are and how long they still take, from how
// fast they have gone lately.
type estimate struct {
	total   float64 // share of the ring that was to move when the plan was first seen
	ranges  int     // so many ranges
	samples []sample
}

// sample is what was left to move at a moment.
type sample struct {
	at   time.Time
	left float64
}

// window is how many samples an estimate rests on.
const window = 20

// note takes a status in. When there is more to move than before, that is a new
// plan: the estimate begins again.
func (e *estimate) note(s manager.Status, now time.Time) {
	left := toMove(s)
	if len(e.samples) == 0 || left > e.last().left+1e-9 || len(s.Moves) > e.ranges {
		e.total, e.ranges, e.samples = left, len(s.Moves), nil
	}
	e.samples = append(e.samples, sample{now, left})
	if len(e.samples) > window {
		e.samples = e.samples[1:]
	}
}

func (e *estimate) last() sample { return e.samples[len(e.samples)-1] }

// done is how much of the plan has been done, 0 to 1.
func (e *estimate) done() float64 {
	if e.total <= 0 || len(e.samples) == 0 {
		return 1
	}
	return 1 - e.last().left/e.total
}

// left returns the time that remains; not ok while there is nothing to go by.
func (e *estimate) left() (time.Duration, bool) {
	if len(e.samples) < 2 {
		return 0, false
	}
	first, last := e.samples[0], e.last()
	moved := first.left - last.left
	if moved <= 1e-9 || last.left <= 0 {
		return 0, false
	}
	return time.Duration(float64(last.at.Sub(first.at)) * last.left / moved), true
}

// moved is what quoit cluster add and remove print as JSON.
type moved struct {
	Done    bool    `json:"done"` // false: the moves go on
	Ranges  int     `json:"ranges"`
	Share   float64 `json:"share"` // of the ring
	Seconds float64 `json:"seconds"`
}

// afterwards shows a bar until every range has moved, and says what has become of
// it; without wait only what has begun.
func (o *operator) afterwards(c *cobra.Command, s manager.Status, wait bool, outcome string) error {
	result := moved{Done: len(s.Moves) == 0, Ranges: len(s.Moves), Share: toMove(s)}
	if wait && !result.Done {
		began := time.Now()
		if err := o.watchMoves(c, s); err != nil {
			return err
		}
		result.Done, result.Seconds = true, time.Since(began).Seconds()
	}
	if o.json {
		return printJSON(c.OutOrStdout(), result)
	}
	return result.print(c.OutOrStdout(), outcome)
}

func (r moved) print(w io.Writer, outcome string) error {
	var err error
	switch {
	case !r.Done:
		_, err = fmt.Fprintf(w, "%s to move, %s of the ring; quoit cluster status --watch shows them\n", plural(r.Ranges, "range"), percent(r.Share))
	case r.Ranges == 0:
		_, err = fmt.Fprintf(w, "nothing had to move: %s\n", outcome)
	default:
		_, err = fmt.Fprintf(w, "moved %s, %s of the ring, in %s: %s\n", plural(r.Ranges, "range"), percent(r.Share),
			span(time.Duration(r.Seconds*float64(time.Second))), outcome)
	}
	return err
}

// watchMoves draws a bar until no move is left. A manager that is away for a
// moment is asked again.
func (o *operator) watchMoves(c *cobra.Command, s manager.Status) error {
	const perMille = 1000
	var eta estimate
	bar := newBar(c, perMille, "moving "+plural(len(s.Moves), "range"))
	defer bar.finish()
	source := o.follow(c.Context(), nil)
	defer source.close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for len(s.Moves) > 0 {
		eta.note(s, time.Now())
		bar.set(int64(perMille * eta.done()))
		if text := "moving " + plural(len(s.Moves), "range"); s.Paused {
			bar.describe(text + ", PAUSED (quoit cluster resume)")
		} else {
			bar.describe(text)
		}
		select {
		case <-c.Context().Done():
			return fmt.Errorf("stopped watching; the moves go on, and quoit cluster status shows them")
		case <-tick.C:
		}
		next, err := source.status()
		switch {
		case err == nil:
			s = next
		case source.silence() > o.timeout:
			return fmt.Errorf("the manager has gone; the moves go on when it is back: %w", err)
		}
	}
	return nil
}
