package integration

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
	"github.com/quoitdb/quoit/protocol"
)

// message is one request between members, by its command and who sends it, and
// which way is hit: the request or its reply.
type message struct {
	role, phase string // the cell: whose message it is, and when
	from        string // who dials: source, target or manager
	command     string
	reply       bool // the reply is hit, not the request
}

// messages are the ones that members exchange in each phase, seen from each role:
// what it sends, and what is sent to it.
func messages() []message {
	return []message{
		{"source", "PLAN", "manager", "MIGRATE_RANGE", true},
		{"source", "COPY", "source", "STAGE_DATA", false},
		{"source", "SEAL", "source", "STAGE_SEAL", false},
		{"source", "COMMIT", "source", "COMMIT_MOVE", false},
		{"source", "ACTIVATE", "source", "REFRESH", false},
		{"source", "DROP", "source", "MOVE_DONE", false},
		{"target", "PLAN", "source", "STAGE_RANGE", false},
		{"target", "COPY", "source", "STAGE_DATA", true},
		{"target", "SEAL", "source", "STAGE_SEAL", true},
		{"target", "COMMIT", "manager", "REFRESH", false},
		{"target", "ACTIVATE", "target", "MOVE_DONE", false},
		{"target", "DROP", "source", "REFRESH", true},
		{"manager", "PLAN", "manager", "MIGRATE_RANGE", false},
		{"manager", "COPY", "source", "HEARTBEAT", false},
		{"manager", "SEAL", "target", "HEARTBEAT", true},
		{"manager", "COMMIT", "source", "COMMIT_MOVE", true},
		{"manager", "ACTIVATE", "target", "MOVE_DONE", true},
		{"manager", "DROP", "source", "MOVE_DONE", true},
	}
}

// TestMatrixMessageLost loses the first of each kind of message, or its reply,
// without a word: the link stays up, and the one who waits waits.
func TestMatrixMessageLost(t *testing.T) {
	t.Parallel()
	for _, m := range messages() {
		t.Run(m.role+"/"+m.phase, func(t *testing.T) {
			t.Parallel()
			moveWithFault(t, m, lose)
		})
	}
}

// TestMatrixMessageTwice delivers the first three of each kind twice. A doubled
// reply would be a fault of TCP, not of a member: where the cell is about a reply,
// its request is doubled, so that the answer is given twice and one is dropped.
func TestMatrixMessageTwice(t *testing.T) {
	t.Parallel()
	for _, m := range messages() {
		t.Run(m.role+"/"+m.phase, func(t *testing.T) {
			t.Parallel()
			moveWithFault(t, m, double)
		})
	}
}

// faultKind is what happens to a message.
type faultKind int

const (
	lose faultKind = iota
	double
)

// fault hits messages of one kind that one member sends.
type fault struct {
	message
	kind faultKind

	mu    sync.Mutex
	armed bool // nothing is hit before; guarded by mu
	left  int  // messages still to hit; guarded by mu
	hit   int  // guarded by mu
}

func (f *fault) take(command string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.armed || command != f.command || f.left == 0 {
		return false
	}
	f.left--
	f.hit++
	return true
}

// arm begins hitting n messages.
func (f *fault) arm(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.left = true, n
}

func (f *fault) hits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hit
}

// dialer returns how a member dials, with the fault on its links.
func (f *fault) dialer() peer.Dialer {
	return func(ctx context.Context, address string) (net.Conn, error) {
		c, err := peer.TCP(ctx, address)
		if err != nil {
			return nil, err
		}
		return &faultyConn{
			Conn: c, f: f,
			requests: protocol.RequestParser{Limits: protocol.DefaultLimits()},
			replies:  protocol.ReplyParser{Limits: protocol.DefaultLimits()},
		}, nil
	}
}

// fate is what becomes of a reply.
type fate int

const (
	pass fate = iota
	swallow
)

// faultyConn reads along with what a member sends and gets, message by message.
type faultyConn struct {
	net.Conn
	f *fault

	wmu      sync.Mutex
	requests protocol.RequestParser
	out      []byte // not a whole request yet; guarded by wmu

	fmu   sync.Mutex
	fates []fate // of the replies to come, in order; guarded by fmu

	replies protocol.ReplyParser
	raw     []byte // read, not parsed; of the reader
	ready   []byte // to give to the reader
}

