// Package peer is one member's connection to another: requests of the text
// protocol out, replies back, one at a time or pipelined, each with a deadline.
//
// A [Conn] belongs to one goroutine, or to two: one that sends (Queue, Flush) and one
// that receives (Receive). Close may be called from any, to end a call that is
// waiting. Any error but a [*protocol.Error] reply leaves
// the connection unusable: close it and dial again; what had been sent may or may
// not have been done.
package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

// Dialer opens a connection to a member. Tests put a network of their own here.
type Dialer func(ctx context.Context, address string) (net.Conn, error)

// TCP dials over TCP.
func TCP(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// Conn is a connection to another member.
type Conn struct {
	conn    net.Conn
	timeout time.Duration
	parser  protocol.ReplyParser
	out     []byte
	in      []byte // read and not parsed: in[start:]
	start   int
}

// Dial connects; timeout bounds the dialling, each write, and each wait for more of a
// reply.
func Dial(ctx context.Context, dial Dialer, address string, timeout time.Duration) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return New(c, timeout), nil
}

// New wraps a connection that is open already.
func New(c net.Conn, timeout time.Duration) *Conn {
	return &Conn{conn: c, timeout: timeout, parser: protocol.ReplyParser{Limits: protocol.DefaultLimits()}}
}

// Limit bounds the replies that are taken from now on. Without it a reply may be as
// large as any value.
func (c *Conn) Limit(l protocol.Limits) { c.parser.Limits = l }

// Close closes the connection. It may be called from any goroutine.
func (c *Conn) Close() error { return c.conn.Close() }

// Release ends the use of c and leaves the connection open for whoever goes on with it.
// What the other side has said without being asked is an error.
func (c *Conn) Release() error {
	if c.start < len(c.in) || len(c.out) > 0 {
		return errors.New("the other side says more than it was asked")
	}
	return c.conn.SetDeadline(time.Time{})
}

// Do sends one request and returns its reply; an error reply comes back as a
// *protocol.Error. The reply's bytes are valid until the next call.
func (c *Conn) Do(name string, args ...[]byte) (protocol.Reply, error) {
	c.Queue(name, args...)
	if err := c.Flush(); err != nil {
		return protocol.Reply{}, err
	}
	return c.Receive()
}

// DoStrings is Do for arguments that are text.
func (c *Conn) DoStrings(name string, args ...string) (protocol.Reply, error) {
	c.out = protocol.AppendRequestStrings(c.out, name, args...)
	if err := c.Flush(); err != nil {
		return protocol.Reply{}, err
	}
	return c.Receive()
}

// Queue adds a request to the next Flush.
func (c *Conn) Queue(name string, args ...[]byte) {
	c.out = protocol.AppendRequest(c.out, name, args...)
}

// Flush sends what was queued.
func (c *Conn) Flush() error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// Receive returns the reply to the oldest request that has none yet.
func (c *Conn) Receive() (protocol.Reply, error) {
	for {
		reply, n, err := c.parser.Next(c.in[c.start:])
		if err != nil {
			return protocol.Reply{}, err
		}
		if n > 0 {
			c.start += n
			if e := reply.Err(); e != nil {
				return reply, e
			}
			return reply, nil
		}
		if err := c.fill(); err != nil {
			return protocol.Reply{}, err
		}
	}
}

// fill reads more, keeping what is not parsed yet.
func (c *Conn) fill() error {
	c.in = c.in[:copy(c.in, c.in[c.start:])]
	c.start = 0
	if cap(c.in)-len(c.in) < 4096 {
		grown := make([]byte, len(c.in), 2*cap(c.in)+8192)
		copy(grown, c.in)
		c.in = grown
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(c.timeout)) // fails only where reading does
	n, err := c.conn.Read(c.in[len(c.in):cap(c.in)])
	c.in = c.in[:len(c.in)+n]
	switch {
	case n > 0:
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the other side hung up before it answered: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// Refused says whether err is an answer of the other side, as opposed to a link
// that broke.
func Refused(err error) bool {
	var e *protocol.Error
	return errors.As(err, &e)
}
