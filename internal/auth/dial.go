package auth

import (
	"context"
	"crypto/hmac"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
)

// MemberOptions say how one member dials others.
type MemberOptions struct {
	Dial peer.Dialer // nil: TCP
	// TLS is spoken if it is set. Where members have certificates, one that is dialled
	// must have one, too.
	TLS          *tlsconf.Client
	Certificates bool
	Secret       string   // "": nothing is proved by a secret
	secrets      *secrets // whose first is Secret, if it is set
	Role         Role     // of who dials
	Name         string
}

// MemberDialer connects to members, and hands out connections to nobody else: who is
// dialled has been verified before anything is said but the proof. An address where
// somebody answers who cannot prove that is an error that is ErrProof.
func MemberDialer(o MemberOptions) peer.Dialer {
	if o.Dial == nil {
		o.Dial = peer.TCP
	}
	return func(ctx context.Context, address string) (net.Conn, error) {
		nc, err := o.Dial(ctx, address)
		if err != nil {
			return nil, err
		}
		o := o // of this connection
		if o.secrets != nil {
			o.Secret = o.secrets.first()
		}
		proved, err := o.prove(ctx, nc, address)
		if err != nil {
			_ = tlsconf.Cut(nc)
			return nil, fmt.Errorf("%w: %w", ErrProof, err)
		}
		return proved, nil
	}
}

// prove makes the TLS of a connection, if there is to be any, and both sides' proofs.
func (o *MemberOptions) prove(ctx context.Context, nc net.Conn, address string) (net.Conn, error) {
	if o.TLS != nil {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		c, err := o.TLS.Handshake(ctx, nc, host)
		if err != nil {
			return nil, err
		}
		if nc = c; o.Certificates {
			state := c.ConnectionState()
			if err := o.isServer(&state, address); err != nil {
				return nil, err
			}
		}
	}
	if o.Secret == "" {
		return nc, nil
	}
	defer context.AfterFunc(ctx, func() { _ = tlsconf.Cut(nc) })()
	return nc, o.exchange(ctx, nc)
}

// proveTimeout bounds each step of a proof, where the context does not end it earlier.
const proveTimeout = 5 * time.Second

// exchange proves the cluster's secret, and has the other side prove it.
func (o *MemberOptions) exchange(ctx context.Context, nc net.Conn) error {
	channel, err := channelOf(nc)
	if err != nil {
		return err
	}
	c := claim{role: o.Role.String(), name: o.Name, client: newNonce(), channel: channel}
	conn := peer.New(nc, proveTimeout)
	conn.Limit(replyLimits())
	if c.server, err = proofFrom(conn, protocol.CmdChallenge, c.role, c.name, hexOf(c.client)); err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	theirs, err := proofFrom(conn, protocol.CmdProve, hexOf(c.mac(o.Secret, clientLabel)))
	if err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	ours := c.mac(o.Secret, serverLabel)
	if !hmac.Equal(theirs[:], ours[:]) {
		return errors.New("the other side does not know the cluster secret (QUOIT_CLUSTER_SECRET): whoever it is, it is told nothing")
	}
	return conn.Release()
}

// replyLimits bound what a stranger may answer.
func replyLimits() protocol.Limits {
	const most = 4 << 10
	return protocol.Limits{MaxInline: most, MaxArgs: 1, MaxKey: most, MaxValue: most, MaxRequest: 2 * most}
}

func hexOf(p proof) string { return hex.EncodeToString(p[:]) }

// proofFrom sends a request whose answer is a nonce or a mac.
func proofFrom(conn *peer.Conn, cmd protocol.Command, args ...string) (proof, error) {
	reply, err := conn.DoStrings(cmd.String(), args...)
	if err != nil {
		return proof{}, fmt.Errorf("%s: %w", cmd, err)
	}
	answer, ok := protocol.ParseProof(reply.Bytes)
	if reply.Kind != '$' || !ok {
		return proof{}, fmt.Errorf("%s: the answer is none", cmd)
	}
	return answer, nil
}

// isServer says whether the certificate that was shown is that of a member: a manager's,
// or a node's that is dialled there.
func (o *MemberOptions) isServer(state *tls.ConnectionState, address string) error {
	cert, err := o.TLS.VerifyMember(state)
	if err != nil {
		return err
	}
	p, err := principalOf(cert)
	switch {
	case err != nil:
		return err
	case p.role == RoleManager, p.role == RoleNode && (p.name == "" || p.name == address):
		return nil
	}
	return fmt.Errorf("its certificate is that of quoit://%s/%s, and %s was dialled", p.role, p.name, address)
}
