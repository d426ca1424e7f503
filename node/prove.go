package node

import (
	"fmt"
	"net"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
)

// trust is how the node's connections are made safe, those that come and those that go
// out: TLS, and the proofs of members.
type trust struct {
	server  *tlsconf.Server // nil: no TLS
	client  *tlsconf.Client // as well
	members *auth.Members   // nil: authentication is off
}

// openTLS reads the files that the settings name.
func (n *Node) openTLS() (err error) {
	n.trust.members = auth.NewMembers(&n.config.Auth, n.config.TLS.Members())
	if !n.config.TLS.Enabled() {
		return nil
	}
	o := tlsconf.Options{Logger: n.log, Now: n.seams.Now}
	if n.trust.server, err = tlsconf.NewServer(n.config.TLS, o); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	if n.trust.client, err = tlsconf.NewClient(n.config.TLS, o); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	return nil
}

// listener is where clients and members connect: over TLS if there is any.
func (t *trust) listener(l net.Listener) net.Listener {
	if t.server == nil {
		return l
	}
	return t.server.Listener(l)
}

// memberDialer is how the node of this name dials others.
func (n *Node) memberDialer(name string) peer.Dialer {
	return auth.MemberDialer(auth.MemberOptions{
		Dial: n.seams.Dial, TLS: n.trust.client, Certificates: n.config.TLS.Members(),
		Secret: n.config.Auth.ClusterSecret.Reveal(), Role: auth.RoleNode, Name: name,
	})
}

// greet makes the handshake of a new connection, where there is TLS, and finds out whose
// certificate it has shown. It says whether the connection stays.
func (c *conn) greet() bool {
	if err := tlsconf.Handshake(c.srv.ctx, c.nc, c.srv.times.Handshake); err != nil {
		c.srv.stats.handshakes.Add(1)
		c.srv.distrust("a TLS handshake failed", c.nc, err)
		return false
	}
	p, err := c.srv.proofs.Certified(c.nc)
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
	if c.claim, err = c.srv.proofs.Challenge(c.nc, c.claim, msg); err != nil {
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
