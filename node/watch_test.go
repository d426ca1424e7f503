package node

import (
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// heard reads the next push that is not progress, which comes when it comes. Versions
// are shown as v.
func (c *testClient) heard() string {
	c.t.Helper()
	for {
		if got := c.reply(); !strings.HasPrefix(got, "[progress") {
			return regexp.MustCompile(`:1[0-9]{17}`).ReplaceAllString(got, ":v")
		}
	}
}

// wantHeard reads pushes and compares them.
func (c *testClient) wantHeard(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := c.heard(); got != w {
			c.t.Fatalf("heard %q, want %q", got, w)
		}
	}
}

// A conversation as a person has it with nc.
func TestWatchAPrefix(t *testing.T) {
	s := startSolo(t, soloOptions{})
	other, c := s.dial(), s.dial()
	other.do("SET user:1 one")
	c.send("PING\r\nWATCH 1 PREFIX user: STATE 0 0 0\r\nPING\r\n")
	if got := c.reply(); got != "+PONG" {
		t.Fatal(got)
	}
	var got []string
	for range 5 {
		got = append(got, c.heard())
	}
	all := strings.Join(got, " ")
	for _, want := range []string{
		"[watching :1]", "[state :1 :0 :0] [put :1 user:1 :v :0 one] [synced :1 :0 :0 :v]", "[pong ]",
	} {
		if !strings.Contains(strings.ReplaceAll(all, " [pong ]", ""), strings.TrimSuffix(want, "[pong ]")) || !strings.Contains(all, "[pong ]") {
			t.Fatalf("%s lacks %s", all, want)
		}
	}
	other.do("SET user:2 two PXAT 1900000000000")
	other.do("SET other 1")
	other.do("DEL user:1 user:2")
	c.wantHeard("[put :1 user:2 :v :1900000000000 two]", "[delete :1 user:1 :v]", "[delete :1 user:2 :v]")
	c.send("UNWATCH 1\r\n")
	c.wantHeard("[unwatched :1]")
	other.do("SET user:3 three")
	c.send("PING bye\r\nQUIT\r\n")
	c.wantHeard("[pong bye]")
	c.expectClosed()
}

func TestWatchAKey(t *testing.T) {
	s := startSolo(t, soloOptions{})
	other, c := s.dial(), s.dial()
	c.send("WATCH 9 KEY n 0 0 0\r\n")
	c.wantHeard("[watching :9]", "[synced :9 :0 :0 :0]")
	other.do("INCR n")
	other.do("SET n2 1")
	other.do("APPEND n 0")
	c.wantHeard("[put :9 n :v :0 1]", "[put :9 n :v :0 10]")
}

// What is wrong is said as a reply before the connection watches, and as a push after.
func TestWatchesThatAreRefused(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Watch.Max = 2 }})
	c := s.dial()
	for request, want := range map[string]string{
		"WATCH 1 KEY k 0 0":   "-ERR wrong number of arguments for 'WATCH'",
		"WATCH 0 KEY k 0 0 0": "-ERR WATCH: id is not a number from 1 to",
		"UNWATCH 1":           "-ERR UNWATCH: nothing is watched on this connection",
		"PING":                "+PONG",
	} {
		if got := c.do(request); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", request, got)
		}
	}
	c.send("WATCH 1 KEY k 0 0 0\r\n")
	c.wantHeard("[watching :1]", "[synced :1 :0 :0 :0]")
	for _, tt := range [][2]string{
		{"GET k", "[refused :0 ERR GET cannot be used on a connection that watches"},
		{"FLY", "[refused :0 ERR unknown command 'FLY']"},
		{"WATCH x KEY k 0 0 0", "[refused :0 ERR WATCH: id is not a number"},
		{"WATCH 2 GLOB k 0 0 0", "[refused :2 ERR WATCH: selector is neither"},
		{"UNWATCH 2", "[refused :2 ERR UNWATCH: there is no watch 2"},
		{"UNWATCH", "[refused :0 ERR wrong number"},
		{"PING a b", "[refused :0 ERR wrong number"},
		{"WATCH 1 KEY other 0 0 0", "[refused :1 ERR WATCH: 1 is the id of a watch of another key or prefix]"},
		{"UNWATCH 1", "[refused :1 ERR UNWATCH: there is no watch 1"},
	} {
		c.send(tt[0] + "\r\n")
		if got := c.heard(); !strings.HasPrefix(got, tt[1]) {
			t.Errorf("%s: %s", tt[0], got)
		}
	}
	for _, id := range []string{"3", "4", "5"} {
		c.send("WATCH " + id + " KEY k 0 0 0\r\n")
	}
	heard := map[string]bool{}
	for range 5 {
		heard[c.heard()] = true
	}
	if !heard["[refused :5 OVERLOADED the node has as many watches as it may (QUOIT_NODE_MAX_WATCHES)]"] || !heard["[synced :4 :0 :0 :0]"] {
		t.Error(heard)
	}
	if d := s.dial(); !strings.HasPrefix(d.do("WATCH 1 KEY k 0 0 0"), "-OVERLOADED") || d.do("PING") != "+PONG" {
		t.Error("one too many")
	}
	c.Close()
	waitFor(t, "the watches to be given back", func() bool { return s.watches.Load() == 0 })
	c = s.dial()
	c.send("WATCH 1 KEY k 0 0 0\r\n")
	c.wantHeard("[watching :1]", "[synced :1 :0 :0 :0]")
	c.send("*1\r\n:5\r\n")
	if got := c.heard(); !strings.HasPrefix(got, "[refused :0 ERR Protocol error") {
		t.Error(got)
	}
	c.expectClosed()
}

