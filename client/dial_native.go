//go:build !js

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
)

// nativeDialer is plain TCP. Go sets TCP_NODELAY and keep-alive by itself.
func nativeDialer() Dialer {
	var d net.Dialer
	return func(ctx context.Context, address string) (Conn, error) {
		return d.DialContext(ctx, "tcp", address)
	}
}

// WithTLS has connections encrypted, in the place of plain TCP or of what WithDialer
// gives: TLS 1.3, unless config names another version. Where config has no ServerName
// the certificate of a node has to be for the host that is dialled. One that is not
// believed ends a call, or a watch, at once, with a *tls.CertificateVerificationError.
func WithTLS(config *tls.Config) Option {
	config = config.Clone()
	if config.MinVersion == 0 {
		config.MinVersion = tls.VersionTLS13
	}
	d := tls.Dialer{Config: config}
	return WithDialer(func(ctx context.Context, address string) (Conn, error) {
		return d.DialContext(ctx, "tcp", address)
	})
}

// distrusts says whether a node was reached whose certificate is not believed. Trying again
// does not help: somebody has to replace it, or to say whom to believe.
func distrusts(err error) bool {
	var bad *tls.CertificateVerificationError
	return errors.As(err, &bad)
}

// TokenFile is a source for WithToken: the first line of a file, read anew each time,
// so that whoever renews tokens writes them there.
func TokenFile(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		token, rest, _ := strings.Cut(strings.TrimRight(string(text), "\r\n"), "\n")
		if rest != "" {
			return "", errors.New(path + " has more than one line: a token is one")
		}
		return token, nil
	}
}
