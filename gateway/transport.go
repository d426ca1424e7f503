package gateway

import (
	"context"
	"fmt"
	"net"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/tlsconf"
)

// openTLS reads the files of the settings: of what browsers and Redis clients are shown,
// and of whom to believe when dialling.
func (g *Gateway) openTLS(s *Seams) (err error) {
	o := tlsconf.Options{Logger: g.log, Now: s.Now}
	if public := g.config.Public; public.Enabled() {
		if g.tls, err = tlsconf.NewServer(public.Server(), o); err != nil {
			return fmt.Errorf("QUOIT_GATEWAY_TLS_CERT_FILE: %w", err)
		}
	}
	var dial *tlsconf.Client
	if g.config.TLS.Enabled() {
		o.Fits = auth.Fits(auth.RoleGateway, "", g.config.TLS.Members())
		if dial, err = tlsconf.NewClient(g.config.TLS, o); err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
		g.source.dialer = func(ctx context.Context, address string) (client.Conn, error) {
			return g.config.only.reach(ctx, dial, address)
		}
	}
	if s.DialClient != nil {
		g.source.dialer = s.DialClient
	}
	if g.dial == nil {
		g.dial = func(ctx context.Context, address string) (net.Conn, error) {
			return g.config.only.reach(ctx, dial, address)
		}
	} else if own := g.config.only; own.Address != "" {
		other := g.dial
		g.dial = func(ctx context.Context, address string) (net.Conn, error) {
			return other(ctx, own.place(address))
		}
	}
	return nil
}

// public is a listener of the side that everybody sees.
func (g *Gateway) public(l net.Listener) net.Listener {
	if g.tls == nil {
		return l
	}
	return g.tls.Listener(l)
}

// reach dials a member, or where the node listens whose own gateway this is: that shows a
// certificate for the host of its name. by is nil without TLS.
func (o *Own) reach(ctx context.Context, by *tlsconf.Client, address string) (net.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", o.place(address))
	if err != nil || by == nil {
		return nc, err
	}
	if address == o.Dial {
		address = o.Address
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return by.Handshake(ctx, nc, host)
}

// place is where an address is dialled.
func (o *Own) place(address string) string {
	if address == o.Address && address != "" {
		return o.Dial
	}
	return address
}
