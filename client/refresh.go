package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// refresher makes many reasons to fetch the topology into one fetch. At most
// one run is under way; it ends when the topology is as new as the newest epoch
// that anybody has heard of, or when it has tried for a while.
type refresher struct {
	mu    sync.Mutex
	want  ring.Epoch // the newest epoch heard of
	run   *refreshRun
	ended time.Time // when the last run ended
}

// refreshRun is a fetch that callers may wait for.
type refreshRun struct {
	done chan struct{}
	err  error // of the last round
}

const (
	// refreshRounds is how often a run asks around before it leaves the rest to
	// the next reason for a refresh.
	refreshRounds = 8
	// refreshRest is the least time between two runs that only suspicion caused.
	refreshRest = time.Second
	// askTimeout bounds how long one node is asked for its topology.
	askTimeout = 2 * time.Second
)

// noticeEpoch is called when from has mentioned an epoch. If the topology in
// use is older, the run that fetches it is returned, else nil.
func (c *Client) noticeEpoch(epoch ring.Epoch, from *node) *refreshRun {
	if r := c.routing.Load(); epoch <= r.topology.Epoch {
		return nil
	}
	c.refresher.mu.Lock()
	defer c.refresher.mu.Unlock()
	// Look again: the run that everybody waited for may just have ended.
	if epoch <= c.routing.Load().topology.Epoch {
		return nil
	}
	c.refresher.want = max(c.refresher.want, epoch)
	return c.joinRefresh(from)
}

// suspect is called when something else than an answer hints that the topology
// is out of date, such as a node that cannot be reached.
func (c *Client) suspect() {
	c.refresher.mu.Lock()
	defer c.refresher.mu.Unlock()
	if c.refresher.run == nil && time.Since(c.refresher.ended) >= refreshRest {
		c.joinRefresh(nil)
	}
}

// joinRefresh returns the run that is under way, or a new one that asks from
// first. nil means that the client is closed. Called with refresher.mu held.
func (c *Client) joinRefresh(from *node) *refreshRun {
	if c.refresher.run != nil {
		return c.refresher.run
	}
	run := &refreshRun{done: make(chan struct{})}
	if !c.env.spawn(func() { c.runRefresh(run, from) }) {
		return nil
	}
	c.refresher.run = run
	return run
}

// RefreshTopology asks the cluster for its topology now. That is never needed
// for correctness: the client notices by itself when a range has moved.
func (c *Client) RefreshTopology(ctx context.Context) error {
	c.refresher.mu.Lock()
	run := c.joinRefresh(nil)
	c.refresher.mu.Unlock()
	if run == nil {
		return ErrClosed
	}
	return run.wait(ctx)
}

func (r *refreshRun) wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// runRefresh is one run. The jitter keeps the clients of a large cluster, which
// all learn of a new epoch at the same moment, from asking at the same moment.
func (c *Client) runRefresh(run *refreshRun, from *node) {
	pause := time.Duration(rand.Float64() * float64(c.env.jitter))
	for round := 0; ; round++ {
		c.env.sleep(c.env.ctx, pause)
		run.err = c.fetchTopology(c.env.ctx, from)
		if c.refreshEnded(run, round) {
			return
		}
		pause = pauseAfter(refreshPause, round, rand.Float64())
	}
}

// refreshEnded ends the run if it has what was wanted, or has tried enough.
func (c *Client) refreshEnded(run *refreshRun, round int) bool {
	r := &c.refresher
	r.mu.Lock()
	defer r.mu.Unlock()
	enough := run.err == nil && c.routing.Load().topology.Epoch >= r.want
	closed := c.env.ctx.Err() != nil
	if !enough && !closed && round+1 < refreshRounds {
		return false
	}
	if closed {
		run.err = ErrClosed
	}
	r.run, r.ended = nil, time.Now()
	close(run.done)
	return true
}

// fetchTopology asks one node after another until one has a topology as new as
// wanted: first the one that mentioned it, then the members, then the seeds.
func (c *Client) fetchTopology(ctx context.Context, from *node) error {
	var failed error
	got := false
	for _, n := range c.candidates(from) {
		t, err := c.askTopology(ctx, n)
		if err == nil {
			err = c.install(t)
		}
		if err != nil {
			failed = worse(failed, err)
			continue
		}
		got = true
		if t.Epoch >= c.wantedEpoch() {
			return nil
		}
	}
	if got || c.env.source == nil {
		return failedUnless(got, failed)
	}
	if err := c.askSource(ctx); err != nil {
		return worse(failed, err)
	}
	return nil
}

func failedUnless(got bool, err error) error {
	if got {
		return nil
	}
	return err
}

// worse picks the error to report: that a node cannot be reached says less than
// what another one answered.
func worse(a, b error) error {
	var unreachable *dialError
	if a == nil || errors.As(a, &unreachable) {
		return b
	}
	return a
}

func (c *Client) wantedEpoch() ring.Epoch {
	c.refresher.mu.Lock()
	defer c.refresher.mu.Unlock()
	return c.refresher.want
}

func (c *Client) candidates(from *node) []*node {
	var members []*node
	if r := c.routing.Load(); r != nil {
		for _, n := range r.nodes {
			if n != from {
				members = append(members, n)
			}
		}
	}
	rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	all := make([]*node, 0, 1+len(members)+len(c.seeds))
	if from != nil {
		all = append(all, from)
	}
	all = append(all, members...)
	for _, seed := range c.seeds {
		if n := c.reach(seed.address); n == seed || !n.dialsAt(seed.address) {
			all = append(all, seed) // not the same door as that of a member
		}
	}
	return all
}

// askTopology is one question to one node.
func (c *Client) askTopology(ctx context.Context, n *node) (ring.Topology, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c.env.stats.refreshes.Add(1)
	k := c.env.newCall()
	k.buf = append(k.buf, topologyRequest...)
	o, err := c.try(ctx, &query{call: k, fixed: n, harmless: true}, n, 0)
	if o == abandoned {
		return ring.Topology{}, err
	}
	defer k.release()
	if err != nil {
		return ring.Topology{}, err
	}
	return decodeTopology(n, k.reply)
}

const topologyRequest = "*1\r\n$8\r\nTOPOLOGY\r\n"

func decodeTopology(n *node, r protocol.Reply) (ring.Topology, error) {
	if r.Kind != '$' || r.Null {
		return ring.Topology{}, unexpected(n, "TOPOLOGY")
	}
	t, err := ring.ParseTopology(r.Bytes)
	if err != nil {
		return ring.Topology{}, &ReplyError{Node: n.address, Command: "TOPOLOGY", Err: err}
	}
	return t, nil
}
