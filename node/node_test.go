package node

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/wal"
)

// TestANodeJoinsServesAndComesBack is the ordinary life of a node.
func TestANodeJoinsServesAndComesBack(t *testing.T) {
	c := newTestCluster(t)
	n := c.serving(nil)
	client := dial(t, n.Address())
	if got := client.do("SET a 1"); got != "+OK" {
		t.Fatal(got)
	}
	if got := client.do("TOPOLOGY"); !strings.Contains(got, "node "+n.Address()+" 16") {
		t.Errorf("topology: %s", got)
	}
	first := c.member(n)
	c.stop(n)
	client.expectClosed()

	n = c.mustStart(nil)
	c.ready(n)
	if got := dial(t, n.Address()).do("GET a"); got != "1" {
		t.Errorf("after a restart: %s", got)
	}
	if again := c.member(n); again.Incarnation <= first.Incarnation || again.ID != first.ID {
		t.Errorf("member %+v, then %+v", first, again)
	}
}

func (c *testCluster) member(n *Node) cluster.Member {
	c.t.Helper()
	d, _, err := c.documents.Load(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	m, ok := d.Member(n.Address())
	if !ok {
		c.t.Fatalf("%s is no member", n.Address())
	}
	return m
}

// TestAcknowledgedWritesSurviveAKill: the disk keeps only what was synced.
func TestAcknowledgedWritesSurviveAKill(t *testing.T) {
	c := newTestCluster(t)
	n := c.serving(nil)
	client := dial(t, n.Address())
	for range 100 {
		client.send("INCR n\r\n")
	}
	last := ""
	for range 100 {
		last = client.reply()
	}
	after := c.disk.CrashClone(func() bool { return false })
	c.disk.Kill()
	c.stop(n)
	c.disk = after
	n = c.mustStart(nil)
	c.ready(n)
	if got := dial(t, n.Address()).do("GET n"); ":"+got != last {
		t.Errorf("%s was acknowledged, and after the crash there is %s", last, got)
	}
}

func TestANodeWaitsForItsCluster(t *testing.T) {
	c := newTestCluster(t)
	c.manager.setDown(true)
	n := c.mustStart(nil)
	client := dial(t, n.Address())
	unavailable := func(why string) {
		t.Helper()
		waitFor(t, why, func() bool {
			got := client.do("GET a")
			return strings.HasPrefix(got, "-UNAVAILABLE ") && strings.Contains(got, why)
		})
		if err := n.Ready(); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("ready: %v, want %q", err, why)
		}
	}
	unavailable("no cluster document")
	c.form()
	unavailable("told to be down")
	c.manager.setDown(false)
	c.ready(n)
	unavailable("no active node")
	c.follow(n, c.join(n.Address()))
	if got := client.do("GET a"); got != "(nil)" {
		t.Errorf("once it owns something: %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.WaitCounter(ctx, 1<<40); !errors.Is(err, context.Canceled) {
		t.Errorf("a document that never comes: %v", err)
	}
}

// TestNothingIsServedBeforeTheDocumentWasRead: a restarted node has the keys, and
// does not know yet whether they are still its own.
func TestNothingIsServedBeforeTheDocumentWasRead(t *testing.T) {
	c := newTestCluster(t)
	n := c.serving(nil)
	dial(t, n.Address()).do("SET a 1")
	c.stop(n)
	c.bucket.down.Store(true)
	n = c.mustStart(nil)
	client := dial(t, n.Address())
	waitFor(t, "the log to be read", func() bool { return strings.Contains(client.do("GET a"), "read the cluster's document") })
	if got := client.do("GET a"); !strings.HasPrefix(got, "-UNAVAILABLE ") {
		t.Errorf("got %s", got)
	}
	c.bucket.down.Store(false)
	c.ready(n)
	if got := client.do("GET a"); got != "1" {
		t.Errorf("once it was read: %s", got)
	}
}

// TestServingGoesOnWithoutBucketAndManager: both are needed to change something,
// not to serve.
func TestServingGoesOnWithoutBucketAndManager(t *testing.T) {
	c := newTestCluster(t)
	n := c.serving(func(cfg *Config, _ *Seams) { cfg.Times.Poll = 10 * time.Millisecond })
	c.bucket.down.Store(true)
	c.manager.stop()
	waitFor(t, "readings to fail", func() bool { return n.stats.documentErrors.Load() >= 2 })
	client := dial(t, n.Address())
	if got := client.do("SET a 1"); got != "+OK" {
		t.Errorf("got %s", got)
	}
	c.bucket.down.Store(false)
	c.follow(n, c.other(otherAddress))
	if n.Ready() != nil {
		t.Error(n.Ready())
	}
}

// TestANodeFollowsTheDocument: by a hint at once, and without one by itself.
func TestANodeFollowsTheDocument(t *testing.T) {
	for name, poll := range map[string]time.Duration{"hint": time.Hour, "poll": 20 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			c := newTestCluster(t)
			n := c.serving(func(cfg *Config, _ *Seams) { cfg.Times.Poll = poll })
			client := dial(t, n.Address())
			d := c.other(otherAddress)
			if poll == time.Hour {
				if got := client.do("REFRESH 1"); got != "+OK" {
					t.Errorf("an old hint: %s", got)
				}
				client.do("REFRESH " + itoa(d.Counter))
			}
			waitFor(t, "the new topology", func() bool {
				return strings.Contains(client.do("TOPOLOGY"), "node "+otherAddress+" 16")
			})
		})
	}
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// TestASecondProcessFencesTheFirst: a copy of the folder was started elsewhere.
func TestASecondProcessFencesTheFirst(t *testing.T) {
	c := newTestCluster(t)
	var fatal atomic.Int32
	n := c.serving(func(cfg *Config, s *Seams) {
		cfg.Times.Poll = 20 * time.Millisecond
		s.OnFatal = func(error) { fatal.Add(1) }
	})
	client := dial(t, n.Address())
	client.do("SET a 1")
	me := c.member(n)
	c.change(func(d cluster.Document) (cluster.Document, error) {
		return d.Register(cluster.Registration{ID: me.ID, Address: me.Address, Tokens: me.Tokens})
	})
	var identity *cluster.IdentityError
	if err := c.failure(n); !errors.As(err, &identity) || identity.Subject != "incarnation" {
		t.Errorf("failed with %v", err)
	}
	client.expectClosed()
	if _, err := net.Dial("tcp", n.Address()); err == nil {
		t.Error("it still listens")
	}
	if n.state.publish(&view{}); n.state.view().why == "" {
		t.Error("it could serve again")
	}
	if fatal.Load() != 1 {
		t.Errorf("OnFatal was told %d times", fatal.Load())
	}
}