func TestANodeThatDoesNotServeRefusesToWatch(t *testing.T) {
	s := startSolo(t, soloOptions{})
	s.state.current.Store(&view{why: "the node is reading its log"})
	if got := s.dial().do("WATCH 1 KEY k 0 0 0"); got != "-UNAVAILABLE the node is reading its log" {
		t.Error(got)
	}
}

// A range of others is answered with their addresses, and one that leaves with the
// version up to which all was told.
func TestWatchOfARangeThatIsElsewhere(t *testing.T) {
	s := startSolo(t, soloOptions{})
	mine := ring.Range{Start: ring.MaxPosition, End: 1 << 31}
	s.own(2, mine, "10.0.0.2:7401")
	c := s.dial()
	c.send("WATCH 1 PREFIX k 4294967295 4294967295 0\r\n")
	c.wantHeard("[watching :1]", "[moved :1 :2147483648 :4294967295 :0 :2 10.0.0.2:7401]", "[synced :1 :4294967295 :2147483648 :0]")
	key := keyIn(mine, 0)
	s.dial().do("SET " + key + " 1")
	e := s.engine()
	if _, err := e.Seal("m1", mine); err != nil {
		t.Fatal(err)
	}
	version, err := e.SealVersion("m1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Drop("m1"); err != nil {
		t.Fatal(err)
	}
	if got := c.heard(); !strings.HasPrefix(got, "[put :1 "+key) {
		t.Error(got)
	}
	want := fmt.Sprintf("[moved :1 :4294967295 :2147483648 :%s :2 %s]", version, soloAddress) // as the topology of this test has it
	for got := ""; got != want; {
		if got = c.reply(); !strings.HasPrefix(got, "[progress") && got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

// A value that is larger than a buffer comes as it was written.
func TestWatchOfALargeValue(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Limits.Value, c.Limits.InFlight = 8<<20, 64<<20 }})
	other, c := s.dial(), s.dial()
	c.send("WATCH 1 PREFIX k 0 0 0\r\n")
	c.wantHeard("[watching :1]", "[synced :1 :0 :0 :0]")
	for _, size := range []int{largeValue - 1, largeValue, 300 << 10, 2 << 20} {
		value := strings.Repeat("v", size)
		if got := other.set("k", value); got != "+OK" {
			t.Fatal(got)
		}
		other.set("k2", "small")
		c.wantHeard("[put :1 k :v :0 "+value+"]", "[put :1 k2 :v :0 small]")
	}
	waitFor(t, "the buffers to be given back", func() bool { other.do("PING"); return s.budget.Used() < 4<<20 })
}

