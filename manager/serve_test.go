package manager

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// TestBadInput: whatever one connection sends, a client beside it is served.
func TestBadInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA))
		m := w.manager()
		healthy := m.dial()
		for name, c := range map[string]struct{ send, want string }{
			"binary garbage":       {"\x00\xff\x13\x37\r\n", "-ERR Protocol error: "},
			"a TLS handshake":      {"\x16\x03\x01\x02\x00\x01", "-ERR Protocol error: "},
			"a huge argument":      {"*2\r\n$8\r\nREGISTER\r\n$999999999\r\n", "-TOOLARGE Protocol error: a bulk string may have at most "},
			"a length that wraps":  {"*2\r\n$8\r\nREGISTER\r\n$9223372036854775807\r\n", "-TOOLARGE Protocol error: "},
			"a negative length":    {"*1\r\n$-7\r\n", "-ERR Protocol error: invalid bulk length"},
			"too many arguments":   {"*5000\r\n", "-TOOLARGE Protocol error: a request may have at most 4096 elements"},
			"a line without end":   {strings.Repeat("x", 70_000), "-TOOLARGE Protocol error: "},
			"an unbalanced quote":  {"PING \"x\r\n", "-ERR Protocol error: "},
			"a web page":           {"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nCLUSTER PAUSE\r\n", ""},
			"an image in a page":   {"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\nCLUSTER PAUSE\r\n", ""},
			"a header alone":       {"Host: localhost\r\nCLUSTER PAUSE\r\n", ""},
			"an SSH client":        {"SSH-2.0-OpenSSH_9.6\r\nCLUSTER PAUSE\r\n", ""},
			"requests, then worse": {"PING\r\nECHO x\r\n*x\r\nPING\r\n", "+PONG\r\n$1\r\nx\r\n-ERR Protocol error: invalid multibulk length"},
		} {
			bad := m.dial()
			go func() { _, _ = io.WriteString(bad, c.send) }() // it may be cut off half way
			got, _ := io.ReadAll(bad)
			if !strings.HasPrefix(string(got), c.want) || c.want == "" && len(got) > 0 || strings.Count(string(got), "\r\n") > 4 {
				t.Errorf("%s: got %q, want %q", name, got, c.want)
			}
			if got := healthy.do("PING"); got != "+PONG" {
				t.Errorf("%s: the client beside it got %s", name, got)
			}
		}
		if w.document().Settings.MovesPaused {
			t.Error("a web page paused the moves")
		}
	})
}

// TestSumOfArgumentsIsBounded: each is small enough, and together they are not.
func TestSumOfArgumentsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newWorld(t).manager()
		c := m.dial()
		part := fmt.Sprintf("$%d\r\n%s\r\n", member.MaxBytes, strings.Repeat("x", member.MaxBytes))
		go func() { _, _ = io.WriteString(c, "*4\r\n$4\r\nPING\r\n"+part+part+part) }()
		if got := c.reply(); !strings.HasPrefix(got, "-TOOLARGE Protocol error: a request or reply may have at most 524288 bytes") {
			t.Errorf("got %s", got)
		}
	})
}

// TestMessageThatIsTooLarge for a member's, although not for the parser.
func TestMessageThatIsTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newWorld(t).manager().dial()
		if got := c.do("HEARTBEAT", strings.Repeat(" ", member.MaxBytes+1)); !strings.HasPrefix(got, "-ERR message of 262145 bytes") {
			t.Errorf("got %s", got)
		}
		if got := c.do("HEARTBEAT", "{"+strings.Repeat(" ", member.MaxBytes-2)+"}"); !strings.HasPrefix(got, ":") {
			t.Errorf("got %s", got)
		}
	})
}

