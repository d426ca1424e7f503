package migrate

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/protocol"
)

// transfer is one attempt to bring everything to the target: it returns nil when
// the target has said that all of it is durable. Three goroutines share the
// attempt, each with its own end of the outbox: the copier, the sender and the
// receiver of acknowledgements.
func (s *source) transfer() error {
	if err := s.m.o.Points.Hit(pointSourcePlan); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	if s.sealed {
		ctx, cancel = context.WithDeadlineCause(s.ctx, s.deadline(), errOverdue)
	}
	defer cancel()
	conn, err := s.m.dial(ctx, s.move.Target)
	if err != nil {
		return err
	}
	t := &transfer{s: s, ctx: ctx, conn: conn, box: newOutbox(&s.m.o)}
	stop := context.AfterFunc(ctx, func() { t.fail(context.Cause(ctx)) })
	err = t.run()
	if !stop() || !t.inTime() {
		err = cmp.Or(err, context.Cause(ctx), errOverdue)
	}
	if err != nil {
		_ = conn.Close()
		return err
	}
	s.target, s.complete = conn, true
	s.lap("target_complete")
	return s.m.o.Points.Hit(pointSourceComplete)
}

// transfer is what one attempt consists of.
type transfer struct {
	s    *source
	ctx  context.Context
	conn *peer.Conn // the sender queues and flushes, the receiver receives
	box  *outbox
	late *time.Timer // ends an attempt that has sealed
}

// fail ends the attempt for everyone who waits for anything.
func (t *transfer) fail(err error) {
	t.box.fail(err)
	_ = t.conn.Close()
}

// inTime says whether the attempt has ended before its time was up.
func (t *transfer) inTime() bool { return t.late == nil || t.late.Stop() }

func (t *transfer) run() error {
	complete, err := t.handshake()
	if err != nil || complete {
		return err
	}
	defer t.s.detach()
	if err := t.s.attach(t.box); err != nil {
		return err
	}
	var all errgroup.Group
	for _, part := range []func() error{t.copy, t.send, t.receive} {
		all.Go(func() error {
			err := part()
			if err != nil {
				t.fail(err)
			}
			return err
		})
	}
	return all.Wait()
}

// handshake opens the move at the target, which verifies it in the document and
// forgets what an earlier attempt has brought, unless that was all.
func (t *transfer) handshake() (complete bool, err error) {
	r := t.s.move.Range
	reply, err := t.conn.DoStrings(protocol.CmdStageRange.String(),
		string(t.s.move.ID), r.Start.String(), r.End.String(), t.s.move.Source)
	switch {
	case err != nil:
		return false, err
	case string(reply.Bytes) == wordReady && t.s.sealed && t.s.sentBefore() > resealBytes:
		return false, t.s.giveUp(errTooLong)
	case string(reply.Bytes) == wordReady:
		return false, nil
	case string(reply.Bytes) != wordComplete:
		return false, fmt.Errorf("%w to %s", errReply, protocol.CmdStageRange)
	case !t.s.sealed:
		// It cannot be. If it were, a commit would lose every write since.
		return false, t.s.giveUp(errNotSealed)
	}
	return true, nil
}

// resealBytes is how much may be copied once more while requests are held, after
// a link broke between the seal and the target's word. More than that is better
// aborted and begun anew, while the range serves.
const resealBytes = 8 << 20

// sentBefore is what the attempt before has sent.
func (s *source) sentBefore() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.bytes
}

// giveUp makes the next step an abort.
func (s *source) giveUp(err error) error {
	s.hopeless = true
	return err
}

// attach begins the capture.
func (s *source) attach(box *outbox) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isOver() {
		return errDecided
	}
	capture, err := s.m.o.Engine.Capture(string(s.move.ID), s.move.Range, box)
	if err != nil {
		return err
	}
	s.capture = capture
	s.state.phase, s.state.bytes = phaseCopy, 0
	return nil
}

// detach ends it.
func (s *source) detach() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.capture != nil {
		s.state.keys, s.state.share = s.capture.Copied()
		s.capture.Close()
		s.capture = nil
	}
}

// copy brings the range and its changes into the outbox, seals when little is
// left, and says so when the seal is durable.
func (t *transfer) copy() error {
	for through := false; !through; {
		if err := t.box.room(); err != nil {
			return err
		}
		if err := t.s.m.o.Points.Hit(pointSourceCopy); err != nil {
			return err
		}
		var err error
		if through, err = t.s.copyNext(); err != nil {
			return err
		}
		t.box.yield()
	}
	if err := t.s.m.o.Points.Hit(pointSourceCopied); err != nil {
		return err
	}
	if !t.s.sealed {
		if err := t.prepareSeal(); err != nil {
			return err
		}
	}
	return t.seal()
}

