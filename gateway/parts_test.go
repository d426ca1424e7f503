package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/inbox"
	"github.com/quoitdb/quoit/protocol"
)

// endsOf lists where replies end when the bytes come in pieces of a size.
func endsOf(stream []byte, piece int) (ends []int, err error) {
	var e replyEnds
	for at := 0; at < len(stream); {
		part := stream[at:min(at+piece, len(stream))]
		for len(part) > 0 {
			n, done, err := e.next(part)
			if err != nil {
				return ends, err
			}
			at += n
			part = part[n:]
			if done {
				ends = append(ends, at)
			}
		}
	}
	return ends, nil
}

// FuzzReplyEnds compares with the parser of whole replies, and with itself when the
// same bytes come one by one.
func FuzzReplyEnds(f *testing.F) {
	for _, seed := range []string{
		"+OK\r\n-ERR x\r\n:1\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n*0\r\n*2\r\n$0\r\n\r\n*1\r\n:5\r\n+PONG\r\n",
		"$5\r\nhello", "*3\r\n:1\r\n", "!\r\n", "$99999999999\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", "$x\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		var want []int
		var parser protocol.ReplyParser
		for at := 0; ; {
			_, n, err := parser.Next(stream[at:])
			if err != nil || n == 0 {
				break
			}
			at += n
			want = append(want, at)
		}
		whole, errWhole := endsOf(stream, len(stream)+1)
		single, errSingle := endsOf(stream, 1)
		if len(whole) < len(want) {
			t.Fatalf("%q: ends %v (%v), the parser has %v", stream, whole, errWhole, want)
		}
		for i, end := range want {
			if whole[i] != end {
				t.Fatalf("%q: ends %v, the parser has %v", stream, whole, want)
			}
		}
		if len(single) != len(whole) || (errSingle == nil) != (errWhole == nil) {
			t.Fatalf("%q: ends %v (%v) at once, %v (%v) byte by byte", stream, whole, errWhole, single, errSingle)
		}
	})
}