// TestHalfARequestAndSilence is cut off with the reason, and however slowly it goes
// on; a connection that has nothing to say stays much longer.
func TestHalfARequestAndSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newWorld(t).manager()
		idle, half, slow := m.dial(), m.dial(), m.dial()
		began := time.Now()
		slow.send("x")
		half.send("PING\r\n*2\r\n$4\r\nEC")
		go func() {
			for sleep(t.Context(), time.Second) { // a byte a second
				if _, err := io.WriteString(slow, "x"); err != nil {
					return
				}
			}
		}()
		if got := half.reply(); got != "+PONG" {
			t.Errorf("got %s", got)
		}
		for _, c := range []*client{half, slow} {
			if got := c.reply(); !strings.HasPrefix(got, "-ERR Protocol error: the rest of the request did not come within 30s") {
				t.Errorf("got %s", got)
			}
			c.expectClosed()
		}
		if took := time.Since(began); took != requestTimeout {
			t.Errorf("it took %v", took)
		}
		idle.ok("PING")
		idle.expectClosed()
		if took := time.Since(began); took != requestTimeout+idleTimeout {
			t.Errorf("an idle connection was closed after %v", took)
		}
	})
}

// TestRequestsInPieces: it does not matter how the bytes arrive.
func TestRequestsInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newWorld(t).manager().dial()
		text := string(protocol.AppendRequestStrings(nil, "ECHO", "hello")) + "PING\r\n\r\n*0\r\necho 'a b'\n"
		for size := 1; size < len(text); size++ {
			go func() {
				for rest := text; rest != ""; {
					n := min(size, len(rest))
					c.send(rest[:n])
					rest = rest[n:]
				}
			}()
			if a, b, d := c.reply(), c.reply(), c.reply(); a != "hello" || b != "+PONG" || d != "a b" {
				t.Fatalf("pieces of %d: %q %q %q", size, a, b, d)
			}
		}
	})
}

// TestWhoTakesNoReplies is cut off, and does not make the manager gather them.
func TestWhoTakesNoReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newWorld(t).manager()
		c := m.dial()
		began := time.Now()
		sent := 0
		for {
			n, err := io.WriteString(c, strings.Repeat("TOPOLOGY\r\n", 1000))
			if sent += n; err != nil {
				break
			}
		}
		if took := time.Since(began); took < writeTimeout || took > 2*writeTimeout || sent > 1<<20 {
			t.Errorf("cut off after %v and %d bytes of requests", took, sent)
		}
	})
}

// TestTooManyConnections: those over the limit are told why.
func TestTooManyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newWorld(t).manager(func(c *Config, _ *Seams) { c.Connections = 3 })
		var in []*client
		for range 3 {
			c := m.dial()
			c.ok("PING")
			in = append(in, c)
		}
		for range farewells + 3 {
			m.dial() // nobody reads what these are told
		}
		synctest.Wait()
		late := m.dial()
		late.expectClosed()
		_ = in[0].Close()
		pass(writeTimeout + time.Second)
		if c := m.dial(); c.do("PING") != "+PONG" {
			t.Error("a place that was given back was not given away")
		}
		over := m.dial()
		if got := over.reply(); !strings.HasPrefix(got, "-OVERLOADED ") || !strings.Contains(got, "QUOIT_MANAGER_MAX_CONNECTIONS") {
			t.Errorf("got %s", got)
		}
		over.expectClosed()
	})
}

// TestOneAddressHasItsPlaces: those of an address over the limit are told why, and
// places come back.
func TestOneAddressHasItsPlaces(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	newWorld(t).manager(func(c *Config, s *Seams) { c.PerAddress, s.Listener = 2, l })
	dial := func() *client {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		return newClient(t, nc)
	}
	first, second := dial(), dial()
	first.ok("PING")
	second.ok("PING")
	over := dial()
	if got := over.reply(); !strings.HasPrefix(got, "-OVERLOADED ") || !strings.Contains(got, "QUOIT_MANAGER_MAX_PER_ADDRESS") {
		t.Errorf("got %s", got)
	}
	over.expectClosed()
	first.ok("QUIT")
	first.expectClosed()
	deadline := time.Now().Add(time.Minute)
	served := func() bool { // of many that are refused at the same time not all are told why
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_, _ = io.WriteString(nc, "PING\r\n")
		text, _ := io.ReadAll(io.LimitReader(nc, int64(len("+PONG"))))
		return string(text) == "+PONG"
	}
	for !served() {
		if time.Now().After(deadline) {
			t.Fatal("a place that was given back was not given away")
		}
	}
}

