package node

import (
	"sync"
	"sync/atomic"

	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// view is the cluster as this node last read it: one immutable value, replaced
// whole, so that a reply never mixes two topologies.
type view struct {
	// why says why no key is served; empty when the node serves.
	why string
	// counter is that of the document; 0 before one was read.
	counter  uint64
	topology ring.Topology
	owners   *ring.Map
	text     []byte // the topology as TOPOLOGY answers it
}

// state is what connections answer from. The zero value serves nothing.
type state struct {
	store   atomic.Pointer[store]
	current atomic.Pointer[view] // written by publish and stop
	mu      sync.Mutex
	stopped bool // current is the last; guarded by mu

	// settling is held while the engine is made to follow a view that is published
	// already, and shared by requests that go over all keys (SCAN, DBSIZE). So what
	// the published topology gives this node is served or held when they look, never
	// passed over as not its own; clients that walk a moving ring rely on that.
	settling sync.RWMutex
}

// store is the engine and its log, once the log has been read.
type store struct {
	engine *engine.Engine
	log    *wal.Log
}

// publish replaces the view, unless the node has stopped serving.
func (s *state) publish(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.current.Store(v)
	}
}

// stop publishes the last view: nothing is served any more.
func (s *state) stop(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.current.Store(&view{why: why})
}

// view never returns nil.
func (s *state) view() *view {
	if v := s.current.Load(); v != nil {
		return v
	}
	return &view{why: "the node is starting"}
}

// serving returns the store if data commands may use it, else why not.
func (s *state) serving() (*store, string) {
	if why := s.view().why; why != "" {
		return nil, why
	}
	return s.store.Load(), ""
}
