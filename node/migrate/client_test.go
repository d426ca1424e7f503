package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/ring"
)

// client does operations on keys of the moving range as a routed client would: it
// asks one node, follows it to the other, and waits where a range is held.
type client struct {
	w        *world
	sessions map[*engine.Engine]*engine.Session
}

func (w *world) client() *client {
	return &client{w: w, sessions: map[*engine.Engine]*engine.Session{}}
}

var errUnreachable = errors.New("no node has answered in time")

// do runs op on whoever serves; at tells from which node to begin. An error that
// is none of ownership is returned: what has happened is not known then.
func (c *client) do(at int, op func(s *engine.Session) error) error {
	for range 200_000 {
		n := c.w.node(at)
		err := c.try(n, op)
		var held *engine.HeldError
		switch {
		case errors.As(err, &held):
			select {
			case <-held.Resolved:
			case <-time.After(10 * time.Millisecond):
			}
		case errors.Is(err, engine.ErrNotOwned):
			at++
			wait(100 * time.Microsecond)
		default:
			return err
		}
	}
	return errUnreachable
}

// node returns A or B.
func (w *world) node(i int) *machine {
	w.nodes.RLock()
	defer w.nodes.RUnlock()
	return [2]*machine{w.a, w.b}[i&1]
}

// at returns the node with this address.
func (w *world) at(address string) *machine {
	if n := w.node(0); n.address == address {
		return n
	}
	return w.node(1)
}

func (c *client) try(n *machine, op func(s *engine.Session) error) error {
	s := c.sessions[n.e]
	if s == nil {
		s = n.e.NewSession()
		c.sessions[n.e] = s
	}
	if err := op(s); err != nil {
		return err
	}
	return s.Wait()
}

// key returns the i-th key of the moving range and its position. The engine takes
// positions as given, so they need not be hashes.
func (w *world) key(i int) (ring.Position, []byte) {
	spread := w.r.Size() / 65536
	return w.r.Start + 1 + ring.Position(uint64(i)*spread%w.r.Size()), fmt.Appendf(nil, "key-%06d", i)
}

func (c *client) put(i int, value string) error {
	pos, key := c.w.key(i)
	return c.do(0, func(s *engine.Session) error {
		_, err := s.Put(pos, key, []byte(value), engine.PutOptions{})
		return err
	})
}

func (c *client) delete(i int) error {
	pos, key := c.w.key(i)
	return c.do(0, func(s *engine.Session) error {
		_, err := s.Delete(pos, key, nil)
		return err
	})
}

// get returns the value, "" when there is none.
func (c *client) get(i int) (value string, err error) {
	pos, key := c.w.key(i)
	err = c.do(0, func(s *engine.Session) error {
		value = ""
		err := s.Get(pos, key, func(it engine.Item) { value = string(it.Value) })
		if errors.Is(err, engine.ErrNotFound) {
			return nil
		}
		return err
	})
	return value, err
}

// fill puts n keys.
func (w *world) fill(n int) map[int]string {
	w.t.Helper()
	c, all := w.client(), map[int]string{}
	for i := range n {
		all[i] = fmt.Sprintf("value-%d", i)
		if err := c.put(i, all[i]); err != nil {
			w.t.Fatal(err)
		}
	}
	return all
}

// verify compares what is served now with what must be there, and with nothing else.
func (w *world) verify(want map[int]string) {
	w.t.Helper()
	c := w.client()
	for i, v := range want {
		if got, err := c.get(i); err != nil || got != v {
			w.t.Fatalf("key %d is %q (%v), want %q", i, got, err, v)
		}
	}
	live := 0
	for _, v := range want {
		if v != "" {
			live++
		}
	}
	if n := w.a.e.Count() + w.b.e.Count(); n != live {
		w.t.Fatalf("nodes count %d + %d keys, want %d", w.a.e.Count(), w.b.e.Count(), live)
	}
}

// owner returns which node the document says owns the range.
func (w *world) owner() string {
	return must(w.document().Ownership())(w.t).Owner(w.r.End)
}

func (w *world) mustOwn(n *machine) {
	w.t.Helper()
	if got := w.owner(); got != n.address {
		w.t.Fatalf("the range is %s's, want %s's", cmp.Or(got, "nobody"), n.address)
	}
}
