// Package cluster holds the document D, the one authority over who owns what:
// its format, the transitions from one state to the next, the store that swaps
// it in the bucket, and what a node has to do when it has read it.
//
// # What it promises
//
//   - Every position has exactly one owner ([Document.Ownership]), from the first
//     Join on.
//   - Ownership changes by [Document.Commit], and by [Document.Forget], which an
//     operator asks for; by nothing else. Each change raises the epoch, and equal
//     epochs mean equal owners.
//   - A range takes part in at most one move at a time. A move's id is never used
//     again: once a move has gone from D, no late message can revive it.
//   - When no move is left, the owners are what the ring says of the active members.
//
// Transitions are pure: they take a document and return another, or an error
// that says what is wrong, and then nothing has changed. Each may be applied to
// its own result again without harm. [Store.Update] applies them by
// compare-and-swap and tells a lost race from a lost reply.
//
// # What nodes have to do for that
//
// A node acts on moves by one document at a time, the newest that it has read: it
// follows it ([Reconcile], [Decision]) before it stages, seals, serves or deletes
// anything because of it, and follows no older one afterwards. What it reads for a
// single question counts as read.
//
// # Who may call what
//
// Documents are values and are not changed once made; their slices are shared,
// so do not write to them. A [Store] is safe for concurrent use.
//
//	d, err := store.Update(ctx, func(d cluster.Document) (cluster.Document, error) {
//		return d.Join("10.0.0.4:7401")
//	})
//
// DESIGN.md says why it is this way.
package cluster
