package client

import (
	"context"
	"iter"
	"slices"

	"github.com/quoitdb/quoit/ring"
)

// WithSource adds somebody to learn the topology from who is no node, such as a
// gateway: ask returns the newest topology that it knows, waiting for the first one.
// It is asked when no member and no seed has answered, so also for the first topology
// of a client without seeds.
func WithSource(ask func(ctx context.Context) (ring.Topology, error)) Option {
	return func(o *options) { o.source = ask }
}

// UseTopology puts a topology in use that somebody has sent. One that is older than
// that in use changes nothing; one of another cluster is an error.
func (c *Client) UseTopology(t ring.Topology) error { return c.install(t) }

// Topologies gives the topology in use, and then each that takes its place, until ctx
// ends or the client is closed. One that was replaced before it was asked for is left
// out.
func (c *Client) Topologies(ctx context.Context) iter.Seq[ring.Topology] {
	return func(yield func(ring.Topology) bool) {
		for {
			r := c.routing.Load()
			if !yield(copyOf(r.topology)) {
				return
			}
			select {
			case <-r.replaced:
			case <-ctx.Done():
				return
			case <-c.env.ctx.Done():
				return
			}
		}
	}
}

// copyOf is a topology that whoever gets it may change.
func copyOf(t ring.Topology) ring.Topology {
	t.Nodes, t.Held = slices.Clone(t.Nodes), slices.Clone(t.Held)
	return t
}

// same says whether two topologies are equal in every part.
func same(a, b ring.Topology) bool {
	return a.Cluster == b.Cluster && a.Epoch == b.Epoch && slices.Equal(a.Held, b.Held) &&
		slices.EqualFunc(a.Nodes, b.Nodes, func(x, y ring.Node) bool {
			return x.Address == y.Address && x.Tokens == y.Tokens && slices.Equal(x.Endpoints, y.Endpoints)
		})
}

// askSource is one question to the source.
func (c *Client) askSource(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c.env.stats.refreshes.Add(1)
	t, err := c.env.source(ctx)
	if err != nil {
		return err
	}
	return c.install(t)
}
