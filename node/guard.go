package node

import (
	"errors"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/inbox"
	"github.com/quoitdb/quoit/protocol"
)

// Who may do what. Every connection has a principal: auth.Open where authentication is
// off, else auth.Anonymous at first. Each request is held to it by allowed, before a
// session is made, before the key's owner is looked up, and before any look at the data.

// strangerReplies is how many bytes of replies gather for a stranger before they leave.
const strangerReplies = 2 << 10

// errUnproved ends a connection that has not authenticated in time.
var errUnproved = errors.New("node: nothing was proved in time")

// arrive makes a new connection a stranger's, unless authentication is off.
func (c *conn) arrive() {
	c.guest = c.srv.guard.Guest()
	c.strangeSince = c.srv.clock.coarse()
	c.bound()
}

// bound publishes who is on the connection, and bounds what it may send and hold: a
// stranger next to nothing.
func (c *conn) bound() {
	c.standing.Store(c.guest.Who())
	c.parser.Limits, c.flushAt = c.srv.limits, flushSize
	stream := streamBuffer
	if !c.guest.Known() {
		c.parser.Limits, c.flushAt, stream = auth.StrangerLimits(), strangerReplies, inbox.First
	}
	c.in.Stream(stream)
}

// allowed says whether the request may be done; if not, it has been answered.
func (c *conn) allowed(cmd protocol.Command, args [][]byte) bool {
	err := c.guest.Authorize(c.srv.clock.coarse(), cmd, args)
	if err != nil {
		c.refuse(err)
	}
	return err == nil
}

// orStranger is what a request that is wrong is answered: a stranger is not told what.
func (c *conn) orStranger(err *protocol.Error) *protocol.Error {
	return c.guest.OrStranger(c.srv.clock.coarse(), err)
}

// login takes a token. Where it is not good the connection ends, when that has been told.
func (c *conn) login(token []byte) error {
	err := c.guest.Login(token, c.srv.clock.now(), c.nc.RemoteAddr().String())
	c.bound()
	if err != nil {
		c.closing = c.srv.guard.On()
		return err
	}
	c.srv.introduce(c)
	return nil
}

// logout makes the connection a stranger's again.
func (c *conn) logout() {
	c.guest.Forget()
	c.bound()
}

// ended is why whoever is on the connection counts no more, nil while that is not so.
func (c *conn) ended() *protocol.Error { return c.guest.Who().Ended(c.srv.clock.coarse()) }

// overstays says, for the sweeper, whether the connection has been there for too long
// without a right to be: a stranger's, or one whose token has ended. Guarded by
// srv.roster.mu.
func (c *conn) overstays(now int64) bool {
	who := c.standing.Load()
	ended := who.Ended(now) != nil
	if !ended && who.Kind() != auth.AnonymousKind {
		c.strangeSince = 0
		return false
	}
	if c.strangeSince == 0 {
		c.strangeSince = now
	}
	return ended && c.pusher.Load() != nil || c.srv.overdue(c.strangeSince, c.srv.times.Handshake)
}

// unproved is what a connection is told that ends for that.
func (c *conn) unproved() *protocol.Error {
	if err := c.ended(); err != nil {
		return err
	}
	return &protocol.Error{Code: protocol.NOAUTH, Message: "nobody has authenticated within " + c.srv.times.Handshake.String() + ": AUTH with a token comes first"}
}
