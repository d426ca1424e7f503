package gateway

import (
	"sync"

	"github.com/quoitdb/quoit/internal/inbox"
)

// streamBuffer is how far a buffer grows for a peer that keeps it full.
const streamBuffer = 64 << 10

// tab is a part of a budget that several goroutines add to until it is settled:
// the answers of one batch. What comes later is refused and not counted.
type tab struct {
	of *inbox.Budget

	mu      sync.Mutex
	held    int64 // guarded by mu
	settled bool  // guarded by mu
}

func (t *tab) add(bytes int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.settled || !t.of.Take(int64(bytes)) {
		return false
	}
	t.held += int64(bytes)
	return true
}

// settle gives all of it back, for good.
func (t *tab) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of.Give(t.held)
	t.held, t.settled = 0, true
}
