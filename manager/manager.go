package manager

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/internal/admin"
	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/contain"
	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/internal/seldom"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// Seams are the edges of a manager that tests replace; the zero value is the
// machine it runs on.
type Seams struct {
	Listener      net.Listener  // instead of listening on Config.Addr
	AdminListener net.Listener  // instead of listening on Config.AdminAddr
	Bucket        bucket.Bucket // instead of opening Config.Bucket; not closed by the manager
	Dial          peer.Dialer   // to the nodes
	Points        *failpoint.Set
	Logger        *slog.Logger
	// Ready is called once, with the address, when the manager answers.
	Ready func(address string)
	// Learned is called, in any goroutine, with the counter of each document that has
	// become the newest one this manager answers from.
	Learned func(counter uint64)
	// TrustBucket skips the proof of compare-and-swap at the start.
	TrustBucket bool
}

// Manager is a running manager. Make and run one with [Run].
type Manager struct {
	config Config
	seams  Seams
	log    *slog.Logger
	store  *cluster.Store
	nodes  *registry
	guard  *auth.Guard
	trust  *auth.Trust

	distrusted atomic.Uint64 // connections that were not believed
	distrust   seldom.Line

	updates chan *update
	read    bell // the document is newer than the one known here
	plan    bell // the reconciler has something to look at
	doors   bell // a node may be let into the ring

	known   atomic.Pointer[picture] // the newest document that this manager has seen
	panics  contain.Panics
	trouble atomic.Pointer[error] // why the document could not be read the last time; nil: it could
}

// bell wakes one goroutine; rung twice before that looks, it wakes it once.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// Run is a manager from start to end: it proves the bucket, loads or founds the
// cluster, and serves until ctx ends. It returns nil after a stop that was asked for.
func Run(ctx context.Context, c Config, s Seams) (err error) {
	if err := c.Validate(); err != nil {
		return err
	}
	m := newManager(c, s)
	if err := m.openTrust(); err != nil {
		return err
	}
	// A port in use is the likeliest mistake: it is found before anything is written.
	listener, err := listen(s.Listener, c.Addr)
	if err != nil {
		return err
	}
	listener = m.trust.Listener(listener)
	defer func() { _ = listener.Close() }() // most often the second time
	b, err := m.openBucket(ctx)
	if err != nil {
		return err
	}
	if s.Bucket == nil {
		defer func() { err = errors.Join(err, b.Close()) }()
	}
	stopAdmin, err := m.startAdmin()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopAdmin()) }()
	if err := m.begin(ctx, b); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return m.serve(ctx, listener)
}

