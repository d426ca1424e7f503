package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/quoitdb/quoit/protocol"
)

// scripted is a node in a test's hands, over a connection that buffers nothing.
type scripted struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// withScripted starts a gateway whose channels all lead to scripted nodes, and returns
// where each comes from.
func withScripted(t testing.TB, o options) (g *fixture, address string, nodes <-chan *scripted) {
	t.Helper()
	cluster := startCluster(t, 1)
	dialled := make(chan *scripted, 16)
	then := o.seams
	o.seams = func(s *Seams) {
		if then != nil {
			then(s)
		}
		s.Dial = func(context.Context, string) (net.Conn, error) {
			here, there := net.Pipe()
			t.Cleanup(func() { _ = there.Close() })
			_ = there.SetDeadline(time.Now().Add(patience))
			dialled <- &scripted{there, t, bufio.NewReader(there)}
			return here, nil
		}
	}
	return start(t, cluster.Manager(), o).ready(), cluster.Addresses()[0], dialled
}

// hears reads a request, as people write it.
func (n *scripted) hears(want string) {
	n.t.Helper()
	got, err := readReply(n.r)
	if err != nil || got != "["+want+"]" {
		n.t.Fatalf("the node hears %q (%v), want %q", got, err, want)
	}
}

func (n *scripted) says(text string) {
	n.t.Helper()
	if _, err := io.WriteString(n, text); err != nil {
		n.t.Fatalf("the node cannot say %.40q: %v", text, err)
	}
}

// pushText is a push as it is on the wire.
func pushText(p protocol.Push) string { return string(p.Append(nil)) }

var watchAll = []string{"WATCH", "7", "PREFIX", "p:", "0", "0", "0"}

// watch begins one, from both ends.
func (p *page) watch(n *scripted) {
	p.t.Helper()
	p.send(request(watchAll...))
	n.hears(strings.Join(watchAll, " "))
	n.says(pushText(protocol.Push{Kind: protocol.PushWatching, ID: 7}))
	p.hears("[watching :7]")
}

func (p *page) hears(want string) {
	p.t.Helper()
	if got := p.reply(); got != want {
		p.t.Fatalf("the page hears %.200q, want %q", got, want)
	}
}

func TestAPageWatches(t *testing.T) {
	g, address, nodes := withScripted(t, options{})
	p := g.channel(address)
	n := <-nodes
	// What precedes the WATCH is answered first, and what follows it waits for its answer.
	p.send(request("GET", "a") + request("NOSUCH") + request("GET", "b") + request(watchAll...) + request("GET", "c") + request("PING", "x"))
	n.hears("GET a")
	n.hears("GET b")
	n.hears("WATCH 7 PREFIX p: 0 0 0")
	n.says("$1\r\n1\r\n" + "*-1\r\n")
	p.hears("1")
	p.hears("-ERR unknown command 'NOSUCH'")
	p.hears("nil")
	put := protocol.Push{Kind: protocol.PushPut, ID: 7, Key: []byte("p:1"), Version: 5, Value: []byte("v")}
	n.says(pushText(protocol.Push{Kind: protocol.PushWatching, ID: 7}) + pushText(put))
	p.hears("[watching :7]")
	n.hears("PING x")
	n.says(pushText(protocol.Push{Kind: protocol.PushPong, Message: []byte("x")}))
	// The put and the refused GET do not wait for each other.
	var rest []string
	for range 3 {
		rest = append(rest, p.reply())
	}
	for _, want := range []string{"[put :7 p:1 :5 :0 v]", "[pong x]", "[refused :0 ERR GET on a connection that watches"} {
		found := false
		for _, got := range rest {
			found = found || strings.HasPrefix(got, want)
		}
		if !found {
			t.Errorf("%q is not among %q", want, rest)
		}
	}
	if g.stats.watching.Load() != 1 {
		t.Error("it is not counted as one that watches")
	}
	for _, step := range []struct{ sent, heard string }{
		{request("MIGRATE_RANGE", "0", "1", "127.0.0.1:1", "m"), "[refused :0 NOPERM MIGRATE_RANGE"},
		{request("CLUSTER", "STATUS"), "[refused :0 NOPERM CLUSTER"},
		{request("NOSUCH"), "[refused :0 ERR unknown command 'NOSUCH'"},
		{request("TOPOLOGY"), "[refused :0 ERR TOPOLOGY on a connection that watches"},
	} {
		p.send(step.sent)
		if got := p.reply(); !strings.HasPrefix(got, step.heard) {
			t.Errorf("%q is answered with %q", step.sent, got)
		}
	}
	// What is about watching goes to the node, who says what is wrong with it, also in lines.
	p.send("WATCH 8 KEY k\r\nUNWATCH 7\r\n" + request("QUIT"))
	n.hears("WATCH 8 KEY k")
	n.hears("UNWATCH 7")
	n.hears("QUIT")
	n.says(pushText(protocol.Push{Kind: protocol.PushRefused, ID: 8, Message: []byte("ERR wrong")}) + pushText(protocol.Push{Kind: protocol.PushUnwatched, ID: 7}))
	p.hears("[refused :8 ERR wrong]")
	p.hears("[unwatched :7]")
	_ = n.Close()
	p.hears("closed 1000")
	waitFor(t, "the end of it", func() bool { return g.stats.watching.Load() == 0 && g.stats.channels.Load() == 0 })
}

