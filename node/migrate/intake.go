package migrate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/discreet"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// What a target answers to STAGE_RANGE and STAGE_SEAL.
const (
	wordReady    = "READY"
	wordComplete = "COMPLETE"
)

var (
	errFenced   = errors.New("migrate: this connection no longer speaks for the move: a newer one does, or the document has decided")
	errNoMove   = errors.New("migrate: no STAGE_RANGE came before on this connection for this move")
	errGap      = errors.New("migrate: a batch is missing: start again with STAGE_RANGE")
	errMismatch = errors.New("migrate: the document has another range or source for this move")
)

// intake is one session of an incoming move: from a handshake to the next one, or
// to the end of its connection.
type intake struct {
	m  *Mover
	id cluster.MoveID

	mu       sync.Mutex // after Mover.mu; held while the engine is touched
	over     bool       // fenced, or failed half-way: takes nothing any more
	complete bool
	next     uint64  // number of the batch that is due
	lsn      wal.LSN // of what has been applied so far
}

// end fences the session: when it returns, the engine is not touched any more.
func (in *intake) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.over = true
}

// inbound is the mover's value for a connection.
type inbound struct{ intake *intake }

// stageRange opens a move: if the document, read now, says that it is planned and
// comes here, the range is wiped and whatever an older connection may still send is
// refused. A move that is complete is not touched.
func (m *Mover) stageRange(ctx context.Context, link *any, args [][]byte, reply []byte) ([]byte, wal.LSN, error) {
	msg, err := protocol.ParseStageRange(args)
	if err != nil {
		return reply, 0, err
	}
	if err := m.o.Points.Hit(pointTargetPlan); err != nil {
		return reply, 0, err
	}
	if _, err := m.refresh(ctx); err != nil {
		return reply, 0, unavailable(err)
	}
	in, r, err := m.admit(msg)
	if err != nil {
		return reply, 0, err
	}
	*link = &inbound{in}
	lsn, err := in.open(r)
	if errors.Is(err, engine.ErrComplete) {
		return m.complete(in, m.o.Log.Appended(), reply)
	}
	if err != nil {
		return reply, 0, refusal(err)
	}
	return protocol.AppendSimple(reply, wordReady), lsn, nil
}

// admit checks a handshake against the document followed last and returns its new
// session, locked: a document that ends the move waits until the range is staged,
// and then finds it. The sessions before it are over.
func (m *Mover) admit(msg protocol.StageRange) (*intake, ring.Range, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ring.Range{}, unavailable(ErrClosed)
	}
	id := cluster.MoveID(msg.Move)
	move, err := m.doc.CheckStage(id, m.o.Address)
	if err != nil {
		return nil, move.Range, err
	}
	r := ring.Range{Start: ring.Position(msg.Start), End: ring.Position(msg.End)}
	if move.Range != r || move.Source != string(msg.Source) {
		return nil, r, errMismatch
	}
	if old := m.intakes[id]; old != nil {
		old.end()
	}
	in := &intake{m: m, id: id, next: 1}
	in.mu.Lock()
	m.intakes[id] = in
	return in, r, nil
}

// open wipes the range. It ends what admit has begun, and unlocks.
func (in *intake) open(r ring.Range) (lsn wal.LSN, err error) {
	defer in.mu.Unlock()
	if err = in.m.o.Points.Hit(pointTargetStage); err == nil {
		lsn, err = in.m.o.Engine.Stage(string(in.id), r)
	}
	if err == nil {
		err = in.m.o.Points.Hit(pointTargetStaged)
	}
	in.lsn = lsn
	in.complete = errors.Is(err, engine.ErrComplete)
	in.over = err != nil && !in.complete
	return lsn, err
}