// A client that does not read is cut off, and nobody else waits for it.
func TestAWatcherThatDoesNotReadIsCutOff(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)} // stands still, so that nobody is cut off for a slow machine
	s := startSolo(t, soloOptions{clock: clock.now, config: func(c *Config) { c.Times.Write = 100 * time.Millisecond }})
	deaf, other := s.dial(), s.dial()
	deaf.send("WATCH 1 PREFIX k 0 0 0\r\n")
	deaf.wantHeard("[watching :1]", "[synced :1 :0 :0 :0]")
	value := strings.Repeat("v", 1<<20)
	for range 64 { // more than kernels hold for a connection
		if got := other.set("k", value); got != "+OK" {
			t.Fatal(got)
		}
	}
	waitFor(t, "the writer to have its replies", func() bool { return s.inPhase(writing) == 0 })
	waitFor(t, "the watcher to be cut off", func() bool {
		clock.advance(time.Second) // again and again: it may not have begun to write yet
		return s.stats.slowReaders.Load() == 1
	})
	waitFor(t, "its watch to be gone", func() bool { return s.watches.Load() == 0 })
	c := s.dial()
	c.send("WATCH 1 KEY last 0 0 0\r\n")
	if got := c.heard(); got != "[watching :1]" {
		t.Error(got)
	}
}

// A node that stops lets its watchers go at once.
func TestWatchersOfANodeThatStops(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s := startSolo(t, soloOptions{clock: clock.now, config: func(c *Config) { c.Times.Idle = time.Minute }})
	c, idle := s.dial(), s.dial()
	c.send("WATCH 1 PREFIX k 0 0 0\r\n")
	c.wantHeard("[watching :1]", "[synced :1 :0 :0 :0]")
	idle.do("PING")
	s.atRest()
	clock.advance(2 * time.Minute)
	idle.expectClosed() // for it did nothing; who watches is not expected to
	s.dial().do("SET k 1")
	c.wantHeard("[put :1 k :v :0 1]")
	s.stop()
	if _, err := io.ReadAll(c.r); err != nil {
		t.Error(err)
	}
}

// Many watch while many write: each is told of every write, in the order of each key.
func TestManyWatchersWhileManyWrite(t *testing.T) {
	const watchers, writers, writes = 20, 4, 300
	s := startSolo(t, soloOptions{})
	var clients []*testClient
	for i := range watchers {
		c := s.dial()
		c.send(fmt.Sprintf("WATCH 1 PREFIX w%d 0 0 0\r\n", i%2))
		c.wantHeard("[watching :1]", "[synced :1 :0 :0 :0]")
		clients = append(clients, c)
	}
	var work sync.WaitGroup
	for w := range writers {
		work.Go(func() {
			c := s.dial()
			for i := range writes {
				if got := c.set(fmt.Sprintf("w%d:%d", i%2, w), fmt.Sprint(i)); got != "+OK" {
					t.Error(got)
				}
			}
		})
	}
	for i, c := range clients {
		work.Go(func() {
			next := [writers]int{}
			for w := range next {
				next[w] = i % 2
			}
			for range writers * writes / 2 {
				var w, n, of int
				var version int64
				got := c.heard()
				got = strings.Replace(got, ":v", ":0", 1)
				if _, err := fmt.Sscanf(got, "[put :1 w%d:%d :%d :0 %d]", &of, &w, &version, &n); err != nil || of != i%2 || next[w] != n {
					t.Errorf("%q, want %v: %v", got, next, err)
					return
				}
				next[w] += 2
			}
		})
	}
	work.Wait()
}

// Clients that come and go while others write end with what is there.
func TestWatchersThatComeAndGo(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Watch.History = 1 << 20 }})
	stop := make(chan struct{})
	var writers, watchers sync.WaitGroup
	writers.Go(func() {
		c := s.dial()
		value := strings.Repeat("v", 2000)
		for i := 0; ; i++ {
			select {
			case <-stop:
				c.do("SET w:end 1")
				return
			default:
			}
			key := fmt.Sprint("w:", rand.IntN(50))
			if i%3 == 0 {
				c.do("DEL " + key)
			} else {
				c.set(key, fmt.Sprint(i, value))
			}
		}
	})
	var views []*watchClient
	for range 8 {
		v := &watchClient{s: s, known: map[string]string{}}
		views = append(views, v)
		watchers.Go(func() {
			for range 20 {
				v.follow(t, func() bool { return v.told%200 == 199 })
			}
		})
	}
	watchers.Wait()
	close(stop)
	writers.Wait()
	want := map[string]string{}
	session := s.engine().NewSession()
	if _, err := session.Scan(0, 10_000, func(it engine.Item) { want[string(it.Key)] = string(it.Value) }); err != nil {
		t.Fatal(err)
	}
	for _, v := range views {
		v.follow(t, func() bool { return v.synced && v.known["w:end"] != "" })
		if fmt.Sprint(v.known) != fmt.Sprint(want) {
			t.Errorf("it knows %.300v, and there is %.300v", v.known, want)
		}
	}
}