// TestAWatchThatIsRefusedChangesNothing: the connection goes on with replies.
func TestAWatchThatIsRefusedChangesNothing(t *testing.T) {
	g, address, nodes := withScripted(t, options{})
	p := g.channel(address)
	n := <-nodes
	p.send(request(watchAll...) + request("GET", "a") + request("CLUSTER", "X") + request("UNWATCH", "7"))
	n.hears("WATCH 7 PREFIX p: 0 0 0")
	n.says("-UNAVAILABLE the node joins\r\n")
	p.hears("-UNAVAILABLE the node joins")
	n.hears("GET a")
	n.hears("UNWATCH 7")
	n.says("*2\r\n:1\r\n:2\r\n" + "-ERR nothing is watched\r\n") // an array is no push here
	p.hears("[:1 :2]")
	if got := p.reply(); !strings.HasPrefix(got, "-NOPERM CLUSTER") {
		t.Errorf("CLUSTER: %s", got)
	}
	p.hears("-ERR nothing is watched")
	p.watch(n)
}

// TestARefusalGoesBetweenTwoPushes: a push that has half arrived is not torn apart.
func TestARefusalGoesBetweenTwoPushes(t *testing.T) {
	g, address, nodes := withScripted(t, options{})
	p := g.channel(address)
	n := <-nodes
	p.watch(n)
	put := pushText(protocol.Push{Kind: protocol.PushPut, ID: 7, Key: []byte("p:1"), Version: 5, Value: []byte(strings.Repeat("x", 1000))})
	n.says(put[:500])
	waitFor(t, "the first half to be passed on", func() bool { return g.stats.bytesOut.Load() >= 500 })
	p.send(request("GET", "a"))
	waitFor(t, "the refusal", func() bool { return g.stats.errors.Load() == 1 })
	n.says(put[500:])
	p.hears("[put :7 p:1 :5 :0 " + strings.Repeat("x", 1000) + "]")
	if got := p.reply(); !strings.HasPrefix(got, "[refused :0 ERR GET") {
		t.Errorf("then %s", got)
	}
}

// TestPushesAndRefusalsInAnyPieces lets a node push without pause, cut anywhere, while
// the page asks for what is not answered: all of it arrives, whole and in order.
func TestPushesAndRefusalsInAnyPieces(t *testing.T) {
	g, address, nodes := withScripted(t, options{})
	p := g.channel(address)
	n := <-nodes
	p.watch(n)
	const pushes, requests = 2000, 500
	var stream strings.Builder
	for i := range pushes {
		stream.WriteString(pushText(protocol.Push{Kind: protocol.PushPut, ID: 7, Key: []byte("p:"), Version: uint64(i + 1), Value: []byte(strings.Repeat("x", rand.IntN(300)))}))
	}
	go func() {
		for rest := stream.String(); rest != ""; {
			k := min(len(rest), 1+rand.IntN(2000))
			if _, err := io.WriteString(n, rest[:k]); err != nil {
				return
			}
			rest = rest[k:]
		}
	}()
	go func() {
		for range requests {
			if p.Write(context.Background(), websocket.MessageBinary, []byte(request("GET", "a"))) != nil {
				return
			}
		}
	}()
	version, refused := 0, 0
	for version < pushes || refused < requests {
		switch got := p.reply(); {
		case strings.HasPrefix(got, fmt.Sprintf("[put :7 p: :%d :0 ", version+1)):
			version++
		case strings.HasPrefix(got, "[refused :0 ERR GET"):
			refused++
		default:
			t.Fatalf("after %d pushes and %d refusals: %.100q", version, refused, got)
		}
	}
}