// TestRefusals: what a start refuses, and in which words.
func TestRefusals(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		name   string
		break_ func(*testCluster, *Config, *Seams)
		want   []string
	}{
		{"port in use", func(_ *testCluster, cfg *Config, _ *Seams) { cfg.Addr = taken.Addr().String() }, []string{"QUOIT_NODE_ADDR", taken.Addr().String(), "in use"}},
		{"admin port in use", func(_ *testCluster, cfg *Config, _ *Seams) { cfg.AdminAddr = taken.Addr().String() }, []string{"admin", taken.Addr().String(), "in use"}},
		{"folder of another node", func(_ *testCluster, cfg *Config, _ *Seams) { cfg.Addr = "127.0.0.1:0" }, []string{"it belongs to node 127.0.0.1:"}},
		{"folder in use", func(c *testCluster, _ *Config, _ *Seams) { mustLock(c.t, c.disk) }, []string{"another process works on it"}},
		{"wrong setting", func(_ *testCluster, cfg *Config, _ *Seams) { cfg.Tokens = 0 }, []string{`QUOIT_NODE_TOKENS="0": want 1 to 4096`}},
		{"wrong bucket", func(_ *testCluster, cfg *Config, s *Seams) { s.Bucket, cfg.Bucket = nil, "ftp://x" }, []string{"QUOIT_BUCKET", "ftp"}},
		{"identity of the future", func(c *testCluster, _ *Config, _ *Seams) {
			rewrite(c.t, c.disk, `{"format":2}`)
		}, []string{"format 2", "reads format 1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newTestCluster(t)
			c.stop(c.serving(nil))
			_, err := c.start(func(cfg *Config, s *Seams) { test.break_(c, cfg, s) })
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("got %v, want %q", err, want)
				}
			}
		})
	}
}

func mustLock(t *testing.T, disk vfs.FS) {
	t.Helper()
	if _, err := disk.Lock("/data/" + lockName); err != nil {
		t.Fatal(err)
	}
}

func rewrite(t *testing.T, disk vfs.FS, body string) {
	t.Helper()
	f := &folder{fs: disk, dir: "/data"}
	if err := disk.Remove("/data/node.json"); err != nil {
		t.Fatal(err)
	}
	if err := f.write("/data/node.json", []byte(body)); err != nil {
		t.Fatal(err)
	}
}

