package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// testCluster is everything of a cluster that is not the node under test: a
// bucket, the document in it, and a manager that does what it is told to.
type testCluster struct {
	t         *testing.T
	bucket    *flakyBucket
	documents *cluster.Store
	manager   *fakeManager
	disk      *vfs.Mem
	logs      *syncBuffer
	address   string // of the node
}

// flakyBucket can be unreachable.
type flakyBucket struct {
	bucket.Bucket
	down  atomic.Bool
	reads atomic.Int64
}

func (f *flakyBucket) Get(ctx context.Context, key string) (bucket.Object, error) {
	f.reads.Add(1)
	if f.down.Load() {
		return bucket.Object{}, fmt.Errorf("get %s: %w", key, bucket.ErrUnavailable)
	}
	return f.Bucket.Get(ctx, key)
}

func newTestCluster(t *testing.T) *testCluster {
	t.Helper()
	folder, err := bucket.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := &testCluster{t: t, bucket: &flakyBucket{Bucket: folder}, disk: vfs.NewMem(), logs: &syncBuffer{}, address: claimAddress(t)}
	c.documents = cluster.NewStore(c.bucket, cluster.StoreOptions{})
	c.manager = startFakeManager(t, c.documents)
	t.Cleanup(func() { folder.Close() })
	return c
}

// unused are addresses that tests before have given back.
var unused []string

// claimAddress is an address for a node that is started more than once: nobody on the
// machine takes it while the node is down.
func claimAddress(t *testing.T) (address string) {
	t.Helper()
	if n := len(unused); n > 0 {
		address, unused = unused[n-1], unused[:n-1]
	} else {
		var err error
		if address, err = freeport.Address(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { unused = append(unused, address) })
	return address
}

// form writes the first document.
func (c *testCluster) form() {
	c.t.Helper()
	d, err := cluster.New("test-cluster")
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.documents.Create(c.t.Context(), d); err != nil {
		c.t.Fatal(err)
	}
}

// change swaps the document.
func (c *testCluster) change(fn func(cluster.Document) (cluster.Document, error)) cluster.Document {
	c.t.Helper()
	d, err := c.documents.Update(c.t.Context(), fn)
	if err != nil {
		c.t.Fatal(err)
	}
	return d
}

func (c *testCluster) join(addresses ...string) cluster.Document {
	return c.change(func(d cluster.Document) (cluster.Document, error) { return d.Join(addresses...) })
}

// other registers a node that is only a name, and has it join.
func (c *testCluster) other(address string) cluster.Document {
	c.change(func(d cluster.Document) (cluster.Document, error) {
		return d.Register(cluster.Registration{ID: cluster.NodeID("other-" + address[len(address)-4:]), Address: address, Tokens: 16})
	})
	return c.join(address)
}

// start starts the node under test; change may adapt its settings and seams.
func (c *testCluster) start(change func(*Config, *Seams)) (*Node, error) {
	c.t.Helper()
	cfg := DefaultConfig()
	cfg.Addr = c.address
	cfg.DataDir, cfg.Bucket, cfg.ManagerAddr, cfg.AdminAddr = "/data", "file:///unused", c.manager.addr(), "off"
	cfg.Log.Segment = 1 << 20
	cfg.Tokens = 16
	s := Seams{FS: c.disk, Bucket: c.bucket, Logger: slog.New(slog.NewTextHandler(c.logs, nil)), Version: "test"}
	if change != nil {
		change(&cfg, &s)
	}
	n, err := Start(c.t.Context(), cfg, s)
	if err != nil {
		return nil, err
	}
	c.address = n.Address()
	c.t.Cleanup(func() { c.stop(n) })
	return n, nil
}

func (c *testCluster) mustStart(change func(*Config, *Seams)) *Node {
	c.t.Helper()
	n, err := c.start(change)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// serving starts the node in a cluster where it owns everything.
func (c *testCluster) serving(change func(*Config, *Seams)) *Node {
	c.t.Helper()
	c.form()
	n := c.mustStart(change)
	c.ready(n)
	c.follow(n, c.join(n.Address()))
	return n
}

func (c *testCluster) ready(n *Node) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	if err := n.WaitReady(ctx); err != nil {
		c.t.Fatalf("%v\n%s", err, c.logs)
	}
}

// follow waits until the node has acted on d.
func (c *testCluster) follow(n *Node, d cluster.Document) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	if err := n.WaitCounter(ctx, d.Counter); err != nil {
		c.t.Fatalf("%v\n%s", err, c.logs)
	}
}

