package keeper

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/snapshot"
)

// lastRetry bounds the pause between two tries.
const lastRetry = 5 * time.Minute

// sweepEvery is how often the bucket is looked through for what nothing refers to.
const sweepEvery = 24 * time.Hour

// Keeper keeps the snapshots of a running node. Make one with New.
type Keeper struct {
	o      Options
	folder folder

	wake    chan struct{} // a token: somebody waits for a snapshot
	back    atomic.Bool   // the bucket has been away, and answers again
	archive archive
	stall   stall // of claims and cuts

	// Of the goroutine that cuts.
	base    snapshot.Manifest // the local snapshot, as published; zero if there is none
	records uint64            // that the log had appended at the last cut
	changed bool              // the log may have moved since base although records has not
	sweepAt time.Time

	mu      sync.Mutex
	waiting []chan result // guarded by mu
	ended   error         // why there are no more snapshots; guarded by mu
	status  Status        // guarded by mu
	newest  newest        // guarded by mu
	claimed bool          // guarded by mu
}

// newest is the last snapshot published, by this process or one before.
type newest struct {
	manifest snapshot.Manifest
	known    bool
}

type result struct {
	status Status
	err    error
}

// ErrStopped says that the node stops before the snapshot is there.
var ErrStopped = errors.New("the node is stopping")

// New returns a Keeper. It does nothing before Run.
func New(o Options) *Keeper {
	o = o.withDefaults()
	k := &Keeper{o: o, folder: folder{o.FS, o.Dir}, wake: make(chan struct{}, 1), changed: true}
	k.archive.init()
	if o.Base != nil && o.Base.Local {
		k.base = o.Base.Manifest
		k.newest = newest{o.Base.Manifest, true}
	}
	k.sweepAt = o.Now().Add(jitter(sweepEvery))
	k.status.Phase = phaseIdle
	return k
}

// jitter is d, give or take a fifth: nodes that were started together shall not
// write together.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// Run claims the node's snapshots in the bucket, cuts and archives until ctx ends
// or another process takes this node's place. What fails is tried again.
func (k *Keeper) Run(ctx context.Context) {
	defer k.end(ErrStopped)
	if err := k.tidy(); err != nil {
		k.o.Logger.Warn("what is left of old snapshots cannot be removed", "dir", k.o.Dir, "err", err)
	}
	if !k.claim(ctx) {
		return
	}
	var work sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	defer work.Wait()
	defer stop()
	work.Go(func() {
		defer stop()
		k.runArchive(ctx)
	})
	k.runCuts(ctx)
	stop()
	work.Wait()
	k.farewell()
}

// lastWord bounds how long a node that stops sends what is left of its log.
const lastWord = 3 * time.Second

// farewell archives what is left when the node stops: it may be for good. It does not wait
// for a bucket that is away already.
func (k *Keeper) farewell() {
	if lag, failing := k.archive.lag(k.o); lag < 0 || failing != nil || k.Status().Fenced {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastWord)
	defer cancel()
	if err := k.vouch(ctx); err != nil {
		k.o.Logger.Warn("not all of the log is in the bucket; it is on this node's disk", "err", err)
	}
}

// tidy removes what no manifest names.
func (k *Keeper) tidy() error {
	if k.base.Sequence == 0 {
		return nil // What could not be used is for people to look at until a new one is there.
	}
	return k.folder.clean(&k.base)
}

// end tells everybody who waits, now and later, that there are no more snapshots.
// Only the first reason counts; it says whether this is it.
func (k *Keeper) end(err error) (first bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if first = k.ended == nil; first {
		k.ended = err
	}
	for _, w := range k.waiting {
		w <- result{err: k.ended}
	}
	k.waiting = nil
	return first
}

// final says whether there is no use in trying again, and ends it all then. Cuts and
// archive may both find it out: the node is told once.
func (k *Keeper) final(err error) bool {
	var fenced *snapshot.FencedError
	if !errors.As(err, &fenced) {
		return false
	}
	if !k.end(fmt.Errorf("another process has taken this node's place: %w", err)) {
		return true
	}
	k.o.Logger.Error("this process publishes no more snapshots", "err", err)
	k.o.Lost(err)
	return true
}

// claim makes this incarnation the one that may write, trying until it is; false
// if it never will.
func (k *Keeper) claim(ctx context.Context) bool {
	for pause := k.o.Retry; ; pause = min(2*pause, lastRetry) {
		err := k.tryClaim(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() != nil || k.final(err) {
			return false
		}
		k.failed("claim the node's snapshots", err)
		if k.sleep(ctx, jitter(pause)); ctx.Err() != nil {
			return false
		}
	}
}

func (k *Keeper) tryClaim(ctx context.Context) error {
	k.stall.ask(k.o.Now(), 0)
	defer k.stall.rest()
	h, err := k.o.Store.Claim(ctx, k.o.Cluster, k.o.Incarnation)
	if err != nil {
		return err
	}
	// Where the clock has stepped back over the restart, writes get versions of moments
	// that the process before has vouched for.
	if began := k.o.Engine.Began(); h.Complete.At >= began {
		if err := k.o.Store.Retract(ctx, began-1); err != nil {
			return err
		}
	}
	current, err := k.current(ctx)
	if err != nil {
		return fmt.Errorf("the newest snapshot: %w", err)
	}
	if err := k.archive.resume(h, current, k.base, k.o.Log); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if current.Sequence > 0 {
		k.newest = newest{current, true}
	}
	k.claimed = true
	k.status.fail("", nil, time.Time{})
	return nil
}

// current returns the newest manifest in the bucket; the zero one if there is none, or
// none that can be used: then the next snapshot shares nothing with it.
func (k *Keeper) current(ctx context.Context) (snapshot.Manifest, error) {
	m, err := k.o.Store.Current(ctx)
	var (
		corrupt *snapshot.CorruptionError
		format  *snapshot.FormatError
	)
	switch {
	case errors.Is(err, snapshot.ErrNoSnapshot):
		return snapshot.Manifest{}, nil
	case errors.Is(err, snapshot.ErrMissing), errors.As(err, &corrupt), errors.As(err, &format):
		k.o.Logger.Error("the newest snapshot in the bucket is damaged; the next one shares nothing with it", "err", err)
		return snapshot.Manifest{}, nil
	}
	return m, err
}

// sleep waits for d, or for a token of wake.
func (k *Keeper) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-k.wake:
	case <-ctx.Done():
	}
}