// TestStrangersOfOneAddressHaveTheirPlaces and no more: those who say who they are get in,
// and who is refused takes no place meanwhile.
func TestStrangersOfOneAddressHaveTheirPlaces(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := newIssuer(t)
	newWorld(t).manager(i.guarded, func(c *Config, s *Seams) { c.Connections, c.Handshake, s.Listener = 9, time.Minute, l })
	dial := func() *client {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		return newClient(t, nc)
	}
	token := i.sign(i.claims(auth.ClusterRead))
	for range 4 { // more than there may be strangers
		dial().want("+OK", "AUTH", token)
	}
	first, second := dial(), dial()
	first.want("-NOAUTH ", "PING")
	second.want("-NOAUTH ", "PING")
	over := make([]*client, 10)
	for n := range over {
		over[n] = dial()
	}
	for _, c := range over {
		if got := c.reply(); !strings.HasPrefix(got, "-OVERLOADED ") || !strings.Contains(got, "that have not authenticated") {
			t.Errorf("got %s", got)
		}
	}
	first.want("+OK", "AUTH", token)
	dial().want("+OK", "AUTH", token) // in the place of the first
}

// TestErrorsArriveOverTCP: a refusal is read although more was sent behind what is
// refused, which would make the kernel reset the connection.
func TestErrorsArriveOverTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.manager(func(_ *Config, s *Seams) { s.Listener = l })
	for range 20 {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(t, nc)
		c.send("*bad\r\n" + strings.Repeat("y", 100_000))
		if got := c.reply(); !strings.HasPrefix(got, "-ERR Protocol error") {
			t.Fatalf("got %s", got)
		}
		_ = nc.Close()
	}
}

// TestManyStrangersOverTCP: garbage from many sides at once, over real sockets, with
// a member and an operator at work beside it.
func TestManyStrangersOverTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	m := w.manager(initial(50), func(_ *Config, s *Seams) { s.Listener = l })
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() { babble(t, m.address, uint64(i)) })
	}
	o, err := Dial(t.Context(), m.address, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", m.address)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, nc)
	for i := range 20 {
		c.ok("REGISTER", registration(fmt.Sprintf("n%d:1", i)))
		if s, err := o.Status(); err != nil || len(s.Nodes) != i+1 {
			t.Fatalf("status has %d nodes after %d, %v", len(s.Nodes), i+1, err)
		}
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// babble sends garbage on some connections, one after the other.
func babble(t *testing.T, address string, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	for range 10 {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Error(err)
			return
		}
		junk := make([]byte, r.IntN(8<<10))
		for i := range junk {
			junk[i] = byte(r.Uint32())
		}
		_, _ = nc.Write(junk)
		_ = nc.Close()
	}
}

// TestPanicEndsOneConnection: it is counted, and whoever else is there is served.
func TestPanicEndsOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := newManager(DefaultConfig(), Seams{Bucket: w.bucket})
		m.known.Store(nil) // what TOPOLOGY trips over
		s := newServer(m)
		l := w.net.listen(managerAddr)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.accept(ctx, l) }()
		dial := func() *client {
			nc, err := w.net.dial(ctx, managerAddr)
			if err != nil {
				t.Fatal(err)
			}
			return newClient(t, nc)
		}
		other := dial()
		for range 2 {
			c := dial()
			c.send("PING\r\nTOPOLOGY\r\n")
			c.expectClosed()
			if got := other.do("PING"); got != "+PONG" {
				t.Errorf("the connection beside it: %s", got)
			}
		}
		m.known.Store(newPicture(documentOf(t, nodeA))) // else the status trips over it, too
		var metrics bytes.Buffer
		m.writeMetrics(&metrics)
		if !strings.Contains(metrics.String(), `quoit_manager_connections_cut_total{why="panic"} 2`) || m.panics.Asked() != 2 {
			t.Errorf("metrics:\n%s", &metrics)
		}
		_ = other.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.close()
	})
}

