package client

import "time"

// This file decides what happens after a request was tried. It is pure: the
// clock, the dice and the network are one level up, in trial and below.

// outcome is what became of one try.
type outcome uint8

const (
	answered   outcome = iota // by a reply that stands, be it good or bad
	redirected                // MOVED: nothing happened, another node owns the key
	behind                    // MOVED by a node that knows less than we do
	held                      // TRYAGAIN: nothing happened, the range is changing hands
	refused                   // UNAVAILABLE or OVERLOADED: nothing happened
	expired                   // NOAUTH over a connection whose token may have been replaced: nothing happened
	unsent                    // no connection, or it broke before the request was written
	lost                      // the connection broke between request and reply
	unowned                   // the topology names no owner
	abandoned                 // the context ended before the answer came
)

// action is what to do next.
type action uint8

const (
	finish action = iota // give the caller what there is
	follow               // ask the node that MOVED names, at once
	again                // ask the owner after the pause
)

// maxHops is how many redirects in a row are followed at once. One is the rule,
// two happen when a range moves twice; more means that the nodes disagree for
// a moment, and asking faster does not settle that.
const maxHops = 4

// pauses of one kind: the n-th is base doubled n times and at most limit.
type pauses struct{ base, limit time.Duration }

// Each kind of trouble has its own pace. A held range is free again within
// milliseconds; a node that is starting or overloaded needs longer, and so does
// one that cannot be reached.
var (
	heldPause    = pauses{time.Millisecond, 20 * time.Millisecond}
	refusedPause = pauses{10 * time.Millisecond, 500 * time.Millisecond}
	brokenPause  = pauses{5 * time.Millisecond, 500 * time.Millisecond}
	dialPause    = pauses{20 * time.Millisecond, time.Second}
	refreshPause = pauses{20 * time.Millisecond, time.Second}
)

// pauseAfter is the pause after n failures. dice, from [0, 1), spreads it over
// [1/2, 1] of its length so that callers do not come back in step.
func pauseAfter(p pauses, n int, dice float64) time.Duration {
	d := p.limit
	if n < 30 {
		d = min(p.base<<n, p.limit)
	}
	return d/2 + time.Duration(dice*float64(d/2))
}

// verdict is an action, the pause before it, and whether the topology may be
// out of date without anybody having said so.
type verdict struct {
	action  action
	pause   time.Duration
	refresh bool
}

// decide says what to do after a try. harmless says that the request changes
// nothing, so that doing it twice is like doing it once; tries counts the ones
// made, hops the redirects followed in a row.
//
// The rule behind the table: a request that changes something is sent again
// only if it is certain that it did not happen.
func decide(o outcome, harmless bool, tries, hops int, dice float64) verdict {
	n := max(tries-1, 0)
	switch o {
	case redirected:
		if hops < maxHops {
			return verdict{action: follow}
		}
		return verdict{again, pauseAfter(heldPause, n, dice), true}
	case behind, held:
		return verdict{again, pauseAfter(heldPause, n, dice), false}
	case refused:
		return verdict{again, pauseAfter(refusedPause, n, dice), tries > 1}
	case expired:
		return verdict{action: again}
	case unsent, unowned:
		return verdict{again, pauseAfter(brokenPause, n, dice), true}
	case lost:
		if harmless {
			return verdict{again, pauseAfter(brokenPause, n, dice), true}
		}
	}
	return verdict{action: finish}
}