// Write passes on whole requests, and hits those that the fault is about.
func (c *faultyConn) Write(b []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.out = append(c.out, b...)
	for {
		args, n, err := c.requests.Next(c.out)
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return len(b), nil
		}
		request := append([]byte(nil), c.out[:n]...)
		hit := len(args) > 0 && c.f.take(string(args[0]))
		c.out = c.out[:copy(c.out, c.out[n:])]
		if err := c.send(request, hit); err != nil {
			return 0, err
		}
	}
}

func (c *faultyConn) send(request []byte, hit bool) error {
	fates := []fate{pass}
	switch {
	case hit && c.f.kind == double:
		request = append(request, request...)
		fates = []fate{pass, swallow}
	case hit && c.f.reply:
		fates = []fate{swallow}
	case hit:
		return nil // lost on the way
	}
	c.fmu.Lock()
	c.fates = append(c.fates, fates...)
	c.fmu.Unlock()
	_, err := c.Conn.Write(request)
	return err
}

// Read gives on whole replies, but for those that are swallowed.
func (c *faultyConn) Read(b []byte) (int, error) {
	for len(c.ready) == 0 {
		chunk := make([]byte, 32<<10)
		n, err := c.Conn.Read(chunk)
		if err != nil {
			return 0, err
		}
		c.raw = append(c.raw, chunk[:n]...)
		if err := c.parse(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

func (c *faultyConn) parse() error {
	for {
		_, n, err := c.replies.Next(c.raw)
		if err != nil || n == 0 {
			return err
		}
		c.fmu.Lock()
		what := pass
		if len(c.fates) > 0 {
			what, c.fates = c.fates[0], c.fates[1:]
		}
		c.fmu.Unlock()
		if what == pass {
			c.ready = append(c.ready, c.raw[:n]...)
		}
		c.raw = c.raw[n:]
	}
}

// moveWithFault joins a third node under load while a message is hit, and wants
// the move to end by itself with nothing lost.
func moveWithFault(t *testing.T, m message, kind faultKind) {
	f := &fault{message: m, kind: kind}
	dialer := func(role string) peer.Dialer {
		if m.from == role {
			return f.dialer()
		}
		return peer.TCP
	}
	dir := t.TempDir()
	address := startManager(t, dir, dialer("manager"))
	for range 2 {
		startNode(t, dir, address, dialer("source"))
	}
	untilStatus(t, address, "two nodes to serve", settled(2))
	l := startLoad(t, address)
	third := startNode(t, dir, address, dialer("target"))
	untilStatus(t, address, "the third node to register", known(third))
	f.arm(map[faultKind]int{lose: 1, double: 3}[kind])
	operate(t, address, func(c *manager.Control) error { return c.Add(third) })
	untilStatus(t, address, "three nodes to serve and nothing to move", settled(3))
	// Heartbeats go on by themselves; all other messages have been by now.
	for deadline := time.Now().Add(patience); m.command == "HEARTBEAT" && f.hits() == 0 && time.Now().Before(deadline); {
		<-time.After(50 * time.Millisecond)
	}
	if f.hits() == 0 {
		t.Errorf("no %s from the %s was ever seen: the fault did not happen", m.command, m.from)
	}
	l.audit()
}

// startManager runs a manager in this process until the test ends.
func startManager(t *testing.T, dir string, dial peer.Dialer) (address string) {
	t.Helper()
	c := manager.DefaultConfig()
	c.Addr, c.AdminAddr, c.InitialNodes = "127.0.0.1:0", "off", 2
	c.Bucket = "file://" + filepath.Join(dir, "bucket")
	c.MovesPerNode = 16
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- manager.Run(ctx, c, manager.Seams{Dial: dial, TrustBucket: true, Ready: func(a string) { ready <- a }})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("manager: %v", err)
		}
	})
	select {
	case address = <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatalf("manager: %v", err)
	}
	return address
}

// startNode runs a node in this process until the test ends.
func startNode(t *testing.T, dir, managerAddress string, dial peer.Dialer) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	c := node.DefaultConfig()
	c.Addr, c.Advertise, c.AdminAddr, c.ManagerAddr, c.Tokens = address, address, "off", managerAddress, 4
	c.Bucket = "file://" + filepath.Join(dir, "bucket")
	c.DataDir = filepath.Join(dir, fmt.Sprintf("node-%d", l.Addr().(*net.TCPAddr).Port))
	c.Log.Segment = 4 << 20
	n, err := node.Start(context.WithoutCancel(t.Context()), c, node.Seams{Listener: l, Dial: dial, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Shutdown(ctx); err != nil {
			t.Errorf("node %s: %v", address, err)
		}
	})
	return address
}
