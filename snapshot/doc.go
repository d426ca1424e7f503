// Package snapshot keeps what one node held at a cut of its log: part files of
// entries in ring order, a manifest that names them, and a head in the bucket
// that says which manifests count. It knows neither engine nor log: positions,
// keys, values, versions and log positions are numbers and bytes to it.
//
// # What it promises
//
//   - A [Writer] takes entries in the order of (position, key) and never holds more
//     of them than a few blocks. A [Reader] gives back exactly these entries, for
//     any range of the ring, and reads of the file only what the range needs.
//   - No byte is used before it was checked: every block carries a checksum that
//     also binds snapshot, part and block, so that a block from another file or
//     another place does not pass either. What is wrong is a [*CorruptionError]
//     that names object, block, offset and the positions concerned; what comes
//     from a newer Quoit is a [*VersionError].
//   - A snapshot exists when [Store.Publish] has swapped it into the head, and not
//     before: its parts and its manifest have been read back by then. Whatever
//     fails earlier leaves garbage, never a snapshot with a hole.
//   - Once a node has claimed a higher incarnation ([Store.Claim]), an older
//     incarnation publishes nothing and deletes nothing: its next write is a
//     [*FencedError], and so is every one after it.
//   - [Store.Prune] deletes an object only if no manifest that is kept names it,
//     after a grace, and never the newest snapshot that passed verification.
//     What it is not sure of it leaves.
//
// # What it does not promise
//
//   - It does not know whether a snapshot is complete, or a cut consistent: that is
//     for whoever takes it.
//   - Verification proves that the bytes are those that were written. That they
//     can be restored is proved by restoring them.
//   - Objects that were uploaded and never published stay until [Store.Sweep].
//
// # Who may call what
//
// A Writer belongs to one goroutine. Readers and a Store may be used by many at
// once. Keys and values of an [Entry] are views: of the caller's memory until
// [Writer.Add] returns, of the reader's until the next entry is asked for.
//
// The bytes are drawn in docs/snapshot-format.md, the reasons are in DESIGN.md.
package snapshot
