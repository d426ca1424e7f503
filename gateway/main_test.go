package gateway

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/internal/local"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
	"github.com/quoitdb/quoit/protocol"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// waitFor polls until something holds.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// nodeConfig is that of the nodes of a test. They have few tokens, so that it does not
// take long when ranges move.
func nodeConfig(t testing.TB) node.Config {
	t.Helper()
	n := node.DefaultConfig()
	if err := n.Log.Fsync.UnmarshalText([]byte("never")); err != nil {
		t.Fatal(err)
	}
	n.Tokens, n.Times.Poll = 16, 50*time.Millisecond
	n.Times.Handshake = patience // a test may be slow to authenticate
	return n
}

// startCluster runs real nodes, on ports that are free.
func startCluster(t testing.TB, nodes int) *local.Cluster {
	return startClusterOf(t, nodes, nodeConfig(t))
}

func startClusterOf(t testing.TB, nodes int, n node.Config) *local.Cluster {
	t.Helper()
	m := manager.DefaultConfig()
	m.Poll, m.Auth, m.Handshake = 50*time.Millisecond, n.Auth, patience
	c, err := local.Start(t.Context(), local.Options{Dir: t.TempDir(), Nodes: nodes, Port: -1, Node: &n, Manager: &m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// options change what start starts.
type options struct {
	config func(*Config)
	seams  func(*Seams)
}

// fixture is a gateway before a cluster.
type fixture struct {
	*Gateway
	t    testing.TB
	logs *logBuffer
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func start(t testing.TB, managerAddr string, o options) *fixture {
	t.Helper()
	c := DefaultConfig()
	c.Addr, c.RedisAddr, c.AdminAddr, c.ManagerAddr = "127.0.0.1:0", "127.0.0.1:0", "off", managerAddr
	c.Times.Poll, c.Times.Drain, c.Times.Handshake = 50*time.Millisecond, 5*time.Second, patience
	if o.config != nil {
		o.config(&c)
	}
	logs := &logBuffer{}
	s := Seams{Logger: slog.New(slog.NewTextHandler(logs, nil)), Version: "test"}
	if o.seams != nil {
		o.seams(&s)
	}
	g, err := Start(t.Context(), c, s)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Gateway: g, t: t, logs: logs}
	t.Cleanup(f.stopNow)
	return f
}

// stopNow ends the gateway without waiting for its clients.
func (f *fixture) stopNow() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Shutdown(ctx); err != nil {
		f.t.Error(err)
	}
	if f.stats.panics.Load() != 0 {
		f.t.Errorf("a connection panicked:\n%s", f.logs)
	}
	// The HTTP server counts a connection out in its goroutine, which it does not wait for.
	waitFor(f.t, "no bytes of buffers and no connections to be counted any more", func() bool {
		return f.budget.Used() == 0 && f.gate.count() == 0
	})
}

func (f *fixture) ready() *fixture {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	if err := f.WaitReady(ctx); err != nil {
		f.t.Fatal(err)
	}
	return f
}

// both starts a cluster and a gateway.
func both(t testing.TB, nodes int, o options) (*local.Cluster, *fixture) {
	t.Helper()
	c := startCluster(t, nodes)
	return c, start(t, c.Manager(), o).ready()
}

// redisClient speaks to the Redis door.
type redisClient struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func (f *fixture) redis() *redisClient {
	f.t.Helper()
	nc, err := net.Dial("tcp", f.RedisAddr())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = nc.Close() })
	return &redisClient{Conn: nc, t: f.t, r: bufio.NewReader(nc)}
}

func (c *redisClient) send(text string) {
	c.t.Helper()
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// reply reads one reply and shows it in one line; "closed" when there is none.
func (c *redisClient) reply() string {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	text, err := readReply(c.r)
	if err != nil {
		return "closed"
	}
	return text
}

func (c *redisClient) do(args ...string) string {
	c.t.Helper()
	c.send(request(args...))
	return c.reply()
}

func request(args ...string) string {
	return string(protocol.AppendRequestStrings(nil, args[0], args[1:]...))
}

// readReply shows a reply as people write it: +OK, -ERR text, :1, a value, nil,
// [a b].
func readReply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	n := 0
	switch line[0] {
	case '$', '*':
		if _, err := fmt.Sscanf(line[1:], "%d", &n); err != nil {
			return "", err
		}
	default:
		return line, nil
	}
	if n < 0 {
		return "nil", nil
	}
	if line[0] == '$' {
		value := make([]byte, n+2)
		_, err := io.ReadFull(r, value)
		return string(value[:n]), err
	}
	all := make([]string, n)
	for i := range all {
		if all[i], err = readReply(r); err != nil {
			return "", err
		}
	}
	return "[" + strings.Join(all, " ") + "]", nil
}

// page is a page's WebSocket.
type page struct {
	*websocket.Conn
	t    testing.TB
	rest *bufio.Reader // of the replies
	left []byte        // of the last message
}

// header is what a browser on a page of the gateway's own says.
func (f *fixture) header() http.Header { return http.Header{"Origin": {"http://" + f.Addr()}} }

func (f *fixture) dialPath(path string, h http.Header) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	f.t.Cleanup(cancel) // not before: the connection may be its transport's still
	transport := &http.Transport{DisableKeepAlives: true}
	return websocket.Dial(ctx, "ws://"+f.Addr()+path, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, HTTPHeader: h, Subprotocols: []string{Subprotocol},
	})
}

// open opens a WebSocket as a page would.
func (f *fixture) open(path string) *page {
	f.t.Helper()
	ws, res, err := f.dialPath(path, f.header()) //nolint:bodyclose // the library does
	if err != nil {
		f.t.Fatalf("%s: %v (%v)", path, err, res)
	}
	ws.SetReadLimit(-1)
	f.t.Cleanup(func() { _ = ws.CloseNow() })
	p := &page{Conn: ws, t: f.t}
	p.rest = bufio.NewReader(messages{p})
	return p
}

func (f *fixture) channel(address string) *page {
	f.t.Helper()
	return f.open("/v1/node/" + address)
}

// messages is what a page receives, as one stream.
type messages struct{ p *page }

func (m messages) Read(b []byte) (int, error) {
	if n := copy(b, m.p.left); n > 0 {
		m.p.left = m.p.left[n:]
		return n, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kind, message, err := m.p.Conn.Read(ctx)
	if err != nil {
		return 0, err
	}
	if kind != websocket.MessageBinary {
		return 0, fmt.Errorf("a %v message", kind)
	}
	n := copy(b, message)
	m.p.left = message[n:]
	return n, nil
}

func (p *page) send(text string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.Write(ctx, websocket.MessageBinary, []byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *page) reply() string {
	p.t.Helper()
	text, err := readReply(p.rest)
	if err != nil {
		return fmt.Sprintf("closed %d", websocket.CloseStatus(err))
	}
	return text
}

func (p *page) do(args ...string) string {
	p.t.Helper()
	p.send(request(args...))
	return p.reply()
}
