package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// query is a request and where it is to go. The call in it belongs to trip.
type query struct {
	call     *call
	body     []byte // goes into the request where call.value left room
	position ring.Position
	fixed    *node // ask this node and no other; nil: the owner of position
	harmless bool  // changes nothing, may be sent twice

	// What an observer is told, which for requests to a fixed node is nothing.
	command, key string
}

// trial is the story of a request so far.
type trial struct {
	tries   int
	hops    int       // redirects followed in a row
	hint    *node     // whom MOVED named
	fresh   uint64    // connections opened up to here may have an old token; 0: all
	started time.Time // when the first failure was seen
	last    error     // what the last try came to

	// For an observer.
	redirects int
	asked     *node // the last one
}

// trip sends a query and tries again where that is safe. On success the call,
// answered, is the caller's to release; after an error it is gone.
func (c *Client) trip(ctx context.Context, q query) error {
	var t trial
	fn := c.observer.Load()
	if fn == nil {
		return c.travel(ctx, &q, &t)
	}
	began := time.Now()
	err := c.travel(ctx, &q, &t)
	c.observed(fn, &q, &t, began, err)
	return err
}

func (c *Client) travel(ctx context.Context, q *query, t *trial) error {
	for {
		n := q.fixed
		if n == nil {
			n = c.choose(t, q.position)
		}
		t.asked = n
		o, err := c.try(ctx, q, n, t.fresh)
		t.tries++
		switch {
		case o == answered && err == nil:
			return nil
		case o == answered:
			q.call.release()
			return err
		case o == abandoned: // the link still has the call, and releases it
			return giveUp(t, ctx.Err(), !q.harmless)
		}
		if ctx.Err() == nil {
			t.last = err
		}
		if err := c.next(ctx, t, o, n, q.harmless); err != nil {
			q.call.release()
			return err
		}
	}
}

// choose is whom to ask: the one that MOVED named, or the owner.
func (c *Client) choose(t *trial, p ring.Position) *node {
	if n := t.hint; n != nil {
		t.hint = nil
		return n
	}
	return c.routing.Load().owner(p)
}

// try sends the call to n once and waits for the answer. fresh is that of the trial.
func (c *Client) try(ctx context.Context, q *query, n *node, fresh uint64) (outcome, error) {
	if n == nil {
		return unowned, errNoOwner
	}
	k := q.call
	k.rearm()
	k.node = n
	if err := n.send(ctx, k, q.body); err != nil {
		return notSent(err), err
	}
	if err := k.wait(ctx); err != nil {
		c.env.stats.abandoned.Add(1)
		return abandoned, err
	}
	if k.err != nil {
		return k.broken(), &linkError{node: n.address, err: k.err}
	}
	if k.want == 1 && k.reply.Kind == '-' {
		return c.classify(k, k.reply, fresh, q.fixed != nil)
	}
	return answered, nil
}

var errNoOwner = errors.New("client: no node owns the key")

// notSent is the outcome of a call that found no connection: a node that does not
// take the token will not take it the next time, unless it says so, and one that is not
// believed will not be.
func notSent(err error) outcome {
	var refusal *ServerError
	switch {
	case distrusts(err):
		return answered
	case !errors.As(err, &refusal):
		return unsent
	case refusal.Code.Retryable():
		return refused
	}
	return answered
}

// classify reads an error reply to a call. A node that was asked on purpose is not to
// be replaced by the one it names.
func (c *Client) classify(k *call, r protocol.Reply, fresh uint64, fixed bool) (outcome, error) {
	e := r.Err()
	err := serverError(k.node, e)
	switch {
	case e.Code == protocol.NOAUTH && c.env.token != nil:
		k.node.leave(k.link)
		if fresh == 0 || k.link.opened <= fresh {
			return expired, err
		}
		return answered, err
	case e.Code == protocol.TRYAGAIN:
		return held, err
	case e.Code.Retryable():
		return refused, err
	case e.Code != protocol.MOVED || fixed:
		return answered, err
	}
	epoch, _, ok := protocol.ParseMoved(e)
	switch {
	case !ok:
		return answered, err
	case ring.Epoch(epoch) < c.routing.Load().topology.Epoch:
		return behind, err
	}
	return redirected, err
}

// next prepares another try as decide says, waiting if it has to. An error is
// the end of the request.
func (c *Client) next(ctx context.Context, t *trial, o outcome, n *node, harmless bool) error {
	if c.env.ctx.Err() != nil {
		return closedError(o == lost && !harmless)
	}
	c.renew(t, o)
	v := decide(o, harmless, t.tries, t.hops, rand.Float64())
	if v.refresh {
		c.suspect()
	}
	switch v.action {
	case follow:
		return c.follow(ctx, t, n)
	case again:
		t.hops = 0
		c.env.stats.retries.Add(1)
		if v.pause == 0 {
			return nil
		}
		return c.pause(ctx, t, v.pause)
	}
	return giveUp(t, nil, o == lost && !harmless)
}

// renew notes that a token has expired: what is opened from now on has a new one, and
// if that is refused, too, that is the answer.
func (c *Client) renew(t *trial, o outcome) {
	if o == expired && t.fresh == 0 {
		t.fresh = c.env.opened.Load()
	}
}

// follow finds the node that a MOVED reply from n names. One that the topology
// in use does not know is not dialled on somebody's word: the new topology,
// which names it, is fetched first, and its way to reach the node with it.
func (c *Client) follow(ctx context.Context, t *trial, n *node) error {
	t.hops++
	t.redirects++
	c.env.stats.redirects.Add(1)
	epoch, address := movedTo(t.last)
	run := c.noticeEpoch(epoch, n)
	t.hint = c.routing.Load().nodes[address]
	if t.hint != nil || run == nil {
		return nil
	}
	_ = run.wait(ctx) // only whether the caller still waits matters here
	if ctx.Err() != nil {
		return giveUp(t, ctx.Err(), false)
	}
	t.hint = c.routing.Load().nodes[address]
	return nil
}

// movedTo takes the error of a redirected try apart.
func movedTo(err error) (ring.Epoch, string) {
	var e *ServerError
	if !errors.As(err, &e) {
		return 0, ""
	}
	epoch, address, _ := protocol.ParseMoved(&protocol.Error{Code: e.Code, Message: e.Message})
	return ring.Epoch(epoch), address
}

// pause waits before another try, and gives up when there is no time for one.
func (c *Client) pause(ctx context.Context, t *trial, d time.Duration) error {
	if t.started.IsZero() {
		t.started = time.Now()
	}
	if _, limited := ctx.Deadline(); !limited {
		left := c.env.budget - time.Since(t.started)
		if left <= 0 {
			return giveUp(t, nil, false)
		}
		d = min(d, left)
	}
	c.env.sleep(ctx, d)
	switch {
	case ctx.Err() != nil:
		return giveUp(t, ctx.Err(), false)
	case c.env.ctx.Err() != nil:
		return ErrClosed
	}
	return nil
}

// giveUp makes the error of a request that has come to its end. cause is the
// error of its context, nil when something else ended it.
func giveUp(t *trial, cause error, unknown bool) error {
	e := &gaveUp{tries: t.tries, cause: cause, last: t.last, unknown: unknown}
	if !t.started.IsZero() {
		e.elapsed = time.Since(t.started)
	}
	return e
}

func closedError(unknown bool) error {
	if unknown {
		return &gaveUp{cause: ErrClosed, unknown: true}
	}
	return ErrClosed
}
