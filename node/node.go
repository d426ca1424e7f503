package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/quoitdb/quoit/internal/admin"
	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/discreet"
	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/internal/inbox"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/internal/places"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/keeper"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// Seams are what tests, and programs with several servers in one process, put in
// the place of the real thing. The zero value is production.
type Seams struct {
	Listener      net.Listener              // instead of listening on Config.Addr
	AdminListener net.Listener              // instead of listening on Config.AdminAddr
	Dial          peer.Dialer               // instead of TCP
	FS            vfs.FS                    // instead of the operating system's
	Bucket        bucket.Bucket             // instead of opening Config.Bucket; not closed by the node
	Now           func() time.Time          // instead of time.Now
	Points        *failpoint.Set            // instead of none
	Logger        *slog.Logger              // instead of slog.Default()
	NewMover      func(Host) (Mover, error) // instead of node/migrate
	Segment       int64                     // instead of Config.Log.Segment, and smaller than people may choose
	OnFatal       func(error)               // told once, before anything else, when the node must not go on
	Version       string                    // of the program, for INFO and HELLO
	OwnProcess    bool                      // the process is this node's alone: its Go heap is held to QUOIT_NODE_MAX_MEMORY, unless GOMEMLIMIT says otherwise
	Process       int                       // instead of this process's number, for INFO

	// NewGateway makes the gateway that Config.GatewayAddr asks for; without it that is
	// an error. It serves on GatewayListener if that is set.
	// GatewayTLS says that the gateway shows browsers a certificate: they dial wss.
	NewGateway      func(context.Context, GatewayHost) (Gateway, error)
	GatewayListener net.Listener
	GatewayTLS      bool
}

// Node is a running node. Make one with Start.
type Node struct {
	config    Config
	seams     Seams
	log       *slog.Logger
	clock     *clock
	memory    memory
	state     *state
	stats     *stats
	server    *server
	admin     *admin.Server // nil when there is none
	gateway   Gateway       // nil when there is none
	keys      *auth.Keys    // nil: authentication is off
	trust     *auth.Trust
	endpoints []ring.Endpoint
	folder    *folder
	bucket    bucket.Bucket
	documents *cluster.Store
	link      *link
	reports   *reports
	// toldServing is what report has last had told; of the follower's goroutine.
	toldServing bool

	// Of the goroutine that boots, until ready is closed.
	identity identity
	store    *store
	follower *follower // published under life.mu
	base     *keeper.Base
	keeper   *keeper.Keeper // published under life.mu

	snapshotStore *snapshot.Store

	life life
}

// life is how a node begins to serve, and how it ends.
type life struct {
	cancel context.CancelFunc // of the goroutines in work
	work   sync.WaitGroup
	ready  chan struct{} // closed when the first document was acted on
	failed chan struct{} // closed when the node must not go on
	ended  chan struct{} // closed when Shutdown is done
	endErr error         // of Shutdown; read after ended

	mu     sync.Mutex
	err    error // why failed is closed; guarded by mu
	closed bool  // Shutdown was called; guarded by mu
}

// Run starts a node and runs it until ctx ends; then it drains and closes. It
// returns early, with the reason, when the node must not go on: a log that can no
// longer be trusted, a document that refuses this node. The process should exit then.
func Run(ctx context.Context, c Config, s Seams) error {
	n, err := Start(ctx, c, s)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-n.life.failed:
	}
	drain, cancel := context.WithTimeout(context.Background(), c.Times.Drain)
	defer cancel()
	err = n.Shutdown(drain)
	if failure := n.Err(); failure != nil {
		return failure
	}
	return err
}

// Start checks the settings, opens the listeners, locks the data folder and
// returns; what is slow (reading the log, joining the cluster) goes on behind it.
// The error says what is wrong and what would be right. ctx bounds the start only;
// Shutdown ends the node.
func Start(ctx context.Context, c Config, s Seams) (*Node, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	n := newNode(c, s)
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.release(ctx))
	}
	if text := c.exposed(); text != "" {
		n.log.Warn(text)
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.life.cancel = cancel
	n.server.ctx = background
	n.life.work.Go(n.server.accept)
	n.life.work.Go(func() { n.server.sweep(background) })
	n.life.work.Go(func() { n.holdHeap(background) })
	if n.gateway != nil {
		n.life.work.Go(func() { n.followGateway(background) })
	}
	n.life.work.Go(func() { n.server.guard.Follow(background) })
	n.life.work.Go(func() { n.trust.Follow(background) })
	n.life.work.Go(func() {
		if err := n.boot(background); err != nil && background.Err() == nil {
			n.fail(err)
		}
	})
	return n, nil
}

