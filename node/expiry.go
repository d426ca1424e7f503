package node

import (
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/protocol"
)

const (
	replyNoKey    = -2
	replyNoExpiry = -1
)

// whenExpires answers the TTL family: show turns a time and now, both in unix
// milliseconds, into the number that the command gives.
func whenExpires(c *conn, key []byte, show func(at, now int64) int64) error {
	found, err := c.lookAt(key)
	switch {
	case err != nil:
		return err
	case !found:
		c.out = protocol.AppendInt(c.out, replyNoKey)
	case c.scratch.expireAt == 0:
		c.out = protocol.AppendInt(c.out, replyNoExpiry)
	default:
		c.out = protocol.AppendInt(c.out, show(c.scratch.expireAt, c.store.engine.Now()))
	}
	return nil
}

func ttl(c *conn, args [][]byte) error {
	return whenExpires(c, args[1], func(at, now int64) int64 { return (max(at-now, 0) + 500) / 1000 })
}

func pttl(c *conn, args [][]byte) error {
	return whenExpires(c, args[1], func(at, now int64) int64 { return max(at-now, 0) })
}

func expireTime(c *conn, args [][]byte) error {
	return whenExpires(c, args[1], func(at, _ int64) int64 { return (at + 500) / 1000 })
}

func pexpireTime(c *conn, args [][]byte) error {
	return whenExpires(c, args[1], func(at, _ int64) int64 { return at })
}

func expire(cmd protocol.Command) handler {
	return func(c *conn, args [][]byte) error {
		e, err := protocol.ParseExpire(cmd, args)
		if err != nil {
			return err
		}
		at := e.Expiry.Resolve(c.store.engine.Now())
		did, err := c.session.Expire(c.position(e.Key), e.Key, at, expireWhen(e))
		c.out = protocol.AppendInt(c.out, number(did))
		return err
	}
}

func expireWhen(e protocol.ExpireArgs) engine.ExpireWhen {
	switch {
	case e.NX:
		return engine.ExpireIfNone
	case e.XX:
		return engine.ExpireIfSome
	case e.GT:
		return engine.ExpireIfLater
	case e.LT:
		return engine.ExpireIfSooner
	}
	return engine.ExpireAlways
}

func persist(c *conn, args [][]byte) error {
	did, err := c.session.Persist(c.position(args[1]), args[1])
	c.out = protocol.AppendInt(c.out, number(did))
	return err
}
