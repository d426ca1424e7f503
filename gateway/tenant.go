package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/ring"
)

// tenants are the clients that the Redis door asks nodes with: one for each token, whose
// connections begin with it, so that a node does for the door what it would do for who
// has shown it, and no more. The connections that have shown the same token share it.
type tenants struct {
	gw *Gateway

	mu      sync.Mutex
	by      map[[sha256.Size]byte]*tenant // guarded by mu
	closing sync.WaitGroup                // of clients that nobody uses any more
}

// tenant is one of them.
type tenant struct {
	of    *tenants
	name  [sha256.Size]byte
	token string
	users int // guarded by of.mu

	mu     sync.Mutex
	db     *client.Client // nil until it is needed; guarded by mu
	closed bool           // guarded by mu
}

// enter gives a connection the client of its token. leave gives it back.
func (t *tenants) enter(token []byte) *tenant {
	name := sha256.Sum256(token)
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.by[name]
	if one == nil {
		one = &tenant{of: t, name: name, token: string(token)}
		if t.by == nil {
			t.by = make(map[[sha256.Size]byte]*tenant)
		}
		t.by[name] = one
	}
	one.users++
	return one
}

// leave gives it back. The last one to leave closes the client, without waiting for it.
func (t *tenant) leave() {
	if t == nil {
		return
	}
	all := t.of
	all.mu.Lock()
	t.users--
	last := t.users == 0
	if last {
		delete(all.by, t.name)
		all.closing.Add(1)
	}
	all.mu.Unlock()
	if last {
		go func() {
			defer all.closing.Done()
			t.close()
		}()
	}
}

func (t *tenant) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.db != nil {
		_ = t.db.Close() // it has no news for anyone
		t.db = nil
	}
}

// client is opened when it is first needed. That asks nobody: it begins with the topology
// that the gateway has.
func (t *tenant) client(ctx context.Context) (*client.Client, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.db != nil || t.closed {
		return t.db, nil
	}
	db, err := client.Open(ctx, nil, append(t.of.gw.source.options(),
		client.WithSource(t.of.gw.source.newest),
		client.WithToken(func(context.Context) (string, error) { return t.token, nil }))...)
	if err != nil {
		return nil, err
	}
	t.db = db
	return db, nil
}

func (t *tenants) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.by)
}

var errNoCluster = errors.New("gateway: the cluster is not known yet")

// newest is the topology that the gateway uses, for its tenants.
func (s *source) newest(context.Context) (ring.Topology, error) {
	if db := s.db.Load(); db != nil {
		return db.Topology(), nil
	}
	return ring.Topology{}, errNoCluster
}
