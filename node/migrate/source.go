package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/discreet"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

var (
	errDecided   = errors.New("migrate: the document does not plan the move any more")
	errUndecided = errors.New("migrate: the manager says committed, and the document does not")
	errOverdue   = errors.New("migrate: no decision within the time that a range may stay sealed")
	errNotSealed = errors.New("migrate: the target says complete for a range that was never sealed here")
	errTooLong   = errors.New("migrate: the link broke after the seal, and a second copy would take too long")
	errReply     = errors.New("migrate: unexpected reply")
)

// source sends one range away. One goroutine, run, goes through the phases; it
// begins anew after a fault, until the document has decided.
type source struct {
	m    *Mover
	move cluster.Move
	log  *slog.Logger
	// ctx ends when the document has decided (the move is committed, or gone), and
	// with the mover.
	ctx context.Context
	end context.CancelCauseFunc

	// Of run's goroutine, and while it waits for an attempt, of the copier.
	tried    bool
	sealed   bool
	hopeless bool            // nothing but an abort will do
	hlc      engine.Version  // sent with the seal: the same one, however often
	hurry    chan struct{}   // closed with the seal
	released <-chan struct{} // closed when the seal ends
	measured chan struct{}   // closed when the pause is known
	complete bool            // the target has said that it has everything
	target   *peer.Conn      // after that, for the hint
	manager  *peer.Conn      // dialled before the seal, so that the pause does not contain it

	mu      sync.Mutex // after Mover.mu; held while the engine is touched
	capture *engine.Capture
	state   status
}

// status is what Progress shows of a source.
type status struct {
	phase     string
	began     time.Time
	keys      uint64
	share     float64
	bytes     int64
	sealedAt  time.Time     // zero before the seal
	pause     time.Duration // when it is over
	laps      []any         // where the pause went, for the log: name, time since the seal, ...
	committed bool          // what the document has decided
	reason    string        // why the last attempt failed
}

// The phases as people see them.
const (
	phaseWaiting = "waiting"
	phaseCopy    = "copy"
	phaseSeal    = "seal"
	phaseCommit  = "commit"
	phaseDrop    = "drop"
)

func newSource(m *Mover, move cluster.Move) *source {
	ctx, end := context.WithCancelCause(m.ctx)
	return &source{
		m: m, move: move, ctx: ctx, end: end,
		log:   m.o.Logger.With("move", string(move.ID), "range", move.Range.String(), "target", move.Target),
		hurry: make(chan struct{}), measured: make(chan struct{}),
		state: status{phase: phaseWaiting, began: time.Now()},
	}
}

// decide ends what the source does to the engine. The caller holds Mover.mu.
func (s *source) decide(committed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isOver() {
		s.state.committed = committed
	}
	s.end(errDecided)
	if s.capture != nil {
		s.capture.Close()
	}
}

func (s *source) isOver() bool { return s.ctx.Err() != nil }

// run goes on until the document has decided, and then until the range is released.
func (s *source) run() {
	defer s.hangUp()
	s.adopt()
	s.atone()
	wait := newBackoff(s.m.o.RetryMin, s.m.o.RetryMax)
	for !s.isOver() {
		err := s.advance()
		if err == nil || s.isOver() {
			continue
		}
		s.failed(err)
		if s.sealed {
			wait = newBackoff(sealedRetry, sealedRetry) // Somebody is waiting.
		}
		wait.rest(s.ctx, nil)
	}
	if s.sealed && s.m.ctx.Err() == nil {
		s.settle()
	}
}

// sealedRetry is the pause between attempts while the range is sealed.
const sealedRetry = 20 * time.Millisecond

// advance does what is next, from whatever state the last attempt has left.
func (s *source) advance() error {
	if s.hopeless || s.sealed && !time.Now().Before(s.deadline()) {
		return s.abort()
	}
	if s.tried { // The first time, whoever began the move has just read the document.
		if err := s.read(); err != nil || s.isOver() {
			return err
		}
	}
	s.tried = true
	if !s.complete {
		if err := s.transfer(); err != nil {
			return err
		}
	}
	return s.commit()
}

// read has the node read the document and act on it.
func (s *source) read() error {
	_, err := s.m.refresh(s.m.ctx)
	return err
}

// atone waits before a range is moved that was sealed for nothing the last time.
func (s *source) atone() {
	if d := s.m.penalty(s.move.Range); d > 0 && !s.sealed {
		s.note(phaseWaiting, fmt.Errorf("the last moves of this range were aborted after the seal; waiting for %v", d))
		newBackoff(d, d).rest(s.ctx, nil)
		s.tried = true
	}
}

// adopt takes over a seal that an earlier life of this move has left.
func (s *source) adopt() {
	sealed, _ := s.m.o.Engine.Held()
	for _, h := range sealed {
		if h.Move == string(s.move.ID) {
			s.noteSeal()
		}
	}
}

