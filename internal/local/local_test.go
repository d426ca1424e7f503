package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience is how long a test waits for what must happen, on a machine that does much
// else.
const patience = 3 * time.Minute

// within bounds a test: whatever hangs says so.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, o Options) *Cluster {
	t.Helper()
	c, err := Start(within(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, c) })
	return c
}

func stop(t *testing.T, c *Cluster) {
	t.Helper()
	if err := c.Close(context.Background()); err != nil {
		t.Errorf("close: %v", err)
	}
}

func connect(t *testing.T, c *Cluster) *client.Client {
	t.Helper()
	db, err := client.Open(within(t), c.Addresses())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func key(i int) string { return fmt.Sprintf("key:%d", i) }

func fill(t *testing.T, db *client.Client, n int) {
	t.Helper()
	pairs := make([]client.Pair, n)
	for i := range pairs {
		pairs[i] = client.Pair{Key: key(i), Value: []byte(strconv.Itoa(i))}
	}
	if _, err := db.MPut(within(t), pairs); err != nil {
		t.Fatal(err)
	}
}

func verify(t *testing.T, db *client.Client, n int) {
	t.Helper()
	for i := range n {
		if v, err := db.Get(within(t), key(i)); err != nil || string(v) != strconv.Itoa(i) {
			t.Fatalf("%s is %q, %v", key(i), v, err)
		}
	}
}

func status(t *testing.T, c *Cluster) manager.Status {
	t.Helper()
	m, err := manager.Dial(within(t), c.Manager(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s, err := m.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// waitFor asks until the answer is yes, where there is no event to wait for.
func waitFor(t *testing.T, what string, yes func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	ctx := within(t)
	for !yes() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited too long for %s", what)
		case <-ticker.C:
		}
	}
}

// settled says whether so many nodes have their shares and nothing moves.
func settled(t *testing.T, c *Cluster, nodes int) bool {
	t.Helper()
	s := status(t, c)
	for _, n := range s.Nodes {
		if n.Share < 0.05 {
			return false
		}
	}
	return len(s.Nodes) == nodes && len(s.Moves) == 0
}

// change swaps the document behind everyone's back.
func change(t *testing.T, dir string, f func(cluster.Document) (cluster.Document, error)) {
	t.Helper()
	o := Options{Dir: dir}
	b, err := bucket.Open(within(t), o.bucketURL())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := cluster.NewStore(b, cluster.StoreOptions{}).Update(within(t), f); err != nil {
		t.Fatal(err)
	}
}

// TestSecondStartGoesOn: the same folder, the same nodes, the same data, also if
// fewer nodes are asked for, and whatever the folder is called.
func TestSecondStartGoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "my 100% #1 cluster?")
	first := start(t, Options{Dir: dir, Nodes: 3, Port: -1})
	if s := status(t, first); !s.Formed || len(s.Nodes) != 3 || s.Epoch != 1 || len(s.Moves) != 0 {
		t.Errorf("Start returned before the ring was there: %+v", s)
	}
	db := connect(t, first)
	fill(t, db, 300)
	verify(t, db, 300)
	addresses := first.Addresses()
	_ = db.Close()
	stop(t, first)

	second := start(t, Options{Dir: dir, Nodes: 1, Port: -1})
	if got := second.Addresses(); !slices.Equal(sorted(got), sorted(addresses)) {
		t.Errorf("nodes are %v, and were %v", got, addresses)
	}
	verify(t, connect(t, second), 300)
	if s := status(t, second); s.Epoch != 1 || len(s.Nodes) != 3 {
		t.Errorf("status is %+v", s)
	}
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// TestThirdNodeJoins a cluster of two that serves: its part of the keys moves there,
// and every key is found all the time.
func TestThirdNodeJoins(t *testing.T) {
	c := start(t, Options{Dir: t.TempDir(), Nodes: 2, Port: -1})
	db := connect(t, c)
	fill(t, db, 500)
	third, err := c.AddNode(within(t), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := third.WaitReady(within(t)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the moves to end", func() bool {
		verify(t, db, 20)
		return settled(t, c, 3)
	})
	verify(t, db, 500)
	own := 0
	for i := range 500 {
		if db.Owner(key(i)) == third.Address() {
			own++
		}
	}
	if own < 50 || len(c.Nodes()) != 3 {
		t.Errorf("the third node has %d of 500 keys", own)
	}
}

// TestMoreNodesThanBefore: a second start may ask for more, which join. It is stopped
// in the middle of that, and a third one goes on.
func TestMoreNodesThanBefore(t *testing.T) {
	dir := t.TempDir()
	first := start(t, Options{Dir: dir, Nodes: 1, Port: -1})
	db := connect(t, first)
	fill(t, db, 100)
	_ = db.Close()
	stop(t, first)
	second := start(t, Options{Dir: dir, Nodes: 2, Port: -1})
	waitFor(t, "the new node to own something", func() bool {
		s := status(t, second)
		return s.Nodes[0].Share > 0 && s.Nodes[1].Share > 0
	})
	db = connect(t, second)
	verify(t, db, 100)
	_ = db.Close()
	stop(t, second)
	third := start(t, Options{Dir: dir, Nodes: 2, Port: -1})
	verify(t, connect(t, third), 100)
}

// TestSecondStartWhileItRuns is refused in words, and disturbs nothing.
func TestSecondStartWhileItRuns(t *testing.T) {
	dir := t.TempDir()
	c := start(t, Options{Dir: dir, Nodes: 1, Port: -1})
	_, err := Start(within(t), Options{Dir: dir, Nodes: 1, Port: -1})
	if err == nil || !strings.Contains(err.Error(), "a cluster is running in "+dir+" already") {
		t.Errorf("error is %v", err)
	}
	db := connect(t, c)
	fill(t, db, 5)
	verify(t, db, 5)
}

// freePort is one that nobody listens on, with a free one behind it. The kernel's own
// choice would not do: such a port may be the source of a connection a moment later.
func freePort(t *testing.T) int {
	t.Helper()
	for range 50 {
		address, err := freeport.Address()
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := net.SplitHostPort(address)
		port, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		next, err := net.Listen("tcp", loopback(port+1))
		if err == nil {
			_ = next.Close()
			return port
		}
	}
	t.Fatal("no two free ports beside each other")
	return 0
}

func TestPorts(t *testing.T) {
	port := freePort(t)
	c := start(t, Options{Dir: t.TempDir(), Nodes: 1, Port: port})
	if c.Manager() != loopback(port) || !slices.Equal(c.Addresses(), []string{loopback(port + 1)}) {
		t.Errorf("manager %s, nodes %v, want them from %d on", c.Manager(), c.Addresses(), port)
	}
	for what, taken := range map[string]int{"the manager's": port, "a node's": port - 1} {
		_, err := Start(within(t), Options{Dir: t.TempDir(), Nodes: 2, Port: taken})
		if taken < port && err != nil && strings.Contains(err.Error(), loopback(taken)) {
			continue // somebody else has that one
		}
		if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), loopback(port)) || !strings.Contains(err.Error(), "is another cluster running?") {
			t.Errorf("%s port in use: %v", what, err)
		}
	}
}

