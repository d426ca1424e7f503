package sim

import (
	"strconv"
	"time"

	"github.com/quoitdb/quoit/ring"
)

// plan is what a seed makes of a run: how many of what, and which faults may happen. No
// run has all of them: a world that is broken everywhere does nothing that is worth
// checking.
type plan struct {
	nodes, spares       int // in the ring from the beginning; that may join
	tokens, spareTokens int
	clients             int
	registers           int
	counters, mortals   bool
	scans, watches      bool
	lossy               bool          // a disk is lost before everything that it has is in the bucket
	restore             bool          // a disk is lost in the end, and its node comes back from the bucket
	padding             int           // of the values of registers: bytes that fill logs
	thinking            time.Duration // between two operations of a client, on average
	length              time.Duration // of the time in which faults happen
	pause               time.Duration // between two faults, on average

	snapshots, archive time.Duration
	segment            int64 // of a log: so small that runs come to its end

	slowNet     float64 // share of messages that take long
	badBucket   float64 // share of requests
	clocks      bool
	second      bool // manager
	oneName     bool // both managers answer under one address
	tokensAsked bool // of clients, and proofs of members
	faults      []string
}

func newPlan(d dice) plan {
	p := plan{
		nodes: between(d, 2, 3), spares: one(d, 0, 1, 1, 1), tokens: one(d, 16, 32, 48), spareTokens: between(d, 1, 2),
		clients: between(d, 2, 4), registers: between(d, 2, 5),
		thinking:  between(d, 2*time.Millisecond, 30*time.Millisecond),
		length:    between(d, 1500*time.Millisecond, 3500*time.Millisecond),
		pause:     between(d, 20*time.Millisecond, 200*time.Millisecond),
		snapshots: between(d, time.Second, 4*time.Second), archive: between(d, 300*time.Millisecond, 2*time.Second),
		padding: one(d, 0, 300, 3500, 3500),
		segment: one[int64](d, 64<<10, 96<<10, 1<<20),
		clocks:  d.chance(0.6), counters: d.chance(0.5), mortals: d.chance(0.4), scans: d.chance(0.3), watches: d.chance(0.4),
		restore: d.chance(0.2),
	}
	if d.chance(0.5) {
		p.slowNet = d.Float64() * 0.1
	}
	if d.chance(0.6) {
		p.badBucket = d.Float64() * 0.3
	}
	p.second, p.oneName, p.tokensAsked = d.chance(0.25), d.chance(0.5), d.chance(0.25)
	if p.lossy = d.chance(0.15); p.lossy {
		// What the others promise holds for what is not lost. And clocks that are right
		// tell what the archive has.
		p.clocks, p.counters, p.mortals, p.scans, p.watches, p.restore = false, false, false, false, false, false
	}
	for _, f := range everyFault {
		if d.chance(0.5) {
			p.faults = append(p.faults, f.name)
		}
	}
	return p
}

// keyNames are keys of which half lie where a spare would take them.
func (w *World) keyNames(prefix string, n int) []string {
	var nodes []ring.Node
	for _, m := range w.nodes {
		nodes = append(nodes, ring.Node{Address: m.addr, Tokens: w.tokensOf(m)})
	}
	owners, err := ring.NewMap(nodes)
	if err != nil {
		panic(err) // the names and numbers are of our own making
	}
	var names []string
	for i := 0; len(names) < n; i++ {
		name := prefix + strconv.Itoa(i)
		moves := w.isSpare(owners.Owner(ring.PositionOfString(name)))
		if moves || w.plan.spares == 0 || len(names)%2 == 1 {
			names = append(names, name)
		}
	}
	return names
}