func newNode(c Config, s Seams) *Node {
	if s.FS == nil {
		s.FS = vfs.OS()
	}
	if s.Dial == nil {
		s.Dial = peer.TCP
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.NewMover == nil {
		s.NewMover = newMover
	}
	s.Version = cmp.Or(s.Version, "devel")
	n := &Node{
		config: c, seams: s,
		log:    cmp.Or(s.Logger, slog.Default()),
		memory: c.Limits.divide(availableMemory()),
		clock:  newClock(s.Now), state: &state{}, stats: &stats{}, reports: newReports(),
		link: newLink(c.ManagerAddr),
		life: life{ready: make(chan struct{}), failed: make(chan struct{}), ended: make(chan struct{})},
	}
	n.state.publish(&view{why: "the node is starting"})
	return n
}

// open takes everything that can be refused at once: listeners, credentials, bucket,
// folder, identity. Nothing is written where a setting is wrong.
func (n *Node) open(ctx context.Context) error {
	address, err := n.listen()
	if err != nil {
		return err
	}
	n.log = n.log.With("node", address)
	n.server.log = n.log
	n.server.about.address = address
	n.link.dial = n.trust.Dial
	if n.bucket = n.seams.Bucket; n.bucket == nil {
		if n.bucket, err = bucket.Open(ctx, n.config.Bucket); err != nil {
			return fmt.Errorf("QUOIT_BUCKET: %w", err)
		}
	}
	n.documents = cluster.NewStore(n.bucket, cluster.StoreOptions{})
	if err := n.openGateway(ctx); err != nil {
		return err
	}
	if n.folder, err = openFolder(n.seams.FS, n.config.DataDir); err != nil {
		return err
	}
	if n.identity, err = n.folder.identify(address); err != nil {
		return err
	}
	return n.openAdmin() // shows figures of all of them
}

// listen opens the listener, with what it takes to believe who connects, and says under
// which address others know the node.
func (n *Node) listen() (address string, err error) {
	listener := n.seams.Listener
	if listener == nil {
		if listener, err = net.Listen("tcp", n.config.Addr); err != nil {
			return "", fmt.Errorf("listen (QUOIT_NODE_ADDR): %w", err)
		}
	}
	if address, err = n.config.address(listener.Addr()); err == nil {
		var wrongKeys error
		n.keys, wrongKeys = n.config.Auth.LoadKeys()
		err = errors.Join(wrongKeys, n.openTrust(address))
	}
	if err != nil {
		_ = listener.Close()
		return "", err
	}
	n.server = n.newServer(n.trust.Listener(listener))
	return address, nil
}

// openTrust loads what members are believed by, for the node of this address.
func (n *Node) openTrust(address string) (err error) {
	n.trust, err = auth.NewTrust(&n.config.Auth, n.config.TLS, auth.TrustOptions{
		Role: auth.RoleNode, Name: address, Dial: n.seams.Dial, Logger: n.log, Now: n.seams.Now,
	})
	return err
}

func (n *Node) openAdmin() (err error) {
	if n.seams.AdminListener == nil && n.config.AdminAddr == config.Off {
		return nil
	}
	n.admin, err = admin.Listen(admin.Options{
		Addr: config.AdminAddr(n.config.AdminAddr, n.Addr().String()), Listener: n.seams.AdminListener, Hosts: n.config.adminHosts(),
		Healthy: n.Err, Ready: n.Ready, Metrics: n.writeMetrics,
	})
	return err
}

func (n *Node) newServer(l net.Listener) *server {
	return &server{
		limits: n.config.limits(), times: n.config.Times, maxConns: n.config.Limits.Connections, maxWatches: n.config.Watch.Max,
		budget: inbox.Budget{Limit: n.memory.inFlight},
		clock:  n.clock, state: n.state, stats: n.stats, members: n, log: n.log,
		commands: newCommandTable(),
		about: about{
			version: n.seams.Version, manager: n.config.ManagerAddr, started: n.seams.Now(),
			fsync: n.config.Log.Fsync, process: cmp.Or(n.seams.Process, os.Getpid()), instance: strings.ToLower(rand.Text()),
		},
		guard: auth.NewGuard("node", n.keys, n.log), trust: n.trust,
		fail: n.fail, listener: l, stopping: make(chan struct{}), farewellTime: farewellTime, roster: roster{conns: make(map[uint64]*conn), from: places.Count{Most: n.config.Limits.PerAddress}, strange: places.Count{Most: places.Strangers(n.config.Limits.Connections)}},
	}
}

// boot reads the log, joins the cluster and follows its document until ctx ends.
func (n *Node) boot(ctx context.Context) error {
	b, err := n.begin(ctx)
	if err != nil {
		return err
	}
	if err := n.recover(ctx, &b); err != nil {
		return err
	}
	if b.incarnation == 0 {
		if b.incarnation, err = n.join(ctx); err != nil {
			return err
		}
	}
	if err := n.prepareToFollow(&b); err != nil {
		return err
	}
	n.life.work.Go(func() { n.store.engine.Run(ctx) })
	n.life.work.Go(func() {
		if err := n.store.engine.RunWatches(ctx); err != nil {
			n.fail(err)
		}
	})
	if err := n.firstDocument(ctx); err != nil {
		return err
	}
	if err := n.restored(); err != nil {
		return err
	}
	if err := n.keep(ctx, b.incarnation); err != nil {
		return err
	}
	close(n.life.ready)
	n.life.work.Go(func() { n.beat(ctx) })
	n.log.Info("serving", "keys", n.store.engine.Count(), "epoch", n.state.view().topology.Epoch.String())
	return n.follower.run(ctx)
}

// prepareToFollow makes the follower and the mover, which need each other.
func (n *Node) prepareToFollow(b *beginning) error {
	found := n.store.engine.Recovered()
	f := &follower{
		documents: n.documents, store: n.store, state: n.state, stats: n.stats, log: n.log,
		poll: n.config.Times.Poll, report: n.report, points: n.seams.Points,
		self: cluster.Local{
			Cluster: n.identity.Cluster, ID: n.identity.ID, Address: n.identity.Address,
			Incarnation: b.incarnation, Counter: max(found.Mark.Counter, b.accepted), HasData: found.Keys > 0,
			Restored: b.restored, Accepted: b.accepted > 0,
		},
		wake: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	m, err := n.seams.NewMover(Host{
		Address: n.identity.Address, Engine: n.store.engine, Log: n.store.log, Dial: n.trust.Dial, Manager: n.config.ManagerAddr,
		Refresh: f.refresh, Update: f.update, Points: n.seams.Points, Logger: n.log,
	})
	if err != nil {
		return fmt.Errorf("range moves: %w", err)
	}
	f.movers = m
	n.life.mu.Lock()
	n.follower = f
	n.life.mu.Unlock()
	return nil
}

// firstDocument acts on the first document, trying until it can be read.
func (n *Node) firstDocument(ctx context.Context) error {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := n.follower.read(ctx)
		var refused *refusedError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused):
			return refused.err
		}
		n.log.Warn("cannot follow the cluster's document", "err", err)
		n.state.publish(&view{why: "the node cannot read the cluster's document: " + discreet.Text(err, bucketErrors()...)})
		if !sleep(ctx, pause, nil) {
			return ctx.Err()
		}
	}
}