func (c *testCluster) stop(n *Node) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := n.Shutdown(ctx); err != nil && n.Err() == nil && !errors.Is(err, vfs.ErrKilled) {
		c.t.Errorf("shutdown: %v", err)
	}
}

// failure waits until the node says that it must not go on.
func (c *testCluster) failure(n *Node) error {
	c.t.Helper()
	select {
	case <-n.Failed():
		return n.Err()
	case <-time.After(time.Minute):
		c.t.Fatalf("the node goes on\n%s", c.logs)
		return nil
	}
}

// fakeManager answers nodes: it registers them in the document, and keeps what
// they say.
type fakeManager struct {
	t         *testing.T
	documents *cluster.Store
	listener  net.Listener
	done      sync.WaitGroup

	mu    sync.Mutex
	down  bool // answers UNAVAILABLE
	ended bool // no connection is taken any more
	beats []member.Heartbeat
	dones []string // "move end"
	conns map[net.Conn]bool
}

func startFakeManager(t *testing.T, documents *cluster.Store) *fakeManager {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &fakeManager{t: t, documents: documents, listener: l, conns: map[net.Conn]bool{}}
	m.done.Go(m.accept)
	t.Cleanup(m.stop)
	return m
}

func (m *fakeManager) addr() string { return m.listener.Addr().String() }

func (m *fakeManager) stop() {
	m.listener.Close()
	m.mu.Lock()
	m.ended = true
	for c := range m.conns {
		c.Close()
	}
	m.mu.Unlock()
	m.done.Wait()
}

func (m *fakeManager) accept() {
	for {
		c, err := m.listener.Accept()
		if err != nil {
			return
		}
		if !m.admit(c) {
			c.Close()
			return
		}
		m.done.Go(func() { m.converse(c) })
	}
}

// admit notes a connection for stop to close, false when stop has been there already.
func (m *fakeManager) admit(c net.Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ended {
		m.conns[c] = true
	}
	return !m.ended
}

// converse reads requests with a parser of its own, so as not to test the
// node's with itself.
func (m *fakeManager) converse(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		args, err := readRequest(r)
		if err != nil {
			return
		}
		if _, err := c.Write(m.answer(args)); err != nil {
			return
		}
	}
}

func readRequest(r *bufio.Reader) ([]string, error) {
	var n int
	if _, err := fmt.Fscanf(r, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		var size int
		if _, err := fmt.Fscanf(r, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		body := make([]byte, size+2)
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, err
		}
		args[i] = string(body[:size])
	}
	return args, nil
}

func (m *fakeManager) answer(args []string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return protocol.AppendErrorCode(nil, protocol.UNAVAILABLE, "told to be down")
	}
	var err error
	switch args[0] {
	case "REGISTER":
		err = m.register(args[1])
	case "HEARTBEAT":
		var h member.Heartbeat
		if err = member.Decode([]byte(args[1]), &h); err == nil {
			m.beats = append(m.beats, h)
		}
	case "MOVE_DONE":
		for _, move := range args[2:] {
			m.dones = append(m.dones, move+" "+args[1])
		}
	default:
		err = errors.New("unexpected " + args[0])
	}
	if err != nil {
		return protocol.AppendErrorCode(nil, protocol.ERR, err.Error())
	}
	d, _, err := m.documents.Load(m.t.Context())
	if err != nil {
		return protocol.AppendErrorCode(nil, protocol.UNAVAILABLE, err.Error())
	}
	return protocol.AppendInt(nil, int64(d.Counter))
}

func (m *fakeManager) register(arg string) error {
	var r member.Registration
	if err := member.Decode([]byte(arg), &r); err != nil {
		return err
	}
	_, err := m.documents.Update(m.t.Context(), func(d cluster.Document) (cluster.Document, error) {
		return d.Register(cluster.Registration{Cluster: r.Cluster, ID: r.ID, Address: r.Address, Tokens: r.Tokens, Endpoints: r.Endpoints})
	})
	return err
}

func (m *fakeManager) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func (m *fakeManager) heartbeats() []member.Heartbeat {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]member.Heartbeat(nil), m.beats...)
}

func (m *fakeManager) reports() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.dones...)
}
