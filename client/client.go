package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// Client is a connection to a cluster. It is safe for concurrent use.
type Client struct {
	env       *environment
	seeds     []*node
	refresher refresher

	routing atomic.Pointer[routing] // never nil once Open has returned
	routes  sync.Mutex              // held to change routing; guards retired
	retired []*node                 // left the cluster, may still owe replies

	watching sync.Mutex
	watches  map[*watchConn]struct{} // connections of watches; guarded by watching

	observer atomic.Pointer[func(Trip)]
}

// Open connects to a cluster. The seeds are addresses of any of its nodes or of
// its manager; one that answers is enough. It fails when none has answered
// before ctx ends, or within the retry budget when ctx has no deadline.
func Open(ctx context.Context, seeds []string, opts ...Option) (*Client, error) {
	o := defaultOptions()
	for _, opt := range opts {
		opt(&o)
	}
	if err := o.validate(seeds); err != nil {
		return nil, err
	}
	c := &Client{env: newEnvironment(o), watches: make(map[*watchConn]struct{})}
	for _, address := range seeds {
		n := newNode(c.env, address, address, 1)
		n.seed = true
		c.seeds = append(c.seeds, n)
	}
	if err := c.bootstrap(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.env.spawn(c.lookAfter)
	return c, nil
}

// bootstrap gets the first topology.
func (c *Client) bootstrap(ctx context.Context) error {
	t := trial{started: time.Now()}
	for {
		err := c.fetchTopology(ctx, nil)
		if err == nil {
			return nil
		}
		var foreign *protocol.Error
		if errors.Is(err, ErrUnauthenticated) || errors.As(err, &foreign) || distrusts(err) {
			return err // asking again changes nothing
		}
		t.tries++
		t.last = err
		pause := pauseAfter(brokenPause, t.tries, rand.Float64())
		if err := c.pause(ctx, &t, pause); err != nil {
			return err
		}
	}
}

// Close ends all connections and waits for everything that the client started.
// Calls that are under way fail with ErrClosed. To close twice does no harm.
func (c *Client) Close() error {
	if c.env.stop() {
		for _, n := range c.everyNode() {
			n.close(ErrClosed)
		}
		c.eachWatch(func(k *watchConn) { k.close(ErrClosed) })
	}
	c.env.running.Wait()
	return nil
}

// lookAfter looks after the connections until the client is closed.
func (c *Client) lookAfter() {
	ticker := time.NewTicker(max(c.env.health/2, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			for _, n := range c.everyNode() {
				n.tick()
			}
			c.eachWatch((*watchConn).tick)
		case <-c.env.ctx.Done():
			return
		}
	}
}

// Topology returns the topology in use.
func (c *Client) Topology() ring.Topology {
	return copyOf(c.routing.Load().topology)
}

// Owner returns the address of the node that owns key as far as this client
// knows, "" when nobody does.
func (c *Client) Owner(key string) string {
	return c.routing.Load().owners.Owner(ring.PositionOfString(key))
}

// Stats counts what a client has been through since it was opened.
type Stats struct {
	Dials     uint64 // connections opened, or tried to
	Redirects uint64 // MOVED answers followed
	Retries   uint64 // requests sent again for any other reason
	Refreshes uint64 // topologies asked for
	Abandoned uint64 // waits that a context cut short
}

// Stats returns the counters.
func (c *Client) Stats() Stats {
	s := &c.env.stats
	return Stats{
		Dials:     s.dials.Load(),
		Redirects: s.redirects.Load(),
		Retries:   s.retries.Load(),
		Refreshes: s.refreshes.Load(),
		Abandoned: s.abandoned.Load(),
	}
}
