package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
)

// maxBatch bounds how many changes share one swap of the document.
const maxBatch = 256

// updateTimeout bounds one swap, retries included. A bucket that does not answer
// for this long is reported to whoever asked; members wait a little longer for that.
const updateTimeout = 4 * time.Second

// errNotNow marks a change that was not made, for a reason that may pass.
var errNotNow = errors.New("the cluster document cannot be changed now")

// transition makes a document of another: see package cluster. It is pure, and is
// called again where the swap is tried again.
type transition func(cluster.Document) (cluster.Document, error)

// update is one change that somebody waits for. Its results belong to the goroutine
// of runUpdates until done is closed.
type update struct {
	apply transition
	lazy  bool // may wait for company, see lazyGap
	first bool // goes before the others of its batch
	err   error
	doc   cluster.Document
	done  chan struct{}
}

// change applies a transition to the document and returns when it is in the bucket,
// or the reason why it is not: the transition's own error, one that wraps errNotNow,
// or one that wraps [cluster.ErrInDoubt]. After the last the change may have
// happened, or may still happen, so nobody may be told that it has not.
func (m *Manager) change(ctx context.Context, apply transition) (cluster.Document, error) {
	return m.submit(ctx, &update{apply: apply, done: make(chan struct{})})
}

// lazyGap is how long a change that nobody's requests wait for may wait for another
// that shares its swap: every swap is read by every node.
const lazyGap = 50 * time.Millisecond

// changeFirst is change for giving up on a node: were a commit to that node in the same
// swap and before it, its source would let go of what it still has.
func (m *Manager) changeFirst(ctx context.Context, apply transition) (cluster.Document, error) {
	return m.submit(ctx, &update{apply: apply, first: true, done: make(chan struct{})})
}

// changeSoon is change for what is not urgent.
func (m *Manager) changeSoon(ctx context.Context, apply transition) (cluster.Document, error) {
	return m.submit(ctx, &update{apply: apply, lazy: true, done: make(chan struct{})})
}

func (m *Manager) submit(ctx context.Context, u *update) (cluster.Document, error) {
	select {
	case m.updates <- u:
	case <-ctx.Done():
		return cluster.Document{}, fmt.Errorf("%w: the manager is stopping", errNotNow)
	}
	select {
	case <-u.done:
		return u.doc, u.err
	case <-ctx.Done():
		return cluster.Document{}, fmt.Errorf("%w: the manager is stopping", cluster.ErrInDoubt)
	}
}

// runUpdates makes one swap out of all the changes that are waiting: the commits
// of several moves cost one round trip to the bucket, not one each.
func (m *Manager) runUpdates(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-m.updates:
			m.finish(ctx, m.gather(m.company(ctx, first)))
		}
	}
}

// company waits with a lazy update until one comes that is not, or its time is up.
func (m *Manager) company(ctx context.Context, first *update) []*update {
	batch := []*update{first}
	if !first.lazy {
		return batch
	}
	timer := time.NewTimer(lazyGap)
	defer timer.Stop()
	for len(batch) < maxBatch {
		select {
		case u := <-m.updates:
			if batch = append(batch, u); !u.lazy {
				return batch
			}
		case <-timer.C:
			return batch
		case <-ctx.Done():
			return batch
		}
	}
	return batch
}

// gather adds what waits already.
func (m *Manager) gather(batch []*update) []*update {
	for len(batch) < maxBatch {
		select {
		case u := <-m.updates:
			batch = append(batch, u)
		default:
			return batch
		}
	}
	return batch
}

// finish makes the changes and tells those who wait for them.
func (m *Manager) finish(ctx context.Context, batch []*update) {
	d, err := m.swap(ctx, batch)
	if len(batch) > 1 && unwritable(err) {
		// One of them makes a document that cannot be written. The others are not to
		// fail with it.
		for _, u := range batch {
			m.finish(ctx, []*update{u})
		}
		return
	}
	for _, u := range batch {
		if u.doc = d; err != nil {
			u.err = err
		}
		close(u.done)
	}
}

// swap makes all changes of a batch in one swap. Each has its own error; that of
// swap concerns all of them.
func (m *Manager) swap(ctx context.Context, batch []*update) (cluster.Document, error) {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	slices.SortStableFunc(batch, func(a, b *update) int {
		switch {
		case a.first == b.first:
			return 0
		case a.first:
			return -1
		}
		return 1
	})
	if err := m.seams.Points.Hit(pointSwap); err != nil {
		return cluster.Document{}, fmt.Errorf("%w: %w", errNotNow, err)
	}
	d, err := m.store.Update(ctx, func(d cluster.Document) (cluster.Document, error) {
		for _, u := range batch {
			next, err := u.apply(d)
			if u.err = err; err == nil {
				d = next
			}
		}
		return d, nil
	})
	switch {
	case err == nil:
		if err := m.seams.Points.Hit(pointSwapped); err != nil {
			return d, fmt.Errorf("%w: %w", cluster.ErrInDoubt, err) // as if the answer had been lost
		}
		m.learn(d)
		return d, nil
	case errors.Is(err, cluster.ErrInDoubt), unwritable(err):
		return d, fmt.Errorf("change the cluster document: %w", err)
	default:
		return d, fmt.Errorf("%w: %w", errNotNow, err)
	}
}

// unwritable says whether a document was refused before anything was written. (One
// that cannot be read is refused in the same words.)
func unwritable(err error) bool {
	return (errors.Is(err, cluster.ErrLimit) || errors.As(err, new(*cluster.FormatError))) && !errors.Is(err, cluster.ErrInDoubt)
}
