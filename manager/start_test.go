package manager

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := DefaultConfig()
	c.Addr, c.AdminAddr, c.Bucket = l.Addr().String(), "off", "file:///unused"
	b := buckettest.NewMemory()
	err = Run(t.Context(), c, Seams{Bucket: b})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "QUOIT_MANAGER_ADDR") || !strings.Contains(err.Error(), c.Addr) {
		t.Errorf("error is %v", err)
	}
	if _, err := b.Get(t.Context(), cluster.DefaultKey); !errors.Is(err, bucket.ErrNotFound) {
		t.Errorf("a cluster was founded by a manager that cannot serve: %v", err)
	}
}

func TestAdminPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := DefaultConfig()
	c.Addr, c.AdminAddr, c.Bucket = "127.0.0.1:0", l.Addr().String(), "file:///unused"
	if err := Run(t.Context(), c, Seams{Bucket: buckettest.NewMemory()}); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "QUOIT_MANAGER_ADMIN_ADDR") {
		t.Errorf("error is %v", err)
	}
}

func TestWrongSettingsDoNotStart(t *testing.T) {
	c := DefaultConfig() // no bucket
	if err := Run(t.Context(), c, Seams{}); err == nil || !strings.Contains(err.Error(), "QUOIT_BUCKET") {
		t.Errorf("error is %v", err)
	}
	c.Addr, c.AdminAddr, c.Bucket = "127.0.0.1:0", "off", "ftp://example.org"
	if err := Run(t.Context(), c, Seams{}); err == nil || !strings.Contains(err.Error(), "QUOIT_BUCKET") || !strings.Contains(err.Error(), "file:///") {
		t.Errorf("error is %v", err)
	}
}

// careless is a bucket whose swaps have no condition.
type careless struct{ bucket.Bucket }

func (b careless) PutIfMatch(ctx context.Context, key string, body []byte, _ bucket.ETag) (bucket.ETag, error) {
	return b.Put(ctx, key, strings.NewReader(string(body)), int64(len(body)))
}

// twoWinners is a bucket that tells two racing creators that they have won.
type twoWinners struct {
	bucket.Bucket
	mu   sync.Mutex
	told map[string]int
}

func (b *twoWinners) PutIfAbsent(ctx context.Context, key string, body []byte) (bucket.ETag, error) {
	etag, err := b.Bucket.PutIfAbsent(ctx, key, body)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.told[key]++; b.told[key] == 2 && len(b.told) > 1 {
		return etag, nil
	}
	return etag, err
}

func TestBucketThatIsNotAtomicIsRefused(t *testing.T) {
	for name, b := range map[string]bucket.Bucket{
		"no condition": careless{buckettest.NewMemory()},
		"two winners":  &twoWinners{Bucket: buckettest.NewMemory(), told: map[string]int{}},
	} {
		w := newWorld(t)
		w.bucket = b
		_, err := w.tryManager()
		var probe *bucket.ProbeError
		if !errors.As(err, &probe) || !strings.Contains(err.Error(), "cannot be trusted") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFutureDocumentIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"future":  {`{"format":2,"shards":[]}`, "format 2 is not supported, only 1 is: upgrade"},
		"garbage": {"hello", "damaged"},
		"empty":   {"", "damaged"},
	} {
		w := newWorld(t)
		if _, err := w.bucket.PutIfAbsent(t.Context(), cluster.DefaultKey, []byte(c.body)); err != nil {
			t.Fatal(err)
		}
		_, err := w.tryManager()
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), cluster.DefaultKey) {
			t.Errorf("%s: %v, want %q and the key", name, err, c.want)
		}
		if o, err := w.bucket.Get(t.Context(), cluster.DefaultKey); err != nil || string(o.Body) != c.body {
			t.Errorf("%s: the document was touched: %q, %v", name, o.Body, err)
		}
	}
}

// TestFutureDocumentWhileRunning: somebody has upgraded the cluster under it.
func TestFutureDocumentWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.manager().dial()
		body := `{"format":2}`
		if _, err := w.bucket.Put(context.Background(), cluster.DefaultKey, strings.NewReader(body), int64(len(body))); err != nil {
			t.Fatal(err)
		}
		if got := c.do("REGISTER", registration(nodeA)); !strings.HasPrefix(got, "-ERR ") || !strings.Contains(got, "format 2 is not supported") {
			t.Errorf("got %s", got)
		}
		if got := c.do("TOPOLOGY"); !strings.HasPrefix(got, "quoit-topology") {
			t.Errorf("got %s", got)
		}
	})
}

// TestBucketThatIsAwayAtTheStart is waited for.
func TestBucketThatIsAwayAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var back atomic.Bool
		w.bucket = buckettest.NewFaulty(w.bucket, func(op buckettest.Op) buckettest.Fault {
			if !back.Load() {
				return buckettest.Busy()
			}
			return buckettest.Fault{}
		})
		began := time.Now()
		time.AfterFunc(time.Minute, func() { back.Store(true) })
		c := w.manager().dial()
		if took := time.Since(began); took < time.Minute || took > time.Minute+2*maxBackoff {
			t.Errorf("it took %v", took)
		}
		c.ok("REGISTER", registration(nodeA))
	})
}

