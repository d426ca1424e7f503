// Package gateway is the way into a cluster for those who cannot reach its nodes
// or cannot route: web pages, over WebSocket, and stock Redis clients, over plain
// TCP. Run serves until its context ends; Start is for programs that hold the
// gateway themselves.
//
//	/v1/node/{address}   WebSocket: a channel to one node of the topology
//	/v1/cluster          WebSocket: the topology, at once and whenever it changes
//	/v1/status           GET: how the cluster does, as JSON
//	/v1/moves/pause      POST: no further move starts; /v1/moves/resume ends that
//	/                    the files of Seams.Assets
//	the Redis door       the whole cluster behind one address
//
// A node may have a gateway of its own, which leads to that node alone and which the
// node publishes (Config.ForNode): one hop for a page, with no process between.
//
// # What it promises
//
//   - It holds nothing of its own: any number of gateways serve one cluster, and
//     one that is restarted has lost nothing but connections.
//   - It dials members of the current topology and nothing else, whatever it is
//     asked for.
//   - Each command is parsed before it is passed on, and only commands on keys
//     and about the connection are: what members, the manager and operators say
//     to each other is answered NOPERM.
//   - A channel that watches is a pipe for the node's pushes: nothing is kept here, and
//     a slow page slows its own watch only.
//   - Replies come in the order of the requests, on both doors. Through the Redis
//     door requests for one key are executed in their order too; those for
//     different keys may be executed side by side.
//   - Where tokens are asked for, nothing goes through before one was taken: on a channel
//     by the node, too. The Redis door asks nodes with the token of each client, over
//     connections that only clients with the same token share, and the manager is asked
//     with the token of whoever asks. The gateway's own is for the topology alone.
//   - A page of another site cannot use it (exact lists of Origin and Host), and a
//     client can neither hold more memory than the budgets allow nor keep a slow
//     connection open: it is told why and cut off, and the others do not notice.
//   - A write through the Redis door whose outcome nobody knows is not answered:
//     the connection is closed after the replies before it.
//
// # What it does not
//
// Without QUOIT_TOKEN_KEYS_FILE nobody is authenticated, and the gateway refuses to
// listen anywhere but on loopback unless it is told that this is meant: keys can be
// written by whoever reaches it, and to pause moves is left to pages of this machine
// unless QUOIT_GATEWAY_CONSOLE says otherwise. MGET, MSET, DEL and EXISTS through the
// Redis door are no transactions.
//
// docs/protocol.md describes the WebSocket transport for people who write a client.
package gateway
