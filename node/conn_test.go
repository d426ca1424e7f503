package node

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
)

// deafConn takes what is written to it.
type deafConn struct {
	net.Conn
	writes int
	bytes  int
}

func (d *deafConn) Write(p []byte) (int, error) {
	d.writes++
	d.bytes += len(p)
	return len(p), nil
}

func (d *deafConn) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// pump drives a connection without a network: what was read is given, not read.
type pump struct {
	*conn
	to *deafConn
}

func newPump(s *solo) *pump {
	to := &deafConn{}
	return &pump{conn: newConn(s.server, to, 1), to: to}
}

// feed is one turn of serve.
func (p *pump) feed(t testing.TB, r io.Reader) {
	if err := p.in.MakeRoom(p.parser.Need()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.in.Fill(r); err != nil {
		t.Fatal(err)
	}
	p.batch()
	if !p.flush() {
		t.Fatal("the connection ended")
	}
}

// TestNothingIsAllocatedForARequest: the commands of every day, once their
// buffers have grown.
func TestNothingIsAllocatedForARequest(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Log.Fsync = Fsync(wal.SyncNever) }})
	p := newPump(s)
	p.feed(t, strings.NewReader("MSET a 1 b 2 n 5\r\nSET c v EX 100\r\n"))
	for _, line := range []string{
		"GET a", "GET nobody", "SET a 2", "SET a 2 KEEPTTL", "SET c v PX 100000", "SET a 3 GET", "MGET a b nobody", "EXISTS a b", "MSET a 1 b 2",
		"DEL nobody nobody2", "INCR n", "INCRBY n -7", "TTL c", "PTTL a", "GETV a", "STRLEN a", "TYPE a", "PING", "ECHO x", "DBSIZE", "SCAN 0", "EXPIRE c 100", "TOPOLOGY",
	} {
		var request []byte
		words := strings.Fields(line)
		request = protocol.AppendRequestStrings(request, words[0], words[1:]...)
		r := bytes.NewReader(nil)
		once := func() { r.Reset(request); p.feed(t, r) }
		once()
		if n := testing.AllocsPerRun(200, once); n > 0 {
			t.Errorf("%s: %v allocations", line, n)
		}
	}
	if s.stats.errors.Load() != 0 {
		t.Error("a request was refused")
	}
}

// TestABatchIsOneWrite: and one wait for the log.
func TestABatchIsOneWrite(t *testing.T) {
	s := startSolo(t, soloOptions{})
	p := newPump(s)
	p.feed(t, strings.NewReader("PING\r\n"))
	before, syncs := p.to.writes, s.state.store.Load().log.Stats().Syncs
	p.feed(t, strings.NewReader(strings.Repeat("INCR n\r\n", 64)))
	if n := p.to.writes - before; n != 1 {
		t.Errorf("%d writes", n)
	}
	if n := s.state.store.Load().log.Stats().Syncs - syncs; n != 1 {
		t.Errorf("%d syncs", n)
	}
}

// TestLargeRepliesLeaveInPieces: they do not pile up behind the last command of a batch.
func TestLargeRepliesLeaveInPieces(t *testing.T) {
	s := startSolo(t, soloOptions{})
	p := newPump(s)
	p.feed(t, bytes.NewReader(protocol.AppendRequestStrings(nil, "SET", "a", strings.Repeat("x", 3000))))
	p.feed(t, strings.NewReader(strings.Repeat("GET a\r\n", 500)))
	if cap(p.out) > 4*flushSize || p.to.writes < 10 {
		t.Errorf("%d bytes held, %d writes", cap(p.out), p.to.writes)
	}
}

// moodyListener fails a few times before it gives a connection.
type moodyListener struct {
	net.Listener
	mu    sync.Mutex
	fails int
}

func (m *moodyListener) Accept() (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails > 0 {
		m.fails--
		return nil, errors.New("too many open files")
	}
	return m.Listener.Accept()
}

func TestAcceptingGoesOnAfterAFailure(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := startSolo(t, soloOptions{listener: &moodyListener{Listener: l, fails: 3}})
	if got := s.dial().do("PING"); got != "+PONG" {
		t.Error(got)
	}
	if n := strings.Count(s.logs.String(), "cannot accept a connection"); n != 3 {
		t.Errorf("logged %d times", n)
	}
}

// TestAllCommandsAreDispatched: a command without a handler would be a panic.
func TestAllCommandsAreDispatched(t *testing.T) {
	table := newCommandTable()
	for _, cmd := range protocol.Commands() {
		if table[cmd].run == nil {
			t.Errorf("nobody runs %s", cmd)
		}
		if int(cmd) >= commandSlots {
			t.Errorf("%s is not counted: raise commandSlots", cmd)
		}
	}
}

func TestTheClockIsReadOncePerBatch(t *testing.T) {
	at := time.UnixMilli(1_000)
	reads := 0
	c := newClock(func() time.Time { reads++; return at })
	at = at.Add(time.Second)
	if c.coarse() != 1_000 || reads != 1 {
		t.Errorf("%d after %d reads", c.coarse(), reads)
	}
	if c.refresh(); c.coarse() != 2_000 || reads != 2 {
		t.Errorf("%d after %d reads", c.coarse(), reads)
	}
}
