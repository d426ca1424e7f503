package migrate

import (
	"context"
	"log/slog"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
)

// Options say what a [Mover] works with and how patient it is. Zero durations and
// sizes mean their defaults.
type Options struct {
	Address string // of this node in the document
	Engine  *engine.Engine
	Log     *wal.Log // of the engine
	Dial    peer.Dialer
	Manager string // its address

	// Refresh reads the document from the bucket, has the node act on it, and
	// returns it. The reading begins after the call, and the node acts on the
	// document also when it has seen it before: what moves hold here may have
	// changed since.
	Refresh func(ctx context.Context) (cluster.Document, error)
	// Update swaps the document; the node has acted on the result when it returns.
	Update func(ctx context.Context, fn func(cluster.Document) (cluster.Document, error)) (cluster.Document, error)

	Points *failpoint.Set // nil: none
	Logger *slog.Logger   // nil: silent

	// SealTimeout is how long a range stays sealed without a decision before the
	// source asks for an abort. Default 2 s.
	SealTimeout time.Duration
	// ReplyTimeout is how long the other side may take for a reply, and for
	// taking what is sent. Default 5 s.
	ReplyTimeout time.Duration
	// RetryMin and RetryMax bound the pause between attempts. Default 100 ms, 2 s.
	RetryMin, RetryMax time.Duration
	// BatchBytes is about how much one STAGE_DATA carries. Default 64 KiB: more
	// does not measure faster, and a target that was configured for short values
	// still reads it.
	BatchBytes int
	// WindowBytes is how much is sent ahead of the acknowledgements. Default 1 MiB.
	WindowBytes int
	// BufferBytes bounds what is captured and not acknowledged; writers of the
	// range wait beyond it. Default 4 MiB.
	BufferBytes int
	// SealBytes is how much may be left when the range is sealed. Default 256 KiB.
	SealBytes int
	// MaxMoves bounds the outgoing moves at one time. Default 64.
	MaxMoves int
}
