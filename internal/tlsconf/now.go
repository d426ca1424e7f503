package tlsconf

import (
	"crypto/tls"
	"io"
	"net"
	"syscall"
)

// eager is a TCP connection below TLS that can be read without waiting.
type eager struct {
	net.Conn
	raw syscall.RawConn
	now bool // of the goroutine that reads
}

// eagerly returns nc itself where reading cannot be tried without waiting.
func eagerly(nc net.Conn) net.Conn {
	tcp, ok := nc.(*net.TCPConn)
	if !ok || !canReadNow {
		return nc
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nc
	}
	return &eager{Conn: nc, raw: raw}
}

func (e *eager) Read(p []byte) (int, error) {
	if e.now {
		return readNow(e.raw, p)
	}
	return e.Conn.Read(p)
}

// Now returns what reads of a connection only what has arrived already; nil where that
// cannot be, and for one without TLS, which does not need it: there one Read returns all
// of it, where in TLS it is one record, however small. Where there is no more its Read
// returns os.ErrDeadlineExceeded, and the connection goes on.
func Now(nc net.Conn) io.Reader {
	if c, ok := nc.(*tls.Conn); ok {
		if e, ok := c.NetConn().(*eager); ok {
			return &arrived{c, e}
		}
	}
	return nil
}

type arrived struct {
	c *tls.Conn
	e *eager
}

func (a *arrived) Read(p []byte) (int, error) {
	a.e.now = true
	defer func() { a.e.now = false }()
	return a.c.Read(p)
}