// following is the follower, nil until the node has joined.
func (n *Node) following() *follower {
	n.life.mu.Lock()
	defer n.life.mu.Unlock()
	return n.follower
}

func (n *Node) hint() {
	if f := n.following(); f != nil {
		f.hint()
	}
}

func (n *Node) hintCounter(counter uint64) {
	if f := n.following(); f != nil {
		f.hintCounter(counter)
	}
}

// hintStaged hints at the document if it may already say that a range that has
// arrived here is ours.
func (n *Node) hintStaged() {
	if st := n.state.store.Load(); st != nil {
		if _, staged := st.engine.Held(); len(staged) > 0 {
			n.hint()
		}
	}
}

// engineOptions says how the engine is opened.
func (n *Node) engineOptions() engine.Options {
	return engine.Options{
		WallClock: n.clock.coarse, Monotonic: n.clock.monotonic, MaxValue: int(n.config.Limits.Value), MaxMemory: n.memory.data,
		Watch: engine.WatchOptions{History: int64(n.config.Watch.History), Retention: n.config.Watch.Retention, Budget: &n.server.budget},
	}
}

func (n *Node) mover() Mover {
	if f := n.following(); f != nil && n.isReady() {
		return f.movers
	}
	return nil
}

func (n *Node) isReady() bool {
	select {
	case <-n.life.ready:
		return true
	default:
		return false
	}
}

