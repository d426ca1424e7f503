package node

import (
	"errors"

	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// scratch is what a connection needs to run commands without allocating: the
// callbacks that the engine gives its entries to, bound once, and where they put
// what they saw.
type scratch struct {
	value func(engine.Item)       // appends the value as a reply
	old   func(engine.Item) error // the same for a value that goes, see showOld
	look  func(engine.Item)       // remembers what is not the value
	key   func(engine.Item)       // collects the keys of a scan

	version  engine.Version
	expireAt int64
	size     int

	positions []ring.Position
	page      scanPage
}

func (s *scratch) bind(c *conn) {
	s.value = func(it engine.Item) {
		s.version = it.Version
		c.out = protocol.AppendBulk(c.out, it.Value)
	}
	s.old = c.showOld
	s.look = func(it engine.Item) { s.version, s.expireAt, s.size = it.Version, it.ExpireAt, len(it.Value) }
	s.key = func(it engine.Item) { s.page.add(it.Key) }
}

func get(c *conn, args [][]byte) error {
	err := c.session.Get(c.position(args[1]), args[1], c.scratch.value)
	if err == engine.ErrNotFound { //nolint:errorlint // the engine returns it bare, and this is the hottest line of a GET
		c.out = protocol.AppendNull(c.out)
		return nil
	}
	return err
}

func getv(c *conn, args [][]byte) error {
	c.out = protocol.AppendArray(c.out, 2)
	mark := len(c.out) - len("*2\r\n")
	err := c.session.Get(c.position(args[1]), args[1], c.scratch.value)
	if err == engine.ErrNotFound { //nolint:errorlint // the engine returns it bare, and this is the hottest line of a GET
		c.out = protocol.AppendNullArray(c.out[:mark])
		return nil
	}
	c.out = protocol.AppendInt(c.out, int64(c.scratch.version))
	return err
}

// options are the engine's words for what a PUT asks.
func (c *conn) options(p *protocol.PutArgs) engine.PutOptions {
	o := engine.PutOptions{
		IfAbsent: p.NX, IfPresent: p.XX,
		HasIfVersion: p.HasIfVersion, IfVersion: engine.Version(p.IfVersion),
	}
	if p.Expiry.Kind != protocol.ExpiryNone {
		o.KeepExpiry = p.Expiry.Kind == protocol.ExpiryKeep
		o.ExpireAt = p.Expiry.Resolve(c.store.engine.Now())
	}
	if p.Get {
		o.Old = c.scratch.old
	}
	return o
}

// store runs a PUT and says whether it wrote; a condition that was not met is no
// error. With Get the old value is appended to the reply.
func (c *conn) put(p *protocol.PutArgs) (version engine.Version, wrote bool, err error) {
	version, err = c.session.Put(c.position(p.Key), p.Key, p.Value, c.options(p))
	if errors.Is(err, engine.ErrExists) || errors.Is(err, engine.ErrNotFound) {
		return 0, false, nil
	}
	return version, err == nil, err
}

func put(c *conn, args [][]byte) error {
	p, err := protocol.ParsePut(args)
	if err != nil {
		return err
	}
	mark := len(c.out)
	version, wrote, err := c.put(&p)
	switch {
	case err != nil:
		return err
	case p.Get && len(c.out) == mark, !p.Get && !wrote:
		c.out = protocol.AppendNull(c.out)
	case p.Get:
	case p.HasIfVersion:
		c.out = protocol.AppendInt(c.out, int64(version))
	default:
		c.out = protocol.AppendOK(c.out)
	}
	return nil
}

func getset(c *conn, args [][]byte) error {
	p, err := protocol.ParseGetSet(args)
	if err != nil {
		return err
	}
	mark := len(c.out)
	if _, _, err = c.put(&p); err == nil && len(c.out) == mark {
		c.out = protocol.AppendNull(c.out)
	}
	return err
}

func setnx(c *conn, args [][]byte) error {
	p, err := protocol.ParseSetNX(args)
	if err != nil {
		return err
	}
	_, wrote, err := c.put(&p)
	c.out = protocol.AppendInt(c.out, number(wrote))
	return err
}

func setex(parse func([][]byte) (protocol.PutArgs, error)) handler {
	return func(c *conn, args [][]byte) error {
		p, err := parse(args)
		if err != nil {
			return err
		}
		_, _, err = c.put(&p)
		c.out = protocol.AppendOK(c.out)
		return err
	}
}

func getdel(c *conn, args [][]byte) error {
	found, err := c.session.Delete(c.position(args[1]), args[1], c.scratch.old)
	if err == nil && !found {
		c.out = protocol.AppendNull(c.out)
	}
	return err
}

func appendTo(c *conn, args [][]byte) error {
	n, err := c.session.Append(c.position(args[1]), args[1], args[2])
	c.out = protocol.AppendInt(c.out, int64(n))
	return err
}

func increment(cmd protocol.Command) handler {
	return func(c *conn, args [][]byte) error {
		in, err := protocol.ParseIncr(cmd, args)
		if err != nil {
			return err
		}
		sum, err := c.session.Increment(c.position(in.Key), in.Key, in.Delta)
		c.out = protocol.AppendInt(c.out, sum)
		return err
	}
}

// lookAt fills the scratch with everything about a key but its value.
func (c *conn) lookAt(key []byte) (found bool, err error) {
	err = c.session.Get(c.position(key), key, c.scratch.look)
	if err == engine.ErrNotFound { //nolint:errorlint // the engine returns it bare, and this is the hottest line of a GET
		return false, nil
	}
	return err == nil, err
}

func strlen(c *conn, args [][]byte) error {
	found, err := c.lookAt(args[1])
	if !found {
		c.scratch.size = 0
	}
	c.out = protocol.AppendInt(c.out, int64(c.scratch.size))
	return err
}

func typeOf(c *conn, args [][]byte) error {
	found, err := c.lookAt(args[1])
	if found {
		c.out = protocol.AppendSimple(c.out, "string")
	} else {
		c.out = protocol.AppendSimple(c.out, "none")
	}
	return err
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
