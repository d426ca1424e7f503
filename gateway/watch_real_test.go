package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/client"
)

// TestAPageWatchesARealNode: the conversation of a page, with a node at the other end.
func TestAPageWatchesARealNode(t *testing.T) {
	cluster, g := both(t, 1, options{})
	p, other := g.channel(cluster.Addresses()[0]), g.channel(cluster.Addresses()[0])
	other.do("SET", "p:1", "before")
	p.send(request("GET", "p:1") + request("WATCH", "1", "PREFIX", "p:") + request("WATCH", "7", "PREFIX", "p:", "STATE", "0", "0", "0") + request("GET", "p:1"))
	p.hears("before")
	if got := p.reply(); !strings.HasPrefix(got, "-ERR wrong number of arguments") {
		t.Fatalf("a WATCH without ranges: %s", got)
	}
	p.hears("[watching :7]")
	next := func(name string) string {
		t.Helper()
		for {
			got := p.reply()
			switch {
			case strings.HasPrefix(got, "["+name+" "):
				return got
			case strings.HasPrefix(got, "closed"):
				t.Fatalf("waiting for %s: %s", name, got)
			}
		}
	}
	if got := next("put"); !strings.HasSuffix(got, ":0 before]") {
		t.Errorf("the state is %s", got)
	}
	next("synced")
	other.do("SET", "p:2", strings.Repeat("x", 300<<10))
	if got := next("put"); !strings.Contains(got, " p:2 ") || !strings.HasSuffix(got, strings.Repeat("x", 300<<10)+"]") {
		t.Errorf("a large value: %.100s", got)
	}
	other.do("DEL", "p:1")
	if got := next("delete"); !strings.HasPrefix(got, "[delete :7 p:1 ") {
		t.Errorf("a delete: %s", got)
	}
	p.send(request("PING", "there?"))
	if got := next("pong"); got != "[pong there?]" {
		t.Errorf("a ping: %s", got)
	}
	p.send(request("WATCH", "8", "PREFIX"))
	if got := next("refused"); !strings.HasPrefix(got, "[refused :8 ERR wrong number of arguments") {
		t.Errorf("a wrong WATCH: %s", got)
	}
	p.send(request("UNWATCH", "7"))
	next("unwatched")
	p.send(request("QUIT"))
	for got := ""; got != "closed 1000"; {
		if got = p.reply(); strings.HasPrefix(got, "closed") && got != "closed 1000" {
			t.Fatal(got)
		}
	}
}

// TestASlowPageIsToldThatItIsBehind: what it does not take waits at the node, which keeps
// a bounded part of it and says behind; the gateway keeps one buffer. In the end the page
// has the newest value.
func TestASlowPageIsToldThatItIsBehind(t *testing.T) {
	n := nodeConfig(t)
	n.Watch.History, n.Times.Write = 1<<20, time.Hour // here nobody is cut off for being slow
	cluster := startClusterOf(t, 1, n)
	g := start(t, cluster.Manager(), options{config: func(c *Config) { c.Times.Write, c.Times.Ping = time.Hour, time.Hour }}).ready()
	p := g.channel(cluster.Addresses()[0])
	p.send(request("WATCH", "7", "PREFIX", "", "0", "0", "0"))
	p.hears("[watching :7]")
	other := g.redis()
	const changes = 1500
	for i := range changes { // far more than the buffers of kernel, gateway and node together
		if got := other.do("SET", "k", fmt.Sprint(i, " ", strings.Repeat("x", 20<<10))); got != "+OK" {
			t.Fatal(got)
		}
	}
	if used := g.budget.Used(); used > 2*streamBuffer {
		t.Errorf("the gateway holds %d bytes of buffers for one page", used)
	}
	behind := false
	last := fmt.Sprint(changes-1, " x")
	for {
		got := p.reply()
		if strings.HasPrefix(got, "closed") {
			t.Fatalf("it was cut off: %s", got)
		}
		behind = behind || got == "[behind :7]"
		if _, value, put := strings.Cut(got, " :0 "); put && strings.HasPrefix(value, last) {
			break
		}
	}
	if !behind {
		t.Error("it was told every one of 30 MB of changes: the test proves nothing")
	}
}

// follower is a watch of everything below a prefix, and what it has been told.
type follower struct {
	mu       sync.Mutex
	has      map[string]string         // guarded by mu
	versions map[string]client.Version // guarded by mu
	changes  int                       // guarded by mu
	over     bool                      // guarded by mu
	err      error                     // why it ended; read when over
}

