package manager

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

func TestMain(m *testing.M) { leak.Main(m) }

// nodeA, nodeB, ... are addresses that sort as their names do.
const (
	nodeA       = "a:7401"
	nodeB       = "b:7401"
	nodeC       = "c:7401"
	nodeD       = "d:7401"
	managerAddr = "manager:7400"
)

// pass lets fake time pass, and everyone do what is due by then. Outside of a bubble
// of testing/synctest, where the time would be real, synctest.Wait panics.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// network is made of pipes, so that it can live in a bubble of testing/synctest.
type network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	cut       map[string]bool // who cannot be reached: dialling hangs
}

func newNetwork() *network {
	return &network{listeners: map[string]*listener{}, cut: map[string]bool{}}
}

type listener struct {
	n       *network
	address string
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (n *network) listen(address string) *listener {
	l := &listener{n: n, address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[address] = l
	return l
}

func (n *network) dial(ctx context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	l, cut := n.listeners[address], n.cut[address]
	n.mu.Unlock()
	if cut {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if l == nil {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *network) setCut(address string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[address] = cut
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return address(l.address) }

type address string

func (address) Network() string  { return "pipe" }
func (a address) String() string { return string(a) }

// world is a bucket and a network; managers and nodes are put into it.
type world struct {
	t      *testing.T
	net    *network
	bucket bucket.Bucket
	store  *cluster.Store // of a bystander, without faults
}

func newWorld(t *testing.T) *world {
	b := buckettest.NewMemory()
	return &world{t: t, net: newNetwork(), bucket: b, store: cluster.NewStore(b, cluster.StoreOptions{})}
}

func (w *world) document() cluster.Document {
	w.t.Helper()
	d, _, err := w.store.Load(context.Background())
	if err != nil {
		w.t.Fatalf("document: %v", err)
	}
	return d
}

// change swaps the document behind the manager's back.
func (w *world) change(apply transition) cluster.Document {
	w.t.Helper()
	d, err := w.store.Update(context.Background(), apply)
	if err != nil {
		w.t.Fatalf("change: %v", err)
	}
	return d
}

// running is a manager that runs.
type running struct {
	w       *world
	address string
	stop    context.CancelFunc
	done    chan struct{}
	err     error // after done
}

// manager starts a manager, and stops it when the test ends.
func (w *world) manager(change ...func(*Config, *Seams)) *running {
	w.t.Helper()
	m, err := w.tryManager(change...)
	if err != nil {
		w.t.Fatalf("manager: %v", err)
	}
	return m
}

func (w *world) tryManager(change ...func(*Config, *Seams)) (*running, error) {
	c := DefaultConfig()
	c.Bucket, c.AdminAddr = "file:///unused", "off"
	s := Seams{Bucket: w.bucket, Dial: w.net.dial}
	for _, f := range change {
		f(&c, &s)
	}
	if s.Listener == nil {
		s.Listener = w.net.listen(managerAddr)
	}
	ready := make(chan struct{})
	s.Ready = func(string) { close(ready) }
	ctx, cancel := context.WithCancel(context.Background())
	m := &running{w: w, address: s.Listener.Addr().String(), stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		m.err = Run(ctx, c, s)
	}()
	w.t.Cleanup(m.end)
	select {
	case <-ready:
		return m, nil
	case <-m.done:
		err := m.err
		m.err = nil // it is judged by the caller
		return nil, err
	}
}

// end stops the manager and waits for it.
func (m *running) end() {
	m.stop()
	<-m.done
	if m.err != nil {
		m.w.t.Errorf("the manager ended with %v", m.err)
		m.err = nil
	}
}

// client is a connection to a manager that a test talks through.
type client struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (m *running) dial() *client {
	m.w.t.Helper()
	nc, err := m.w.net.dial(context.Background(), m.address)
	if err != nil {
		m.w.t.Fatal(err)
	}
	return newClient(m.w.t, nc)
}

func newClient(t *testing.T, nc net.Conn) *client {
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(time.Hour)) // a test that hangs should say where
	return &client{Conn: nc, t: t, r: bufio.NewReader(nc)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

func (c *client) reply() string {
	c.t.Helper()
	text, err := readReply(c.r)
	if err != nil {
		c.t.Fatalf("reply: %v", err)
	}
	return text
}

// do sends a request as an array and returns the reply in one line.
func (c *client) do(args ...string) string {
	c.t.Helper()
	c.send(string(protocol.AppendRequestStrings(nil, args[0], args[1:]...)))
	return c.reply()
}

// ok sends a request that must succeed.
func (c *client) ok(args ...string) string {
	c.t.Helper()
	reply := c.do(args...)
	if strings.HasPrefix(reply, "-") {
		c.t.Fatalf("%q: %s", args, reply)
	}
	return reply
}

// expectClosed fails when anything but the end comes.
func (c *client) expectClosed() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); len(rest) > 0 {
		c.t.Fatalf("still got %q (%v)", rest, err)
	}
}

// readReply reads a reply without the parser of the other side.
func readReply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	switch {
	case line == "$-1" || line == "*-1":
		return "(nil)", nil
	case strings.HasPrefix(line, "$"):
		n, err := strconv.Atoi(line[1:])
		if err != nil {
			return "", err
		}
		body := make([]byte, n+2)
		_, err = io.ReadFull(r, body)
		return string(body[:n]), err
	case strings.HasPrefix(line, "*"):
		n, err := strconv.Atoi(line[1:])
		parts := make([]string, n)
		for i := range parts {
			if parts[i], err = readReply(r); err != nil {
				break
			}
		}
		return "[" + strings.Join(parts, " ") + "]", err
	}
	return line, nil
}

// registration is REGISTER's argument for a node with few tokens.
func registration(address string) string {
	return encoded(member.Registration{ID: idOf(address), Address: address, Tokens: 3})
}

func encoded(message any) string {
	b, err := member.Encode(message)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func idOf(address string) cluster.NodeID {
	name, _, _ := strings.Cut(address, ":")
	return cluster.NodeID("id-" + name)
}

// documentOf returns a document with active members, as if it came from a bucket.
func documentOf(t testing.TB, addresses ...string) cluster.Document {
	t.Helper()
	d, err := cluster.New("test")
	for _, a := range addresses {
		if err == nil {
			d, err = d.Register(cluster.Registration{ID: idOf(a), Address: a, Tokens: 3})
		}
	}
	if err == nil && len(addresses) > 0 {
		d, err = d.Join(addresses...)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.Counter, d.Nonce = 1, "n"
	return d
}

// must takes the result of a transition that must succeed.
func must(t *testing.T) func(cluster.Document, error) cluster.Document {
	return func(d cluster.Document, err error) cluster.Document {
		t.Helper()
		if err != nil {
			t.Fatalf("transition: %v", err)
		}
		d.Counter++
		return d
	}
}

// with puts a document into the bucket before any manager starts.
func (w *world) with(d cluster.Document) *world {
	w.t.Helper()
	if _, err := w.store.Create(context.Background(), d); err != nil {
		w.t.Fatal(err)
	}
	return w
}

// node answers like a node that has nothing to do; what it is told is kept.
type node struct {
	w       *world
	address string
	l       *listener
	running sync.WaitGroup

	mu      sync.Mutex
	heard   []string                      // "REFRESH 3", ...; guarded by mu
	answers func(request []string) string // guarded by mu; "" hangs until the node stops
	conns   map[net.Conn]bool             // guarded by mu
	stopped chan struct{}
}

// node starts a fake node.
func (w *world) node(address string) *node {
	n := &node{w: w, address: address, l: w.net.listen(address), conns: map[net.Conn]bool{}, stopped: make(chan struct{})}
	n.answer(func([]string) string { return "+OK\r\n" })
	n.running.Go(func() {
		for {
			c, err := n.l.Accept()
			if err != nil {
				return
			}
			n.mu.Lock()
			n.conns[c] = true
			n.mu.Unlock()
			n.running.Go(func() { n.serve(c) })
		}
	})
	w.t.Cleanup(n.stop)
	return n
}

func (n *node) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		request, err := readRequest(r)
		if err != nil {
			return
		}
		n.mu.Lock()
		n.heard = append(n.heard, strings.Join(request, " "))
		answer := n.answers
		n.mu.Unlock()
		reply := answer(request)
		if reply == "" {
			<-n.stopped
			return
		}
		if _, err := io.WriteString(c, reply); err != nil {
			return
		}
	}
}

// readRequest reads an array of bulk strings.
func readRequest(r *bufio.Reader) ([]string, error) {
	header, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(header, "*")))
	if err != nil {
		return nil, fmt.Errorf("header %q: %w", header, err)
	}
	words := make([]string, n)
	for i := range words {
		if words[i], err = readReply(r); err != nil {
			return nil, err
		}
	}
	return words, nil
}

func (n *node) answer(f func(request []string) string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers = f
}

// hangUp closes every connection, as a node does that is restarted.
func (n *node) hangUp() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		_ = c.Close()
	}
	clear(n.conns)
}

func (n *node) stop() {
	n.mu.Lock()
	select {
	case <-n.stopped:
	default:
		close(n.stopped)
	}
	n.mu.Unlock()
	_ = n.l.Close()
	n.hangUp()
	n.running.Wait()
}

// told returns what the node heard since the last time.
func (n *node) told() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	heard := n.heard
	n.heard = nil
	return heard
}

// beat is HEARTBEAT's argument for a member of the document.
func beat(d cluster.Document, address string) string {
	m, _ := d.Member(address)
	return encoded(member.Heartbeat{Address: address, ID: m.ID, Incarnation: m.Incarnation, Counter: d.Counter, Serving: true})
}