// runCuts takes a snapshot when it is time to.
func (k *Keeper) runCuts(ctx context.Context) {
	due := k.firstDue()
	var retryAt time.Time
	pause := k.o.Retry
	for ctx.Err() == nil {
		asked := k.takeWaiting()
		now := k.o.Now()
		if k.back.Swap(false) && !retryAt.IsZero() {
			retryAt, pause = now, k.o.Retry
		}
		// One that failed is tried again whoever had wanted it, or its failure would stand
		// in the status until the next one is due.
		wanted := !retryAt.IsZero() && !now.Before(retryAt) || retryAt.IsZero() && k.triggered(due, now)
		if len(asked) == 0 && !wanted {
			k.sleep(ctx, k.o.Pace)
			continue
		}
		_, err := k.cut(ctx)
		if err == nil && len(asked) > 0 {
			k.say(ctx)
		}
		if err == nil {
			due, pause, retryAt = now.Add(jitter(k.o.Interval)), k.o.Retry, time.Time{}
		} else {
			if ctx.Err() == nil {
				k.failed("snapshot", err)
			}
			retryAt, pause = k.o.Now().Add(jitter(pause)), min(2*pause, lastRetry)
		}
		for _, w := range asked {
			w <- result{k.Status(), err}
		}
		if k.final(err) {
			return
		}
		k.sweep(ctx)
	}
}

// say has the bucket know that it has everything as of now. A snapshot that nobody
// needed, as nothing has changed, would else leave no trace.
func (k *Keeper) say(ctx context.Context) {
	if err := k.vouch(ctx); err != nil && ctx.Err() == nil {
		k.o.Logger.Warn("cannot note that the archive is complete; a restore may call that a gap", "err", err)
	}
}

// reached notes that the bucket answers again: a snapshot that has failed need not wait
// for the end of its pause.
func (k *Keeper) reached() {
	k.back.Store(true)
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// firstDue is when the first snapshot is due by time: soon if the node has none of
// its own, which is when a lost disk costs most.
func (k *Keeper) firstDue() time.Time {
	if k.base.Sequence == 0 {
		return k.o.Now().Add(min(k.o.Interval, jitter(10*time.Second)))
	}
	age := k.o.Now().Sub(time.UnixMilli(k.base.Created))
	return k.o.Now().Add(jitter(k.o.Interval) - max(0, min(age, k.o.Interval)))
}

// triggered says whether a snapshot is wanted that nobody asked for.
func (k *Keeper) triggered(due, now time.Time) bool {
	switch {
	case k.o.Interval > 0 && !now.Before(due):
	case k.o.LogBytes > 0 && k.uncovered() >= k.o.LogBytes:
	case k.archive.crowded():
	case k.cramped():
	default:
		return false
	}
	return true
}

// cramped says that the log has filled the disk, and would be shorter after a snapshot.
func (k *Keeper) cramped() bool { return k.o.Log.Full() && k.o.Log.Stats().Segments > 1 }

// uncovered is how much log the newest snapshot does not have.
func (k *Keeper) uncovered() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	covered := k.o.Log.Start()
	if k.newest.known {
		covered = max(covered, wal.LSN(k.newest.manifest.LedgerLSN))
	}
	return max(0, int64(k.o.Log.Appended())-int64(covered))
}

func (k *Keeper) takeWaiting() []chan result {
	k.mu.Lock()
	defer k.mu.Unlock()
	asked := k.waiting
	k.waiting = nil
	return asked
}

// Snapshot takes a snapshot now, and returns when it has been published and holds
// everything that was acknowledged before the call. If nothing has changed since
// the last one, that is it.
func (k *Keeper) Snapshot(ctx context.Context) (Status, error) {
	done := make(chan result, 1)
	k.mu.Lock()
	if k.ended != nil {
		defer k.mu.Unlock()
		return Status{}, k.ended
	}
	if !k.claimed {
		defer k.mu.Unlock()
		if k.status.err != nil {
			return Status{}, k.status.err
		}
		return Status{}, snapshot.ErrNotClaimed
	}
	k.waiting = append(k.waiting, done)
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
	select {
	case r := <-done:
		return r.status, r.err
	case <-ctx.Done():
		return Status{}, ctx.Err()
	}
}

func (k *Keeper) failed(what string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.status.fail(what, err, k.o.Now()) {
		k.o.Logger.Warn("no new snapshot; it is tried again", "step", what, "err", err)
	}
}

// sweep removes, seldom, what nothing refers to.
func (k *Keeper) sweep(ctx context.Context) {
	now := k.o.Now()
	if now.Before(k.sweepAt) || ctx.Err() != nil {
		return
	}
	k.sweepAt = now.Add(jitter(sweepEvery))
	r, err := k.o.Store.Sweep(ctx, snapshot.SweepOptions{Now: now, Grace: sweepEvery})
	if err != nil {
		k.o.Logger.Warn("cannot look for what nothing refers to in the bucket", "err", err)
		return
	}
	k.o.Logger.Info("looked for what nothing refers to in the bucket", "objects", r.Seen, "deleted", len(r.Deleted))
}
