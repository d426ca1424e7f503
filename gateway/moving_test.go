package gateway

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/ring"
)

// tally is what a worker knows of its counter: it was told low, and so many more
// increments may have happened whose answer it never saw.
type tally struct{ low, maybe int64 }

// heard takes an answer to an increment.
func (k *tally) heard(n int64) error {
	if n <= k.low || n > k.low+k.maybe+1 {
		return fmt.Errorf("the counter is %d, after %d acknowledged and at most %d more", n, k.low, k.maybe)
	}
	k.maybe -= n - k.low - 1
	k.low = n
	return nil
}

// overRedis increments one counter in pipelines until stop, through the Redis door.
func overRedis(g *fixture, key string, stop <-chan struct{}, k *tally) error {
	c := g.redis()
	// Of so many keys that nobody has some are in ranges that move, wherever those are.
	const more = 50
	args := []string{"MGET", key}
	for i := range more {
		args = append(args, fmt.Sprint("nobody", i))
	}
	all := request(args...)
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		const depth = 8
		c.send(strings.Repeat(request("INCR", key), depth) + all)
		for i := range depth {
			got := c.reply()
			switch {
			case got == "closed": // nobody knows about this one and the rest
				k.maybe += int64(depth - i)
				c = g.redis()
			case strings.HasPrefix(got, ":"):
				n, err := strconv.ParseInt(got[1:], 10, 64)
				if err != nil {
					return err
				}
				if err := k.heard(n); err != nil {
					return err
				}
				continue
			case strings.HasPrefix(got, "-TRYAGAIN "), strings.HasPrefix(got, "-UNAVAILABLE "):
				continue
			default:
				return fmt.Errorf("INCR: %s", got)
			}
			break
		}
		if k.maybe > 0 {
			c.Close()
			c = g.redis() // whatever is left of the last pipeline belongs to the past
			continue
		}
		if got := c.reply(); got != fmt.Sprintf("[%d%s]", k.low, strings.Repeat(" nil", more)) && !strings.HasPrefix(got, "-") && got != "closed" {
			return fmt.Errorf("MGET: %s, want %d", got, k.low)
		} else if got == "closed" {
			c = g.redis()
		}
	}
}

// overChannels does the same with the smart client over WebSockets.
func overChannels(db *client.Client, key string, stop <-chan struct{}, k *tally) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		n, err := db.Increment(ctx, key, 1)
		cancel()
		switch {
		case errors.Is(err, client.ErrOutcomeUnknown):
			k.maybe++
		case err != nil:
			return err
		default:
			if err := k.heard(n); err != nil {
				return err
			}
		}
	}
}

// TestBothDoorsWhileRangesMoveAndANodeRestarts: no wrong answer, and no error but
// those that docs/protocol.md has.
func TestBothDoorsWhileRangesMoveAndANodeRestarts(t *testing.T) {
	t.Parallel()
	cluster, g := both(t, 2, options{})
	db, err := client.Open(t.Context(), cluster.Addresses(), client.WithDialer(func(_ context.Context, address string) (client.Conn, error) {
		ws, _, err := g.dialPath("/v1/node/"+address, g.header()) //nolint:bodyclose // the library does
		if err != nil {
			return nil, err
		}
		ws.SetReadLimit(-1)
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const workers = 6
	stop := make(chan struct{})
	var running sync.WaitGroup
	halt := sync.OnceFunc(func() {
		close(stop)
		running.Wait()
	})
	defer halt() // also when the test fails: they must not outlive it
	tallies, failures := make([]tally, 2*workers), make([]error, 2*workers)
	for i := range workers {
		running.Go(func() { failures[i] = overRedis(g, fmt.Sprint("r", i), stop, &tallies[i]) })
		running.Go(func() {
			failures[workers+i] = overChannels(db, fmt.Sprint("r", workers+i), stop, &tallies[workers+i])
		})
	}
	added, err := cluster.AddNode(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "its ranges to have moved", func() bool {
		topology, err := ring.ParseTopology(g.source.view.Load().text)
		return err == nil && len(topology.Nodes) == 3 && len(topology.Held) == 0 && topology.Nodes[indexOf(topology, added.Address())].Tokens > 0
	})
	if err := added.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := cluster.AddNode(t.Context(), added.Address())
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it to serve again", func() bool { return again.Ready() == nil })
	halt()
	c := g.redis()
	total := int64(0)
	for i, err := range failures {
		if err != nil {
			t.Errorf("worker %d: %v", i, err)
		}
		k := tallies[i]
		n, err := strconv.ParseInt(c.do("GET", fmt.Sprint("r", i)), 10, 64)
		if err != nil || n < k.low || n > k.low+k.maybe {
			t.Errorf("counter %d is %d (%v), after %d acknowledged and at most %d more", i, n, err, k.low, k.maybe)
		}
		if total += k.low; k.low == 0 {
			t.Errorf("worker %d did nothing", i)
		}
	}
	s := db.Stats()
	inside := g.source.db.Load().Stats()
	if s.Redirects+inside.Redirects+s.Retries+inside.Retries == 0 {
		t.Error("nothing moved under the workers: the test proves nothing")
	}
	t.Logf("%d increments; redirects %d and %d, retries %d and %d", total, inside.Redirects, s.Redirects, inside.Retries, s.Retries)
}

func indexOf(t ring.Topology, address string) int {
	for i, n := range t.Nodes {
		if n.Address == address {
			return i
		}
	}
	return 0
}
