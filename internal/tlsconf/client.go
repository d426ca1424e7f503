package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Client holds whom a program believes that dials servers, and what it shows them. Any
// number of goroutines may use it.
type Client struct{ files *watched }

// NewClient reads the files of the settings. What is wrong with them is an error that
// says what would be right.
func NewClient(c Config, o Options) (*Client, error) {
	w := newWatched([]source{
		{kind: certificate, file: c.TLSCert, what: "certificate"},
		{kind: privateKey, file: c.TLSKey, what: "private key"},
		{kind: serverCA, file: c.TLSCA, what: "the authority"},
		{kind: memberCA, file: c.TLSMemberCA, what: "the members' authority"},
	}, o)
	if err := w.begin(); err != nil {
		return nil, err
	}
	return &Client{w}, nil
}

// Config is for the next connection, with the files as they are now: whoever keeps it
// keeps them too. ServerName is still to be set to the host that is dialled, by the
// caller or by what the Config is given to.
func (c *Client) Config() *tls.Config {
	m := c.files.now()
	out := base()
	out.RootCAs, out.Time = m.servers, c.files.o.Now
	if m.cert != nil {
		// It is shown whatever authorities the server names: one that does not take it then
		// says so, instead of dealing with a stranger.
		out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.cert, nil }
	}
	return out
}

// Dial connects over TCP and makes the handshake. The server must have a certificate for
// the host of address, which may be an IP address.
func (c *Client) Dial(ctx context.Context, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return c.Handshake(ctx, nc, host)
}

// Handshake speaks TLS over a connection to a host. It closes the connection where that
// fails.
func (c *Client) Handshake(ctx context.Context, nc net.Conn, host string) (*tls.Conn, error) {
	config := c.Config()
	config.ServerName = host
	out := tls.Client(nc, config)
	if err := out.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, &HandshakeError{Host: host, Err: err}
	}
	return out, nil
}

// VerifyMember returns the certificate of a server, after a handshake, if the members'
// authority has issued it.
func (c *Client) VerifyMember(state *tls.ConnectionState) (*x509.Certificate, error) {
	m := c.files.now()
	if m.members == nil || len(state.PeerCertificates) == 0 {
		return nil, errors.New("there is no members' authority (QUOIT_TLS_MEMBER_CA_FILE)")
	}
	o := x509.VerifyOptions{Roots: m.members, Intermediates: x509.NewCertPool(), CurrentTime: c.files.o.Now()}
	for _, between := range state.PeerCertificates[1:] {
		o.Intermediates.AddCert(between)
	}
	leaf := state.PeerCertificates[0]
	if _, err := leaf.Verify(o); err != nil {
		return nil, fmt.Errorf("its certificate is not of the members' authority (QUOIT_TLS_MEMBER_CA_FILE): %w", err)
	}
	return leaf, nil
}

// HandshakeError is a server that was reached and that TLS could not be spoken with.
type HandshakeError struct {
	Host string
	Err  error
}

// Error says what would help, where that is known.
func (e *HandshakeError) Error() string {
	var (
		plain tls.RecordHeaderError
		chain *tls.CertificateVerificationError
		name  x509.HostnameError
		hint  string
	)
	switch {
	case errors.As(e.Err, &name):
		return fmt.Sprintf("no TLS with %s: its certificate is for %s; dial it by such a name, or give it a certificate for this one", e.Host, names(name.Certificate))
	case errors.As(e.Err, &plain):
		hint = " (does it speak TLS? QUOIT_TLS=off where it does not)"
	case errors.As(e.Err, &chain):
		hint = " (QUOIT_TLS_CA_FILE names the authorities that are believed)"
	}
	return fmt.Sprintf("no TLS with %s: %v%s", e.Host, e.Err, hint)
}

// Final says whether another try would end in the same way: the server speaks no TLS, or
// has shown a certificate that is not believed.
func (e *HandshakeError) Final() bool {
	var (
		plain tls.RecordHeaderError
		chain *tls.CertificateVerificationError
	)
	return errors.As(e.Err, &plain) || errors.As(e.Err, &chain)
}

// names are the hosts that a certificate is for.
func names(c *x509.Certificate) string {
	all := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "no host at all"
	}
	return strings.Join(all, ", ")
}

// Unwrap is what the handshake failed of.
func (e *HandshakeError) Unwrap() error { return e.Err }

// Figures are for metrics.
func (c *Client) Figures() Figures { return c.files.figures() }
