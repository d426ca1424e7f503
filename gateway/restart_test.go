package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/freeport"
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

// TestGatewaysRestartOneAfterTheOther under clients that know both: their channels end
// with the code that says so, they connect elsewhere, and no call fails.
func TestGatewaysRestartOneAfterTheOther(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 2)
	at := func(address string) *fixture {
		t.Helper()
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return start(t, cluster.Manager(), options{seams: func(s *Seams) { s.Listener = l }}).ready()
	}
	var addresses [2]string // that nobody takes meanwhile
	for i := range addresses {
		var err error
		if addresses[i], err = freeport.Address(); err != nil {
			t.Fatal(err)
		}
	}
	first, second := at(addresses[0]), at(addresses[1])
	ways := &gateways{all: addresses[:], codes: make(map[websocket.StatusCode]int)}
	db, err := client.Open(t.Context(), cluster.Addresses(), client.WithDialer(ways.dial))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
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
		running.Go(func() { failures[i] = overChannels(first, db, fmt.Sprint("r", i), stop, &tallies[i]) })
	}
	for round := range 4 {
		g := map[bool]*fixture{true: first, false: second}[round%2 == 0]
		waitFor(t, "the clients to be at this gateway", func() bool { return g.stats.channels.Load() > 0 && g.stats.messagesIn.Load() > 100 })
		before := ways.ended(CloseDraining)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := g.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if g.stats.aborted.Load() != 0 {
			t.Errorf("round %d: %d clients were cut off", round, g.stats.aborted.Load())
		}
		waitFor(t, "the channels to have ended, with a code", func() bool { return ways.ended(CloseDraining) > before })
		again := at(g.Addr())
		if round%2 == 0 {
			first = again
		} else {
			second = again
		}
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
