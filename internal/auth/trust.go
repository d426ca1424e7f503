package auth

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/internal/tlsconf"
)

// Trust is how a member's connections are made safe, those that come and those that go
// out: TLS, and the proofs of members.
type Trust struct {
	*Members // nil: authentication is off

	server *tlsconf.Server // nil: no TLS
	client *tlsconf.Client // as well
	dial   peer.Dialer
}

// TrustOptions say whose it is. A zero Dial, Logger or Now is that of production.
type TrustOptions struct {
	Role   Role
	Name   string // "manager", or the address of a node
	Dial   peer.Dialer
	Logger *slog.Logger
	Now    func() time.Time
}

// NewTrust reads the files that the settings name, which have been validated.
func NewTrust(c *Config, t tlsconf.Config, o TrustOptions) (*Trust, error) {
	shared := newSecrets(c.ClusterSecret, o.Logger, o.Now)
	out := &Trust{Members: newMembers(c, shared, t.Members())}
	if t.Enabled() {
		files := tlsconf.Options{Logger: o.Logger, Now: o.Now, Fits: Fits(o.Role, o.Name, t.Members())}
		var err error
		if out.server, err = tlsconf.NewServer(t, files); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		if out.client, err = tlsconf.NewClient(t, files); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
	}
	out.dial = MemberDialer(MemberOptions{
		Dial: o.Dial, TLS: out.client, Certificates: t.Members(),
		secrets: shared, Role: o.Role, Name: o.Name,
	})
	return out, nil
}

// Listener is where clients and members connect: over TLS if there is any.
func (t *Trust) Listener(l net.Listener) net.Listener {
	if t.server == nil {
		return l
	}
	return t.server.Listener(l)
}

// Dial connects to a member.
func (t *Trust) Dial(ctx context.Context, address string) (net.Conn, error) {
	return t.dial(ctx, address)
}

// Follow looks at the file with the cluster's secrets again and again until ctx ends, so
// that the log tells at once what is wrong with it.
func (t *Trust) Follow(ctx context.Context) {
	if t.Members == nil || t.secrets == nil || !t.secrets.from.HasFile() {
		return
	}
	ticker := time.NewTicker(secretsEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			t.secrets.current()
		}
	}
}

// TLS is that of the listener, nil for none.
func (t *Trust) TLS() *tlsconf.Server { return t.server }

// Fits says, for tlsconf.Options, whether a certificate is one for a server with this role
// to show: a node's for the address that is its name. Where certificates make members it
// needs the role. That of a gateway must not have another's in any case: every page would
// speak as that.
func Fits(role Role, name string, members bool) func(*x509.Certificate) error {
	return func(cert *x509.Certificate) error {
		p, err := named(cert)
		if err == nil && (p == nil && !members || p.is(role, name)) || !members && role != RoleGateway {
			return nil
		}
		found := "names no role"
		switch {
		case err != nil:
			found = err.Error()
		case p != nil:
			found = "is for quoit://" + strings.TrimSuffix(p.role.String()+"/"+p.name, "/")
		}
		who, flags := "a "+role.String(), "--role "+role.String()
		if role == RoleManager {
			who = "the manager"
		}
		if role == RoleNode {
			who, flags = "the node "+name, flags+" --address "+name
		}
		return fmt.Errorf("%s, and this is %s: give it one of its own, as quoit cert issue FOLDER NAME --host HOST %s makes it", found, who, flags)
	}
}

// is says whether a certificate's owner may be the server with this role and name.
func (p *Principal) is(role Role, name string) bool {
	return p != nil && p.role == role && (p.name == "" || p.name == name)
}
