package manager

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
)

const (
	// readTimeout bounds one reading of the document.
	readTimeout = 5 * time.Second
	// readGap keeps readings apart that heartbeats ask for.
	readGap = 10 * time.Millisecond
)

// picture is a document and what is answered from it again and again.
type picture struct {
	cluster.Document
	topology func() ([]byte, error) // as text; made when it is first asked for
}

func newPicture(d cluster.Document) *picture {
	return &picture{d, sync.OnceValues(func() ([]byte, error) { return d.Topology().MarshalText() })}
}

// document is the newest document that this manager has seen.
func (m *Manager) document() cluster.Document { return m.known.Load().Document }

// learn remembers a document unless a newer one is known, and has all parts look
// at it.
func (m *Manager) learn(d cluster.Document) {
	next := newPicture(d)
	for {
		old := m.known.Load()
		if old.Counter >= d.Counter {
			return
		}
		if m.known.CompareAndSwap(old, next) {
			m.plan.ring()
			m.doors.ring()
			m.seams.Learned(d.Counter)
			return
		}
	}
}

// follow reads the document now and then: nodes and other managers change it too.
func (m *Manager) follow(ctx context.Context) {
	tick := time.NewTicker(m.config.Poll)
	defer tick.Stop()
	for sleep(ctx, readGap) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-m.read:
		}
		m.look(ctx)
	}
}

// look reads the document once. What is known goes on to be served when it fails.
func (m *Manager) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	d, _, err := m.store.Load(ctx)
	if err == nil {
		m.trouble.Store(nil)
		m.learn(d)
		return
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return // it stops
	}
	if m.trouble.Swap(&err) == nil {
		m.log.Warn("cannot read the cluster document; serving what is known", "error", err)
	}
}

// ready returns why the manager cannot do anything at present, nil if it can.
func (m *Manager) ready() error {
	if trouble := m.trouble.Load(); trouble != nil {
		return errors.New("cannot read the cluster document: " + reason(*trouble))
	}
	if m.document().Counter == 0 {
		return errors.New("the manager is starting")
	}
	return nil
}
