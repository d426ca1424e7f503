package manager

import "github.com/quoitdb/quoit/internal/cluster"

// schedule decides which moves a source should be working on now: those it was
// asked for already, and as many more as the limits allow. It is a pure function,
// so that a manager that has just started comes to the same answer as the one
// before it would have.
//
//   - At most perNode moves leave one node, and at most twice as many arrive at one:
//     more would only share the same disks, and make each pause longer. A move that
//     hangs because one of its ends is down does not count: the others go on.
//   - Nothing starts while moves are paused, or between nodes that are not up. What
//     has started goes on: its source decides when to give up.
func schedule(d cluster.Document, asked map[cluster.MoveID]bool, up func(address string) bool, perNode int) []cluster.Move {
	leaving, arriving := make(map[string]int), make(map[string]int)
	take := func(m cluster.Move) {
		leaving[m.Source]++
		arriving[m.Target]++
	}
	running := func(m cluster.Move) bool { return up(m.Source) && up(m.Target) }
	startable := d.Startable()
	var chosen []cluster.Move
	for _, m := range startable {
		if asked[m.ID] {
			chosen = append(chosen, m)
			if running(m) {
				take(m)
			}
		}
	}
	if d.Settings.MovesPaused {
		return chosen
	}
	for _, m := range startable {
		if !asked[m.ID] && leaving[m.Source] < perNode && arriving[m.Target] < 2*perNode && running(m) {
			take(m)
			chosen = append(chosen, m)
		}
	}
	return chosen
}