// complete says that everything is here, when that is durable in every mode of the
// log: from then on this node owes the range, whatever happens.
func (m *Mover) complete(in *intake, lsn wal.LSN, reply []byte) ([]byte, wal.LSN, error) {
	if err := m.o.Log.SyncTo(lsn); err != nil {
		return reply, 0, err
	}
	if err := m.o.Points.Hit(pointTargetSealed); err != nil {
		return reply, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watch(in.id)
	return protocol.AppendSimple(reply, wordComplete), lsn, nil
}

// stageData applies the next batch. The acknowledgement leaves when the node has
// made it durable, together with the other batches that came with it.
func (m *Mover) stageData(link any, args [][]byte, reply []byte) ([]byte, wal.LSN, error) {
	msg, err := protocol.ParseStageData(args)
	if err != nil {
		return reply, 0, err
	}
	in, err := sessionOf(link, msg.Move)
	if err != nil {
		return reply, 0, err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.over:
		return reply, 0, errFenced
	case msg.Seq < in.next:
		return protocol.AppendInt(reply, int64(in.next-1)), in.lsn, nil
	case msg.Seq > in.next || in.complete:
		in.over = true
		return reply, 0, fmt.Errorf("%w: batch %d, expected %d", errGap, msg.Seq, in.next)
	}
	if err := in.apply(msg.Payload); err != nil {
		in.over = true
		return reply, 0, refusal(err)
	}
	return protocol.AppendInt(reply, int64(msg.Seq)), in.lsn, nil
}

// apply applies a batch that is due. The caller holds mu.
func (in *intake) apply(payload []byte) error {
	if err := in.m.o.Points.Hit(pointTargetCopy); err != nil {
		return err
	}
	records, err := openBatch(payload)
	if err != nil {
		return err
	}
	lsn, err := in.m.o.Engine.StageApply(string(in.id), records)
	if err != nil {
		return err
	}
	in.next++
	in.lsn = max(in.lsn, lsn)
	return in.m.o.Points.Hit(pointTargetCopied)
}

// stageSeal ends a move's data.
func (m *Mover) stageSeal(link any, args [][]byte, reply []byte) ([]byte, wal.LSN, error) {
	msg, err := protocol.ParseStageSeal(args)
	if err != nil {
		return reply, 0, err
	}
	in, err := sessionOf(link, msg.Move)
	if err != nil {
		return reply, 0, err
	}
	lsn, err := in.finish(msg)
	if err != nil {
		return reply, 0, refusal(err)
	}
	if err := m.o.Points.Hit(pointTargetSealing); err != nil {
		return reply, 0, err
	}
	return m.complete(in, lsn, reply)
}

// finish logs that everything is here.
func (in *intake) finish(msg protocol.StageSeal) (wal.LSN, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.over:
		return 0, errFenced
	case in.complete:
		return in.lsn, nil
	case msg.Seq != in.next:
		in.over = true
		return 0, fmt.Errorf("%w: the end is number %d, expected %d", errGap, msg.Seq, in.next)
	}
	if err := in.m.o.Points.Hit(pointTargetSeal); err != nil {
		return 0, err
	}
	lsn, err := in.m.o.Engine.StageComplete(string(in.id), engine.Version(msg.HLC), msg.Count)
	if err != nil {
		in.over = true
		return 0, err
	}
	in.complete = true
	in.lsn = max(in.lsn, lsn)
	return in.lsn, nil
}

// sessionOf returns the session that a connection has opened for a move.
func sessionOf(link any, move []byte) (*intake, error) {
	bound, _ := link.(*inbound)
	if bound == nil || string(bound.intake.id) != string(move) {
		return nil, errNoMove
	}
	return bound.intake, nil
}

// refusal is the reply to a step that the engine has refused.
func refusal(err error) error {
	switch {
	case errors.Is(err, wal.ErrNoSegment):
		return &protocol.Error{Code: protocol.READONLY, Message: "the target's log cannot grow: " + discreet.Text(err)}
	case errors.Is(err, engine.ErrReadOnly):
		return &protocol.Error{Code: protocol.READONLY, Message: "the target's disk is full: free space there, or cancel the move"}
	}
	if errors.Is(err, engine.ErrFull) {
		return &protocol.Error{Code: protocol.OOM, Message: "the target's memory is full (QUOIT_NODE_MAX_MEMORY): delete keys there, or abort the move"}
	}
	return err
}

func unavailable(err error) error {
	return &protocol.Error{Code: protocol.UNAVAILABLE, Message: discreet.Text(err, bucket.ErrInDoubt, bucket.ErrUnavailable)}
}
