package node

import (
	"github.com/quoitdb/quoit/internal/md5lanes"
	"github.com/quoitdb/quoit/ring"
)

const (
	// groupSize is how many requests of a pipeline are parsed before the first of
	// them is executed.
	groupSize = 16
	// groupArgs is how many arguments they may have together.
	groupArgs = 4 * groupSize
)

// ahead is the group of pipelined requests that a connection executes next.
type ahead struct {
	requests [groupSize][][]byte
	slab     [groupArgs][]byte // their arguments; the parser keeps only the last ones
	n        int

	// positions of the first arguments, of those that known tells.
	known     [groupSize]bool
	positions [groupSize]ring.Position

	// key is the first key of the request that is executed, when it is known to lie at pos.
	key []byte
	pos ring.Position
}

// group executes a request and those that follow in the inbox, at most groupSize.
// It parses all of them first: so the memory that they need is fetched at once
// and not for one after the other.
func (c *conn) group(args [][]byte) {
	if c.ahead == nil {
		c.ahead = new(ahead)
	}
	g := c.ahead
	err := c.gather(args)
	c.lookAhead()
	n := 0
	for i, args := range g.requests[:g.n] {
		g.key = nil
		if g.known[i] {
			g.key, g.pos = args[1], g.positions[n]
			n++
		}
		if c.run(args); c.closing {
			break
		}
	}
	// The inbox reads over the keys, and may want to give their memory back.
	clear(g.slab[:])
	clear(g.requests[:])
	g.key = nil
	if err != nil && !c.closing {
		c.broken(err)
	}
}

// gather collects requests, beginning with args. An error is that of the request
// behind the last one.
func (c *conn) gather(args [][]byte) error {
	g, used := c.ahead, 0
	for g.n = 0; ; {
		if len(args) > 0 {
			last := used+len(args) > groupArgs
			if !last {
				kept := g.slab[used : used+len(args)]
				copy(kept, args)
				used, args = used+len(args), kept
			}
			g.requests[g.n] = args
			if g.n++; last || g.n == groupSize {
				return nil
			}
		}
		var n int
		var err error
		if args, n, err = c.parser.Next(c.in.Bytes()); n == 0 || err != nil {
			return err
		}
		c.in.Consume(n)
	}
}

// lookAhead takes the first argument of each request for its key, and tells the
// engine. Where it is none, little is lost.
func (c *conn) lookAhead() {
	g := c.ahead
	var keys [groupSize][]byte
	n := 0
	for i, args := range g.requests[:g.n] {
		if g.known[i] = len(args) > 1 && len(args[1]) <= md5lanes.MaxKey; g.known[i] {
			keys[n] = args[1]
			n++
		}
	}
	md5lanes.Positions(g.positions[:n], keys[:n])
	c.session.Prefetch(g.positions[:n])
}

// position is where a key lies on the ring.
func (c *conn) position(key []byte) ring.Position {
	if g := c.ahead; g != nil && len(key) > 0 && len(key) == len(g.key) && &key[0] == &g.key[0] {
		return g.pos
	}
	return ring.PositionOf(key)
}
