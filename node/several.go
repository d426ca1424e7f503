package node

import (
	"errors"

	"github.com/quoitdb/quoit/internal/inbox"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// Requests with several keys. None is a transaction: each key is done by itself.
// All of them must be owned here, which is checked before the first is touched,
// so that a client that spread its keys wrongly is told so (MOVED for the first
// key that is not) before half of its request is done. A range that changes
// hands in between can still split one; then its keys so far are done and the
// reply is MOVED.

// eachKey runs do for every key of args[1:] in steps of step, from where a parked
// request stopped. do counts in c.progress.
func (c *conn) eachKey(args [][]byte, step int, do func(pos ring.Position, i int) error) error {
	if err := c.checkOwned(args, step); err != nil {
		return err
	}
	for i := 1 + c.progress.done*step; i < len(args); i += step {
		c.prefetch((i - 1) / step)
		if err := do(c.scratch.positions[(i-1)/step], i); err != nil {
			c.progress.key = i
			return err
		}
		c.progress.done++
	}
	return nil
}

// checkOwned computes every position, and asks the engine for each key that is
// still to do when there are several.
func (c *conn) checkOwned(args [][]byte, step int) error {
	positions := c.scratch.positions[:0]
	for i := 1; i < len(args); i += step {
		positions = append(positions, c.position(args[i]))
	}
	c.scratch.positions = positions
	if len(positions) == 1 {
		return nil
	}
	for i := c.progress.done; i < len(positions); i++ {
		c.prefetch(i)
		at := 1 + i*step
		if _, err := c.session.Exists(positions[i], args[at]); err != nil {
			c.progress.key = at
			return err
		}
	}
	return nil
}

// prefetch looks ahead from every so many keys of a request with several.
func (c *conn) prefetch(i int) {
	if i%groupSize == 0 {
		c.session.Prefetch(c.scratch.positions[i:min(i+groupSize, len(c.scratch.positions))])
	}
}

func mget(c *conn, args [][]byte) error {
	c.progress.done = 0 // a reply is written whole: begin again
	c.out = protocol.AppendArray(c.out, len(args)-1)
	return c.eachKey(args, 1, func(pos ring.Position, i int) error {
		err := c.session.Get(pos, args[i], c.scratch.value)
		if errors.Is(err, engine.ErrNotFound) {
			c.out = protocol.AppendNull(c.out)
			err = nil
		}
		if cap(c.out) > inbox.First && !c.chargeOut(cap(c.out)) {
			return inbox.ErrBudget
		}
		return err
	})
}

func mset(c *conn, args [][]byte) error {
	if _, err := protocol.ParseMSet(args); err != nil {
		return err
	}
	err := c.eachKey(args, 2, func(pos ring.Position, i int) error {
		_, err := c.session.Put(pos, args[i], args[i+1], engine.PutOptions{})
		return err
	})
	c.out = protocol.AppendOK(c.out)
	return err
}

func del(c *conn, args [][]byte) error {
	err := c.eachKey(args, 1, func(pos ring.Position, i int) error {
		found, err := c.session.Delete(pos, args[i], nil)
		c.progress.count += number(found)
		return err
	})
	c.out = protocol.AppendInt(c.out, c.progress.count)
	return err
}

func exists(c *conn, args [][]byte) error {
	err := c.eachKey(args, 1, func(pos ring.Position, i int) error {
		found, err := c.session.Exists(pos, args[i])
		c.progress.count += number(found)
		return err
	})
	c.out = protocol.AppendInt(c.out, c.progress.count)
	return err
}