// noteSeal remembers that the range is sealed from now on.
func (s *source) noteSeal() {
	s.sealed = true
	var err error
	if s.hlc, err = s.m.o.Engine.SealVersion(string(s.move.ID)); err != nil {
		s.hlc = s.m.o.Engine.Version() // It is over already, and whoever asks for this is told.
	}
	s.released = s.m.heldUntil(s.move.Range)
	close(s.hurry)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.sealedAt = time.Now()
	s.m.running.Go(func() {
		select {
		case <-s.released:
			s.mu.Lock()
			defer s.mu.Unlock()
			s.state.pause = time.Since(s.state.sealedAt)
			close(s.measured)
		case <-s.m.ctx.Done():
		}
	})
}

// heldUntil returns a channel that is closed when a sealed range is released: what
// a request that runs into the seal would wait for.
func (m *Mover) heldUntil(r ring.Range) <-chan struct{} {
	var held *engine.HeldError
	if _, err := m.o.Engine.NewSession().Exists(r.End, nil); errors.As(err, &held) {
		return held.Resolved
	}
	released := make(chan struct{})
	close(released)
	return released
}

// lap notes that a step of the pause is through.
func (s *source) lap(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.state.laps) < 2*maxLaps {
		s.state.laps = append(s.state.laps, name, time.Since(s.state.sealedAt))
	}
}

// maxLaps bounds them, for a move that tries again and again.
const maxLaps = 16

func (s *source) deadline() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.sealedAt.Add(s.m.o.SealTimeout)
}

// failed notes why an attempt ended.
func (s *source) failed(err error) {
	s.log.Info("a move's attempt ended; it will be tried again", "err", err)
	s.note(phaseWaiting, err)
}

func (s *source) note(phase string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.phase, s.state.reason = phase, discreet.Text(err, bucket.ErrInDoubt, bucket.ErrUnavailable)
}

func (s *source) enter(phase string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.phase = phase
}

// settle waits until the range is released, and tells the target where to look.
func (s *source) settle() {
	s.enter(phaseDrop)
	for wait := newBackoff(firstRelease, lastLook); !s.isReleased(); {
		if s.read() == nil && s.isReleased() {
			break
		}
		if !wait.rest(s.m.ctx, s.released) {
			return
		}
	}
	s.hint(0)
	select {
	case <-s.measured:
		s.report()
		_ = s.m.o.Points.Hit(pointSourceDropped)
	case <-s.m.ctx.Done():
	}
}

// firstRelease is the first pause between readings that should release the range.
const firstRelease = 5 * time.Millisecond

func (s *source) isReleased() bool {
	select {
	case <-s.released:
		return true
	default:
		return false
	}
}

// report tells the log how long requests were held, and for what.
func (s *source) report() {
	s.mu.Lock()
	end := s.state
	s.mu.Unlock()
	level := slog.LevelDebug // there are hundreds in a rebalancing
	if !end.committed || end.pause > longPause {
		level = slog.LevelInfo
	}
	s.log.With(end.laps...).Log(context.Background(), level, "a sealed range is released", "pause", end.pause, "committed", end.committed,
		"keys", end.keys, "bytes", end.bytes, "took", time.Since(end.began))
	s.m.ended(s.move.Range, end)
}

// longPause is a pause that an operator may want to know of.
const longPause = 100 * time.Millisecond

// hangUp closes what is still open.
func (s *source) hangUp() {
	s.end(nil)
	for _, c := range []*peer.Conn{s.target, s.manager} {
		if c != nil {
			_ = c.Close()
		}
	}
}

// progress is a moment's picture.
func (s *source) progress() member.MoveProgress {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.capture != nil {
		s.state.keys, s.state.share = s.capture.Copied()
	}
	pause := s.state.pause
	if pause == 0 && !s.state.sealedAt.IsZero() { // It goes on.
		pause = time.Since(s.state.sealedAt)
	}
	return member.MoveProgress{
		ID: s.move.ID, Phase: s.state.phase,
		Keys: int64(s.state.keys), Bytes: s.state.bytes, Share: s.state.share,
		ForMS: time.Since(s.state.began).Milliseconds(),
		Pause: float64(pause) / float64(time.Millisecond), Reason: s.state.reason,
	}
}

func sortProgress(all []member.MoveProgress) {
	slices.SortFunc(all, func(a, b member.MoveProgress) int { return cmp.Compare(a.ID, b.ID) })
}

// sealRange seals, unless the document has decided meanwhile.
func (s *source) sealRange() (wal.LSN, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	move, ok := s.m.doc.Move(s.move.ID)
	if s.isOver() || !ok || move != s.move {
		return 0, errDecided
	}
	lsn, err := s.m.o.Engine.Seal(string(s.move.ID), s.move.Range)
	if err == nil && !s.sealed {
		s.noteSeal()
	}
	return lsn, err
}
