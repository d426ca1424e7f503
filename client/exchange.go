package client

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// Request is one request of an Exchange and what became of it.
type Request struct {
	// Position is that of the key, which decides whom to ask. Requests with the
	// same position are answered in their order.
	Position ring.Position
	// Wire is the whole request, as protocol.AppendRequest makes it. It is not
	// kept and not changed.
	Wire []byte
	// Reads says that the request changes nothing and may be sent twice.
	Reads bool

	// Reply is what the owner answered, when Err is nil.
	Reply protocol.Reply
	// Err is a *ServerError or *VersionError when the owner refused the request,
	// and otherwise says why there is no answer.
	Err error
}

// ErrNotAdmitted means that the answer to a Request came and was not kept.
var ErrNotAdmitted = errors.New("client: the answer was not kept, as the caller has no room for it")

var errOvertaken = errors.New("client: a later request for the same key went through first")

// Exchange sends many requests, each to the owner of its key, and returns when
// each has its answer. It is for servers that pass on what others ask: requests
// for one key are executed in their order, those for different keys side by
// side, and each is redirected and tried again as any call of this package. One
// that could only be tried again after a later one for the same key had been
// executed fails with TRYAGAIN instead.
//
// admit, if not nil, is told the size of each answer before it is kept, and says
// whether there is room; what a request answers that changes something is kept all
// the same. It must not block, and may be called by other goroutines until some
// time after Exchange has returned.
func (c *Client) Exchange(ctx context.Context, requests []Request, admit func(bytes int) bool) {
	if len(requests) == 1 {
		c.exchangeOne(ctx, &requests[0], admit)
		return
	}
	b := c.newBatch(len(requests), func(int) string { return "" })
	b.at = func(i int) ring.Position { return requests[i].Position }
	b.changes = func(i int) bool { return !requests[i].Reads }
	b.encode = func(k *call, i int) { k.buf = append(k.buf, requests[i].Wire...) }
	b.accept = func(_ *node, i int, r protocol.Reply) error {
		if r.Kind == notKept {
			return ErrNotAdmitted
		}
		requests[i].Reply = restore(r)
		return nil
	}
	b.admit = admit
	if b.order = newOrder(requests); b.order != nil {
		b.lane = 1 + rand.IntN(maxConnections) // one behind the other, so over one connection
	}
	b.run(ctx)
	for i, err := range b.errs {
		requests[i].Err = err
	}
}

// exchangeOne needs no batch.
func (c *Client) exchangeOne(ctx context.Context, r *Request, admit func(bytes int) bool) {
	k := c.env.newCall()
	k.buf = append(k.buf, r.Wire...)
	if admit != nil {
		k.admit = func(_, bytes int) bool { return admit(bytes) || !r.Reads }
	}
	if r.Err = c.trip(ctx, query{call: k, position: r.Position, harmless: r.Reads}); r.Err != nil {
		return
	}
	defer k.release()
	if k.reply.Kind == notKept {
		r.Err = ErrNotAdmitted
		return
	}
	r.Reply = restore(k.reply)
}

// order knows which requests of a batch are for the same position.
type order struct {
	next []int // the next request for the same position, 0: none
}

// newOrder returns nil when all positions differ.
func newOrder(requests []Request) *order {
	var o *order
	last := make(map[ring.Position]int, len(requests))
	for i := range requests {
		if j, again := last[requests[i].Position]; again {
			if o == nil {
				o = &order{next: make([]int, len(requests))}
			}
			o.next[j] = i
		}
		last[requests[i].Position] = i
	}
	return o
}

// keep is called after a round and returns those of the requests left over that
// may still be tried again: the others were overtaken.
//
// A node executes what it is sent in order, but may refuse one request (the key
// is changing hands) and then take the next (it no longer is). To send the first
// again then would execute it after the second.
func (o *order) keep(b *batch, sent, left []item) []item {
	if len(left) == 0 || len(left) == len(sent) {
		return left
	}
	waiting := make(map[int]bool, len(left))
	for _, it := range left {
		waiting[it.index] = true
	}
	kept := left[:0]
	for _, it := range left {
		if o.overtaken(b, it.index, waiting) {
			b.errs[it.index] = &ServerError{Code: protocol.TRYAGAIN, Message: errOvertaken.Error()}
			continue
		}
		kept = append(kept, it)
	}
	return kept
}

// overtaken says whether a later request for the same position has an answer, so
// that it makes a difference which of the two came first.
func (o *order) overtaken(b *batch, i int, waiting map[int]bool) bool {
	for j := o.next[i]; j != 0; j = o.next[j] {
		if !waiting[j] && (!b.harmlessAt(i) || !b.harmlessAt(j)) {
			return true
		}
	}
	return false
}
