package sim

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

// ambush waits for the moments on which a move hangs, which chance alone seldom meets: a
// range is sealed for milliseconds.
type ambush struct {
	w *World

	mu    sync.Mutex
	dice  dice // guarded by mu
	armed int  // how often it will strike; guarded by mu
}

// moments are the messages at which it strikes: the last of a range, and its commit.
var moments = [][]byte{[]byte(protocol.CmdStageSeal.String()), []byte(protocol.CmdCommitMove.String())}

// inAMove is the name of its fault.
const inAMove = "in the middle of a move"

func (w *World) newAmbush() *ambush {
	a := &ambush{w: w, dice: w.dice("ambush")}
	if slices.Contains(w.plan.faults, inAMove) {
		a.armed = 1
	}
	return a
}

// lieInWait has one of the next such messages followed by a fault.
func (w *World) lieInWait(dice) {
	w.ambush.mu.Lock()
	defer w.ambush.mu.Unlock()
	w.ambush.armed++
}

// pass looks at a message that arrives. The fault comes a moment after it, so that it
// meets any step that follows.
func (a *ambush) pass(e *end, data []byte) {
	end := data[max(0, len(data)-256):]
	if !bytes.Contains(end, moments[0]) && !bytes.Contains(end, moments[1]) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.armed == 0 || a.w.net.isCalm() {
		return
	}
	a.armed--
	p, how := e.p, a.dice.IntN(4)
	if a.dice.chance(0.5) {
		p = e.other.p
	}
	length := between(a.dice, 500*time.Millisecond, 2*sealed)
	time.AfterFunc(between(a.dice, 0, 4*time.Millisecond), func() { a.w.strike(p, how, length) })
}

// strike does to one of the two processes what would leave a move half done.
func (w *World) strike(p *process, how int, length time.Duration) {
	if p == nil || p.isDead() || w.net.isCalm() {
		return
	}
	switch how {
	case 0:
		for _, m := range w.machines() {
			if m.host == p.host && m.crash(p, "in the middle of a move", false) {
				w.trace.fault("process killed in the middle of a move", p.name)
				time.AfterFunc(length/8, m.boot)
			}
		}
	case 1:
		w.trace.fault("process without bucket and manager in the middle of a move", fmt.Sprint(p.name, " ", length))
		for _, other := range []string{bucketHost, w.manager.host} {
			w.cutFor(link{p.host, other}, length)
			w.cutFor(link{other, p.host}, length)
		}
	default:
		if p.freeze() {
			w.trace.count("process frozen in the middle of a move", 1)
			w.goesOnAfter(p, length)
		}
	}
}

// cutFor takes a link down for a while.
func (w *World) cutFor(l link, length time.Duration) {
	w.net.cut(l)
	time.AfterFunc(length, func() { w.net.heal(l) })
}
