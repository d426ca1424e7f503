package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/ring"
)

func TestANodeLeavesAndAnotherComes(t *testing.T) {
	c := start(t, 3)
	node := c.Addresses()[2]
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		must(t, "put", key, "value of "+key)
	}
	out := must(t, "cluster", "remove", node)
	mustSay(t, out, "moved ", " ranges, ", "% of the ring, in ", node+" has left the ring and can be stopped")
	if strings.ContainsAny(out, "\r\x1b") {
		t.Errorf("control characters, and this is no terminal: %q", out)
	}
	if n := strings.Count(must(t, "scan"), "\n"); n != 8 {
		t.Errorf("%d keys are left of 8", n)
	}

	must(t, "cluster", "pause")
	fresh, err := c.AddNode(t.Context(), "127.0.0.1:0") // it joins by itself
	if err != nil {
		t.Fatal(err)
	}
	node = fresh.Address()
	waitStatus(t, c, func(s manager.Status) bool { return len(s.Moves) > 0 })
	var begun moved
	decode(t, must(t, "cluster", "add", node, "--wait=false", "--json"), &begun)
	if begun.Done || begun.Ranges == 0 || begun.Share <= 0 || begun.Share >= 1 {
		t.Errorf("add without waiting: %+v", begun)
	}
	mustSay(t, must(t, "cluster", "add", node, "--wait=false"), " ranges to move", "quoit cluster status --watch shows them")
	mustSay(t, must(t, "cluster", "status"), "moving ", " ranges to go", "waiting", "PAUSED", "░", "▒", " → ")
	var s manager.Status
	decode(t, must(t, "cluster", "status", "--json"), &s)
	if !s.Paused || len(s.Moves) == 0 || len(s.Nodes) != 3 {
		t.Errorf("status as JSON: %+v", s)
	}
	mustSay(t, must(t, "cluster", "abort", string(s.Moves[0].ID)), "starts again")

	must(t, "cluster", "resume")
	var back moved
	decode(t, must(t, "cluster", "add", node, "--json"), &back)
	if !back.Done {
		t.Errorf("add with waiting: %+v", back)
	}
	s = waitStatus(t, c, func(s manager.Status) bool { return len(s.Moves) == 0 })
	if i := slices.IndexFunc(s.Nodes, func(n manager.NodeStatus) bool { return n.Address == node }); s.Nodes[i].Share <= 0 {
		t.Errorf("%s has %v of the ring", node, s.Nodes[i].Share)
	}
	for _, key := range []string{"a", "h"} {
		if got := must(t, "get", key); got != "value of "+key {
			t.Errorf("%s holds %q", key, got)
		}
	}
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// lines hands on each line that is written.
type lines struct {
	mu   sync.Mutex
	rest []byte
	out  chan string
}

func newLines() *lines { return &lines{out: make(chan string, 10000)} }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, b...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(b), nil
		}
		l.out <- string(line)
		l.rest = bytes.Clone(rest)
	}
}

// until returns the first line with a word, and fails if the program ends before. What
// it had said when it ended counts; its exit code is put back for others.
func (l *lines) until(t *testing.T, ended chan int, word string) string {
	t.Helper()
	var all []string
	for over := false; ; {
		select {
		case line := <-l.out:
			if strings.Contains(line, word) {
				return line
			}
			all = append(all, line)
			continue
		default:
		}
		if over {
			t.Fatalf("it ended with exit code %d and had not said %q:\n%s", <-ended, word, strings.Join(all, "\n"))
		}
		select {
		case line := <-l.out:
			if strings.Contains(line, word) {
				return line
			}
			all = append(all, line)
		case code := <-ended:
			ended <- code
			over = true
		}
	}
}

// background runs the program until ctx ends; its exit code comes at the end.
func background(ctx context.Context, in io.Reader, args ...string) (out, errs *lines, ended chan int) {
	out, errs = newLines(), newLines()
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, in, out, errs) }()
	return out, errs, code
}