func newManager(c Config, s Seams) *Manager {
	if s.Dial == nil {
		s.Dial = peer.TCP
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Learned == nil {
		s.Learned = func(uint64) {}
	}
	m := &Manager{
		config: c, seams: s, log: s.Logger,
		nodes:   newRegistry(c.NodeTimeout, time.Now),
		updates: make(chan *update),
		read:    newBell(), plan: newBell(), doors: newBell(),
	}
	m.guard, m.trust = auth.NewGuard("manager", nil, m.log), &auth.Trust{} // before openTrust: nobody is asked
	m.known.Store(newPicture(cluster.Document{}))
	return m
}

// openTrust loads what tokens and members are believed by.
func (m *Manager) openTrust() error {
	keys, wrongKeys := m.config.Auth.LoadKeys()
	m.guard = auth.NewGuard("manager", keys, m.log)
	var wrongTLS error
	m.trust, wrongTLS = auth.NewTrust(&m.config.Auth, m.config.TLS, auth.TrustOptions{
		Role: auth.RoleManager, Name: memberName, Dial: m.seams.Dial, Logger: m.log,
	})
	return errors.Join(wrongKeys, wrongTLS)
}

func listen(l net.Listener, addr string) (net.Listener, error) {
	if l != nil {
		return l, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen (QUOIT_MANAGER_ADDR): %w", err)
	}
	return l, nil
}

func (m *Manager) openBucket(ctx context.Context) (bucket.Bucket, error) {
	if m.seams.Bucket != nil {
		return m.seams.Bucket, nil
	}
	b, err := bucket.Open(ctx, m.config.Bucket)
	if err != nil {
		return nil, fmt.Errorf("QUOIT_BUCKET: %w", err)
	}
	return b, nil
}

// begin makes sure of the bucket and of the document in it. A bucket that is away
// is waited for; one that cannot be trusted, or a document that cannot be read, is
// not.
func (m *Manager) begin(ctx context.Context, b bucket.Bucket) error {
	m.store = cluster.NewStore(b, cluster.StoreOptions{})
	if !m.seams.TrustBucket {
		// Everything else rests on compare-and-swap.
		if err := m.persist(ctx, func() error { return bucket.Probe(ctx, b) }); err != nil {
			return err
		}
	}
	return m.persist(ctx, func() error { return m.found(ctx) })
}

// persist calls do until it succeeds, or fails for a reason that will not pass.
func (m *Manager) persist(ctx context.Context, do func() error) error {
	for pause := minBackoff; ; pause = min(2*pause, maxBackoff) {
		err := do()
		if !errors.Is(err, bucket.ErrUnavailable) && !errors.Is(err, bucket.ErrInDoubt) || errors.As(err, new(*bucket.ProbeError)) {
			return err
		}
		m.trouble.Store(&err)
		m.log.Warn("the bucket does not answer yet", "error", err)
		if !sleep(ctx, pause) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// found loads the cluster document, or writes the first one.
func (m *Manager) found(ctx context.Context) error {
	d, _, err := m.store.Load(ctx)
	if errors.Is(err, cluster.ErrNoDocument) {
		var first cluster.Document
		if first, err = cluster.New(newClusterID()); err != nil {
			return err
		}
		if err = m.seams.Points.Hit(pointFound); err != nil {
			return err
		}
		if d, err = m.store.Create(ctx, first); err == nil {
			m.log.Info("founded a cluster", "cluster", d.Cluster)
			err = m.seams.Points.Hit(pointFounded)
		}
		if errors.Is(err, cluster.ErrExists) {
			err = nil // another manager was faster, and its document is as good
		}
	}
	if err != nil {
		return fmt.Errorf("the cluster document: %w", err)
	}
	m.trouble.Store(nil)
	m.learn(d)
	return nil
}

func newClusterID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: see crypto/rand
	return "quoit-" + hex.EncodeToString(b[:])
}

// serve runs every part of the manager until ctx ends, and waits for all of them.
func (m *Manager) serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var parts sync.WaitGroup
	for _, part := range []func(context.Context){m.runUpdates, m.follow, m.admit, m.reconcile, m.guard.Follow, m.trust.Follow} {
		parts.Go(func() { part(ctx) })
	}
	if text := m.config.exposed(); text != "" {
		m.log.Warn(text)
	}
	m.log.Info("manager is ready", "address", l.Addr().String(), "cluster", m.document().Cluster)
	if m.seams.Ready != nil {
		m.seams.Ready(l.Addr().String())
	}
	s := newServer(m)
	err := s.accept(ctx, l)
	cancel()
	s.close()
	parts.Wait()
	return err
}

func (m *Manager) startAdmin() (stop func() error, err error) {
	addr := config.AdminAddr(m.config.AdminAddr, m.config.Addr)
	if addr == "" && m.seams.AdminListener == nil {
		return func() error { return nil }, nil
	}
	a, err := admin.Listen(admin.Options{Addr: addr, Listener: m.seams.AdminListener, Hosts: m.config.AdminHosts, Ready: m.ready, Metrics: m.writeMetrics})
	if err != nil {
		return nil, fmt.Errorf("QUOIT_MANAGER_ADMIN_ADDR: %w", err)
	}
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return a.Close(ctx)
	}, nil
}

// sleep waits, and says whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
