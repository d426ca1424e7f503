package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// Result is what became of one key of an MGet.
type Result struct {
	Value []byte
	Err   error // nil, ErrNotFound, or why the key could not be read
}

// Pair is a key and the value to give it.
type Pair struct {
	Key   string
	Value []byte
}

// MGet reads many keys, from all their owners at once. There is one result for
// each key, in order. The error is nil when every key was answered, be it with
// ErrNotFound; otherwise it joins a *KeyError for each of the first few that
// were not, and the other results are good.
func (c *Client) MGet(ctx context.Context, keys ...string) ([]Result, error) {
	results := make([]Result, len(keys))
	b := c.newBatch(len(keys), func(i int) string { return keys[i] })
	b.harmless = true
	b.encode = func(k *call, i int) {
		k.begin("GET", 2)
		k.word(keys[i])
	}
	b.accept = func(n *node, i int, r protocol.Reply) (err error) {
		results[i].Value, err = decodeValue(n, r)
		return err
	}
	b.run(ctx)
	for i, err := range b.errs {
		results[i].Err = err
	}
	return results, b.joined(ErrNotFound)
}

// MPut writes many keys, to all their owners at once. The options hold for each
// of them. The error is nil when every write succeeded; otherwise it joins a
// *KeyError for each of the first few that did not, and the slice has the error
// of each pair, in order. With a key given twice either value may stay.
func (c *Client) MPut(ctx context.Context, pairs []Pair, opts ...PutOption) ([]error, error) {
	o := merge(opts)
	if err := o.check(); err != nil {
		return nil, err
	}
	b := c.newBatch(len(pairs), func(i int) string { return pairs[i].Key })
	b.encode = func(k *call, i int) {
		k.begin("PUT", 3+o.arguments())
		k.word(pairs[i].Key)
		k.buf = protocol.AppendBulk(k.buf, pairs[i].Value)
		k.buf = o.append(k.buf)
	}
	b.accept = func(n *node, _ int, r protocol.Reply) error { return decodePut(n, r, o) }
	b.run(ctx)
	return b.errs, b.joined(nil)
}

// Deleted is what became of one key of an MDelete.
type Deleted struct {
	Existed bool
	Err     error // why the key could not be removed
}

// Delete removes keys and returns how many there were. With several keys the
// error joins a *KeyError for each of the first few that could not be removed.
func (c *Client) Delete(ctx context.Context, keys ...string) (int, error) {
	if len(keys) == 1 {
		return c.deleteOne(ctx, keys[0])
	}
	results, err := c.MDelete(ctx, keys...)
	count := 0
	for _, r := range results {
		if r.Existed {
			count++
		}
	}
	return count, err
}

// MDelete is Delete with one result for each key, in order.
func (c *Client) MDelete(ctx context.Context, keys ...string) ([]Deleted, error) {
	results := make([]Deleted, len(keys))
	b := c.newBatch(len(keys), func(i int) string { return keys[i] })
	b.encode = func(k *call, i int) {
		k.begin("DEL", 2)
		k.word(keys[i])
	}
	b.accept = func(n *node, i int, r protocol.Reply) error {
		if r.Kind != ':' {
			return unexpected(n, "DEL")
		}
		results[i].Existed = r.Int > 0
		return nil
	}
	b.run(ctx)
	for i, err := range b.errs {
		results[i].Err = err
	}
	return results, b.joined(nil)
}

func (c *Client) deleteOne(ctx context.Context, key string) (int, error) {
	k := c.env.newCall()
	k.begin("DEL", 2)
	k.word(key)
	if err := c.write(ctx, k, key, nil); err != nil {
		return 0, err
	}
	n, err := k.integer("DEL")
	return int(n), err
}

