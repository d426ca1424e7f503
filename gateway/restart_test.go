package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/internal/local"
)

// gateways are the ways in that a page knows, as its client dials them: the first that
// answers is taken, and the next time it begins with that one.
type gateways struct {
	mu    sync.Mutex
	all   []string                     // addresses; guarded by mu
	codes map[websocket.StatusCode]int // with which connections ended; guarded by mu
}

func (w *gateways) dial(ctx context.Context, node string) (client.Conn, error) {
	w.mu.Lock()
	all := append([]string(nil), w.all...)
	w.mu.Unlock()
	var errs []error
	for _, at := range all {
		transport := &http.Transport{DisableKeepAlives: true}
		ws, _, err := websocket.Dial(ctx, "ws://"+at+"/v1/node/"+node, &websocket.DialOptions{ //nolint:bodyclose // the library does
			HTTPClient: &http.Client{Transport: transport}, HTTPHeader: http.Header{"Origin": {"http://" + at}}, Subprotocols: []string{Subprotocol},
		})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ws.SetReadLimit(-1)
		w.prefer(at)
		return &watched{websocket.NetConn(context.Background(), ws, websocket.MessageBinary), w}, nil
	}
	return nil, errors.Join(errs...)
}

func (w *gateways) prefer(at string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, other := range w.all {
		if other == at {
			w.all[0], w.all[i] = at, w.all[0]
		}
	}
}

func (w *gateways) ended(code websocket.StatusCode) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.codes[code]
}

// watched notes with which code its WebSocket ended.
type watched struct {
	net.Conn
	by *gateways
}

func (c *watched) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if code := websocket.CloseStatus(err); code >= 0 {
		c.by.mu.Lock()
		c.by.codes[code]++
		c.by.mu.Unlock()
	}
	return n, err
}

// pair is two gateways before one cluster, and the clients' ways through them.
type pair struct {
	cluster  *local.Cluster
	gateways [2]*fixture
	ways     *gateways
}

func pairOfGateways(t *testing.T, nodes int) (*local.Cluster, *pair) {
	t.Helper()
	p := &pair{cluster: startCluster(t, nodes), ways: &gateways{codes: make(map[websocket.StatusCode]int)}}
	for i := range p.gateways {
		address, err := freeport.Address() // that nobody takes while the gateway is down
		if err != nil {
			t.Fatal(err)
		}
		p.gateways[i] = p.at(t, address)
		p.ways.all = append(p.ways.all, address)
	}
	return p.cluster, p
}

func (p *pair) at(t *testing.T, address string) *fixture {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, p.cluster.Manager(), options{seams: func(s *Seams) { s.Listener = l }}).ready()
}

// open opens a client that knows both.
func (p *pair) open(t *testing.T, cluster *local.Cluster) *client.Client {
	t.Helper()
	db, err := client.Open(t.Context(), cluster.Addresses(), client.WithDialer(p.ways.dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// restart stops a gateway that has clients, as a signal does, and starts it again. They
// must have been told to go elsewhere. Which one it is depends on where they went the last
// time: it may have been back already.
func (p *pair) restart(t *testing.T) {
	t.Helper()
	i := 0
	waitFor(t, "clients at a gateway", func() bool {
		i = slices.IndexFunc(p.gateways[:], func(g *fixture) bool { return g.stats.channels.Load() > 0 && g.stats.messagesIn.Load() > 0 })
		return i >= 0
	})
	g := p.gateways[i]
	before := p.ways.ended(CloseDraining)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if g.stats.aborted.Load() != 0 {
		t.Errorf("%d clients were cut off", g.stats.aborted.Load())
	}
	waitFor(t, "their channels to have ended, with a code", func() bool { return p.ways.ended(CloseDraining) > before })
	p.gateways[i] = p.at(t, g.Addr())
}

// TestGatewaysRestartOneAfterTheOther under clients that know both: their channels end
// with the code that says so, they connect elsewhere, and no call fails.
func TestGatewaysRestartOneAfterTheOther(t *testing.T) {
	t.Parallel()
	cluster, both := pairOfGateways(t, 2)
	db := both.open(t, cluster)
	const workers = 4
	stop := make(chan struct{})
	var running sync.WaitGroup
	halt := sync.OnceFunc(func() {
		close(stop)
		running.Wait()
	})
	defer halt()
	tallies, failures := make([]tally, workers), make([]error, workers)
	for i := range workers {
		running.Go(func() { failures[i] = overChannels(db, fmt.Sprint("r", i), stop, &tallies[i]) })
	}
	for range 4 {
		waitFor(t, "requests at the gateways", func() bool {
			asked := both.gateways[0].stats.messagesIn.Load() + both.gateways[1].stats.messagesIn.Load()
			return asked > 100
		})
		both.restart(t)
	}
	halt()
	for i, err := range failures {
		if err != nil {
			t.Errorf("worker %d: %v", i, err)
		}
		text, err := db.Get(t.Context(), fmt.Sprint("r", i))
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseInt(string(text), 10, 64)
		if k := tallies[i]; err != nil || n < k.low || n > k.low+k.maybe || k.low == 0 {
			t.Errorf("counter %d is %d (%v), after %d acknowledged and at most %d more", i, n, err, k.low, k.maybe)
		}
	}
}
