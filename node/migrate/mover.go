package migrate

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/ring"
)

// ErrClosed is returned by a mover that was closed.
var ErrClosed = errors.New("migrate: the node is stopping")

// ErrTooMany refuses more outgoing moves than MaxMoves.
var ErrTooMany = errors.New("migrate: too many moves leave this node at the same time")

// Mover runs the moves of one node, those that leave and those that arrive. Make
// one with [New]. It is what package node knows as its Mover.
//
// Invariant: a range is sealed or staged only under mu, for a move that doc plans.
// So whoever follows the next document, which goes through mu as well, finds every
// range that was taken under the one before.
type Mover struct {
	o       Options
	pace    *throttle
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	running sync.WaitGroup
	readAt  atomic.Int64 // unix milliseconds of the last reading that succeeded

	mu      sync.Mutex // before the mu of a source or an intake
	doc     cluster.Document
	sources map[cluster.MoveID]*source
	intakes map[cluster.MoveID]*intake // the newest session of each incoming move
	watched map[cluster.MoveID]bool    // complete incoming moves that await a decision
	failed  map[ring.Range]int         // how often in a row a range was sealed for nothing
	stats   Stats
	closed  bool
}

// New returns a mover that does nothing until it is told to.
func New(o Options) (*Mover, error) {
	if o.Engine == nil || o.Log == nil || o.Dial == nil || o.Refresh == nil || o.Update == nil {
		return nil, errors.New("migrate: engine, log, dialer, refresh and update are required")
	}
	o.fill()
	ctx, stop := context.WithCancel(context.Background())
	return &Mover{
		o: o, ctx: ctx, stop: stop, pace: newThrottle(),
		sources: make(map[cluster.MoveID]*source),
		intakes: make(map[cluster.MoveID]*intake),
		watched: make(map[cluster.MoveID]bool),
		failed:  make(map[ring.Range]int),
	}, nil
}

// Follow is called with each document that the node is about to act on, in order,
// and before it does so. From its return on, no goroutine of the mover touches the
// engine on behalf of a move that the document does not plan any more. It does not
// wait for a Refresh that is under way.
//
// Between Held and Follow a move of the document before may have sealed or staged
// its range. So the node compares Held with the document after Follow, or once more.
func (m *Mover) Follow(d cluster.Document, decision cluster.Decision) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doc = d
	m.pace.set(d.Settings.MoveBytesPerSecond)
	for id, s := range m.sources {
		if move, ok := d.Move(id); !ok || move.Phase != cluster.Planned {
			s.decide(ok)
		}
	}
	for id, in := range m.intakes {
		if !plans(d, id) {
			in.end()
			delete(m.intakes, id)
		}
	}
	for _, a := range decision.Actions {
		m.prepare(a)
	}
}

// prepare is the mover's part of an action: to go on with what a restart, or the
// end of a connection, has left half done. The caller holds mu.
func (m *Mover) prepare(a cluster.Action) {
	switch a.Kind {
	case cluster.KeepSealed:
		if move, ok := m.doc.Move(a.Move); ok && m.sources[a.Move] == nil && !m.closed {
			m.launch(move)
		}
	case cluster.KeepStaged:
		if m.hasAll(a.Move) {
			m.watch(a.Move)
		}
	case cluster.Drop:
		_ = m.o.Points.Hit(pointSourceDrop)
	case cluster.Unseal:
		_ = m.o.Points.Hit(pointSourceUnseal)
	case cluster.Activate:
		_ = m.o.Points.Hit(pointTargetActivate)
	case cluster.Unstage:
		_ = m.o.Points.Hit(pointTargetUnstage)
	}
}

// plans says whether a move is still to be done.
func plans(d cluster.Document, id cluster.MoveID) bool {
	move, ok := d.Move(id)
	return ok && move.Phase == cluster.Planned
}

// Start sends a range away; nothing happens when it is under way already. Whether
// the move still exists the mover finds out by itself.
func (m *Mover) Start(move cluster.Move) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return ErrClosed
	case m.sources[move.ID] != nil:
		return nil
	case len(m.sources) >= m.o.MaxMoves:
		return ErrTooMany
	}
	m.launch(move)
	return nil
}

// launch begins a move. The caller holds mu.
func (m *Mover) launch(move cluster.Move) {
	s := newSource(m, move)
	m.sources[move.ID] = s
	m.running.Go(func() {
		s.run()
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.sources, move.ID)
	})
}

// Cancel asks the document to abort an outgoing move. The source stops when the
// node has read that; the planner gives the range a new move.
func (m *Mover) Cancel(ctx context.Context, id cluster.MoveID) error {
	_, err := m.o.Update(ctx, func(d cluster.Document) (cluster.Document, error) { return d.Abort(id) })
	return err
}