// batch is a request for each of many keys. Requests to one node travel
// together, nodes are asked at the same time, and each key is redirected,
// retried or given up by itself.
type batch struct {
	c        *Client
	keys     func(i int) string
	at       func(i int) ring.Position // where key i is; nil: it is computed
	harmless bool
	changes  func(i int) bool                                   // whether request i does; nil: as harmless says
	encode   func(k *call, i int)                               // adds the request of key i
	accept   func(n *node, i int, r protocol.Reply) (err error) // takes its reply, which is no error reply
	errs     []error                                            // by key; each is written by the one goroutine that has the key
	admit    func(bytes int) bool                               // of call.admit
	lane     int                                                // of call.lane
	stories  []story                                            // by key, while somebody observes
	order    *order                                             // nil: keys are all different, or it does not matter
}

// item is a key that still needs an answer.
type item struct {
	index int
	hint  *node // whom MOVED named
}

const (
	// A batch goes out in calls of so many requests or about so many bytes,
	// of which so many are under way at once.
	batchRequests = 256
	batchBytes    = 128 << 10
	batchWindow   = 8
	// shownErrors is how many keys the joined error names.
	shownErrors = 8
)

func (c *Client) newBatch(n int, keys func(i int) string) *batch {
	return &batch{c: c, keys: keys, errs: make([]error, n)}
}

func (b *batch) position(i int) ring.Position {
	if b.at != nil {
		return b.at(i)
	}
	return ring.PositionOfString(b.keys(i))
}

func (b *batch) harmlessAt(i int) bool {
	if b.changes != nil {
		return !b.changes(i)
	}
	return b.harmless
}

// joined makes one error of all that are not the one to leave out.
func (b *batch) joined(except error) error {
	var shown []error
	more := 0
	for i, err := range b.errs {
		switch {
		case err == nil || errors.Is(err, except):
		case len(shown) < shownErrors:
			shown = append(shown, &KeyError{Key: b.keys(i), Err: err})
		default:
			more++
		}
	}
	if more > 0 {
		shown = append(shown, errors.New("and "+strconv.Itoa(more)+" more keys"))
	}
	return errors.Join(shown...)
}

// run answers every key.
func (b *batch) run(ctx context.Context) {
	items := make([]item, len(b.errs))
	for i := range items {
		items[i].index = i
	}
	told := b.observeBatch()
	b.settle(ctx, items, trial{})
	if told != nil {
		told()
	}
}

// settle answers some keys, one node after another in time but all nodes at
// once: keys of different nodes part here and do not wait for each other.
func (b *batch) settle(ctx context.Context, items []item, t trial) {
	for len(items) > 0 {
		groups := b.group(items)
		if len(groups) > 1 {
			var all sync.WaitGroup
			for n, group := range groups {
				all.Go(func() { b.settleNode(ctx, n, group, t) })
			}
			all.Wait()
			return
		}
		for n := range groups {
			items = b.once(ctx, n, items, &t)
		}
	}
}

func (b *batch) settleNode(ctx context.Context, n *node, items []item, t trial) {
	b.settle(ctx, b.once(ctx, n, items, &t), t)
}

// group sorts items by the node to ask; nil stands for nobody.
func (b *batch) group(items []item) map[*node][]item {
	groups := make(map[*node][]item)
	r := b.c.routing.Load()
	for _, it := range items {
		n := it.hint
		if n == nil || b.order != nil { // requests for one key stay together
			n = r.owner(b.position(it.index))
		}
		groups[n] = append(groups[n], item{index: it.index})
	}
	return groups
}

// once asks n for the items, and returns those to be asked for again, after the
// pause that is due.
func (b *batch) once(ctx context.Context, n *node, items []item, t *trial) []item {
	round := &round{batch: b, ctx: ctx, node: n, trial: t}
	t.tries++
	round.exchange(items)
	if b.order != nil {
		round.left = b.order.keep(b, items, round.left)
	}
	if len(round.left) == 0 {
		return nil
	}
	t.hops++
	if round.pause == 0 {
		return round.left
	}
	t.hops = 0
	if err := b.c.pause(ctx, t, round.pause); err != nil {
		for _, it := range round.left {
			b.errs[it.index] = err
		}
		return nil
	}
	return round.left
}

