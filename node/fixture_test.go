package node

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/keeper"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

func TestMain(m *testing.M) { leak.Main(m) }

// fakeMembers is the rest of the cluster as a connection sees it.
type fakeMembers struct {
	mu       sync.Mutex
	hints    int
	counters []uint64
	m        Mover
}

func (f *fakeMembers) hint() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hints++
}

func (f *fakeMembers) hintCounter(counter uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counters = append(f.counters, counter)
}

func (f *fakeMembers) hintStaged() { f.hint() }

func (f *fakeMembers) mover() Mover { return f.m }

func (f *fakeMembers) keeping() *keeper.Keeper { return nil }

// solo is a server over an engine that owns the whole ring, without a cluster:
// what connections do, and nothing else.
type solo struct {
	*server
	t       testing.TB
	disk    *vfs.Mem
	members *fakeMembers
	cancel  context.CancelFunc
	done    sync.WaitGroup
	logs    *syncBuffer
}

// soloOptions change a solo before it starts.
type soloOptions struct {
	config   func(*Config)
	listener net.Listener
	clock    func() time.Time
	mover    Mover
	keys     *auth.Keys // of tokens; authentication is on if there are any
	secret   string     // of the cluster, with keys
	tls      *tlsconf.Config
	farewell time.Duration // of a connection that is refused, instead of farewellTime
	dir      string        // a real folder for the log instead of the disk in memory
	disk     func(vfs.FS) vfs.FS
}

const soloAddress = "127.0.0.1:7401"

func startSolo(t testing.TB, o soloOptions) *solo {
	t.Helper()
	c := DefaultConfig()
	c.DataDir, c.Bucket = "/node", "file:///nowhere"
	if o.clock == nil {
		c.Times.Handshake = time.Minute // it runs while a test waits for its turn on a busy machine
	}
	if o.config != nil {
		o.config(&c)
	}
	if o.keys != nil {
		c.Auth = auth.Config{TokenKeysFile: "given", ClusterSecret: config.NewSecret(o.secret)}
	}
	if o.tls != nil {
		c.TLS = *o.tls
	}
	if o.listener == nil {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.listener = l
	}
	s := &solo{t: t, disk: vfs.NewMem(), members: &fakeMembers{m: o.mover}, logs: &syncBuffer{}}
	n := newNode(c, Seams{FS: s.disk, Now: o.clock, Logger: slog.New(slog.NewTextHandler(s.logs, nil)), Version: "test"})
	if err := n.openTrust(soloAddress); err != nil {
		t.Fatal(err)
	}
	n.keys = o.keys
	s.server = n.newServer(n.trust.Listener(o.listener))
	s.server.members = s.members
	if o.farewell > 0 {
		s.farewellTime = o.farewell
	}
	s.server.about.address = soloAddress
	s.server.fail = func(err error) { t.Log("server failed: ", err) }

	w := wal.Options{FS: s.disk, Dir: "/node/log", SegmentSize: 8 << 20}
	if o.disk != nil {
		w.FS = o.disk(s.disk)
	}
	if o.dir != "" {
		w = wal.Options{FS: vfs.OS(), Dir: o.dir}
	}
	w.Sync, w.Interval = wal.SyncMode(c.Log.Fsync), c.Log.FsyncInterval
	log, err := wal.Open(w)
	if err != nil {
		t.Fatal(err)
	}
	n.server = s.server
	options := n.engineOptions()
	options.Log = log
	e, err := engine.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	s.state.store.Store(&store{engine: e, log: log})
	s.own(1, ring.Range{}, soloAddress)

	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.ctx = cancel, ctx
	s.done.Go(s.accept)
	s.done.Go(func() { s.sweep(ctx) })
	s.done.Go(func() {
		if err := e.RunWatches(ctx); err != nil {
			t.Log("watching failed: ", err)
		}
	})
	t.Cleanup(func() {
		s.stop()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err := log.Close(); err != nil && !errors.Is(err, vfs.ErrKilled) && !errors.Is(err, errGate) {
			t.Error(err)
		}
	})
	return s
}

func (s *solo) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.drain(ctx)
	s.cancel()
	s.done.Wait()
}

func (s *solo) engine() *engine.Engine { return s.state.store.Load().engine }

