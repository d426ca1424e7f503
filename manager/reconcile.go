package manager

import (
	"context"
	"sync"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
)

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// reconcile compares the document with what has been asked for, and asks for the
// rest, each time something has changed and now and then. It keeps no memory that
// a restart would miss: a move that is asked for twice runs once. It only leaves
// word with the links, and so waits for nobody.
func (m *Manager) reconcile(ctx context.Context) {
	tick := time.NewTicker(m.config.Poll)
	defer tick.Stop()
	r := reconciler{m: m, links: make(map[string]*link)}
	defer r.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.plan:
		case <-tick.C:
		}
		_ = m.seams.Points.Hit(pointReconcile)
		r.step(ctx, m.document())
	}
}

// reconciler belongs to the goroutine of reconcile.
type reconciler struct {
	m       *Manager
	links   map[string]*link // by address, one for each member
	running sync.WaitGroup   // every link, those that were stopped included
	asked   map[cluster.MoveID]bool
}

// step hands every member's link what it should pass on, and ends the links of
// those that have gone.
func (r *reconciler) step(ctx context.Context, d cluster.Document) {
	r.m.nodes.keep(d)
	chosen := schedule(d, r.asked, r.m.nodes.up, r.m.config.MovesPerNode)
	r.asked = make(map[cluster.MoveID]bool, len(chosen))
	bySource := make(map[string][]cluster.Move)
	for _, move := range chosen {
		r.asked[move.ID] = true
		bySource[move.Source] = append(bySource[move.Source], move)
	}
	gone := r.links
	r.links = make(map[string]*link, len(d.Nodes))
	for _, n := range d.Nodes {
		l, ok := gone[n.Address]
		if !ok {
			l = r.start(ctx, n.Address)
		}
		delete(gone, n.Address)
		r.links[n.Address] = l
		l.want(d.Counter, bySource[n.Address])
	}
	for _, l := range gone {
		l.stop()
	}
}

func (r *reconciler) start(ctx context.Context, address string) *link {
	l := &link{m: r.m, address: address, wake: newBell()}
	ctx, l.stop = context.WithCancel(ctx)
	r.running.Go(func() { l.run(ctx) })
	return l
}

// close ends all links and waits for them.
func (r *reconciler) close() {
	for _, l := range r.links {
		l.stop()
	}
	r.running.Wait()
}