// watchClient knows what a prefix holds, from connection to connection.
type watchClient struct {
	s       *solo
	known   map[string]string
	version uint64
	told    int
	synced  bool
	stated  map[string]bool // keys that came while all is told; nil when it is not
}

// follow watches until enough says so.
func (v *watchClient) follow(t *testing.T, enough func() bool) {
	c := v.s.dial()
	defer c.Close()
	v.synced, v.stated = false, nil
	c.send(fmt.Sprintf("WATCH 1 PREFIX w: STATE 0 0 %d\r\n", v.version))
	var parser protocol.ReplyParser
	var buf []byte
	for {
		r, n, err := parser.Next(buf)
		if err != nil {
			t.Error(err)
			return
		}
		if n == 0 {
			more := make([]byte, 64<<10)
			n, err := c.r.Read(more)
			if err != nil {
				t.Error(err)
				return
			}
			buf = append(buf, more[:n]...)
			continue
		}
		p, err := protocol.ParsePush(r)
		if err != nil {
			t.Error(err)
			return
		}
		v.hear(&p)
		buf = buf[n:]
		v.told++
		if enough() {
			return
		}
	}
}

func (v *watchClient) hear(p *protocol.Push) {
	switch p.Kind {
	case protocol.PushPut:
		v.known[string(p.Key)] = string(p.Value)
		if v.stated != nil {
			v.stated[string(p.Key)] = true
		}
	case protocol.PushDelete:
		delete(v.known, string(p.Key))
	case protocol.PushState:
		v.stated = map[string]bool{}
	case protocol.PushSynced:
		if v.stated != nil {
			for key := range v.known {
				if !v.stated[key] {
					delete(v.known, key)
				}
			}
		}
		v.stated, v.synced, v.version = nil, true, p.Version
	case protocol.PushProgress:
		if v.synced {
			v.version = p.Version
		}
	case protocol.PushBehind:
		v.synced = false
	}
}

// A client that asks on and on and does not read is not read from any more; what it is
// owed does not grow.
func TestAWatcherThatAsksAndDoesNotReadIsNotReadFrom(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s := startSolo(t, soloOptions{clock: clock.now})
	c := s.dial()
	c.send("WATCH 1 PREFIX k 0 0 0\r\n")
	c.wantHeard("[watching :1]", "[synced :1 :0 :0 :0]")
	var watching *watching
	for _, conn := range s.roster.conns {
		watching = conn.pusher.Load()
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 1000 { // more than kernels hold for a connection
			if _, err := io.WriteString(c.Conn, "PING "+strings.Repeat("m", 60<<10)+"\r\n"); err != nil {
				return
			}
		}
	}()
	waitFor(t, "the node to be stuck", func() bool { return watching.writing.Load() != 0 })
	waitFor(t, "answers to wait", func() bool {
		watching.mu.Lock()
		defer watching.mu.Unlock()
		return len(watching.control) >= controlBytes
	})
	for range 100 {
		runtime.Gosched()
		watching.mu.Lock()
		size := len(watching.control)
		watching.mu.Unlock()
		if size > 2*controlBytes+100 {
			t.Fatalf("%d bytes of answers wait", size)
		}
	}
	waitFor(t, "it to be cut off", func() bool { // kernels may still take something
		clock.advance(time.Minute)
		return s.watches.Load() == 0
	})
	<-ended
}

// A watch that ends and begins again ends first, whatever is sent meanwhile.
func TestUnwatchedIsToldBeforeTheNextWatchBegins(t *testing.T) {
	s := startSolo(t, soloOptions{})
	c := s.dial()
	c.send("WATCH 1 PREFIX k 0 0 0\r\n")
	c.wantHeard("[watching :1]", "[synced :1 :0 :0 :0]")
	for range 300 {
		c.send("UNWATCH 1\r\nWATCH 1 PREFIX k 0 0 0\r\n")
		c.wantHeard("[unwatched :1]", "[watching :1]", "[synced :1 :0 :0 :0]")
	}
}