// TestLargeBuffersAreGivenBack: one large request does not make a connection
// expensive for ever.
func TestLargeBuffersAreGivenBack(t *testing.T) {
	c := newConn(newManager(DefaultConfig(), Seams{}), nil, 1)
	c.in = bytes.Repeat([]byte("PING\r\n"), 20<<10)
	near, far := net.Pipe()
	defer near.Close()
	c.nc = far
	go func() {
		_, _ = io.Copy(io.Discard, near)
	}()
	c.batch(t.Context())
	c.flush()
	if len(c.in) != 0 || cap(c.out) > 2*flushSize {
		t.Errorf("%d bytes are left, the replies' buffer has %d", len(c.in), cap(c.out))
	}
	_ = far.Close()
	if err := c.fill(); err == nil || cap(c.in) > keepBuffer {
		t.Errorf("%v; an idle connection has a buffer of %d", err, cap(c.in))
	}
}

// TestTopologyIsMadeOnce for each document, however often it is asked for.
func TestTopologyIsMadeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t).with(documentOf(t, nodeA, nodeB))
		c := w.manager().dial()
		first := c.ok("TOPOLOGY")
		parsed, err := ring.ParseTopology([]byte(first))
		if err != nil || parsed.Epoch != w.document().Epoch || len(parsed.Nodes) != 2 {
			t.Fatalf("%v: %s", err, first)
		}
		c.ok("CLUSTER", "REMOVE", nodeB)
		if second := c.ok("TOPOLOGY"); second == first || !strings.Contains(second, "held ") {
			t.Errorf("after a change: %s", second)
		}
	})
}

// FuzzRequests: whatever a stranger sends is answered with replies that can be read,
// one after the other, and nothing else happens. The manager is stopping, so that no
// request waits for a bucket.
func FuzzRequests(f *testing.F) {
	for _, text := range []string{
		"PING\r\nTOPOLOGY\r\nINFO\r\n", "CLUSTER STATUS\r\nCLUSTER PLAN ADD a:1 REMOVE b:2\r\n", "CLUSTER FORGET a:7401\n",
		"*2\r\n$8\r\nREGISTER\r\n$2\r\n{}\r\n", `HEARTBEAT '{"address":"a:7401","id":"id-a","incarnation":1,"counter":99}'` + "\n",
		"COMMIT_MOVE m1\nMOVE_DONE active m1\n", "HELLO 2\nCLIENT ID\nCOMMAND\nSELECT 0\nTIME\nQUIT\n", "POST / HTTP/1.1\r\n", "*1\r\n$-1\r\n",
	} {
		f.Add([]byte(text))
	}
	m := newManager(DefaultConfig(), Seams{})
	m.known.Store(newPicture(documentOf(f, nodeA, nodeB)))
	stopped, cancel := context.WithCancel(context.Background())
	cancel()
	f.Fuzz(func(t *testing.T, text []byte) {
		c := newConn(m, &sink{}, 1)
		c.in = bytes.Clone(text)
		c.batch(stopped)
		out := append(c.nc.(*sink).taken, c.out...)
		var p protocol.ReplyParser
		for len(out) > 0 {
			_, n, err := p.Next(out)
			if err != nil || n == 0 {
				t.Fatalf("%q is answered with %q: %v", text, out, err)
			}
			out = out[n:]
		}
	})
}

// sink is a connection that takes everything.
type sink struct {
	net.Conn
	taken []byte
}

func (s *sink) SetWriteDeadline(time.Time) error { return nil }

func (s *sink) Write(b []byte) (int, error) {
	s.taken = append(s.taken, b...)
	return len(b), nil
}
