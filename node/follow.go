package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
)

const (
	// readGap is the least time between two readings that nobody waits for: held
	// requests all hint at the same document.
	readGap = 4 * time.Millisecond
	// firstRetry and lastRetry bound the pause after a reading that failed.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// follower reads the cluster's document and acts on it, one document after the
// other, in one goroutine. It is the only one that changes what the engine owns.
type follower struct {
	documents *cluster.Store
	store     *store
	movers    Mover
	state     *state
	stats     *stats
	log       *slog.Logger
	poll      time.Duration
	self      cluster.Local // identity and incarnation
	report    func(cluster.Decision)
	points    *failpoint.Set
	started   bool      // a document was acted on; of run's goroutine
	lastRead  time.Time // of run's goroutine
	stuck     bool      // the last document could be read and not acted on; of run's goroutine

	wake chan struct{} // holds one token: read now

	mu       sync.Mutex
	document cluster.Document // acted on last; guarded by mu
	begun    uint64           // readings begun; guarded by mu
	finished uint64           // readings acted on or failed; guarded by mu
	lastErr  error            // of the last finished reading; guarded by mu
	changed  chan struct{}    // closed and replaced when a reading finishes; guarded by mu
}

func (f *follower) hint() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *follower) hintCounter(counter uint64) {
	if counter > f.current().Counter {
		f.hint()
	}
}

// current is the document that the node has acted on last.
func (f *follower) current() cluster.Document {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.document
}

// run follows until ctx ends, or until node and document turn out not to belong
// together: that error is returned.
func (f *follower) run(ctx context.Context) error {
	pause := f.poll
	var told trouble
	for f.rest(ctx, pause) {
		err := f.read(ctx)
		var refused *refusedError
		switch {
		case err == nil:
			pause = f.poll
			if told.over() {
				f.log.Info("follows the cluster's document again")
			}
			continue
		case errors.As(err, &refused):
			return refused.err
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the node stops: that the last reading failed is no news
		case pause == f.poll:
			pause = firstRetry
		default:
			pause = min(2*pause, lastRetry)
		}
		f.stats.documentErrors.Add(1)
		if told.news(err, time.Now()) {
			f.log.Warn("cannot follow the cluster's document; serving goes on with the last one", "err", err)
		}
	}
	return nil
}

// tellAgain is how often the log says that something still fails.
const tellAgain = time.Minute

// trouble keeps the log from saying the same at every try.
type trouble struct {
	text string
	at   time.Time // when the log was told; zero while all is well
}

// news says whether the log should be told of a failure.
func (t *trouble) news(err error, now time.Time) bool {
	if text := err.Error(); t.at.IsZero() || text != t.text || now.Sub(t.at) >= tellAgain {
		t.text, t.at = text, now
		return true
	}
	return false
}

// over says whether something had failed, and forgets it.
func (t *trouble) over() bool {
	failed := !t.at.IsZero()
	*t = trouble{}
	return failed
}

// rest waits for a hint, at most for pause, and keeps readings apart: a crowd of
// held requests hints at the same document. Where acting on it has failed, it is the
// whole pause.
func (f *follower) rest(ctx context.Context, pause time.Duration) bool {
	if !sleep(ctx, pause, f.wake) {
		return false
	}
	gap := readGap
	if f.stuck {
		gap = pause // a hint changes nothing here
	}
	gap -= time.Since(f.lastRead)
	return gap <= 0 || sleep(ctx, gap, nil)
}

// sleep waits for d or a token, and says whether ctx goes on.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// refusedError means that serving on would be wrong.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }

// read loads the document once and acts on it.
func (f *follower) read(ctx context.Context) error {
	f.mu.Lock()
	f.begun++
	reading := f.begun
	f.mu.Unlock()
	f.stats.documentReads.Add(1)
	d, _, err := f.documents.Load(ctx)
	if err == nil {
		err = f.points.Hit(pointDocument)
	}
	f.stuck = false
	if err == nil {
		err = f.act(d)
		f.stuck = err != nil
	}
	f.lastRead = time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.finished, f.lastErr = reading, err
	close(f.changed)
	f.changed = make(chan struct{})
	return err
}

// refresh returns the document as of a reading that began after the call.
func (f *follower) refresh(ctx context.Context) (cluster.Document, error) {
	f.mu.Lock()
	want := f.begun + 1
	f.mu.Unlock()
	for {
		f.hint()
		f.mu.Lock()
		done, d, err, changed := f.finished >= want, f.document, f.lastErr, f.changed
		f.mu.Unlock()
		if done {
			return d, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return cluster.Document{}, ctx.Err()
		}
	}
}

// update swaps the document and acts on the result before it returns.
func (f *follower) update(ctx context.Context, fn func(cluster.Document) (cluster.Document, error)) (cluster.Document, error) {
	if _, err := f.documents.Update(ctx, fn); err != nil {
		return cluster.Document{}, err
	}
	return f.refresh(ctx)
}