// TestRefusalsAfterTheStart: what only shows when the log or the document is read.
func TestRefusalsAfterTheStart(t *testing.T) {
	for _, test := range []struct {
		name   string
		break_ func(*testCluster)
		want   []string
	}{
		{"corrupt log", func(c *testCluster) { corruptLog(c.t, c.disk) }, []string{"open the log", "/data/log/", "bad frame"}},
		{"log gone", func(c *testCluster) { removeLog(c.t, c.disk) }, []string{"its log is gone", "restore /data/log"}},
		{"bucket of another cluster", func(c *testCluster) {
			fresh := newTestCluster(c.t)
			d, err := cluster.New("another-cluster")
			if err != nil {
				c.t.Fatal(err)
			}
			if _, err := fresh.documents.Create(c.t.Context(), d); err != nil {
				c.t.Fatal(err)
			}
			c.bucket = fresh.bucket
		}, []string{"it belongs to cluster test-cluster", "holds cluster another-cluster", "QUOIT_BUCKET"}},
		{"document of the past", func(c *testCluster) {
			fresh := newTestCluster(c.t)
			fresh.form()
			fresh.change(func(d cluster.Document) (cluster.Document, error) {
				id, err := (&folder{fs: c.disk, dir: "/data"}).identify(c.address)
				if err != nil {
					return d, err
				}
				return d.Register(cluster.Registration{ID: id.ID, Address: c.address, Tokens: 16})
			})
			c.bucket = fresh.bucket
		}, []string{"gone back in time"}},
		{"another node has the address", func(c *testCluster) {
			rewrite(c.t, c.disk, `{"format":1,"cluster":"test-cluster","id":"somebody-else","address":"`+c.address+`"}`)
		}, []string{"node id", "somebody-else"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newTestCluster(t)
			n := c.serving(nil)
			client := dial(t, n.Address())
			for range 20 {
				client.do("SET a " + strings.Repeat("x", 5000))
			}
			c.follow(n, c.change(func(d cluster.Document) (cluster.Document, error) { return d.SetPaused(true) }))
			c.follow(n, c.change(func(d cluster.Document) (cluster.Document, error) { return d.SetPaused(false) }))
			c.stop(n)
			test.break_(c)
			n = c.mustStart(nil)
			err := c.failure(n)
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
		})
	}
}

// corruptLog turns over a bit in the first half of the first segment.
func corruptLog(t *testing.T, disk vfs.FS) {
	t.Helper()
	names, err := disk.ReadDir("/data/log")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		f, err := disk.Open("/data/log/" + name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, 1)
		if size, err := f.Size(); err != nil || size < 60_000 {
			continue
		}
		if _, err := f.ReadAt(b, 50_000); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := f.WriteAt(b, 50_000); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no segment is large enough: %v", names)
}