func (s *source) copyNext() (through bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isOver() {
		return false, errDecided
	}
	return s.capture.CopyNext(s.m.o.BatchBytes)
}

// prepareSeal does beforehand what would make the pause longer. Nothing is sealed
// while the manager cannot be reached, or the document not be read: the range goes
// on serving, and its changes go on streaming.
func (t *transfer) prepareSeal() error {
	for wait := newBackoff(t.s.m.o.RetryMin, t.s.m.o.RetryMax); ; {
		err := t.s.greetManager(t.ctx)
		if err == nil {
			err = t.s.m.recent(t.ctx)
		}
		if err == nil {
			break
		}
		t.s.note(phaseWaiting, err)
		if !wait.rest(t.ctx, nil) {
			return context.Cause(t.ctx)
		}
	}
	t.s.enter(phaseCopy)
	t.box.tighten(t.s.m.o.SealBytes)
	return t.box.drained(t.s.m.o.SealBytes)
}

// seal ends the stream. What is left goes out while the seal becomes durable here;
// the last message goes out after that.
func (t *transfer) seal() error {
	s := t.s
	s.enter(phaseSeal)
	if err := s.m.o.Points.Hit(pointSourceSeal); err != nil {
		return err
	}
	lsn, err := s.sealRange()
	if err != nil {
		return err
	}
	t.box.finish()
	t.late = time.AfterFunc(time.Until(s.deadline()), func() { t.fail(errOverdue) })
	if err := s.m.o.Points.Hit(pointSourceSealing); err != nil {
		return err
	}
	if err := s.m.o.Log.SyncTo(lsn); err != nil {
		return fmt.Errorf("sync the seal: %w", err)
	}
	s.lap("seal_durable")
	if err := s.m.o.Points.Hit(pointSourceSealed); err != nil {
		return err
	}
	count, err := s.count()
	if err != nil {
		return err
	}
	t.box.conclude(lastWord{uint64(s.hlc), count})
	return nil
}

func (s *source) count() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isOver() {
		return 0, errDecided
	}
	return s.capture.Count(), nil
}

// send sends batches until all are sent, and then the last word.
func (t *transfer) send() error {
	move, number := []byte(t.s.move.ID), make([]byte, 0, 20)
	for {
		batch, seq, err := t.box.take()
		if err != nil {
			return err
		}
		if batch == nil {
			break
		}
		if err := t.s.m.pace.pay(t.ctx, len(batch), t.s.hurry); err != nil {
			return err
		}
		sealBatch(batch)
		number = strconv.AppendUint(number[:0], seq, 10)
		t.conn.Queue(protocol.CmdStageData.String(), move, number, batch)
		if err := t.conn.Flush(); err != nil {
			return err
		}
		t.s.sent(len(batch))
		t.box.sent(batch, seq)
	}
	return t.sendLast(move)
}

// sendLast sends the last word, as soon as there is one.
func (t *transfer) sendLast(move []byte) error {
	last, seq, err := t.box.lastWord()
	if err != nil {
		return err
	}
	number := func(n uint64) []byte { return strconv.AppendUint(nil, n, 10) }
	t.conn.Queue(protocol.CmdStageSeal.String(), move, number(seq), number(last.hlc), number(last.count))
	return t.conn.Flush()
}

func (s *source) sent(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.bytes += int64(bytes)
}

// receive takes acknowledgements until the target says that it has everything.
func (t *transfer) receive() error {
	for {
		if err := t.box.expect(); err != nil {
			return err
		}
		reply, err := t.conn.Receive()
		if err != nil {
			return err
		}
		switch {
		case reply.Kind == ':' && reply.Int >= 0:
			if err := t.box.acked(uint64(reply.Int)); err != nil {
				return err
			}
		case reply.Kind == '+' && string(reply.Bytes) == wordComplete && t.box.isEnding():
			return nil
		case reply.Kind == '+' && string(reply.Bytes) == wordReady:
			// The handshake came twice; if it came late, a gap in the numbers follows.
		default:
			return fmt.Errorf("%w to %s", errReply, protocol.CmdStageData)
		}
	}
}
