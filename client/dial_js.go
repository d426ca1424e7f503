package client

// nativeDialer is nothing: a browser has no sockets. Open asks for WithDialer.
func nativeDialer() Dialer { return nil }

// distrusts is for others: a browser verifies certificates itself, and does not say what
// it found.
func distrusts(error) bool { return false }
