// Package client is the smart client of a Quoit cluster. It holds the ring,
// computes which node owns a key and asks that node: one hop, no proxy. The
// same package is linked into native programs and, as WebAssembly, into browser
// tabs; only the Dialer differs.
//
//	db, err := client.Open(ctx, []string{"127.0.0.1:7401"})
//	if err != nil {
//		return err
//	}
//	defer db.Close()
//	err = db.Put(ctx, "user:1", []byte("Ada"), client.WithTTL(time.Hour))
//	value, err := db.Get(ctx, "user:1") // errors.Is(err, client.ErrNotFound)
//
// # What it promises
//
//   - Every method may be called by any number of goroutines at the same time.
//     They share a few pipelined connections to each node: requests of many
//     callers leave in one write, and nobody waits for another's reply.
//   - A method that takes a context returns soon after the context ends. It
//     abandons its own wait and nothing else: the connection goes on serving
//     the others.
//   - Bytes that are passed in are not kept, bytes that are returned belong to
//     the caller.
//   - When a range has moved to another node, the request follows it at once
//     and the topology is fetched once, whatever the number of callers that
//     noticed. A topology is never replaced by an older one, nor by one of
//     another cluster.
//   - A request is sent again only when that is safe: when the node said that
//     it did nothing (MOVED, TRYAGAIN, UNAVAILABLE, OVERLOADED), when it never
//     left this process, or when it only reads. It goes on trying, with growing
//     pauses, until the context's deadline; without one for the time of
//     WithRetryBudget.
//   - A write that was sent, and whose answer was lost, fails with
//     ErrOutcomeUnknown. It may have happened. Nobody but the caller knows
//     whether doing it twice does harm.
//   - Only seeds and members of the topology are ever dialled. WithToken has each
//     connection authenticated before anything else is sent over it; the token is in
//     no error.
//   - A Watch tells every change of the keys under a prefix, in order for each
//     key and none twice, whatever moves, restarts or breaks meanwhile. A
//     consumer that is slow holds up nobody and is told the latest state.
//
// # What it does not
//
// There are no transactions over several keys: MGet, MPut and Delete of many
// keys are many requests, each of which succeeds or fails by itself. Nothing is
// cached but the topology, nothing is sent to two nodes to take the faster.
//
// # Errors
//
// ErrNotFound, ErrExists, ErrClosed, ErrOutcomeUnknown, ErrUnauthenticated and
// ErrForbidden are for errors.Is;
// *VersionError, *ServerError, *KeyError, *ReplyError and *UnknownNodeError for
// errors.As. When a context ended
// the error is also context.Canceled or context.DeadlineExceeded, and when
// requests had failed before, the last of those failures too.
//
// DESIGN.md beside this file says why it is built this way.
package client