func TestRepliesAreWrittenAsTheyCame(t *testing.T) {
	stream := "+OK\r\n-ERR x\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n*0\r\n*2\r\n$0\r\n\r\n*1\r\n:5\r\n"
	var parser protocol.ReplyParser
	var out []byte
	for at := 0; at < len(stream); {
		r, n, err := parser.Next([]byte(stream[at:]))
		if err != nil || n == 0 {
			t.Fatalf("at %d: %v", at, err)
		}
		out = appendReply(out, r)
		at += n
	}
	if string(out) != stream {
		t.Errorf("%q became %q", stream, out)
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for variable, values := range map[string][]string{
		"QUOIT_GATEWAY_ADDR":             {"0.0.0.0:7480", "7480", "localhost", ":7480"},
		"QUOIT_GATEWAY_REDIS_ADDR":       {"[::]:7479", "none"},
		"QUOIT_GATEWAY_ADMIN_ADDR":       {"here"},
		"QUOIT_GATEWAY_ORIGINS":          {"*", "app.example.org", "https://app.example.org/", "https://*.example.org", "HTTPS://app.example.org", "null"},
		"QUOIT_GATEWAY_HOSTS":            {"*", "https://app.example.org", "App.example.org", "a/b"},
		"QUOIT_GATEWAY_SEEDS":            {"nowhere", "127.0.0.1:7401,x"},
		"QUOIT_MANAGER_ADDR":             {"manager"},
		"QUOIT_GATEWAY_MAX_CONNECTIONS":  {"0", "many"},
		"QUOIT_GATEWAY_MAX_PER_ADDRESS":  {"-1"},
		"QUOIT_GATEWAY_MAX_MESSAGE":      {"1", "2GiB"},
		"QUOIT_GATEWAY_MAX_INFLIGHT":     {"1MiB"},
		"QUOIT_GATEWAY_WRITE_TIMEOUT":    {"0s"},
		"QUOIT_GATEWAY_PING":             {"0s"},
		"QUOIT_GATEWAY_HOST":             {"x"}, // no such setting
		"QUOIT_GATEWAY_HANDSHAKE_TIMOUT": {"1s"},
	} {
		for _, value := range values {
			_, err := LoadConfig(map[string]string{variable: value})
			if err == nil || !strings.Contains(err.Error(), variable) {
				t.Errorf("%s=%s: %v", variable, value, err)
			}
		}
	}
	c, err := LoadConfig(map[string]string{
		"QUOIT_ALLOW_UNAUTHENTICATED": "true", "QUOIT_GATEWAY_ADDR": ":7480", "QUOIT_GATEWAY_REDIS_ADDR": "off",
		"QUOIT_GATEWAY_ORIGINS": "https://a.example, http://localhost:8080",
	})
	if err != nil || len(c.Origins) != 2 || c.hasDoor() {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestWithoutTheRedisDoor(t *testing.T) {
	g := start(t, "127.0.0.1:1", options{config: func(c *Config) { c.RedisAddr, c.AdminAddr = "off", "" }})
	if g.RedisAddr() != "" || g.admin == nil {
		t.Errorf("redis at %q, admin %v", g.RedisAddr(), g.admin)
	}
	var metrics bytes.Buffer
	g.WriteMetrics(&metrics)
	if !strings.Contains(metrics.String(), "quoit_gateway_ready 0\n") {
		t.Errorf("metrics:\n%s", metrics.String())
	}
}

// panicking is a connection to a node that brings a bug to light.
type panicking struct{ net.Conn }

func (panicking) Read([]byte) (int, error) { panic("a bug") }

func TestAPanicEndsOneChannel(t *testing.T) {
	cluster := startCluster(t, 1)
	g := start(t, cluster.Manager(), options{seams: func(s *Seams) {
		s.Dial = func(context.Context, string) (net.Conn, error) {
			a, b := net.Pipe()
			t.Cleanup(func() { _ = b.Close() })
			return panicking{a}, nil
		}
	}}).ready()
	p := g.channel(cluster.Addresses()[0])
	if got := p.reply(); !strings.HasPrefix(got, "closed") {
		t.Errorf("the page hears %s", got)
	}
	waitFor(t, "the end of it", func() bool { return g.stats.channels.Load() == 0 })
	g.survived(1)
}

// A goroutine of a WebSocket panics, of those that the channel itself does not look after.
func TestAPanicEndsOneWebSocket(t *testing.T) {
	_, g := both(t, 1, options{})
	page := g.open("/v1/cluster")
	waitFor(t, "the feed", func() bool { return g.stats.feeds.Load() == 1 })
	g.roster.each(func(x guest) { x.(*feed).spawn(func() { panic("a bug") }) })
	if all, err := io.ReadAll(messages{page}); err == nil {
		t.Errorf("the page hears %q and an end in order", all)
	}
	waitFor(t, "the end of it", func() bool { return g.stats.feeds.Load() == 0 })
	g.survived(1)
}

// brokenFiles are assets that bring a bug to light.
type brokenFiles struct{}

func (brokenFiles) Open(string) (fs.File, error) { panic("a bug") }

func TestAPanicEndsOneHTTPRequest(t *testing.T) {
	_, g := both(t, 1, options{seams: func(s *Seams) { s.Assets = brokenFiles{} }})
	res, err := http.Get("http://" + g.Addr() + "/quoit.js")
	if err == nil {
		_ = res.Body.Close()
		t.Errorf("the answer is %s", res.Status)
	}
	g.survived(1)
}

// survived wants so many panics to have been counted and logged, and others to be served.
func (f *fixture) survived(panics uint64) {
	f.t.Helper()
	if got := f.redis().do("SET", "k", "v"); got != "+OK" {
		f.t.Errorf("the other door: %s", got)
	}
	var metrics bytes.Buffer
	f.WriteMetrics(&metrics)
	want := fmt.Sprintf(`quoit_gateway_connections_cut_total{why="panic"} %d`, panics)
	if !strings.Contains(metrics.String(), want) || f.stats.panics.Asked() != panics || !strings.Contains(f.logs.String(), "a bug") {
		f.t.Errorf("not counted, or not logged:\n%s\n%s", &metrics, f.logs)
	}
}

func TestAPanicEndsOneRedisClient(t *testing.T) {
	g := newGateway(DefaultConfig(), Seams{})
	g.source = nil // the next command on a key goes wrong
	here, there := net.Pipe()
	v := newVisitor(g, there, 1)
	if !g.roster.enter(v) {
		t.Fatal("not let in")
	}
	go v.serve()
	c := &redisClient{Conn: here, t: t}
	c.send("GET k\r\n")
	if _, err := here.Read(make([]byte, 1)); err == nil {
		t.Error("an answer came")
	}
	g.roster.busy.Wait()
	if g.stats.panics.Asked() != 1 {
		t.Error("not counted")
	}
}

func TestABudgetIsNeverOverdrawn(t *testing.T) {
	b := inbox.Budget{Limit: 100 << 10}
	one, bill := inbox.NewAccount(&b), tab{of: &b}
	if !one.Set(64<<10) || !bill.add(30<<10) || bill.add(10<<10) {
		t.Error("it gave what it had not, or not what it had")
	}
	bill.settle()
	if bill.add(1) || b.Used() != 64<<10 {
		t.Error("after the bill was settled")
	}
	one.Set(0)
	in := inbox.NewBuffer(&b, inbox.First, streamBuffer)
	for {
		if err := in.MakeRoom(1); err != nil {
			if !errors.Is(err, inbox.ErrBudget) {
				t.Error(err)
			}
			break
		}
		if _, err := in.Fill(strings.NewReader(strings.Repeat("x", 1<<20))); err != nil {
			t.Fatal(err)
		}
	}
	if b.Used() > b.Limit || len(in.Bytes()) < 32<<10 {
		t.Errorf("%d of %d used, %d read", b.Used(), b.Limit, len(in.Bytes()))
	}
	if in.Release(); b.Used() != 0 {
		t.Errorf("%d left", b.Used())
	}
}

// starved is a connection whose reader gets to run only when its deadline is over,
// although a request had come before.
type starved struct {
	net.Conn
	request []byte
	over    chan struct{} // closed by the first deadline
	once    sync.Once
	reads   int
}

func (c *starved) SetReadDeadline(at time.Time) error {
	if !at.IsZero() {
		c.once.Do(func() { close(c.over) })
	}
	return nil
}

func (c *starved) Read(b []byte) (int, error) {
	if c.reads++; c.reads == 2 {
		return copy(b, c.request), nil
	}
	<-c.over
	return 0, os.ErrDeadlineExceeded
}

// TestDrainAnswersWhatHadComeToABusyGateway: the deadline that ends an idle read hides
// a request that is there.
func TestDrainAnswersWhatHadComeToABusyGateway(t *testing.T) {
	g := newGateway(DefaultConfig(), Seams{})
	here, there := net.Pipe()
	defer here.Close()
	v := newVisitor(g, &starved{Conn: there, request: []byte("PING\r\n"), over: make(chan struct{})}, 1)
	if !g.roster.enter(v) {
		t.Fatal("not let in")
	}
	go v.serve()
	close(g.stopping)
	g.roster.end(guest.drain)
	c := &redisClient{Conn: here, t: t, r: bufio.NewReader(here)}
	if got := c.reply(); got != "+PONG" {
		t.Errorf("the request is answered with %s", got)
	}
	g.roster.busy.Wait()
}
