// Package local runs a whole cluster inside one process, over a folder: a
// manager, nodes on loopback ports, and a bucket that is a folder too. It is what
// `quoit up` is made of, and what tests and benchmarks start.
//
//	DIR/LOCK               held while a cluster runs here
//	DIR/bucket/            the bucket, with the cluster's document
//	DIR/nodes/HOST-PORT/   the data folder of one node
//
// The nodes are real: they talk over TCP, have their own logs and data folders,
// and know nothing of each other but what the manager and the bucket tell them.
// A second start on the same folder goes on where the first stopped, with the
// nodes that the cluster document names. A node that joined from elsewhere (by
// `quoit node`, with this manager and bucket) is left to whoever started it.
//
// A [Cluster] may be used by any number of goroutines.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
)

// DefaultPort is the manager's; nodes follow it.
const DefaultPort = 7400

// Options say what to start.
type Options struct {
	// Dir holds everything; it is made if it is not there.
	Dir string
	// Nodes is how many nodes to start at least: a folder that has more starts more.
	Nodes int
	// Port is the manager's, nodes have the ones after it; 0 means DefaultPort and
	// a negative number ports that happen to be free. Nodes that a folder has
	// already keep the ports that they have.
	Port int
	// Node and Manager are the settings to start from; addresses and folders are
	// filled in. The zero values mean the defaults.
	Node    *node.Config
	Manager *manager.Config
	// Admin starts the admin listeners, one hundred ports above.
	Admin bool
	// Gateway makes the nodes' own gateways; nil makes none. Each listens
	// GatewayOffset above its node's port where that is free, and where Port is negative
	// anywhere.
	Gateway       func(context.Context, node.GatewayHost) (node.Gateway, error)
	GatewayOffset int
	GatewayTLS    bool // they show browsers a certificate
	Logger        *slog.Logger
	Version       string
}

// Cluster is a running cluster.
type Cluster struct {
	options Options
	lock    io.Closer
	manager string // address

	stopManager context.CancelFunc
	managerEnd  chan struct{} // closed when the manager has ended
	managerErr  error         // why; read after managerEnd
	nodeFailed  chan error    // the first node that must not go on; of capacity 1
	learned     atomic.Uint64 // counter of the document that the manager answers from

	mu     sync.Mutex
	nodes  []*node.Node // guarded by mu
	closed bool         // guarded by mu
}

