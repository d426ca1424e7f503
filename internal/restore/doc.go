// Package restore reads the bucket of a cluster without the cluster: what every node
// had, merged into one state, the newest one or that of a moment; and writes it into
// another cluster.
//
// # What it promises
//
//   - Each position of the ring is taken from the one node that had it at the moment:
//     a key that was deleted there does not come back from another node that has an
//     older copy, and one that was moved is not lost. DESIGN.md has the rules.
//   - What the bucket cannot tell exactly is a [Gap]: which node, which range, from
//     when until when. Nothing is filled in or left out without one.
//   - Damage in what is read is an error or a gap that names the object.
//   - [Fill] either says that a cluster has everything, or that it does not.
//
// # What it does not promise
//
// The bucket has no more than nodes have archived: what a node acknowledged after that
// is not there. The records of one node are put into order by its log; between nodes a
// moment is as sharp as their clocks agree.
//
// # Memory
//
// The log behind the snapshots is held in memory, as long as snapshots are taken it is
// bounded by what triggers them. Of the snapshots themselves a few blocks are, for each
// goroutine that reads.
//
// # Who may call what
//
// A [Moment] may be used by any number of goroutines. Nothing here writes to the bucket.
package restore
