package client

import (
	"time"

	"github.com/quoitdb/quoit/ring"
)

// Trip is what a request went through until it had its answer.
type Trip struct {
	Command   string // as it was sent: GET, PUT, INCRBY
	Key       string
	Position  ring.Position
	Node      string // who was asked last, "" nobody
	Redirects int    // MOVED answers followed
	Retries   int    // how often it was sent again for another reason
	Took      time.Duration
	Err       error // why there is no answer, or what the node refused it with
}

// Observe has fn told of each request that is for one key, when it has come to its
// end; those of a call on many keys one by one. nil ends that. While nobody observes
// nothing is measured. fn runs in the goroutines of the callers, of which several may
// call it at once; they wait for it.
//
// Requests of Exchange, and those to a given node, are not told.
func (c *Client) Observe(fn func(Trip)) {
	if fn == nil {
		c.observer.Store(nil)
		return
	}
	c.observer.Store(&fn)
}

// observed tells of a query that has ended; began is when it was made.
func (c *Client) observed(fn *func(Trip), q *query, t *trial, began time.Time, err error) {
	if q.fixed != nil || q.command == "" {
		return
	}
	trip := Trip{
		Command: q.command, Key: q.key, Position: q.position, Redirects: t.redirects,
		Retries: max(t.tries-1-t.redirects, 0), Took: time.Since(began), Err: err,
	}
	if t.asked != nil {
		trip.Node = t.asked.address
	}
	(*fn)(trip)
}

// story is what a batch notes for its observer about one key.
type story struct {
	command   string
	node      *node
	tries     int
	redirects int
}

// observeBatch begins to take notes if somebody observes, and returns what tells of
// them, or nil.
func (b *batch) observeBatch() func() {
	fn := b.c.observer.Load()
	if fn == nil || b.at != nil {
		return nil
	}
	began := time.Now()
	b.stories = make([]story, len(b.errs))
	return func() {
		took := time.Since(began)
		for i, s := range b.stories {
			trip := Trip{
				Command: s.command, Key: b.keys(i), Position: b.position(i), Redirects: s.redirects,
				Retries: max(s.tries-1-s.redirects, 0), Took: took, Err: b.errs[i],
			}
			if s.node != nil {
				trip.Node = s.node.address
			}
			(*fn)(trip)
		}
	}
}

// note is one try for one key. Each key belongs to one goroutine at a time.
func (b *batch) note(i int, command string, n *node) {
	if b.stories != nil {
		s := &b.stories[i]
		s.command, s.node = command, n
		s.tries++
	}
}