// hasAll says whether a staged range is complete.
func (m *Mover) hasAll(id cluster.MoveID) bool {
	_, staged := m.o.Engine.Held()
	return slices.ContainsFunc(staged, func(h engine.HeldRange) bool { return h.Move == string(id) && h.Complete })
}

// watch reads the document again and again until it has decided about a staged
// range: nobody has to tell this node, though somebody will. The caller holds mu.
func (m *Mover) watch(id cluster.MoveID) {
	if m.closed || m.watched[id] {
		return
	}
	m.watched[id] = true
	m.running.Go(func() {
		for wait := newBackoff(firstLook, lastLook); wait.rest(m.ctx, nil) && m.expects(id); {
			if m.o.Points.Hit(pointTargetCommit) == nil {
				_, _ = m.refresh(m.ctx)
			}
		}
		if m.ctx.Err() == nil {
			_ = m.o.Points.Hit(pointTargetActivated)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watched, id)
	})
}

// expects says whether the document still plans a move.
func (m *Mover) expects(id cluster.MoveID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return plans(m.doc, id)
}

// refresh is the host's, within the time for a reply.
func (m *Mover) refresh(ctx context.Context) (cluster.Document, error) {
	ctx, cancel := context.WithTimeout(ctx, m.o.ReplyTimeout)
	defer cancel()
	d, err := m.o.Refresh(ctx)
	if err == nil {
		m.readAt.Store(time.Now().UnixMilli())
	}
	return d, err
}

// recent makes sure that the document could be read a moment ago. Moves read it so
// often that this seldom costs anything.
func (m *Mover) recent(ctx context.Context) error {
	if time.Since(time.UnixMilli(m.readAt.Load())) < recently {
		return nil
	}
	_, err := m.refresh(ctx)
	return err
}

// recently is how old the last reading may be when a range is sealed.
const recently = 500 * time.Millisecond

// Stats are sums over the outgoing moves since the start.
type Stats struct {
	// Committed moves have left; Aborted ones were sealed and came back.
	Committed, Aborted uint64
	// Keys and Bytes were sent by them, in the last attempt of each.
	Keys, Bytes uint64
	// LastPause and LongestPause are how long requests were held, from the seal to
	// the release.
	LastPause, LongestPause time.Duration
}

// Stats returns a moment's picture.
func (m *Mover) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

// ended adds a move of which the range was sealed, and is released.
func (m *Mover) ended(r ring.Range, end status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.LastPause = end.pause
	m.stats.LongestPause = max(m.stats.LongestPause, end.pause)
	m.stats.Keys += end.keys
	m.stats.Bytes += uint64(end.bytes)
	if end.committed {
		m.stats.Committed++
		delete(m.failed, r)
		return
	}
	m.stats.Aborted++
	if len(m.failed) >= maxFailed {
		clear(m.failed)
	}
	m.failed[r]++
}

// maxFailed bounds what is remembered of ranges that were sealed for nothing.
const maxFailed = 4096

// penalty is how long to wait before a range may be copied, and then sealed, again:
// if each of its moves ends with a pause for nothing, pauses should be rare.
func (m *Mover) penalty(r ring.Range) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.failed[r]
	if n < 2 { // Once can be chance: a restart, a link.
		return 0
	}
	return min(m.o.SealTimeout<<min(n-2, 10), maxPenalty)
}

// maxPenalty bounds it.
const maxPenalty = time.Minute

// Progress returns how far the outgoing moves have come.
func (m *Mover) Progress() []member.MoveProgress {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]member.MoveProgress, 0, len(m.sources))
	for _, s := range m.sources {
		all = append(all, s.progress())
	}
	sortProgress(all)
	return all
}

// Close stops everything and waits for it. Ranges that are sealed stay sealed. It
// is idempotent.
func (m *Mover) Close() error {
	m.mu.Lock()
	m.closed = true
	for id, in := range m.intakes {
		in.end()
		delete(m.intakes, id)
	}
	m.mu.Unlock()
	m.stop()
	m.running.Wait()
	return nil
}

// fill puts the defaults in.
func (o *Options) fill() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&o.SealTimeout, 2 * time.Second},
		{&o.ReplyTimeout, 5 * time.Second},
		{&o.RetryMin, 100 * time.Millisecond},
		{&o.RetryMax, 2 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	for _, d := range []struct {
		value    *int
		fallback int
	}{
		{&o.BatchBytes, 64 << 10},
		{&o.WindowBytes, 1 << 20},
		{&o.BufferBytes, 4 << 20},
		{&o.SealBytes, 256 << 10},
		{&o.MaxMoves, 64},
	} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
}
