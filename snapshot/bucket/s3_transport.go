package bucket

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// newTransport returns connections on which nothing waits longer than timeout for
// the other side to make any progress: not on connecting, not on an answer and not
// in the middle of a body. A transfer that goes on may take as long as it takes.
//
// It speaks HTTP/1.1 only: a stalled connection then holds up one call, not all.
func newTransport(timeout time.Duration, caFile string) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		roots, err := rootsWith(caFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = roots
	}
	dialer := &net.Dialer{Timeout: min(timeout, 10*time.Second)}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           stalling(dialer, timeout),
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   min(timeout, 10*time.Second),
		ResponseHeaderTimeout: timeout,
		MaxIdleConnsPerHost:   32,
		// Well below the limit of a stalled connection, so that none is taken from the
		// pool a moment before it breaks.
		IdleConnTimeout:    timeout / 2,
		DisableCompression: true, // Bodies come as they were stored.
	}, nil
}

// stalling returns a dial function whose connections break after limit without progress.
func stalling(dialer *net.Dialer, limit time.Duration) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &stallConn{Conn: c, limit: limit}, nil
	}
}

func rootsWith(caFile string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("ca: " + caFile + " holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
	}
	return roots, nil
}

// stallConn is a connection that breaks when neither direction has moved for a
// while. Both count, because an answer is waited for while a body goes out.
type stallConn struct {
	net.Conn
	limit time.Duration
}

// stallChunk bounds what has to go out within the limit: 64 KiB in 30 seconds.
const stallChunk = 64 << 10

func (c *stallConn) Read(p []byte) (int, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *stallConn) Write(p []byte) (written int, err error) {
	for {
		if err := c.Conn.SetDeadline(time.Now().Add(c.limit)); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(p[:min(len(p), stallChunk)])
		written += n
		if p = p[n:]; err != nil || len(p) == 0 {
			return written, err
		}
	}
}
