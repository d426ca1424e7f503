package migrate

import (
	"context"
	"errors"
	"strconv"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/protocol"
)

// commit asks the manager to swap, and reads what came of it. The target has
// everything durably: only the document is missing.
func (s *source) commit() error {
	s.enter(phaseCommit)
	if err := s.m.o.Points.Hit(pointSourceCommit); err != nil {
		return err
	}
	if err := s.askManager(); err != nil {
		// It may have happened all the same.
		return errors.Join(err, s.read())
	}
	s.lap("manager_answered")
	if err := s.m.o.Points.Hit(pointSourceCommitted); err != nil {
		return err
	}
	s.hint(1)
	if err := s.read(); err != nil || s.isOver() {
		return err
	}
	return errUndecided
}

// askManager sends COMMIT_MOVE and waits for the answer, for a decision that shows
// in the document, or for the end of the time that the range may stay sealed.
func (s *source) askManager() error {
	ctx, cancel := context.WithDeadlineCause(s.ctx, s.deadline(), errOverdue)
	defer cancel()
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		s.lookOut(ctx)
	}()
	defer func() { cancel(); <-watching }()
	if err := s.dialManager(ctx); err != nil {
		return err
	}
	conn := s.manager
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_, err := conn.DoStrings(protocol.CmdCommitMove.String(), string(s.move.ID))
	if err != nil && !peer.Refused(err) || ctx.Err() != nil {
		_ = conn.Close()
		s.manager = nil
	}
	return err
}

// lookOut reads the document now and then while the manager has not answered: its
// answer may be lost, and the range waits. A decision ends the waiting.
func (s *source) lookOut(ctx context.Context) {
	for wait := newBackoff(firstLook, lastLook); wait.rest(ctx, nil); {
		_, _ = s.m.refresh(ctx)
	}
}

// greetManager makes sure that a manager is there, and keeps the connection.
func (s *source) greetManager(ctx context.Context) error {
	if err := s.dialManager(ctx); err != nil {
		return err
	}
	conn := s.manager
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := conn.Do(protocol.CmdPing.String()); err != nil && !peer.Refused(err) {
		_ = conn.Close()
		s.manager = nil
		return err
	}
	return nil
}

func (s *source) dialManager(ctx context.Context) (err error) {
	if s.manager == nil {
		s.manager, err = s.m.dial(ctx, s.m.o.Manager)
	}
	return err
}

// abort swaps the move out of the document. Whether it wins or loses against the
// commit, what is read then decides.
func (s *source) abort() error {
	if err := s.m.o.Points.Hit(pointSourceAbort); err != nil {
		return err
	}
	s.log.Warn("a move cannot go on; asking for an abort", "sealed", s.sealed, "hopeless", s.hopeless)
	ctx, cancel := context.WithTimeout(s.m.ctx, s.m.o.ReplyTimeout)
	defer cancel()
	_, err := s.m.o.Update(ctx, func(d cluster.Document) (cluster.Document, error) { return d.Abort(s.move.ID) })
	if err == nil && s.isOver() {
		return nil
	}
	return errors.Join(err, s.read())
}

// hint tells the target that the document is newer than the one followed here, by
// ahead: it serves as soon as it has read that. Nothing depends on it.
func (s *source) hint(ahead uint64) {
	if s.target == nil || s.m.o.Points.Hit(pointSourceActivate) != nil {
		return
	}
	s.m.mu.Lock()
	counter := s.m.doc.Counter + ahead
	s.m.mu.Unlock()
	s.target.Queue(protocol.CmdRefresh.String(), strconv.AppendUint(nil, counter, 10))
	if s.target.Flush() != nil {
		_ = s.target.Close()
		s.target = nil
	}
}