func TestWatchingShowsTheStatusAgainAndAgainUntilInterrupted(t *testing.T) {
	start(t, 1)
	for _, c := range []struct {
		args []string
		word string
	}{
		{[]string{"cluster", "status", "--watch", "--every", "50ms"}, "1 node"},
		{[]string{"cluster", "status", "-w", "--every", "50ms", "--json"}, `"formed":true`},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		out, _, ended := background(ctx, nil, c.args...)
		for range 3 {
			if line := out.until(t, ended, c.word); strings.ContainsAny(line, "\r\x1b") {
				t.Errorf("control characters, and this is no terminal: %q", line)
			}
		}
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("%q: interrupted with exit code %d; that is how it ends", c.args, code)
		}
	}
}

// A manager may be started again at any moment; who watches sees that, and then the
// status again.
func TestWatchingOutlivesTheManager(t *testing.T) {
	c := start(t, 1)
	front := newProxy(t, c.Manager())
	ctx, cancel := context.WithCancel(t.Context())
	out, _, ended := background(ctx, nil, "cluster", "status", "--watch", "--every", "50ms", "--manager", front.address)
	out.until(t, ended, "1 node")
	front.refuse()
	out.until(t, ended, "the manager at "+front.address+" has not answered for")
	out.until(t, ended, "1 node") // what it last said is still shown
	front.accept()
	out.until(t, ended, "1 node")
	for range 3 { // it is old at most once more
		out.until(t, ended, "1 node")
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestRemovingOutlivesTheManagerToo(t *testing.T) {
	c := start(t, 2)
	front := newProxy(t, c.Manager())
	must(t, "cluster", "pause")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, _, ended := background(ctx, nil, "cluster", "remove", c.Addresses()[0], "--manager", front.address)
	waitStatus(t, c, func(s manager.Status) bool { return len(s.Moves) > 0 })
	front.refuse()
	front.accept()
	must(t, "cluster", "resume")
	out.until(t, ended, "has left the ring")
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// The manager did what it was asked, and nobody heard it say so.
func TestAnAnswerThatGetsLostIsAskedForAgain(t *testing.T) {
	c := start(t, 2)
	front := newProxy(t, c.Manager())
	leaver := c.Addresses()[0]
	front.loseNext.Store(true)
	if out := must(t, "cluster", "remove", leaver, "--manager", front.address); !strings.Contains(out, "has left the ring") {
		t.Errorf("it says %q", out)
	}
	front.loseNext.Store(true)
	if out := must(t, "cluster", "add", c.Addresses()[1], "--manager", front.address); !strings.Contains(out, "is in the ring") {
		t.Errorf("it says %q", out)
	}
	o := quoit(t, "cluster", "remove", "127.0.0.1:1", "--manager", front.address)
	if o.code != exitFailure || !strings.Contains(o.err, "is the address right?") {
		t.Errorf("a refusal is an answer: %+v", o)
	}
}

func TestWhoStopsWatchingAMoveDoesNotStopIt(t *testing.T) {
	c := start(t, 2)
	must(t, "cluster", "pause")
	ctx, cancel := context.WithCancel(t.Context())
	_, errs, ended := background(ctx, nil, "cluster", "remove", c.Addresses()[0])
	waitStatus(t, c, func(s manager.Status) bool { return len(s.Moves) > 0 })
	cancel()
	if code := <-ended; code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	select {
	case line := <-errs.out:
		// Interrupted before or while it watched.
		if !strings.Contains(line, "the moves go on") && !strings.Contains(line, "interrupted") {
			t.Errorf("it says %q", line)
		}
	default:
		t.Error("it says nothing")
	}
	must(t, "cluster", "resume")
	waitStatus(t, c, func(s manager.Status) bool {
		return len(s.Moves) == 0 && !slices.ContainsFunc(s.Nodes, func(n manager.NodeStatus) bool {
			return n.Address == c.Addresses()[0] && n.State != cluster.Known
		})
	})
}

// proxy stands before a server and can be made to refuse everyone.
type proxy struct {
	t       *testing.T
	address string
	server  string

	loseNext atomic.Bool // the next answer

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
	wg       sync.WaitGroup
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	// An address of the kernel's own choice may be the source of a connection when it is
	// to be listened on again.
	p := &proxy{t: t, server: server, address: freeAddress(t)}
	p.accept()
	t.Cleanup(func() {
		p.refuse()
		p.wg.Wait()
	})
	return p
}

// accept lets connections through, always at the same address.
func (p *proxy) accept() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener = l
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", p.server)
			if err != nil {
				c.Close()
				continue
			}
			p.mu.Lock()
			open := p.listener == l
			if open {
				p.conns = append(p.conns, c, s)
			}
			p.mu.Unlock()
			if !open { // refuse came in between
				c.Close()
				s.Close()
				continue
			}
			p.wg.Go(func() { _, _ = io.Copy(p.answers(c), s); c.Close(); s.Close() })
			p.wg.Go(func() { _, _ = io.Copy(s, c); c.Close(); s.Close() })
		}
	})
}

