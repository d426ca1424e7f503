package node

import (
	"context"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
)

// noMover stands where a test has nothing to move.
type noMover struct{}

func (noMover) Follow(cluster.Document, cluster.Decision) {}

func (noMover) Command(_ context.Context, _ *any, cmd protocol.Command, _ [][]byte, reply []byte) ([]byte, wal.LSN, error) {
	return reply, 0, &protocol.Error{Code: protocol.ERR, Message: cmd.String() + ": this node was built without range moves"}
}

func (noMover) Closed(any)                      {}
func (noMover) Progress() []member.MoveProgress { return nil }
func (noMover) Close() error                    { return nil }
