//go:build !js

package client

import (
	"context"
	"net"
)

// nativeDialer is plain TCP. Go sets TCP_NODELAY and keep-alive by itself.
func nativeDialer() Dialer {
	var d net.Dialer
	return func(ctx context.Context, address string) (Conn, error) {
		return d.DialContext(ctx, "tcp", address)
	}
}