// follow runs until ctx ends. For each key versions must rise.
func (f *follower) follow(ctx context.Context, db *client.Client, prefix string) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.over = true
	}()
	for change, err := range db.Watch(ctx, prefix, client.WatchOptions{State: true}) {
		if err != nil {
			if ctx.Err() == nil {
				f.err = err
			}
			return
		}
		if err := f.take(change); err != nil {
			f.err = err
			return
		}
	}
}

func (f *follower) take(c client.Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes++
	switch c.Kind {
	case client.ChangePut, client.ChangeDelete:
		if c.Version != 0 && c.Version <= f.versions[c.Key] {
			return fmt.Errorf("%s has version %d after %d", c.Key, c.Version, f.versions[c.Key])
		}
		f.versions[c.Key] = c.Version
	default:
		return nil
	}
	if c.Kind == client.ChangeDelete {
		delete(f.has, c.Key)
		return nil
	}
	f.has[c.Key] = string(c.Value)
	return nil
}

func (f *follower) failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.over
}

func (f *follower) agrees(with map[string]string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Equal(f.has, with)
}

// TestAWatchSurvivesGatewaysNodesAndMoves: writers go on while both gateways restart, a
// node joins and one restarts. What the watch was told is in order, and in the end is all
// that there is, deletes included.
func TestAWatchSurvivesGatewaysNodesAndMoves(t *testing.T) {
	t.Parallel()
	cluster, both := pairOfGateways(t, 2)
	pages := both.open(t, cluster)
	writer, err := client.Open(t.Context(), cluster.Addresses())
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	f := &follower{has: make(map[string]string), versions: make(map[string]client.Version)}
	watching, unwatch := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.follow(watching, pages, "w:") })
	stop := make(chan struct{})
	var halted sync.WaitGroup
	halt := sync.OnceFunc(func() { close(stop); halted.Wait() })
	defer func() {
		halt()
		unwatch()
		running.Wait()
	}()
	for i := range 4 {
		halted.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := scribble(t.Context(), writer, fmt.Sprint("w:", i, ":", n%50), n); err != nil {
					t.Errorf("writer %d: %v", i, err)
					return
				}
			}
		})
	}
	told := func(more int) {
		t.Helper()
		f.mu.Lock()
		before := f.changes
		f.mu.Unlock()
		waitFor(t, "the watch to be told more", func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.changes >= before+more || f.over
		})
	}
	told(200)
	both.restart(t)
	told(50)
	both.restart(t)
	told(50)
	added, err := cluster.AddNode(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "its ranges to have moved", func() bool {
		topology := writer.Topology()
		_ = writer.RefreshTopology(t.Context())
		return len(topology.Nodes) == 3 && len(topology.Held) == 0 && topology.Nodes[indexOf(topology, added.Address())].Tokens > 0
	})
	told(50)
	if err := added.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := cluster.AddNode(t.Context(), added.Address())
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it to serve again", func() bool { return again.Ready() == nil })
	both.restart(t)
	told(50)
	halt()
	keys := 0
	waitFor(t, "the watch to have all that there is", func() bool {
		all := everythingBelow(t, writer, "w:") // again: a node may have finished what nobody waited for
		keys = len(all)
		return f.agrees(all) || f.failed()
	})
	unwatch()
	running.Wait()
	if f.err != nil {
		t.Error(f.err)
	}
	t.Logf("%d changes told, %d keys in the end", f.changes, keys)
}

// scribble changes a key, and sometimes takes it away.
func scribble(ctx context.Context, db *client.Client, key string, n int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if n%7 == 6 {
		_, err := db.Delete(ctx, key)
		return orUnknown(err)
	}
	return orUnknown(db.Put(ctx, key, fmt.Append(nil, n)))
}

// orUnknown forgives a write of which nobody knows whether it was done: its node ended.
func orUnknown(err error) error {
	if errors.Is(err, client.ErrOutcomeUnknown) {
		return nil
	}
	return err
}

func everythingBelow(t *testing.T, db *client.Client, prefix string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for e, err := range db.Scan(t.Context(), client.ScanOptions{Values: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(e.Key, prefix) {
			all[e.Key] = string(e.Value)
		}
	}
	return all
}