func TestDefaultPort(t *testing.T) {
	o := Options{Nodes: 2, Port: DefaultPort}
	if got := o.withNew(nil, nil); !slices.Equal(got, []string{"127.0.0.1:7401", "127.0.0.1:7402"}) {
		t.Errorf("addresses are %v", got)
	}
}

func TestNewAddresses(t *testing.T) {
	for _, c := range []struct {
		own, taken []string
		nodes      int
		want       []string
	}{
		{nil, nil, 1, []string{"127.0.0.1:101"}},
		{[]string{"127.0.0.1:102"}, []string{"127.0.0.1:102"}, 3, []string{"127.0.0.1:102", "127.0.0.1:101", "127.0.0.1:103"}},
		{[]string{"127.0.0.1:101"}, []string{"127.0.0.1:101", "127.0.0.1:102"}, 2, []string{"127.0.0.1:101", "127.0.0.1:103"}},
		{[]string{"a:1", "b:1"}, []string{"a:1", "b:1"}, 1, []string{"a:1", "b:1"}},
	} {
		o := Options{Nodes: c.nodes, Port: 100}
		if got := o.withNew(c.own, c.taken); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestLostFolder: a node whose data is gone is not begun empty without a word.
func TestLostFolder(t *testing.T) {
	dir := t.TempDir()
	c := start(t, Options{Dir: dir, Nodes: 2, Port: -1})
	lost := c.Addresses()[1]
	stop(t, c)
	folder := c.options.nodeDir(lost)
	if err := os.Rename(folder, folder+".away"); err != nil {
		t.Fatal(err)
	}
	_, err := Start(within(t), Options{Dir: dir, Nodes: 2, Port: -1})
	if err == nil || !strings.Contains(err.Error(), lost) || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder was made in its place: %v", err)
	}
	if err := os.Rename(folder+".away", folder); err != nil {
		t.Fatal(err)
	}
	start(t, Options{Dir: dir, Nodes: 2, Port: -1})
}

// TestNodeFromElsewhere is left to whoever started it.
func TestNodeFromElsewhere(t *testing.T) {
	dir := t.TempDir()
	c := start(t, Options{Dir: dir, Nodes: 1, Port: freePort(t)})
	config := node.DefaultConfig()
	config.Addr, config.AdminAddr, config.DataDir = loopback(0), "off", t.TempDir()
	config.Tokens = 32 // about a fifth of the ring is enough here; of fewer tokens it may be next to nothing
	config.Bucket, config.ManagerAddr = c.options.bucketURL(), c.Manager()
	guest, err := node.Start(within(t), config, node.Seams{Logger: c.options.Logger})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := guest.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	waitFor(t, "the guest to have its share", func() bool {
		return settled(t, c, 2)
	})
	own := c.Addresses()
	port := c.options.Port
	stop(t, c)
	again := start(t, Options{Dir: dir, Nodes: 1, Port: port})
	if got := again.Addresses(); !slices.Equal(got, own) {
		t.Errorf("nodes are %v, want %v", got, own)
	}
	db := connect(t, again)
	fill(t, db, 50)
	verify(t, db, 50)
	_ = db.Close()
}

// TestStartedAgainTheManagerKnowsAsMuchAsTheNodes: a node that is known takes its next
// incarnation, and names where its gateway is this time, without the manager. Whoever
// asked the manager right after a start could be sent to where that was the last time.
func TestStartedAgainTheManagerKnowsAsMuchAsTheNodes(t *testing.T) {
	dir := t.TempDir()
	stop(t, start(t, Options{Dir: dir, Nodes: 2, Port: -1}))
	for range 5 {
		c := start(t, Options{Dir: dir, Nodes: 2, Port: -1})
		newest := uint64(0)
		for _, n := range c.Nodes() {
			newest = max(newest, n.Counter())
		}
		if got := status(t, c).Counter; got < newest || newest == 0 {
			t.Errorf("the manager answers from document %d, and its nodes act on %d", got, newest)
		}
		stop(t, c)
	}
}

// TestWaitTellsWhatFailed: a node that must not go on ends the waiting, with its
// address and the reason.
func TestWaitTellsWhatFailed(t *testing.T) {
	dir := t.TempDir()
	c := start(t, Options{Dir: dir, Nodes: 2, Port: -1})
	late, err := c.AddNode(within(t), loopback(0)) // one that came later counts too
	if err != nil {
		t.Fatal(err)
	}
	if err := late.WaitReady(within(t)); err != nil {
		t.Fatal(err)
	}
	change(t, dir, func(d cluster.Document) (cluster.Document, error) { // as a second process on its folder would
		m, _ := d.Member(late.Address())
		return d.Register(cluster.Registration{ID: m.ID, Address: m.Address, Tokens: m.Tokens})
	})
	err = c.Wait(within(t))
	if err == nil || !strings.Contains(err.Error(), late.Address()) || !strings.Contains(err.Error(), "incarnation") {
		t.Errorf("Wait returned %v", err)
	}
}

func TestWaitEndsQuietly(t *testing.T) {
	c := start(t, Options{Dir: t.TempDir(), Nodes: 1, Port: -1})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.Wait(ctx); err != nil {
		t.Errorf("its context ended: %v", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- c.Wait(context.Background()) }()
	stop(t, c)
	stop(t, c)
	if err := <-waited; err != nil {
		t.Errorf("the cluster was closed: %v", err)
	}
	if _, err := c.AddNode(within(t), loopback(0)); err == nil {
		t.Error("a node was added to a cluster that is closed")
	}
}

// TestWhatCannotStart leaves nothing behind: goleak sees goroutines, and the folder
// can be used again.
func TestWhatCannotStart(t *testing.T) {
	dir := t.TempDir()
	config := node.DefaultConfig()
	config.Tokens = -1
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	managerConfig := manager.DefaultConfig()
	managerConfig.Poll = 0
	for _, c := range []struct {
		name string
		ctx  context.Context
		o    Options
		want string
	}{
		{"no nodes", within(t), Options{Dir: dir, Port: -1}, "at least one"},
		{"wrong node settings", within(t), Options{Dir: dir, Nodes: 1, Port: -1, Node: &config}, "QUOIT_NODE_TOKENS"},
		{"wrong manager settings", within(t), Options{Dir: dir, Nodes: 1, Port: -1, Manager: &managerConfig}, "QUOIT_MANAGER_POLL"},
		{"a file in its place", within(t), Options{Dir: file, Nodes: 1, Port: -1}, "make the cluster's folder"},
		{"interrupted", gone, Options{Dir: dir, Nodes: 1, Port: -1}, "canceled"},
	} {
		started, err := Start(c.ctx, c.o)
		if started != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	start(t, Options{Dir: dir, Nodes: 1, Port: -1})
}

// TestDocumentOfTheFuture: the folder was used by a newer release.
func TestDocumentOfTheFuture(t *testing.T) {
	dir := t.TempDir()
	stop(t, start(t, Options{Dir: dir, Nodes: 1, Port: -1}))
	path := filepath.Join(dir, "bucket", filepath.FromSlash(cluster.DefaultKey))
	if err := os.WriteFile(path, []byte(`{"format":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(within(t), Options{Dir: dir, Nodes: 1, Port: -1})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "format 2 is not supported") {
		t.Errorf("error is %v", err)
	}
}

// TestAdminListeners are there when they are asked for.
func TestAdminListeners(t *testing.T) {
	c := start(t, Options{Dir: t.TempDir(), Nodes: 1, Port: -1, Admin: true})
	if c.Nodes()[0].AdminAddr() == nil {
		t.Error("the node has no admin listener")
	}
	d := start(t, Options{Dir: t.TempDir(), Nodes: 1, Port: -1})
	if d.Nodes()[0].AdminAddr() != nil {
		t.Error("the node has an admin listener")
	}
}