// Start starts the manager and the nodes and returns when all of them serve.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Port == 0 {
		o.Port = DefaultPort
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := ctx.Err(); err != nil {
		return nil, err // what waits below may find that all is there already
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	lock, err := lockFolder(o.Dir)
	if err != nil {
		return nil, err
	}
	c := &Cluster{options: o, lock: lock, nodeFailed: make(chan error, 1)}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Close(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// check reads the files that the settings name, so that a folder is made only where they
// are right. The servers share them.
func (o *Options) check() error {
	if o.Manager == nil {
		return nil
	}
	_, wrongKeys := o.Manager.Auth.LoadKeys()
	_, wrongTLS := auth.NewTrust(&o.Manager.Auth, o.Manager.TLS, auth.TrustOptions{Role: auth.RoleManager})
	return errors.Join(wrongKeys, wrongTLS)
}

// lockFolder makes the folder, and makes sure that nobody else works in it: two
// managers would do no harm, but the nodes' ports and folders are taken.
func lockFolder(dir string) (io.Closer, error) {
	fs := vfs.OS()
	if err := fs.MkdirAll(filepath.Join(dir, "bucket")); err != nil {
		return nil, fmt.Errorf("make the cluster's folder: %w", err)
	}
	lock, err := fs.Lock(filepath.Join(dir, "LOCK"))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("a cluster is running in %s already: use that one, stop it, or choose another folder", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the cluster's folder: %w", err)
	}
	return lock, nil
}

func (c *Cluster) start(ctx context.Context) error {
	addresses, err := c.options.nodeAddresses(ctx)
	if err != nil {
		return err
	}
	if err := c.startManager(ctx, len(addresses)); err != nil {
		return err
	}
	for _, address := range addresses {
		if _, err := c.AddNode(ctx, address); err != nil {
			return err
		}
	}
	return c.waitServing(ctx)
}

func (c *Cluster) startManager(ctx context.Context, nodes int) error {
	config := manager.DefaultConfig()
	if c.options.Manager != nil {
		config = *c.options.Manager
	}
	var err error
	if config.Addr, err = freeOr(c.options.Port); err != nil {
		return err
	}
	config.Bucket = c.options.bucketURL()
	config.InitialNodes = nodes
	config.Join = manager.JoinAuto
	if !c.options.Admin {
		config.AdminAddr = "off"
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stopManager, c.managerEnd = stop, make(chan struct{})
	ready := make(chan string, 1)
	go func() {
		defer close(c.managerEnd)
		c.managerErr = manager.Run(run, config, manager.Seams{
			Logger:  c.options.Logger.With("server", "manager"),
			Ready:   func(address string) { ready <- address },
			Learned: c.noteLearned,
		})
	}()
	select {
	case c.manager = <-ready:
		return nil
	case <-c.managerEnd:
		err := c.managerErr
		c.managerErr = nil // it is reported here
		return explainPort(fmt.Errorf("manager: %w", err))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// explainPort adds the likely reason to the most likely error.
func explainPort(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: is another cluster running? Stop it, or choose another port and folder", err)
	}
	return err
}

// AddNode starts one more node at a loopback address ("127.0.0.1:0" for any free
// port). It joins the ring by itself; wait for that with WaitReady.
func (c *Cluster) AddNode(ctx context.Context, address string) (*node.Node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.New("the cluster is stopping")
	}
	if address == loopback(0) { // one that nobody takes while the node is down
		var err error
		if address, err = freeport.Address(); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, explainPort(fmt.Errorf("node %s: %w", address, err))
	}
	address = listener.Addr().String()
	config := node.DefaultConfig()
	if c.options.Node != nil {
		config = *c.options.Node
	}
	config.Addr, config.Advertise = address, address
	if share := config.Limits.Memory.Percent; share > 0 { // they share the machine
		config.Limits.Memory.Percent = max(1, share/max(1, c.options.Nodes))
	}
	config.DataDir = c.options.nodeDir(address)
	config.ManagerAddr = c.manager
	config.Bucket = c.options.bucketURL()
	if !c.options.Admin {
		config.AdminAddr = "off"
	}
	seams := node.Seams{
		Listener: listener,
		Logger:   c.options.Logger.With("server", "node"),
		Version:  c.options.Version,
		OnFatal:  func(err error) { c.noteFailure(address, err) },
	}
	config.GatewayAddr, config.GatewayURL = "", ""
	if c.options.Gateway != nil {
		if seams.GatewayListener, err = c.options.gatewayListener(listener.Addr()); err != nil {
			return nil, errors.Join(err, listener.Close())
		}
		seams.NewGateway, config.GatewayAddr = c.options.Gateway, seams.GatewayListener.Addr().String()
		seams.GatewayTLS = c.options.GatewayTLS
	}
	n, err := node.Start(context.WithoutCancel(ctx), config, seams)
	if err != nil {
		_ = listener.Close()
		return nil, explainPort(fmt.Errorf("node %s: %w", address, err))
	}
	c.nodes = append(c.nodes, n)
	return n, nil
}

// gatewayListener is where a node's gateway listens. It may change from one start to
// the next: unlike its node's it is no name.
func (o *Options) gatewayListener(node net.Addr) (net.Listener, error) {
	if tcp, ok := node.(*net.TCPAddr); ok && o.Port > 0 && o.GatewayOffset > 0 {
		if l, err := net.Listen("tcp", loopback(tcp.Port+o.GatewayOffset)); err == nil {
			return l, nil
		}
	}
	l, err := net.Listen("tcp", loopback(0))
	if err != nil {
		return nil, fmt.Errorf("a node's gateway: %w", err)
	}
	return l, nil
}

func (c *Cluster) noteFailure(address string, err error) {
	select {
	case c.nodeFailed <- fmt.Errorf("node %s: %w", address, err):
	default: // the first one is reported; the others are in the log
	}
}

// noteLearned keeps the highest counter: two documents can be learned at one time.
func (c *Cluster) noteLearned(counter uint64) {
	for {
		old := c.learned.Load()
		if old >= counter || c.learned.CompareAndSwap(old, counter) {
			return
		}
	}
}

// waitServing returns when every node answers for what it owns, so also when the
// ring has been formed, and when the manager's topology says where their gateways are
// this time: a node that is known takes its next incarnation without asking it.
func (c *Cluster) waitServing(ctx context.Context) error {
	for _, n := range c.Nodes() {
		if err := n.WaitReady(ctx); err != nil {
			return fmt.Errorf("node %s: %w", n.Address(), err)
		}
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		waiting := slices.IndexFunc(c.Nodes(), func(n *node.Node) bool {
			return n.Ready() != nil || n.Counter() > c.learned.Load()
		})
		if waiting < 0 {
			return nil
		}
		select {
		case <-tick.C:
		case err := <-c.nodeFailed:
			return err
		case <-c.managerEnd:
			return fmt.Errorf("manager: %w", c.managerErr)
		case <-ctx.Done():
			n := c.Nodes()[waiting]
			why := n.Ready()
			if why == nil {
				why = errors.New("the manager has not read the newest document yet")
			}
			return fmt.Errorf("%w: node %s: %w", ctx.Err(), n.Address(), why)
		}
	}
}

// Manager is the manager's address.
func (c *Cluster) Manager() string { return c.manager }

// Nodes are the running nodes.
func (c *Cluster) Nodes() []*node.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

// Addresses are those of the nodes.
func (c *Cluster) Addresses() []string {
	var all []string
	for _, n := range c.Nodes() {
		all = append(all, n.Address())
	}
	return all
}

// Wait returns when ctx ends, or the cluster is closed, with nil; or when a part of
// the cluster must not go on, with the reason.
func (c *Cluster) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-c.nodeFailed:
		return err
	case <-c.managerEnd:
		if c.managerErr != nil {
			return fmt.Errorf("manager: %w", c.managerErr)
		}
		return nil
	}
}

// closeTimeout bounds how long Close waits for clients.
const closeTimeout = 15 * time.Second

// Close drains and stops the nodes, side by side, and then the manager. It may be
// called twice.
func (c *Cluster) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	c.mu.Lock()
	again := c.closed
	c.closed = true
	c.mu.Unlock()
	nodes := c.Nodes()
	errs := make([]error, len(nodes), len(nodes)+2)
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = n.Shutdown(ctx) })
	}
	wg.Wait()
	if c.stopManager != nil {
		c.stopManager()
		<-c.managerEnd
		errs = append(errs, c.managerErr)
	}
	if !again {
		errs = append(errs, c.lock.Close())
	}
	return errors.Join(errs...)
}

// nodeDir is the data folder of a node.
func (o *Options) nodeDir(address string) string {
	return filepath.Join(o.Dir, "nodes", strings.ReplaceAll(address, ":", "-"))
}
