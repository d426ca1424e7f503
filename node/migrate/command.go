package migrate

import (
	"context"
	"errors"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// Command runs MIGRATE_RANGE, STAGE_RANGE, STAGE_DATA or STAGE_SEAL. link is the
// mover's own value for the connection, nil at first. It appends the reply, and
// returns the log position that must be durable before the reply leaves, 0 for
// none. After an error to a STAGE command the connection is to be closed.
func (m *Mover) Command(ctx context.Context, link *any, cmd protocol.Command, args [][]byte, reply []byte) ([]byte, wal.LSN, error) {
	switch cmd {
	case protocol.CmdMigrateRange:
		return m.migrateRange(ctx, args, reply)
	case protocol.CmdStageRange:
		return m.stageRange(ctx, link, args, reply)
	case protocol.CmdStageData:
		return m.stageData(*link, args, reply)
	case protocol.CmdStageSeal:
		return m.stageSeal(*link, args, reply)
	}
	return reply, 0, protocol.UnknownCommand(args[0])
}

// Closed says that the connection of this link has ended: nothing more can come
// from it. What it has brought stays until the next handshake, or the document,
// says otherwise.
func (m *Mover) Closed(link any) {
	if bound, ok := link.(*inbound); ok {
		bound.intake.end()
	}
}

// migrateRange starts an outgoing move that the document, read now, plans.
func (m *Mover) migrateRange(ctx context.Context, args [][]byte, reply []byte) ([]byte, wal.LSN, error) {
	msg, err := protocol.ParseMigrateRange(args)
	if err != nil {
		return reply, 0, err
	}
	if !m.sends(cluster.MoveID(msg.Move)) {
		move, err := m.outgoing(m.followed(), msg)
		if err != nil {
			// The document that the node follows may be older than the manager's.
			d, err := m.refresh(ctx)
			if err != nil {
				return reply, 0, unavailable(err)
			}
			if move, err = m.outgoing(d, msg); err != nil {
				return reply, 0, err
			}
		}
		if err := m.Start(move); err != nil {
			return reply, 0, startRefusal(err)
		}
	}
	return protocol.AppendOK(reply), 0, nil
}

// followed is the document that the node acts by. Starting to copy by it is safe
// however old it is: the target reads the newest before it takes anything in, and
// nothing is sealed before the source has.
func (m *Mover) followed() cluster.Document {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.doc
}

// sends says whether a move is under way already.
func (m *Mover) sends(id cluster.MoveID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sources[id] != nil
}

// outgoing returns the move that a message means, if the document agrees with
// every word of it.
func (m *Mover) outgoing(d cluster.Document, msg protocol.MigrateRange) (cluster.Move, error) {
	id := cluster.MoveID(msg.Move)
	move, ok := d.Move(id)
	if !ok {
		return move, &cluster.MoveError{ID: id, Err: cluster.ErrUnknownMove}
	}
	r := ring.Range{Start: ring.Position(msg.Start), End: ring.Position(msg.End)}
	switch {
	case move.Phase != cluster.Planned:
		return move, &cluster.MoveError{ID: id, Err: cluster.ErrCommitted}
	case move.Source != m.o.Address || move.Target != string(msg.Target) || move.Range != r:
		return move, errMismatch
	}
	return move, nil
}

func startRefusal(err error) error {
	if errors.Is(err, ErrTooMany) {
		return &protocol.Error{Code: protocol.OVERLOADED, Message: err.Error()}
	}
	return unavailable(err)
}