func removeLog(t *testing.T, disk vfs.FS) {
	t.Helper()
	names, err := disk.ReadDir("/data/log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := disk.Remove("/data/log/" + name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAFailingLogEndsTheProcess: Run returns the reason, and OnFatal was told first.
func TestAFailingLogEndsTheProcess(t *testing.T) {
	c := newTestCluster(t)
	c.form()
	told := make(chan error, 1)
	cfg, seams := Config{}, Seams{}
	c.stop(c.mustStart(func(c *Config, s *Seams) { cfg, seams = *c, *s }))
	cfg.Addr = c.address
	seams.OnFatal = func(err error) { told <- err }
	ended := make(chan error, 1)
	go func() { ended <- Run(t.Context(), cfg, seams) }()
	waitFor(t, "the node to register", func() bool {
		d, _, err := c.documents.Load(t.Context())
		_, ok := d.Member(c.address)
		return err == nil && ok
	})
	c.join(c.address)
	var client *testClient
	waitFor(t, "the node to serve", func() bool {
		if client == nil {
			if nc, err := net.Dial("tcp", c.address); err == nil {
				nc.Close()
				client = dial(t, c.address)
			}
			return false
		}
		return client.do("SET a 1") == "+OK"
	})
	c.disk.Kill()
	client.send("SET a 2\r\n")
	client.expectClosed()
	if err := <-told; !errors.Is(err, wal.ErrPoisoned) && !errors.Is(err, vfs.ErrKilled) {
		t.Errorf("told %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("Run returned without a reason")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	c := newTestCluster(t)
	c.form()
	var cfg Config
	var seams Seams
	c.stop(c.mustStart(func(c *Config, s *Seams) { cfg, seams = *c, *s }))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	cfg.Addr = c.address
	go func() { ended <- Run(ctx, cfg, seams) }()
	var client *testClient
	waitFor(t, "the node to listen", func() bool {
		nc, err := net.Dial("tcp", c.address)
		if err == nil {
			nc.Close()
			client = dial(t, c.address)
		}
		return err == nil
	})
	client.do("PING")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	client.expectClosed()
	seams.FS = nil
	if err := Run(ctx, Config{}, seams); err == nil || !strings.Contains(err.Error(), "QUOIT_NODE_ADDR") {
		t.Errorf("a start that is refused: %v", err)
	}
}

func TestShutdownTwiceAndBeforeReady(t *testing.T) {
	c := newTestCluster(t)
	n := c.mustStart(nil)
	c.stop(n)
	c.stop(n)
	if err := n.WaitReady(t.Context()); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("waiting for a stopped node: %v", err)
	}
	if err := n.Ready(); err == nil {
		t.Error("a stopped node is ready")
	}
}

func TestAdminListener(t *testing.T) {
	c := newTestCluster(t)
	n := c.serving(func(cfg *Config, _ *Seams) { cfg.AdminAddr = "127.0.0.1:0" })
	defer http.DefaultClient.CloseIdleConnections()
	dial(t, n.Address()).do("SET a 1")
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + n.AdminAddr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := get(path); code != 200 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	_, metrics := get("/metrics")
	for _, want := range []string{"quoit_node_ready 1", `quoit_node_commands_total{command="PUT"} 1`, "quoit_node_keys 1", "quoit_node_log_syncs_total", "go_goroutines"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	n.fail(errors.New("a reason"))
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := get(path); code != 503 || !strings.Contains(body, "a reason") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestHeartbeats(t *testing.T) {
	c := newTestCluster(t)
	n := c.serving(func(cfg *Config, _ *Seams) { cfg.Times.Poll = time.Hour })
	client := dial(t, n.Address())
	client.do("SET a 1")
	waitFor(t, "a heartbeat with the key", func() bool {
		beats := c.manager.heartbeats()
		if len(beats) == 0 {
			return false
		}
		h := beats[len(beats)-1]
		return h.Keys == 1 && h.Serving && h.State == "serving" && h.Address == n.Address() && h.Connections == 1 &&
			h.Ops == 1 && h.LogBytes > 0 && h.DurableLSN > 0 && h.Incarnation == c.member(n).Incarnation
	})
	// The answer to a heartbeat says how new the document is: that is a hint too.
	d := c.change(func(d cluster.Document) (cluster.Document, error) { return d.SetPaused(true) })
	waitFor(t, "the node to follow without a poll", func() bool { return n.state.view().counter == d.Counter })
}

// TestTheStatusSaysThatTheDiskIsFull, and the node goes on reading, following and
// beating.
func TestTheStatusSaysThatTheDiskIsFull(t *testing.T) {
	c := newTestCluster(t)
	// Segments must hold the largest value: with small ones the disk is full soon.
	n := c.serving(func(cfg *Config, _ *Seams) { cfg.Limits.Value = 64 << 10 })
	client := dial(t, n.Address())
	client.do("SET a 1")
	c.disk.SetCapacity(c.disk.Used())
	waitFor(t, "a refused write", func() bool {
		return strings.HasPrefix(client.do("SET b "+strings.Repeat("x", 50<<10)), "-READONLY ")
	})
	if h := n.heartbeat(); h.State != "disk full: writes are refused" || !h.Serving {
		t.Errorf("heartbeat: %+v", h)
	}
	c.follow(n, c.other(otherAddress))
	if got := client.do("GET a"); got != "1" {
		t.Errorf("reading: %s", got)
	}
}

func TestInfo(t *testing.T) {
	c := newTestCluster(t)
	n := c.serving(nil)
	client := dial(t, n.Address())
	client.do("SET a 1")
	all := client.do("INFO")
	for _, want := range []string{
		"# Server\r\nquoit_version:test", "address:" + n.Address(), "connected_clients:1", "fsync:always", "total_commands_processed:",
		"quoit_cluster:test-cluster", "quoit_state:serving", "db0:keys=1,", "used_memory:",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("INFO lacks %q:\n%s", want, all)
		}
	}
	if strings.Contains(all, "cmdstat_") || !strings.Contains(client.do("INFO everything"), "cmdstat_put:calls=1") {
		t.Error("Commandstats belong to INFO everything only")
	}
	if got := client.do("INFO keyspace default"); !strings.HasPrefix(got, "# Server") {
		t.Errorf("default: %s", got)
	}
	if got := client.do("INFO nothing"); got != "" {
		t.Errorf("an unknown section: %q", got)
	}
}