// TestStopWhileTheBucketIsAway: nothing keeps a manager that cannot start.
func TestStopWhileTheBucketIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := buckettest.NewFaulty(buckettest.NewMemory(), func(buckettest.Op) buckettest.Fault { return buckettest.Busy() })
		c := DefaultConfig()
		c.Bucket, c.AdminAddr = "file:///unused", "off"
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := Run(ctx, c, Seams{Bucket: b, Listener: newNetwork().listen(managerAddr)}); err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
}

// TestFoundingMeetsEveryAnswer: the first document is written once, whatever
// becomes of the replies.
func TestFoundingMeetsEveryAnswer(t *testing.T) {
	for name, fault := range map[string]buckettest.Fault{
		"reply lost": buckettest.LoseReply(), "request lost": buckettest.LoseRequest(), "5xx": buckettest.Busy(),
		"412": buckettest.Conflict(), "412 of its own making": buckettest.OwnConflict(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.bucket = buckettest.NewFaulty(w.bucket, buckettest.InTurn("PutIfAbsent", fault, fault))
				trust := func(_ *Config, s *Seams) { s.TrustBucket = true }
				c := w.manager(trust).dial()
				c.ok("REGISTER", registration(nodeA))
				if d := w.document(); d.Counter != 2 {
					t.Errorf("counter is %d", d.Counter)
				}
			})
		})
	}
}

// TestManyFound: managers that start at the same moment agree on one cluster.
func TestManyFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				w.manager(func(_ *Config, s *Seams) {
					s.Listener = (&network{listeners: map[string]*listener{}}).listen(managerAddr)
				})
			})
		}
		wg.Wait()
		if d := w.document(); d.Counter != 1 {
			t.Errorf("counter is %d", d.Counter)
		}
	})
}

// TestStopEndsEverything: with connections open, requests under way, and a node
// that does not answer; goleak and the bubble see what is left.
func TestStopEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA, nodeB))
		w.node(nodeA).answer(func([]string) string { return "" })
		w.net.setCut(nodeB, true)
		never := make(chan struct{})
		var stuck atomic.Bool
		b := buckettest.NewFaulty(w.bucket, func(op buckettest.Op) buckettest.Fault {
			if stuck.Load() && op.Method == "Get" {
				return buckettest.Fault{Wait: never}
			}
			return buckettest.Fault{}
		})
		w.bucket = b
		m := w.manager()
		idle, busy := m.dial(), m.dial()
		idle.send("CLUSTER STA")
		stuck.Store(true)
		busy.send("CLUSTER PAUSE\r\n")
		synctest.Wait()
		began := time.Now()
		m.end()
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v to stop", took)
		}
		idle.expectClosed()
		busy.expectClosed()
	})
}

// TestListenerThatFails: the manager ends, with the reason, and closes what it has.
func TestListenerThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.manager()
		c := m.dial()
		_ = w.net.listeners[managerAddr].Close()
		<-m.done
		if !errors.Is(m.err, net.ErrClosed) {
			t.Errorf("it ended with %v", m.err)
		}
		m.err = nil
		c.expectClosed()
	})
}

func TestAdminListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t).with(documentOf(t, nodeA))
	broken := make(chan struct{})
	w.bucket = buckettest.NewFaulty(w.bucket, func(op buckettest.Op) buckettest.Fault {
		select {
		case <-broken:
			return buckettest.Busy()
		default:
			return buckettest.Fault{}
		}
	})
	w.manager(func(c *Config, s *Seams) { s.AdminListener, c.Poll = l, 10*time.Millisecond })
	get := func(path string) (int, string) { return fetch(t, "http://"+l.Addr().String()+path) }
	if code, body := get("/readyz"); code != http.StatusOK {
		t.Errorf("readyz: %d %s", code, body)
	}
	if _, body := get("/metrics"); !strings.Contains(body, `quoit_cluster_node_share{node="a:7401"} 1`) || !strings.Contains(body, "quoit_cluster_epoch 1\n") || !strings.Contains(body, "quoit_cluster_document_readable 1\n") || !strings.Contains(body, `quoit_cluster_node_up{node="a:7401"} 0`) {
		t.Errorf("metrics:\n%s", body)
	}
	close(broken)
	waitFor(t, "readyz to tell that the bucket is away", func() bool {
		code, body := get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "cannot read the cluster document")
	})
	if _, body := get("/metrics"); !strings.Contains(body, "quoit_cluster_document_readable 0\n") {
		t.Errorf("metrics:\n%s", body)
	}
	if code, _ := get("/healthz"); code != http.StatusOK {
		t.Errorf("healthz: %d: a restart would not bring the bucket back", code)
	}
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// waitFor asks until the answer is yes, where there is no event to wait for.
func waitFor(t *testing.T, what string, yes func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(time.Minute)
	for !yes() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
		<-ticker.C
	}
}
