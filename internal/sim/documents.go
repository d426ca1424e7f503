package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
)

// documents follows the cluster's document in the bucket itself, past all faults.
type documents struct {
	w     *World
	store *cluster.Store

	mu   sync.Mutex
	last cluster.Document // guarded by mu
}

// look compares the document with the one before, and counts what moves have become of.
func (d *documents) look() {
	now, _, err := d.store.Load(context.Background())
	if errors.Is(err, cluster.ErrNoDocument) {
		return
	}
	if err != nil {
		d.w.fail("the document cannot be read: %v", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Counter <= d.last.Counter {
		return
	}
	was := map[cluster.MoveID]cluster.Move{}
	for _, m := range d.last.Moves {
		was[m.ID] = m
	}
	for _, m := range now.Moves {
		before, known := was[m.ID]
		if !known {
			d.w.trace.count("move planned", 1)
		}
		if m.Phase == cluster.Committed && before.Phase != cluster.Committed {
			d.w.trace.count("move committed", 1)
		}
		delete(was, m.ID)
	}
	for _, m := range was {
		if m.Phase == cluster.Planned {
			d.w.trace.count("move aborted", 1)
		}
	}
	d.w.trace.note("document", fmt.Sprintf("%d, epoch %s, %d moves", now.Counter, now.Epoch, len(now.Moves)), nil)
	d.last = now
	if d.w.loss != nil {
		d.w.loss.notice(now)
	}
}

// patience is how much virtual time a cluster without faults may take to finish what it
// has begun.
const patience = 2 * time.Minute

// settle waits until the cluster has nothing left to do: every move has ended, every
// member has come back, and all keys can be read.
func (w *World) settle(when string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	why := errors.New("nobody looked")
	for sleep(ctx, 20*time.Millisecond) {
		if why = w.unsettled(ctx); why == nil {
			return true
		}
	}
	w.fail("liveness: %s the cluster does not come to rest within %s: %v", when, patience, why)
	return false
}

func known(d cluster.Document, addr string) bool {
	_, ok := d.Member(addr)
	return ok
}

func (w *World) unsettled(ctx context.Context) error {
	d, _, err := w.watcher.store.Load(ctx)
	if err != nil {
		return err
	}
	for _, m := range d.Moves {
		return fmt.Errorf("move %s of %v from %s to %s is %s", m.ID, m.Range, m.Source, m.Target, m.Phase)
	}
	for _, m := range d.Nodes {
		if m.State == cluster.Leaving {
			return fmt.Errorf("%s is still leaving", m.Address)
		}
	}
	for _, m := range w.nodes {
		if m.running() == nil {
			return fmt.Errorf("%s does not run", m.host)
		}
		// Of a node that has left, the document says nothing that would end anybody.
		if p := m.formerRunning(); p != nil && known(d, m.addr) {
			return fmt.Errorf("%s goes on, and its successor has started", p.name)
		}
	}
	return nil
}
