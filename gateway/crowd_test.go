package gateway

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// crowd is many sockets that one test opens, some of which say something.
type crowd struct {
	g     *fixture
	hello string
	conns []net.Conn
	read  []*bufio.Reader
}

// What a socket of the crowd does, by its number.
const (
	stalls = iota // sends half of its handshake, and no more
	silent        // becomes a channel, and says nothing
	talks         // becomes a channel and asks
	talksToo
	roles
)

func (c *crowd) role(i int) int { return i % roles }

// each does something with every socket of a role, many at a time.
func (c *crowd) each(do func(i int) error, of ...int) {
	c.g.t.Helper()
	var all sync.WaitGroup
	var next atomic.Int64
	failures := make(chan error, 16)
	for range cap(failures) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(c.conns); i = int(next.Add(1)) - 1 {
				for _, role := range of {
					if c.role(i) != role {
						continue
					}
					if err := do(i); err != nil {
						failures <- fmt.Errorf("socket %d: %w", i, err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	close(failures)
	for err := range failures {
		c.g.t.Error(err)
	}
}

func (c *crowd) open(i int) error {
	nc, err := net.Dial("tcp", c.g.Addr())
	if err != nil {
		return err
	}
	_ = nc.SetDeadline(time.Now().Add(2 * patience))
	c.conns[i] = nc
	if c.role(i) == stalls {
		_, err := io.WriteString(nc, c.hello[:40])
		return err
	}
	if _, err := io.WriteString(nc, c.hello); err != nil {
		return err
	}
	c.read[i] = bufio.NewReaderSize(nc, 512)
	for {
		line, err := c.read[i].ReadString('\n')
		if err != nil || line == "\r\n" {
			return err
		}
	}
}

// talk asks for something and hears the answer.
func (c *crowd) talk(i int) error {
	const pong = "\x82\x07+PONG\r\n" // one frame
	if _, err := c.conns[i].Write(frame(true, binaryFrame, 6, []byte("PING\r\n"))); err != nil {
		return err
	}
	got := make([]byte, len(pong))
	if _, err := io.ReadFull(c.read[i], got); err != nil {
		return err
	}
	if string(got) != pong {
		return fmt.Errorf("it hears %q", got)
	}
	return nil
}

func (c *crowd) close() {
	for _, nc := range c.conns {
		if nc != nil {
			_ = nc.Close()
		}
	}
}

// crowdSize is how many sockets there may be: each takes a descriptor at either end,
// and a channel, as three of four are, two more between gateway and node, all in this process.
func crowdSize(t *testing.T) int {
	want := 5000
	if testing.Short() || raceEnabled {
		want = 400
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	const others = 500
	if room := (int(min(limit.Cur, 1<<20)) - others) * 2 / 7; room < want {
		t.Logf("reduced from %d to %d sockets by ulimit -n %d", want, room, limit.Cur)
		want = room
	}
	return want / roles * roles
}

// TestThousandsOfSocketsHalfOfThemSilent: of those that say nothing one half never ends
// its handshake. The others are all answered meanwhile, nothing of the budget is held for
// those who are silent, and in the end they are told to go, and only they.
func TestThousandsOfSocketsHalfOfThemSilent(t *testing.T) {
	t.Parallel()
	want := crowdSize(t)
	quarter := want / roles
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	cluster, g := both(t, 1, options{
		config: func(c *Config) {
			c.Limits.Connections, c.Limits.PerAddress = want+10, 0
			c.Times.Handshake = time.Hour // who takes longer is cut off by the machine's clock: see the next test
			c.Times.Ping = time.Hour      // sockets of this test do not answer
		},
		seams: func(s *Seams) { s.Now = clock.now },
	})
	address := cluster.Addresses()[0]
	healthy, redis := g.channel(address), g.redis()
	c := &crowd{
		g: g, hello: strings.ReplaceAll(g.handshake("/v1/node/"+address), "\n", "\r\n"),
		conns: make([]net.Conn, want), read: make([]*bufio.Reader, want),
	}
	defer c.close()
	c.each(c.open, stalls, silent, talks, talksToo)
	if t.Failed() {
		return
	}
	waitFor(t, "three of four to be channels", func() bool { return g.stats.channels.Load() == int64(3*quarter+1) })
	healthyToo := func() {
		t.Helper()
		for range 20 {
			if a, b := healthy.do("PING"), redis.do("SET", "k", "v"); a != "+PONG" || b != "+OK" {
				t.Fatalf("a healthy tab hears %s, a Redis client %s", a, b)
			}
		}
	}
	healthyToo()
	c.each(c.talk, talks, talksToo)
	healthyToo()
	if used := g.budget.Used(); used != 0 {
		t.Errorf("%d bytes of buffers are held beyond what everybody has", used)
	}
	if got := g.gate.count(); got != want+2 {
		t.Errorf("%d connections are counted: those count too that have not ended their handshake", got)
	}
	clock.advance(8 * time.Minute)
	c.each(c.talk, talks, talksToo)
	healthyToo()
	clock.advance(8 * time.Minute)
	waitFor(t, "the silent channels to be closed", func() bool { return g.stats.cutIdle.Load() == uint64(quarter) })
	c.each(func(i int) error {
		// Whoever answers the close frame is gone at once, others after seconds.
		if got := closeCode(c.conns[i]); got != int(CloseIdle) {
			return fmt.Errorf("a silent one is closed with %d", got)
		}
		return c.conns[i].Close()
	}, silent)
	waitFor(t, "them to be gone", func() bool { return g.stats.channels.Load() == int64(2*quarter+1) })
	c.each(c.talk, talks, talksToo)
	healthyToo()
	if g.stats.panics.Load() != 0 || g.stats.cutPing.Load() != 0 {
		t.Errorf("%d panics, %d without a pong", g.stats.panics.Load(), g.stats.cutPing.Load())
	}
}

// TestHalfAHandshakeIsCutOff, and its place is free again.
func TestHalfAHandshakeIsCutOff(t *testing.T) {
	g := start(t, "127.0.0.1:1", options{config: func(c *Config) { c.Times.Handshake = 50 * time.Millisecond }})
	for _, sent := range []string{"", "GET /v1/node/", g.handshake("/v1/cluster")[:100]} {
		nc, err := net.Dial("tcp", g.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(nc, sent); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(nc)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) || strings.Contains(string(answer), " 101 ") {
			t.Errorf("after %q it hears %q, %v", sent, answer, err)
		}
	}
	waitFor(t, "their places to be free", func() bool { return g.gate.count() == 0 })
}

// TestMoreSocketsThanThereIsRoomFor: those that do not get in are told so or dropped, and
// those who are in do not notice.
func TestMoreSocketsThanThereIsRoomFor(t *testing.T) {
	t.Parallel()
	const room, more = 50, 400
	cluster, g := both(t, 1, options{config: func(c *Config) { c.Limits.Connections, c.Limits.PerAddress = room, 0 }})
	address := cluster.Addresses()[0]
	healthy := g.channel(address)
	c := &crowd{g: g, conns: make([]net.Conn, more), read: make([]*bufio.Reader, more)}
	defer c.close()
	var told, dropped, in atomic.Int64
	c.each(func(i int) error {
		nc, err := net.Dial("tcp", g.Addr())
		if err != nil {
			return err
		}
		c.conns[i] = nc
		_ = nc.SetDeadline(time.Now().Add(2 * patience))
		if _, err := io.WriteString(nc, strings.ReplaceAll(g.handshake("/v1/node/"+address), "\n", "\r\n")); err != nil {
			dropped.Add(1)
			return nil //nolint:nilerr // that is one way to be refused
		}
		line, err := bufio.NewReader(nc).ReadString('\n')
		switch {
		case strings.HasPrefix(line, "HTTP/1.1 503 "):
			told.Add(1)
		case strings.HasPrefix(line, "HTTP/1.1 101 "):
			in.Add(1)
		case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
			dropped.Add(1)
		default:
			return fmt.Errorf("%q, %w", line, err)
		}
		return nil
	}, stalls, silent, talks, talksToo)
	if in.Load() != room-1 || told.Load() == 0 || told.Load()+dropped.Load() != more-room+1 {
		t.Errorf("%d are in, %d were told that there is no room, %d dropped", in.Load(), told.Load(), dropped.Load())
	}
	if got := g.gate.count(); got != room {
		t.Errorf("%d connections are counted", got)
	}
	if got := healthy.do("PING"); got != "+PONG" {
		t.Errorf("who was in before hears %s", got)
	}
}