// fail records why the node must not go on, and cuts off its clients: it may be
// wrong to answer them once more. Only the first reason counts.
func (n *Node) fail(err error) {
	n.life.mu.Lock()
	first := n.life.err == nil && !n.life.closed
	if first {
		n.life.err = err
	}
	n.life.mu.Unlock()
	if !first {
		return
	}
	if n.seams.OnFatal != nil {
		n.seams.OnFatal(err)
	}
	n.log.Error("the node stops", "err", err)
	n.state.stop("the node is stopping")
	n.server.abort()
	close(n.life.failed)
}

// Addr is the address that it listens on.
func (n *Node) Addr() net.Addr { return n.server.listener.Addr() }

// Address is the node's name in the cluster.
func (n *Node) Address() string { return n.server.about.address }

// AdminAddr is the address of the admin listener, nil when there is none.
func (n *Node) AdminAddr() net.Addr {
	if n.admin == nil {
		return nil
	}
	return n.admin.Addr()
}

// Ready returns nil while the node answers for what it owns, else why not.
func (n *Node) Ready() error {
	if err := n.Err(); err != nil {
		return err
	}
	if n.server.draining() {
		return errors.New("the node is stopping")
	}
	if why := n.state.view().why; why != "" {
		return errors.New(why)
	}
	return nil
}

// WaitReady waits until the node follows the cluster's document, and returns why
// when it ends before that. (It may still own nothing: see Ready.)
func (n *Node) WaitReady(ctx context.Context) error {
	select {
	case <-n.life.ready:
		return nil
	case <-n.life.failed:
		return n.Err()
	case <-n.life.ended:
		return errors.New("the node was stopped")
	case <-ctx.Done():
		return fmt.Errorf("%w: %s", ctx.Err(), n.state.view().why)
	}
}

// Counter is that of the document which the node has acted on last, 0 before WaitReady
// has returned.
func (n *Node) Counter() uint64 {
	if f := n.following(); f != nil {
		return f.current().Counter
	}
	return 0
}

// WaitCounter waits until the node has acted on a document with this counter or
// a newer one.
func (n *Node) WaitCounter(ctx context.Context, counter uint64) error {
	if err := n.WaitReady(ctx); err != nil {
		return err
	}
	return n.following().waitCounter(ctx, counter)
}

// Failed is closed when the node must not go on; Err then says why.
func (n *Node) Failed() <-chan struct{} { return n.life.failed }

// Err is why the node must not go on, nil while it may.
func (n *Node) Err() error {
	n.life.mu.Lock()
	defer n.life.mu.Unlock()
	return n.life.err
}

// Shutdown answers what was read, refuses what is new, and closes everything. When
// ctx ends, connections that are not done are cut off. It may be called twice; the
// second call waits for the first.
func (n *Node) Shutdown(ctx context.Context) error {
	n.life.mu.Lock()
	again := n.life.closed
	n.life.closed = true
	n.life.mu.Unlock()
	if again {
		<-n.life.ended
		return n.life.endErr
	}
	gatewayErr := n.closeGateway(ctx)
	n.server.drain(ctx)
	n.life.cancel()
	n.life.work.Wait()
	n.life.endErr = errors.Join(gatewayErr, n.release(ctx))
	close(n.life.ended)
	return n.life.endErr
}

// release closes what was opened, in reverse order.
func (n *Node) release(ctx context.Context) error {
	var errs []error
	if n.follower != nil {
		errs = append(errs, n.follower.movers.Close())
	}
	n.link.close()
	if n.store != nil {
		errs = append(errs, n.store.engine.Close(), n.store.log.Close())
	}
	if n.admin != nil {
		errs = append(errs, n.admin.Close(ctx))
	}
	if n.gateway != nil {
		errs = append(errs, n.gateway.Shutdown(ctx)) // a second time in the ordinary case
	} else if n.seams.GatewayListener != nil {
		_ = n.seams.GatewayListener.Close() // nobody has got it
	}
	if n.bucket != nil && n.seams.Bucket == nil {
		errs = append(errs, n.bucket.Close())
	}
	if n.folder != nil {
		errs = append(errs, n.folder.close())
	}
	if n.server != nil {
		_ = n.server.listener.Close() // a second close in the ordinary case
	}
	return errors.Join(errs...)
}

// address is the node's name in the cluster: what is advertised, else where it
// listens.
func (c *Config) address(listening net.Addr) (string, error) {
	if c.Advertise != "" {
		return c.Advertise, nil
	}
	address := listening.String()
	if tcp, ok := listening.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() || ring.ValidateAddress(address) != nil {
		return "", fmt.Errorf("QUOIT_NODE_ADVERTISE=%q: want the host:port under which others reach this node, since it listens on %s", c.Advertise, address)
	}
	return address, nil
}
