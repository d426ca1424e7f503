package client

import (
	"bytes"
	"context"
	"sync"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// sighting is a node's answer to a question about all its keys, together with
// the topology by which it answered. The question is sent between two TOPOLOGY
// requests, in one write: when the node names the same epoch in both answers,
// its ownership was that of the epoch in between.
//
// This relies on what a node does while a range changes hands: whatever the
// topology that it publishes gives it, it either serves or answers TRYAGAIN.
// It never passes over such a range as if it were not its own.
type sighting struct {
	reply    protocol.Reply
	topology ring.Topology
	text     []byte // of topology
	steady   bool   // the epoch did not change under the question
}

// sight asks n. The request is complete, as protocol.AppendRequest makes it; fresh is
// that of the trial.
func (c *Client) sight(ctx context.Context, n *node, request []byte, fresh uint64) (sighting, outcome, error) {
	k := c.env.newCall()
	k.buf = append(k.buf, topologyRequest...)
	k.buf = append(k.buf, request...)
	k.buf = append(k.buf, topologyRequest...)
	k.want = 3
	o, err := c.try(ctx, &query{call: k, fixed: n, harmless: true}, n, fresh)
	if o == abandoned {
		return sighting{}, o, err
	}
	defer k.release()
	if o != answered || err != nil {
		return sighting{}, o, err
	}
	for _, r := range k.replies {
		if r.Kind == '-' {
			o, err := c.classify(k, r, fresh, true)
			return sighting{}, o, err
		}
	}
	s, err := decodeSighting(n, k.replies[0], k.replies[1], k.replies[2])
	return s, answered, err
}

func decodeSighting(n *node, before, reply, after protocol.Reply) (sighting, error) {
	t, err := decodeTopology(n, after)
	if err != nil {
		return sighting{}, err
	}
	s := sighting{reply: reply, topology: t, text: after.Bytes, steady: true}
	if !bytes.Equal(before.Bytes, after.Bytes) {
		earlier, err := decodeTopology(n, before)
		if err != nil {
			return sighting{}, err
		}
		s.steady = earlier.Epoch == t.Epoch
	}
	return s, nil
}

// countTries is how often Count asks for a moment in which nothing moves.
const countTries = 8

// Count returns the number of keys in the cluster: what the nodes count at the
// same epoch. While ranges change hands all the time there is no such moment,
// and then one that moves just now may be missing or counted twice.
func (c *Client) Count(ctx context.Context) (int64, error) {
	t := trial{}
	for {
		total, exact, o, err := c.countOnce(ctx, t.fresh)
		t.tries++
		if err == nil && (exact || t.tries >= countTries) {
			return total, nil
		}
		if o == answered && err != nil {
			return 0, err
		}
		if err != nil && ctx.Err() == nil {
			t.last = err
		}
		if o == answered || o == abandoned {
			o = behind
		}
		if err := c.next(ctx, &t, o, nil, true); err != nil {
			return 0, err
		}
	}
}

// countOnce asks all nodes at once. The sum is exact when all answered by the
// same epoch.
func (c *Client) countOnce(ctx context.Context, fresh uint64) (total int64, exact bool, o outcome, err error) {
	r := c.routing.Load()
	type part struct {
		sighting
		o   outcome
		err error
	}
	parts := make(chan part, len(r.nodes))
	var all sync.WaitGroup
	for _, n := range r.nodes {
		all.Go(func() {
			s, o, err := c.sight(ctx, n, []byte("*1\r\n$6\r\nDBSIZE\r\n"), fresh)
			if err == nil && s.reply.Kind != ':' {
				err = unexpected(n, "DBSIZE")
			}
			parts <- part{s, o, err}
		})
	}
	all.Wait()
	close(parts)
	exact = true
	for p := range parts {
		if p.err != nil {
			return 0, false, p.o, p.err
		}
		total += p.reply.Int
		exact = exact && p.steady && p.topology.Epoch == r.topology.Epoch
		if p.topology.Epoch > r.topology.Epoch {
			if err := c.install(p.topology); err != nil {
				return 0, false, answered, err
			}
		}
	}
	return total, exact, answered, nil
}
