// Package manager is the server that keeps the cluster in order: it notes which
// nodes are there, plans what moves when one joins or leaves, sees to it that the
// moves happen, and tells everyone when the topology has changed.
//
// # What it promises
//
//   - It holds no state of its own. All that matters is in the cluster document
//     ([cluster.Document]), changed by compare-and-swap, so it may be killed and
//     started again at any moment, and two managers started by mistake do no
//     harm: they disagree in the bucket and one of them reads again.
//   - A message to a node is a hint to go and read the document. None of them
//     hands over anything by itself.
//   - What it was asked to do and answered with +OK is in the document; what it
//     answered with an error is not there. When the bucket does not let it know, it
//     closes the connection without an answer.
//   - Nobody waits for a node that is slow, stopped or gone, but that node's moves.
//
// # What it does not promise
//
// It is not in the way of reads and writes: nodes serve, restart and finish or
// abort their moves while no manager runs. New members and new moves wait for one.
//
// [Run] is the whole server; [Dial] is the other side of its CLUSTER commands.
package manager