// answers is where the server's answers go: to the client, or nowhere, once, when the
// next one is to be lost together with the connection.
func (p *proxy) answers(client io.Writer) io.Writer {
	return writerFunc(func(b []byte) (int, error) {
		if p.loseNext.CompareAndSwap(true, false) {
			return 0, errors.New("lost")
		}
		return client.Write(b)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// refuse ends all connections and takes no new ones.
func (p *proxy) refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		p.listener.Close()
	}
	for _, c := range p.conns {
		c.Close()
	}
	p.listener, p.conns = nil, nil
}

func TestATopologyAsJSON(t *testing.T) {
	got := newTopologyJSON(ring.Topology{
		Cluster: "quoit-1", Epoch: 7,
		Nodes: []ring.Node{{Address: "a:1", Tokens: 128, Endpoints: []ring.Endpoint{{Kind: "ws", URL: "wss://a"}}}, {Address: "b:1"}},
		Held:  []ring.Arc{{Range: eighth(1), Owner: "b:1"}},
	})
	var out bytes.Buffer
	if err := printLine(&out, got); err != nil {
		t.Fatal(err)
	}
	want := `{"cluster":"quoit-1","epoch":7,"nodes":[{"address":"a:1","tokens":128,"endpoints":{"ws":"wss://a"}},{"address":"b:1","tokens":0}],` +
		`"held":[{"start":536870912,"end":1073741824,"owner":"b:1"}]}` + "\n"
	if out.String() != want {
		t.Errorf("got  %swant %s", out.String(), want)
	}
	out.Reset()
	if err := printLine(&out, newTopologyJSON(ring.Topology{})); err != nil || !strings.Contains(out.String(), `"nodes":[],"held":[]`) {
		t.Errorf("an empty one: %s", out.String())
	}
}

func TestCompletionKnowsKeysAndNodes(t *testing.T) {
	usual := completionTime
	t.Cleanup(func() { completionTime = usual })
	completionTime = time.Minute
	c := start(t, 2)
	for _, key := range []string{"user:1", "user:2", "other", "a\nb"} {
		must(t, "put", key, "x")
	}
	nodes := strings.Join(sorted(c.Addresses()), "\n")
	for _, x := range []struct {
		args []string
		want string
	}{
		{[]string{"get", "user:"}, "user:1\nuser:2\n:4\n"},
		{[]string{"get", ""}, "other\nuser:1\nuser:2\n:4\n"},
		{[]string{"get", "nothing"}, ":4\n"},
		{[]string{"get", "user:1", ""}, ":4\n"}, // get takes one
		{[]string{"del", "user:1", "user:"}, "user:2\n:4\n"},
		{[]string{"put", "user:1", ""}, ":4\n"}, // the value is nobody's guess
		{[]string{"get", "--servers", "127.0.0.1:1", ""}, ":4\n"},
		{[]string{"cluster", "remove", "127"}, nodes + "\n:4\n"},
		{[]string{"cluster", "add", ""}, ":4\n"}, // all are in
		{[]string{"cluster", "plan", "--remove", ""}, nodes + "\n:4\n"},
		{[]string{"cluster", "pause", ""}, ":4\n"},
		{[]string{"import", "--format", ""}, "jsonl\ncsv\n:4\n"},
		{[]string{"import", ""}, ":0\n"}, // files
		{[]string{"up", "--data", ""}, ":16\n"},
		{[]string{"node", ""}, ":4\n"},
	} {
		o := quoit(t, append([]string{"__complete"}, x.args...)...)
		if o.code != 0 || o.out != x.want {
			t.Errorf("%q completes to (%d)\n%swant\n%s", x.args, o.code, o.out, x.want)
		}
	}
}

func sorted(all []string) []string {
	slices.Sort(all)
	return all
}
