package client

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

// scriptedConn answers the first request with the topology, and the second with
// whatever the fuzzer came up with; then it ends.
type scriptedConn struct {
	mu     sync.Mutex
	asked  *sync.Cond
	reply  [][]byte // not sent yet, one for each write
	ready  []byte
	closed bool
}

func newScriptedConn(reply ...[]byte) *scriptedConn {
	c := &scriptedConn{reply: reply}
	c.asked = sync.NewCond(&c.mu)
	return c
}

func (c *scriptedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, io.ErrClosedPipe
	}
	n := len(b)
	if _, rest, greeting := bytes.Cut(b, []byte("$4\r\nPARK\r\n$3\r\nOFF\r\n")); greeting {
		c.ready = protocol.AppendOK(c.ready)
		if b = rest; len(b) == 0 {
			c.asked.Broadcast()
			return n, nil
		}
	}
	if len(c.reply) > 0 {
		c.ready, c.reply = append(c.ready, c.reply[0]...), c.reply[1:]
	}
	c.asked.Broadcast()
	return n, nil
}

func (c *scriptedConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.ready) == 0 && len(c.reply) > 0 && !c.closed {
		c.asked.Wait()
	}
	if len(c.ready) == 0 || c.closed {
		return 0, io.EOF
	}
	n := copy(b, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

func (c *scriptedConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.asked.Broadcast()
	return nil
}

// FuzzReplies lets a node answer every command with arbitrary bytes. Nothing
// may panic, hang, or be left running.
func FuzzReplies(f *testing.F) {
	for _, seed := range []string{
		"+OK\r\n", "$3\r\nabc\r\n", "$-1\r\n", ":7\r\n", "*-1\r\n", "*2\r\n$1\r\nv\r\n:9\r\n",
		"-MOVED 2 n1:7401\r\n", "-MOVED 99 n9:1\r\n", "-MOVED 0 n1:7401\r\n", "-MOVED\r\n", "-TRYAGAIN\r\n",
		"-VERSION 12 is current\r\n", "-VERSION\r\n", "-\r\n", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n",
		"$9223372036854775807\r\n", "*1048576\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
		"$77\r\nquoit-topology 1\ncluster fake\nepoch 3\nnode n1:7401 16\nend\n\r\n", "\r\n\r\n", "+OK\r\n+OK\r\n+OK\r\n",
	} {
		f.Add([]byte(seed))
	}
	cluster := NewFakeCluster(1)
	topology := protocol.AppendBulk(nil, cluster.Node(1).text)
	f.Fuzz(func(t *testing.T, reply []byte) {
		synctest.Test(t, func(t *testing.T) {
			dial := func(context.Context, string) (Conn, error) { return newScriptedConn(reply), nil }
			seed := func(context.Context, string) (Conn, error) { return newScriptedConn(topology, topology), nil }
			first := true
			c, err := Open(t.Context(), []string{fakeAddress(1)}, WithRetryBudget(0), WithDialer(func(ctx context.Context, a string) (Conn, error) {
				if first {
					first = false
					return seed(ctx, a)
				}
				return dial(ctx, a)
			}))
			must(t, err)
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			everyCommand(ctx, c, func(string, error) {})
		})
	})
}

// FuzzReplyStream feeds a link bytes in pieces, with calls waiting for them.
func FuzzReplyStream(f *testing.F) {
	f.Add([]byte("+OK\r\n:1\r\n$1\r\nx\r\n"), uint8(3), uint8(1))
	f.Add([]byte("*2\r\n$1\r\nx\r\n:1\r\n-ERR no\r\n"), uint8(2), uint8(5))
	f.Fuzz(func(t *testing.T, stream []byte, calls, piece uint8) {
		c := &Client{env: newEnvironment(defaultOptions())}
		l := newLink(&pieces{stream, int(piece) + 1}, protocol.DefaultLimits())
		var waiting []*call
		for range calls {
			k := c.env.newCall()
			k.rearm()
			waiting = append(waiting, k)
			must(t, l.send(t.Context(), k, nil))
		}
		l.readLoop()
		answered := 0
		for _, k := range waiting {
			must(t, k.wait(t.Context()))
			if k.err == nil {
				answered++
			}
		}
		if l.err == nil || l.answered.Load() != uint64(calls) || answered > int(calls) {
			t.Fatalf("%d of %d calls ended, %v", l.answered.Load(), calls, l.err)
		}
	})
}

// pieces is a Conn that gives its bytes a few at a time.
type pieces struct {
	data []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.data[:min(p.size, len(p.data))])
	p.data = p.data[n:]
	return n, nil
}

func (p *pieces) Write(b []byte) (int, error) { return len(b), nil }
func (p *pieces) Close() error                { return nil }
