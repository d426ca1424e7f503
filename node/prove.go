package node

import (
	"net"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
)

// greet makes the handshake of a new connection, where there is TLS, and finds out whose
// certificate it has shown. It says whether the connection stays.
func (c *conn) greet() bool {
	if err := tlsconf.Handshake(c.srv.ctx, c.nc, c.srv.times.Handshake); err != nil {
		c.srv.stats.handshakes.Add(1)
		c.srv.distrust("a TLS handshake failed", c.nc, err)
		return false
	}
	p, err := c.srv.trust.Certified(c.nc)
	if err != nil {
		c.srv.stats.proofs.Add(1)
		c.srv.distrust("closed a connection for its certificate", c.nc, err)
		return false
	}
	if p != nil {
		c.become(p)
	}
	return true
}

// become makes the connection a member's.
func (c *conn) become(p *auth.Principal) {
	c.guest.Become(p)
	c.bound()
	c.srv.introduce(c)
}

func challenge(c *conn, args [][]byte) error {
	msg, err := protocol.ParseChallenge(args)
	if err != nil {
		return err
	}
	if c.claim, err = c.srv.trust.Challenge(c.nc, c.claim, msg); err != nil {
		return c.unbelieved(err)
	}
	c.out = protocol.AppendProof(c.out, c.claim.Nonce())
	return nil
}

func prove(c *conn, args [][]byte) error {
	msg, err := protocol.ParseProve(args)
	if err != nil {
		return err
	}
	mac, p, err := c.claim.Prove(msg)
	if err != nil {
		return c.unbelieved(err)
	}
	c.become(p)
	c.out = protocol.AppendProof(c.out, mac)
	return nil
}

// unbelieved ends the connection of who is not the member that it says it is.
func (c *conn) unbelieved(err error) error {
	c.closing = true
	c.srv.stats.proofs.Add(1)
	c.srv.distrust("a member could not prove itself", c.nc, err)
	return err
}

// distrust tells the log, now and then, of a connection that was not believed.
func (s *server) distrust(what string, nc net.Conn, err error) {
	s.distrusted.Warn(s.log, what, "client", nc.RemoteAddr().String(), "err", err)
}
