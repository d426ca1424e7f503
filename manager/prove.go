package manager

import (
	"context"
	"fmt"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
)

// memberName is what the manager calls itself where it proves who it is.
const memberName = "manager"

// greet makes the handshake of a new connection, where there is TLS, and finds out whose
// certificate it has shown. It says whether the connection stays.
func (c *conn) greet(ctx context.Context) bool {
	if err := tlsconf.Handshake(ctx, c.nc, c.m.config.Handshake); err != nil {
		c.distrust("a TLS handshake failed", err)
		return false
	}
	p, err := c.m.trust.Certified(c.nc)
	if err != nil {
		c.distrust("closed a connection for its certificate", err)
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
	c.introduced()
}

func (c *conn) challenge(args [][]byte) error {
	msg, err := protocol.ParseChallenge(args)
	if err != nil {
		return err
	}
	if c.claim, err = c.m.trust.Challenge(c.nc, c.claim, msg); err != nil {
		return c.unbelieved(err)
	}
	c.out = protocol.AppendProof(c.out, c.claim.Nonce())
	return nil
}

func (c *conn) prove(args [][]byte) error {
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
	c.distrust("a member could not prove itself", err)
	return err
}

// distrust counts a connection that was not believed, and tells the log now and then.
func (c *conn) distrust(what string, err error) {
	c.m.distrusted.Add(1)
	c.m.distrust.Warn(c.m.log, what, "client", c.nc.RemoteAddr().String(), "err", err)
}

// speaks is the answer to a message about a node that another one has sent, nil if it is
// that node's.
func speaks(who *auth.Principal, cmd protocol.Command, address string) error {
	if who.SpeaksFor(address) {
		return nil
	}
	return &protocol.Error{Code: protocol.NOPERM, Message: fmt.Sprintf("%s: it is about the node %.255s, and this connection has proved to be another", cmd, address)}
}

// speaksForMoves is speaks for the source of each move, or for its target.
func speaksForMoves(who *auth.Principal, cmd protocol.Command, d cluster.Document, target bool, moves ...cluster.MoveID) error {
	for _, id := range moves {
		move, ok := d.Move(id)
		if !ok {
			continue // it is for the document to say so
		}
		end := move.Source
		if target {
			end = move.Target
		}
		if err := speaks(who, cmd, end); err != nil {
			return err
		}
	}
	return nil
}
