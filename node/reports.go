package node

import (
	"slices"
	"sync"

	"github.com/quoitdb/quoit/internal/cluster"
)

// reports are what the manager has still to be told: which ends of committed moves
// are done. Each document says anew what is missing, so that a report that got lost
// is made again.
type reports struct {
	added chan struct{} // holds one token while there is something new

	mu              sync.Mutex
	dropped, active []cluster.MoveID // sources that have dropped, targets that serve; guarded by mu
}

func newReports() *reports { return &reports{added: make(chan struct{}, 1)} }

// replace sets what the newest document still asks for.
func (r *reports) replace(d cluster.Decision) {
	r.mu.Lock()
	r.dropped, r.active = slices.Clone(d.Dropped), slices.Clone(d.Active)
	r.mu.Unlock()
	if len(d.Dropped)+len(d.Active) > 0 {
		r.hurry()
	}
}

// hurry has the manager told now, and not with the next heartbeat.
func (r *reports) hurry() {
	select {
	case r.added <- struct{}{}:
	default:
	}
}

// pending returns copies.
func (r *reports) pending() (dropped, active []cluster.MoveID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.dropped), slices.Clone(r.active)
}

// delivered takes off the list what the manager has been told.
func (r *reports) delivered(moves []cluster.MoveID, active bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	told := func(id cluster.MoveID) bool { return slices.Contains(moves, id) }
	if active {
		r.active = slices.DeleteFunc(r.active, told)
	} else {
		r.dropped = slices.DeleteFunc(r.dropped, told)
	}
}
