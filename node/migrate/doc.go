// Package migrate runs both ends of range moves: it copies a range of the ring
// from one node to another while both serve, and hands it over without losing an
// acknowledged write.
//
// # What it promises
//
//   - Reads and writes of a moving range go on. Writes are slowed down only when
//     they come faster than the target makes them durable; all requests are held
//     only from the seal, when little is left to send, until the document has
//     decided.
//   - The target's word +COMPLETE means that everything that the source ever
//     acknowledged for the range is durable at the target; the source asks for
//     the commit after that, and not before.
//   - A message that is lost, late, repeated, or from a connection given up long
//     ago changes nothing: batches are numbered and checksummed, a new handshake
//     fences older connections of the same move, and a move's id is never used
//     again.
//   - A sealed range does not wait for ever: without a decision within SealTimeout
//     the source itself asks the document to abort the move.
//   - Memory for each move is bounded, whatever the writers do.
//
// # What it does not do
//
// It decides nothing. The document D, by compare-and-swap in the bucket, says who
// owns a range; the node reads D and unseals, drops, activates or unstages
// accordingly, one document after the other. This package seals, captures and
// stages, and only for moves that the newest document followed still plans.
//
// # Who may call what
//
// All methods of a [Mover] are safe for concurrent use, except that Command calls
// of one connection do not overlap. [Mover.Follow] is called by one goroutine, with
// one document after the other.
//
// DESIGN.md draws the sequence and says why it is this way.
package migrate