// round is one node asked for some keys once.
type round struct {
	*batch
	ctx   context.Context
	node  *node
	trial *trial
	left  []item        // to be asked for again
	pause time.Duration // the longest that one of them asks for
}

// flight is a call under way and the items it is for.
type flight struct {
	call  *call
	items []item
}

// exchange sends the requests and takes the replies.
func (r *round) exchange(items []item) {
	if r.node == nil {
		r.all(items, unowned, errNoOwner)
		return
	}
	var flights []flight
	for len(items) > 0 {
		k, n := r.pack(items)
		if len(flights) == batchWindow {
			r.land(flights[0])
			flights = flights[1:]
		}
		if err := r.node.send(r.ctx, k, nil); err != nil {
			k.release()
			r.all(items, notSent(err), err)
			break
		}
		flights = append(flights, flight{k, items[:n]})
		items = items[n:]
	}
	for _, f := range flights {
		r.land(f)
	}
}

// pack makes a call of the first n items.
func (r *round) pack(items []item) (k *call, n int) {
	k = r.c.env.newCall()
	k.lane = r.lane
	if r.admit != nil {
		k.admit = func(i, bytes int) bool { return r.admit(bytes) || !r.harmlessAt(items[i].index) }
	}
	for n < len(items) && n < batchRequests && len(k.buf) < batchBytes {
		r.encode(k, items[n].index)
		r.note(items[n].index, k.name, r.node)
		n++
	}
	k.want, k.node = n, r.node
	k.rearm()
	return k, n
}

// land waits for a call and takes what it brought.
func (r *round) land(f flight) {
	k := f.call
	if err := k.wait(r.ctx); err != nil {
		r.c.env.stats.abandoned.Add(1)
		r.all(f.items, abandoned, nil)
		return
	}
	defer k.release()
	for i, it := range f.items[:k.got] {
		r.take(k, it, k.answer(i))
	}
	if k.err != nil {
		r.all(f.items[k.got:], k.broken(), &linkError{node: r.node.address, err: k.err})
	}
}

// take is one reply.
func (r *round) take(k *call, it item, reply protocol.Reply) {
	if reply.Kind != '-' {
		r.errs[it.index] = r.accept(r.node, it.index, reply)
		return
	}
	o, err := r.c.classify(k, reply, r.trial.fresh, false)
	if o == answered {
		r.errs[it.index] = err
		return
	}
	r.again(it, o, err)
}

// all is the same bad end for many items.
func (r *round) all(items []item, o outcome, err error) {
	for _, it := range items {
		r.again(it, o, err)
	}
}

// again decides about an item that has no answer.
func (r *round) again(it item, o outcome, err error) {
	c, t, harmless := r.c, r.trial, r.harmlessAt(it.index)
	if err != nil && r.ctx.Err() == nil {
		t.last = err
	}
	switch {
	case o == abandoned:
		r.errs[it.index] = giveUp(t, r.ctx.Err(), !harmless)
		return
	case c.env.ctx.Err() != nil:
		r.errs[it.index] = closedError(o == lost && !harmless)
		return
	case o == answered: // by whom the token was shown to
		r.errs[it.index] = err
		return
	}
	c.renew(t, o)
	v := decide(o, harmless, t.tries, t.hops, rand.Float64())
	if v.refresh {
		c.suspect()
	}
	switch v.action {
	case finish:
		r.errs[it.index] = giveUp(t, nil, o == lost && !harmless)
	case follow:
		hop := trial{last: err}
		if err := c.follow(r.ctx, &hop, r.node); err != nil {
			r.errs[it.index] = err
			return
		}
		if r.stories != nil {
			r.stories[it.index].redirects++
		}
		r.left = append(r.left, item{it.index, hop.hint})
	case again:
		c.env.stats.retries.Add(1)
		r.pause = max(r.pause, v.pause)
		r.left = append(r.left, item{index: it.index})
	}
}
