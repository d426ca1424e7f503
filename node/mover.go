package node

import (
	"context"
	"log/slog"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/migrate"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
)

// Mover runs both ends of range moves. The node owns the connections, the
// document and everything that following a document does to the engine (unseal,
// drop, activate, unstage); the mover owns the copying: capture, seal, stage.
//
// It has no types of this package in its methods, so that node/migrate can
// implement it without importing node.
type Mover interface {
	// Follow is called with each document that the node is about to act on, in
	// order, before it does so. When it returns, no goroutine of the mover touches
	// the engine on behalf of a move that the document does not plan any more; the
	// node then compares engine and document once more and acts. It must not call
	// Host.Refresh, and a call of Host.Refresh under way must not keep it waiting.
	Follow(d cluster.Document, decision cluster.Decision)

	// Command runs MIGRATE_RANGE, STAGE_RANGE, STAGE_DATA or STAGE_SEAL. args
	// alias the connection's buffer. link is the mover's own value for this
	// connection, nil at first; calls of one connection do not overlap. It appends
	// the reply, and returns the log position that must be durable (as the log's
	// mode promises) before the reply may leave, 0 for none. An error becomes an
	// error reply (see protocol.AsError) and, after STAGE commands, closes the
	// connection.
	Command(ctx context.Context, link *any, cmd protocol.Command, args [][]byte, reply []byte) ([]byte, wal.LSN, error)

	// Closed says that the connection of this link has ended.
	Closed(link any)

	// Progress is how far the outgoing moves have come, for the heartbeat.
	Progress() []member.MoveProgress

	// Close stops everything and waits for it. No Command runs any more.
	Close() error
}

// Host is what a node lends to its mover.
type Host struct {
	Address string // of this node in the document
	Engine  *engine.Engine
	Log     *wal.Log
	Dial    peer.Dialer
	Manager string // its address
	// Refresh reads the document, has the node act on it, and returns it. The
	// reading begins after the call; many callers share one. The node acts also on
	// a document that it has seen before, where moves left something to do.
	Refresh func(ctx context.Context) (cluster.Document, error)
	// Update swaps the document, for the source that has to abort its own move. The
	// node then acts on the result before Update returns.
	Update func(ctx context.Context, fn func(cluster.Document) (cluster.Document, error)) (cluster.Document, error)
	// Points are the fail points of the run.
	Points *failpoint.Set
	Logger *slog.Logger
}

// newMover is the mover of a real node.
func newMover(h Host) (Mover, error) {
	return migrate.New(migrate.Options{
		Address: h.Address, Engine: h.Engine, Log: h.Log, Dial: h.Dial, Manager: h.Manager,
		Refresh: h.Refresh, Update: h.Update, Points: h.Points, Logger: h.Logger,
	})
}
