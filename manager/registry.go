package manager

import (
	"maps"
	"sync"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/member"
)

// rateOver is the least time over which a rate is taken: heartbeats also come close
// together, when a node has something to report.
const rateOver = 500 * time.Millisecond

// registry remembers the last heartbeat of each member. It is a picture for people
// and a hint for the scheduler; nothing is decided by it that could lose data.
type registry struct {
	timeout time.Duration
	now     func() time.Time
	started time.Time

	mu    sync.Mutex
	views map[string]view // by address; guarded by mu
}

// view is what a node said last, and how fast it is going.
type view struct {
	member.Heartbeat
	at        time.Time
	opsPerSec float64
	// since and opsThen are where the next rate is counted from.
	since   time.Time
	opsThen int64
}

func newRegistry(timeout time.Duration, now func() time.Time) *registry {
	return &registry{timeout: timeout, now: now, started: now(), views: make(map[string]view)}
}

// note takes in the heartbeat of a member and says whether it is news: the first
// after a silence. What an older incarnation says, as a paused process does when it
// wakes, is ignored, and so is a stranger who uses the address.
func (r *registry) note(h member.Heartbeat, m cluster.Member) (news bool) {
	if h.Address != m.Address || h.ID != m.ID || h.Incarnation < m.Incarnation {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	old, known := r.views[h.Address]
	if known = known && old.ID == h.ID; known && old.Incarnation > h.Incarnation {
		return false
	}
	v := view{Heartbeat: h, at: now, since: now, opsThen: h.Ops}
	if known && old.Incarnation == h.Incarnation && h.Ops >= old.opsThen {
		v.since, v.opsThen, v.opsPerSec = old.since, old.opsThen, old.opsPerSec
		if passed := now.Sub(old.since); passed >= rateOver {
			v.opsPerSec = float64(h.Ops-old.opsThen) / passed.Seconds()
			v.since, v.opsThen = now, h.Ops
		}
	}
	r.views[h.Address] = v
	return !known || old.Incarnation != h.Incarnation || now.Sub(old.at) >= r.timeout
}

// keep forgets whom the document does not name any more.
func (r *registry) keep(d cluster.Document) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.views, func(address string, v view) bool {
		m, ok := d.Member(address)
		return !ok || m.ID != v.ID
	})
}

// up says whether the node was heard of lately. A manager that has just started
// has heard of nobody: until a heartbeat could have come it takes them to be up.
func (r *registry) up(address string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.views[address]; ok {
		return r.now().Sub(v.at) < r.timeout
	}
	return r.now().Sub(r.started) < r.timeout
}

// heardOf says whether this very member was heard of lately.
func (r *registry) heardOf(m cluster.Member) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.views[m.Address]
	return ok && v.ID == m.ID && r.now().Sub(v.at) < r.timeout
}

// all returns a copy of what is known, by address.
func (r *registry) all() map[string]view {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.views)
}
