package tlsconf

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Server holds what listeners show and whom they believe. Any number of goroutines may
// use it.
type Server struct{ files *watched }

// NewServer reads the files of a server's settings, which must name a certificate. What
// is wrong with them is an error that says what would be right.
func NewServer(c Config, o Options) (*Server, error) {
	w := newWatched([]source{
		{kind: certificate, file: c.TLSCert, what: "certificate"},
		{kind: privateKey, file: c.TLSKey, what: "private key"},
		{kind: memberCA, file: c.TLSMemberCA, what: "the members' authority"},
	}, o)
	if err := w.begin(); err != nil {
		return nil, err
	}
	return &Server{w}, nil
}

// Config is for tls.NewListener and http.Server: each handshake finds the files as they
// are then. Where a members' authority is set, a client may show a certificate, and one
// that this authority has not issued, or that has expired, ends the handshake.
func (s *Server) Config() *tls.Config {
	c := base()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current(), nil }
	return c
}

func (s *Server) current() *tls.Config {
	m := s.files.now()
	c := base()
	c.Certificates = []tls.Certificate{*m.cert}
	c.Time = s.files.o.Now
	if m.members != nil {
		c.ClientCAs, c.ClientAuth = m.members, tls.VerifyClientCertIfGiven
	}
	return c
}

// Listener speaks TLS to whoever connects. Accept does not wait for a handshake: the
// first Read or Write of a connection makes it, or [Handshake].
func (s *Server) Listener(l net.Listener) net.Listener { return &listener{l, s.Config()} }

type listener struct {
	net.Listener
	config *tls.Config
}

func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(eagerly(nc), l.config), nil
}

// Figures are for metrics.
func (s *Server) Figures() Figures { return s.files.figures() }

// WriteMetrics is its part of /metrics; a nil Server has none.
func (s *Server) WriteMetrics(w io.Writer) {
	if s == nil {
		return
	}
	f := s.Figures()
	metrics.WriteGaugeUint64(w, "quoit_tls_certificate_expires_seconds", uint64(max(0, f.Expires.Unix())))
	metrics.WriteCounterUint64(w, "quoit_tls_reloads_total", f.Loads)
	metrics.WriteCounterUint64(w, "quoit_tls_reload_failures_total", f.Failures)
}

// plainReply is what somebody hears who speaks plain text to a TLS port, as a reply of the
// protocol: its programs then say what is wrong instead of that a connection was lost.
const plainReply = "-NOPROTO this port speaks TLS alone: quoit needs QUOIT_TLS_CA_FILE (or QUOIT_TLS=on), redis-cli --tls --cacert FILE\r\n"

// Handshake makes the handshake of a connection that a TLS listener has accepted, within
// timeout (0 is for ever), and does nothing for any other connection. After an error the connection is
// good for nothing but to be closed. Who spoke no TLS has been told so.
func Handshake(ctx context.Context, nc net.Conn, timeout time.Duration) error {
	c, ok := nc.(*tls.Conn)
	if !ok {
		return nil
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	err := c.HandshakeContext(ctx)
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) {
		if plain.Conn != nil {
			_ = plain.Conn.SetWriteDeadline(time.Now().Add(time.Second)) // a new connection has room for a line
			_, _ = io.WriteString(plain.Conn, plainReply)
		}
		return fmt.Errorf("the other side does not speak TLS: %w", err)
	}
	return err
}

// Cut closes a connection at once. Close of a TLS connection first says goodbye, and
// waits up to five seconds for room to say it in.
func Cut(nc net.Conn) error {
	if c, ok := nc.(*tls.Conn); ok {
		return c.NetConn().Close()
	}
	return nc.Close()
}
