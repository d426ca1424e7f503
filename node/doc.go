// Package node is the server that holds keys: connections, dispatch, limits,
// drain, and membership of one node in the cluster.
//
// # What it promises
//
//   - No reply leaves before everything that it reveals is durable, as
//     QUOIT_FSYNC says. A pipelined batch waits for the log once and is answered
//     with one write.
//   - A node serves a key only while it has read in the cluster's document that it
//     owns the key's position. After a restart it serves nothing until it has
//     read the document again. A document that is older than one it has acted on
//     is refused.
//   - Its log is folded into snapshots in the bucket and on its own disk (package
//     keeper). A restart goes on from the local one; a node whose disk is lost comes
//     back from the bucket, or refuses with the reason; it never starts empty under
//     an address that owns something.
//   - What a client can cost is bounded: connections, bytes in flight, time to
//     send a request, time to take a reply. A bad frame, a slow reader or a panic
//     ends one connection; nobody else notices.
//   - Where authentication is on (QUOIT_TOKEN_KEYS_FILE), every request is held to who
//     sends it before anything is looked at: its keys, who owns them, whether the node
//     serves. A token that expires, or whose key is withdrawn, counts no more on
//     connections that are open, and their watches end.
//   - Shutdown answers what has been read, refuses what is new, and waits.
//
// # What it does not promise
//
// It never forwards: a key of another node is answered MOVED with the owner's
// address. Requests with several keys (MGET, MSET, DEL, EXISTS) are not
// transactions, and all their keys must be owned here, or the reply is MOVED for
// the first that is not. Without token keys nobody is authenticated, and it listens
// on loopback alone unless told otherwise.
//
// # Who may call what
//
// Start opens the data folder and the listener and returns; reading the log,
// joining the cluster and serving go on behind it (WaitReady). Run is Start and
// Shutdown around a context. All methods of a Node may be called from any
// goroutine.
//
//	err := node.Run(ctx, cfg, node.Seams{}) // until ctx ends, or the log fails
package node
