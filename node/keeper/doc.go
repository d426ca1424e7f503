// Package keeper keeps a node's snapshots: it cuts them beside traffic, publishes
// them in the bucket, keeps the newest one on the local disk, archives the log,
// lets the log's beginning go, and finds what a node starts from.
//
// # What it promises
//
//   - The log loses its beginning only when a newer snapshot has been published and
//     read back, and is on the local disk too; and then only what the snapshot
//     before that one does not need either. So a damaged newest snapshot costs time,
//     never data.
//   - Every step can fail, or be the last before a power cut: what is left is a
//     base and a log that together hold everything that was acknowledged, and
//     perhaps garbage, which the next snapshot or start removes.
//   - A snapshot that fails is tried again, ever more rarely; the node serves on and
//     keeps its log meanwhile, and [Keeper.Status] says since when and why.
//   - Of two processes with one node's name the one with the older incarnation
//     publishes nothing more, archives nothing more, and does not touch its log.
//   - A start never takes less than there is: what cannot be read or does not join up
//     without a gap is refused with the reason, unless someone has said in so many
//     words that older is good enough.
//
// # What it does not promise
//
// What was acknowledged after the last piece of log went to the archive is only on
// the node's own disk: a lost disk takes it along. How much that can be is
// [ArchiveMode]'s and [Options].ArchiveEvery's choice.
//
// # Who may call what
//
// A Keeper's methods may be called from any number of goroutines. The folder of a
// Keeper is its own, under the lock of the node's data folder.
//
// DESIGN.md has the order of the steps and the reasons.
package keeper
