package client

// nativeDialer is nothing: a browser has no sockets. Open asks for WithDialer.
func nativeDialer() Dialer { return nil }