// waitCounter waits until a document this new was acted on.
func (f *follower) waitCounter(ctx context.Context, counter uint64) error {
	for {
		f.mu.Lock()
		done, changed := f.document.Counter >= counter, f.changed
		f.mu.Unlock()
		if done {
			return nil
		}
		f.hint()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// act makes the engine follow a document: the mark, the actions, the ownership,
// what is foreign, in this order. A document that is older than the last one is
// refused; the same one again is acted on only where moves left something to do.
func (f *follower) act(d cluster.Document) error {
	if now := f.current().Counter; f.started && d.Counter < now {
		return fmt.Errorf("%w: counter %d after %d", cluster.ErrRolledBack, d.Counter, now)
	}
	decision, err := cluster.Reconcile(f.local(), d)
	if err != nil {
		return &refusedError{err}
	}
	again := f.started && d.Counter == f.current().Counter
	if again && !slices.ContainsFunc(decision.Actions, changesEngine) {
		return nil
	}
	next, err := newView(d)
	if err != nil {
		return &refusedError{err}
	}
	f.movers.Follow(d, decision)
	// Until Follow returned, a move could still seal or stage its range.
	if decision, err = cluster.Reconcile(f.local(), d); err != nil {
		return &refusedError{err}
	}
	if err := f.apply(next, d, decision); err != nil {
		return fmt.Errorf("act on document %d: %w", d.Counter, err)
	}
	f.started = true
	f.state.publish(next)
	f.stats.documentsRead.Add(1)
	f.mu.Lock()
	f.document = d
	f.mu.Unlock()
	f.report(decision)
	return nil
}

func changesEngine(a cluster.Action) bool {
	switch a.Kind {
	case cluster.Unseal, cluster.Drop, cluster.Activate, cluster.Unstage:
		return true
	}
	return false
}

// local is what this node knows by itself.
func (f *follower) local() cluster.Local {
	l := f.self
	sealed, staged := f.store.engine.Held()
	l.Sealed, l.Staged = heldRanges(sealed), heldRanges(staged)
	l.HasData = l.HasData || f.store.engine.Count() > 0
	l.Accepted = l.Accepted && !f.started
	return l
}

func heldRanges(held []engine.HeldRange) []cluster.Held {
	out := make([]cluster.Held, len(held))
	for i, h := range held {
		out[i] = cluster.Held{Move: cluster.MoveID(h.Move), Range: h.Range, Complete: h.Complete}
	}
	return out
}

// apply does what the decision says and makes it durable. Stopping half-way is
// harmless: the next reading decides again from what is left.
func (f *follower) apply(next *view, d cluster.Document, decision cluster.Decision) error {
	settled, err := f.settle(next, d, decision)
	if err != nil {
		return err
	}
	wiped, err := f.store.engine.WipeForeign()
	if err != nil {
		return err
	}
	// A document that changes nothing here leaves only its mark, which may become
	// durable with the next write: hundreds of them pass by in a rebalancing.
	if f.started && wiped == 0 && d.Epoch == f.current().Epoch && !slices.ContainsFunc(decision.Actions, changesEngine) {
		settled = 0
	}
	if err := f.points.Hit(pointFollow); err != nil {
		return err
	}
	if err := f.store.log.SyncTo(max(settled, wiped)); err != nil {
		return err
	}
	f.self.Counter = d.Counter
	return f.points.Hit(pointFollowed)
}

// settle makes the engine serve what the view says. The view is published first
// (but not before the node serves at all), so that whoever is told that a range is
// gone is told who has it.
func (f *follower) settle(next *view, d cluster.Document, decision cluster.Decision) (last wal.LSN, err error) {
	f.state.settling.Lock()
	defer f.state.settling.Unlock()
	if f.started {
		f.state.publish(next)
	}
	e := f.store.engine
	last, err = e.SetMark(engine.Mark{Cluster: d.Cluster, Epoch: d.Epoch, Counter: d.Counter})
	if errors.Is(err, engine.ErrReadOnly) {
		return 0, errors.Join(err, f.unseal(decision))
	}
	if err != nil {
		return 0, err
	}
	for _, a := range decision.Actions {
		lsn, err := f.do(a)
		if err != nil {
			return 0, fmt.Errorf("%s of move %s: %w", a.Kind, a.Move, err)
		}
		last = max(last, lsn)
	}
	err = e.SetOwnership(decision.Own)
	if errors.Is(err, engine.ErrConflict) { // leftovers of an earlier ownership have to go first
		lsn, err := e.WipeForeign()
		if err != nil {
			return 0, err
		}
		return max(last, lsn), e.SetOwnership(decision.Own)
	}
	return last, err
}

// unseal does what needs no mark: a range that the document leaves here serves again.
// An older document could at most seal it once more, and nobody else has written it.
func (f *follower) unseal(decision cluster.Decision) error {
	var errs []error
	for _, a := range decision.Actions {
		if a.Kind == cluster.Unseal {
			_, err := f.do(a)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (f *follower) do(a cluster.Action) (wal.LSN, error) {
	e, move := f.store.engine, string(a.Move)
	if changesEngine(a) {
		f.log.Debug("range move", "step", string(a.Kind), "move", move, "range", a.Range.String())
	}
	switch a.Kind {
	case cluster.Unseal:
		return e.Unseal(move)
	case cluster.Drop:
		return e.Drop(move)
	case cluster.Activate:
		return e.Activate(move)
	case cluster.Unstage:
		return e.Unstage(move)
	}
	return 0, nil
}

// newView is the document as connections see it.
func newView(d cluster.Document) (*view, error) {
	t := d.Topology()
	owners, err := d.Ownership()
	if err != nil {
		return nil, fmt.Errorf("topology of document %d: %w", d.Counter, err)
	}
	text, err := t.MarshalText()
	if err != nil {
		return nil, fmt.Errorf("topology of document %d: %w", d.Counter, err)
	}
	v := &view{counter: d.Counter, topology: t, owners: owners, text: text}
	if len(owners.Owners()) == 0 {
		v.why = "the cluster has no active node yet"
	}
	return v, nil
}
