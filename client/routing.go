package client

import (
	"errors"
	"maps"
	"slices"

	"github.com/quoitdb/quoit/ring"
)

// routing is a topology and the nodes it names. It never changes; a newer one
// takes its place.
type routing struct {
	topology ring.Topology
	owners   *ring.Map
	nodes    map[string]*node // by address
	replaced chan struct{}    // closed when another has taken its place
}

// owner is the node to ask for a position, nil when nobody owns it.
func (r *routing) owner(p ring.Position) *node { return r.nodes[r.owners.Owner(p)] }

var errOtherCluster = errors.New("client: the topology belongs to another cluster")

// install puts a topology in the place of the one in use, unless it is older.
// One of the same epoch is taken too: it gives every key the same owner, but
// may name a node that has joined and owns nothing yet.
func (c *Client) install(t ring.Topology) error {
	if old := c.routing.Load(); old != nil && same(old.topology, t) {
		return nil
	}
	owners, err := t.Map()
	if err != nil {
		return err
	}
	c.routes.Lock()
	defer c.routes.Unlock()
	old := c.routing.Load()
	if old != nil && old.topology.Cluster != t.Cluster {
		return errOtherCluster
	}
	if old != nil && t.Epoch < old.topology.Epoch {
		return nil
	}
	next := &routing{topology: t, owners: owners, nodes: make(map[string]*node, len(t.Nodes)), replaced: make(chan struct{})}
	for _, member := range t.Nodes {
		next.nodes[member.Address] = c.member(old, member)
	}
	c.routing.Store(next)
	if old != nil {
		c.retireGone(old, next)
		close(old.replaced)
	}
	return nil
}

// member is the node of the old routing, or a new one.
func (c *Client) member(old *routing, m ring.Node) *node {
	dial := c.env.endpoint(m)
	if old != nil {
		if n := old.nodes[m.Address]; n != nil {
			n.point(dial)
			return n
		}
	}
	return newNode(c.env, m.Address, dial, c.env.connections)
}

// retireGone lets go of nodes that are no members any more. lookAfter closes them
// when their last reply has come. Called with routes held.
func (c *Client) retireGone(old, next *routing) {
	for address, n := range old.nodes {
		if next.nodes[address] == nil {
			n.retire()
			c.retired = append(c.retired, n)
		}
	}
}

// everyNode lists all nodes that may have connections: members, seeds, and
// those that have left and still owe replies, which it forgets once they do not.
func (c *Client) everyNode() []*node {
	c.routes.Lock()
	defer c.routes.Unlock()
	c.retired = slices.DeleteFunc(c.retired, (*node).gone)
	all := slices.Concat(c.retired, c.seeds)
	if r := c.routing.Load(); r != nil {
		all = slices.AppendSeq(all, maps.Values(r.nodes))
	}
	return all
}

// reach finds a node by its address: a member, or else a seed.
func (c *Client) reach(address string) *node {
	if r := c.routing.Load(); r != nil {
		if n := r.nodes[address]; n != nil {
			return n
		}
	}
	for _, n := range c.seeds {
		if n.address == address {
			return n
		}
	}
	return nil
}