// own makes a topology in which the range belongs to soloAddress and the rest to owner,
// and the engine follow it.
func (s *solo) own(epoch ring.Epoch, mine ring.Range, owner string) {
	s.t.Helper()
	t := ring.Topology{
		Cluster: "test", Epoch: epoch,
		Nodes: []ring.Node{{Address: owner, Tokens: 8}},
	}
	if owner != soloAddress {
		t.Nodes = append(t.Nodes, ring.Node{Address: soloAddress})
		t.Held = []ring.Arc{{Range: mine, Owner: soloAddress}}
	}
	owners, err := t.Map()
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := t.MarshalText()
	if err != nil {
		s.t.Fatal(err)
	}
	s.state.current.Store(&view{counter: uint64(epoch), topology: t, owners: owners, text: text})
	if err := s.engine().SetOwnership([]ring.Range{mine}); err != nil {
		s.t.Fatal(err)
	}
}

// client is a connection that a test talks through.
type testClient struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func (s *solo) dial() *testClient { return dial(s.t, s.listener.Addr().String()) }

// dialFrom is dial from another address of this machine, where it has several.
func (s *solo) dialFrom(ip string) *testClient {
	s.t.Helper()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	nc, err := from.Dial("tcp", s.listener.Addr().String())
	if err != nil {
		s.t.Skipf("this machine cannot dial from %s: %v", ip, err)
	}
	return talk(s.t, nc)
}

func dial(t testing.TB, addr string) *testClient {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return talk(t, nc)
}

func talk(t testing.TB, nc net.Conn) *testClient {
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(time.Minute)) // a test that hangs should say where
	return &testClient{Conn: nc, t: t, r: bufio.NewReader(nc)}
}

func (c *testClient) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// reply reads one reply and shows it as one line of text: see show.
func (c *testClient) reply() string {
	c.t.Helper()
	text, err := readReply(c.r)
	if err != nil {
		c.t.Fatalf("reply: %v", err)
	}
	return text
}

func (c *testClient) do(line string) string {
	c.t.Helper()
	c.send(line + "\r\n")
	return c.reply()
}

// set sends a SET as an array, which may be larger than a line.
func (c *testClient) set(key, value string) string {
	c.t.Helper()
	c.send(string(protocol.AppendRequestStrings(nil, "SET", key, value)))
	return c.reply()
}

// expectClosed reads until the end and fails when anything but the end comes.
func (c *testClient) expectClosed() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); len(rest) > 0 {
		c.t.Fatalf("still got %q (%v)", rest, err)
	}
}

// readReply reads a reply without the parser under test.
func readReply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return "", io.ErrUnexpectedEOF
	}
	n := 0
	for _, d := range line[1:] {
		if d < '0' || d > '9' {
			n = -1
			break
		}
		n = n*10 + int(d-'0')
	}
	switch {
	case line == "$-1" || line == "*-1":
		return "(nil)", nil
	case line[0] == '$':
		body := make([]byte, n+2)
		if _, err := io.ReadFull(r, body); err != nil {
			return "", err
		}
		return string(body[:n]), nil
	case line[0] == '*':
		parts := make([]string, n)
		for i := range parts {
			if parts[i], err = readReply(r); err != nil {
				return "", err
			}
		}
		return "[" + strings.Join(parts, " ") + "]", nil
	}
	return line, nil
}

// syncBuffer is a log that goroutines may share.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// inPhase counts the connections in a phase.
func (s *solo) inPhase(want phase) int {
	s.roster.mu.Lock()
	defer s.roster.mu.Unlock()
	n := 0
	for _, c := range s.roster.conns {
		if p, _ := c.phaseSince(); p == want {
			n++
		}
	}
	return n
}

// atRest waits until nobody is being written to. Who has a reply may have it before the
// server knows that it is through: a clock that leaps then finds one who does not read.
func (s *solo) atRest() {
	s.t.Helper()
	waitFor(s.t, "the replies to be through", func() bool {
		s.roster.mu.Lock()
		defer s.roster.mu.Unlock()
		for _, c := range s.roster.conns {
			p, _ := c.phaseSince()
			if t := c.pusher.Load(); p == writing || t != nil && t.writing.Load() != 0 {
				return false
			}
		}
		return true
	})
}

// received is how many bytes clients have sent.
func (s *solo) received() uint64 {
	t, _ := s.totals()
	return t.in
}

// waitFor asks until the answer is yes. What it waits for happens in goroutines
// of the server that have no event to offer; each look yields to them.
func waitFor(t testing.TB, what string, yes func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(time.Minute)
	for !yes() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
		<-ticker.C
	}
}