// TestASlowWatcherPausesItsNode: what a page does not take stays with the node, who then
// says behind; the gateway keeps one buffer. A page that takes nothing at all is cut off.
func TestASlowWatcherPausesItsNode(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	g, address, nodes := withScripted(t, slowWrites(clock))
	p := g.channel(address)
	n := <-nodes
	p.watch(n)
	put := pushText(protocol.Push{Kind: protocol.PushPut, ID: 7, Key: []byte("p:1"), Version: 5, Value: []byte(strings.Repeat("x", 10_000))})
	var pushed atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			k, err := io.WriteString(n, put)
			pushed.Add(int64(k))
			if err != nil {
				return
			}
		}
	}()
	writer := g.only()
	waitFor(t, "the page not to take any more", func() bool {
		if p, _ := writer.read(); p == writing && pushed.Load() > 0 {
			clock.advance(g.times.Write + time.Millisecond)
		}
		return g.stats.cutSlowReader.Load() == 1
	})
	if used := g.budget.Used(); used > streamBuffer {
		t.Errorf("%d bytes in buffers, for one page", used)
	}
	// It wakes up in time to read why, behind whole pushes.
	for {
		got := p.reply()
		if strings.HasPrefix(got, "[put :7 p:1 :5 :0 x") {
			continue
		}
		if got != fmt.Sprint("closed ", int(CloseSlow)) {
			t.Errorf("in the end it hears %.100q", got)
		}
		break
	}
	<-ended
}

// TestAWatcherThatHearsSomethingIsNotIdle: pushes count, and so do its own pings.
func TestAWatcherThatHearsSomethingIsNotIdle(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	g, address, nodes := withScripted(t, options{
		config: func(c *Config) { c.Times.Ping = time.Hour },
		seams:  func(s *Seams) { s.Now = clock.now },
	})
	p := g.channel(address)
	n := <-nodes
	p.watch(n)
	var watcher *channel
	g.roster.each(func(x guest) { watcher, _ = x.(*channel) })
	const most = 10 * time.Minute
	for i := range 4 {
		clock.advance(most)
		if i%2 == 0 {
			n.says(pushText(protocol.Push{Kind: protocol.PushProgress, ID: 7, Version: uint64(i)}))
			p.hears(fmt.Sprintf("[progress :7 :%d]", i))
		} else {
			p.send(request("PING", "x"))
			n.hears("PING x")
		}
		waitFor(t, "it to count", func() bool { return watcher.active.Load() == clock.now().UnixMilli() })
	}
	if g.stats.cutIdle.Load() != 0 {
		t.Fatal("it was closed for being idle")
	}
	clock.advance(g.times.Idle + time.Second)
	p.hears(fmt.Sprint("closed ", int(CloseIdle)))
}

// TestDrainDoesNotWaitForPushes: whoever watches goes on elsewhere, from what it was told.
func TestDrainDoesNotWaitForPushes(t *testing.T) {
	g, address, nodes := withScripted(t, options{})
	quiet, inside := g.channel(address), g.channel(address)
	a, b := <-nodes, <-nodes
	quiet.watch(a)
	inside.watch(b)
	put := pushText(protocol.Push{Kind: protocol.PushPut, ID: 7, Key: []byte("p:1"), Version: 5, Value: []byte(strings.Repeat("x", 1000))})
	sent := g.stats.bytesOut.Load()
	b.says(put[:500]) // and no more
	waitFor(t, "the first half to be passed on", func() bool { return g.stats.bytesOut.Load() >= sent+500 })
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		done <- g.Shutdown(ctx)
	}()
	quiet.hears(fmt.Sprint("closed ", int(CloseDraining)))
	inside.hears(fmt.Sprint("closed ", int(CloseDraining)))
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestGarbageOnAChannelThatWatches: the sentence comes as a push, and then the end.
func TestGarbageOnAChannelThatWatches(t *testing.T) {
	g, address, nodes := withScripted(t, options{})
	p := g.channel(address)
	p.watch(<-nodes)
	p.send("*1\r\n!oops!\r\n")
	if got := p.reply(); !strings.HasPrefix(got, "[refused :0 ERR Protocol error") {
		t.Errorf("the page hears %s", got)
	}
	p.hears(fmt.Sprint("closed ", int(CloseProtocol)))
}

func TestTheRedisDoorDoesNotWatch(t *testing.T) {
	_, g := both(t, 1, options{})
	c := g.redis()
	for _, args := range [][]string{watchAll, {"WATCH", "key"}, {"UNWATCH"}, {"UNWATCH", "7"}} {
		if got := c.do(args...); !strings.HasPrefix(got, "-ERR "+args[0]+" is for a connection to one node") || !strings.Contains(got, "client.Watch") {
			t.Errorf("%q: %s", args, got)
		}
	}
	if got := c.do("PING"); got != "+PONG" {
		t.Errorf("afterwards: %s", got)
	}
}
