package node

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

var errGate = errors.New("the disk is broken")

// gate holds up syncs: from close to open none returns.
type gate struct {
	shut    atomic.Bool
	entered chan struct{}
	leave   chan error // what the sync returns
}

func newGate() *gate { return &gate{entered: make(chan struct{}), leave: make(chan error)} }

func (g *gate) disk(fsys vfs.FS) vfs.FS {
	return vfs.Inject(fsys, func(op vfs.Op) error {
		if op.Kind != vfs.OpSync || !g.shut.Load() {
			return nil
		}
		g.entered <- struct{}{}
		return <-g.leave
	})
}

// behindTheGate is a server of which one client's write is being synced, and that of
// another waits for the next sync, its connection reading again.
func behindTheGate(t *testing.T) (s *solo, g *gate, syncing, waiting *testClient) {
	t.Helper()
	g = newGate()
	s = startSolo(t, soloOptions{disk: g.disk, config: func(c *Config) { c.Log.Fsync = Fsync(wal.SyncAlways) }})
	syncing, waiting = s.dial(), s.dial()
	for _, c := range []*testClient{syncing, waiting} {
		if got := c.do("PING"); got != "+PONG" {
			t.Fatal(got)
		}
	}
	g.shut.Store(true)
	syncing.send("SET a 1\r\n")
	<-g.entered
	waiting.send("SET b 2\r\n")
	waitFor(t, "the connection to read again", func() bool {
		_, err := s.engine().NewSession().Exists(ring.PositionOf([]byte("b")), []byte("b"))
		return err == nil && s.received() == uint64(2*len("PING\r\n")+2*len("SET a 1\r\n")) && s.inPhase(idle) == 1 && s.inPhase(running) == 1
	})
	return s, g, syncing, waiting
}

// open lets one sync, and all that follow, through.
func (g *gate) open(err error) {
	g.shut.Store(false)
	g.leave <- err
}

func TestNothingIsAnsweredBeforeItsSyncAlthoughTheConnectionReads(t *testing.T) {
	s, g, syncing, waiting := behindTheGate(t)
	reader := s.dial()
	reader.send("GET b\r\n") // it would reveal what no sync has covered
	waitFor(t, "the reader to be waiting", func() bool { return s.inPhase(idle) == 2 && s.received() > 30 })
	g.shut.Store(false)
	g.leave <- nil
	for c, want := range map[*testClient]string{syncing: "+OK", waiting: "+OK", reader: "2"} {
		if got := c.reply(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	session := s.engine().NewSession()
	if _, err := session.Exists(ring.PositionOf([]byte("b")), []byte("b")); err != nil || s.state.store.Load().log.Durable() < session.Seen() {
		t.Errorf("answered before it was durable: %v", err)
	}
}

func TestRepliesKeepTheirOrderBehindThoseHandedOver(t *testing.T) {
	_, g, _, waiting := behindTheGate(t)
	waiting.send("GET b\r\nINCR b\r\nGET nothing\r\n")
	g.open(nil)
	for _, want := range []string{"+OK", "2", ":3", "(nil)"} {
		if got := waiting.reply(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestRepliesHandedOverToALogThatFailsAreNeverSent(t *testing.T) {
	s, g, syncing, waiting := behindTheGate(t)
	failed := make(chan error, 9)
	s.server.fail = func(err error) { failed <- err }
	g.open(errGate)
	if err := <-failed; !errors.Is(err, wal.ErrPoisoned) {
		t.Errorf("the node was told %v", err)
	}
	syncing.expectClosed()
	waiting.expectClosed()
}

func TestAClientThatIsGoneBeforeItsReplies(t *testing.T) {
	s, g, syncing, waiting := behindTheGate(t)
	waiting.Close()
	g.open(nil)
	if got := syncing.reply(); got != "+OK" {
		t.Error(got)
	}
	waitFor(t, "the connection to be gone", func() bool { _, n := s.totals(); return n == 1 })
	if got := syncing.do("GET b"); got != "2" {
		t.Errorf("the write of the one that is gone: %s", got)
	}
}

func TestDrainWaitsForRepliesHandedOver(t *testing.T) {
	s, g, syncing, waiting := behindTheGate(t)
	stopped := make(chan struct{})
	go func() { s.stop(); close(stopped) }()
	waitFor(t, "the drain", s.draining)
	g.open(nil)
	for _, c := range []*testClient{syncing, waiting} {
		if got := c.reply(); got != "+OK" {
			t.Error(got)
		}
		c.expectClosed()
	}
	<-stopped
}

func TestAClientThatWaitsForTheDiskIsNotIdle(t *testing.T) {
	g := newGate()
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s := startSolo(t, soloOptions{disk: g.disk, clock: clock.now, config: func(c *Config) {
		c.Log.Fsync, c.Times.Idle, c.Times.Write = Fsync(wal.SyncAlways), time.Minute, 20*time.Millisecond
	}})
	syncing, waiting, quiet := s.dial(), s.dial(), s.dial()
	for _, c := range []*testClient{syncing, waiting, quiet} {
		c.do("PING")
	}
	g.shut.Store(true)
	syncing.send("SET a 1\r\n")
	<-g.entered
	waiting.send("SET b 2\r\n")
	waitFor(t, "both to be with the log", func() bool { return s.inPhase(idle) == 2 && s.inPhase(running) == 1 && s.received() > 30 })
	clock.advance(2 * time.Minute)
	quiet.expectClosed()
	g.open(nil)
	for _, c := range []*testClient{syncing, waiting} {
		if got := c.reply(); got != "+OK" {
			t.Error(got)
		}
	}
	waitFor(t, "both to be idle", func() bool { return s.inPhase(idle) == 2 })
	s.sweepOnce() // their time begins with their replies
	for _, c := range []*testClient{syncing, waiting} {
		if got := c.do("PING"); got != "+PONG" {
			t.Error(got)
		}
	}
	if n := s.stats.idleClosed.Load(); n != 1 {
		t.Errorf("%d connections were closed as idle, want 1", n)
	}
}

// slowly is a client whose replies were handed over, of which the kernel took a part.
type slowly struct {
	*testClient
	s    *solo
	sent int // rounds of requests, each answered by +PONG, +OK and 12 KiB
}

const slowSize = 12 << 10

// readsSlowly asks, half a request ahead each time, until a reply does not leave. All
// its replies are handed over, because somebody else's write is being synced.
func readsSlowly(t *testing.T, clock func() time.Time, config func(*Config)) *slowly {
	t.Helper()
	g := newGate()
	s := startSolo(t, soloOptions{disk: g.disk, clock: clock, config: func(c *Config) {
		c.Log.Fsync = Fsync(wal.SyncAlways)
		config(c)
	}})
	syncing, slow := s.dial(), &slowly{testClient: s.dial(), s: s}
	_ = slow.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	slow.do("SET big " + strings.Repeat("x", slowSize))
	slow.send("PI")
	answered := func() uint64 { t, _ := s.totals(); return t.out }
	round := uint64(len("+PONG\r\n+OK\r\n$12288\r\n\r\n") + slowSize)
	for ; !slow.stuck(); slow.sent++ {
		g.shut.Store(true)
		syncing.send("SET a 1\r\n")
		<-g.entered
		slow.ask()
		waitFor(t, "the replies to be handed over", func() bool { return s.owing() == 2 })
		before := answered() // now that both have counted what they sent before
		g.open(nil)
		if got := syncing.reply(); got != "+OK" { // nobody waits for the slow one
			t.Fatal(got)
		}
		before += uint64(len("+OK\r\n"))
		waitFor(t, "the replies to leave, or not to", func() bool { return answered() == before+round || slow.stuck() })
	}
	return slow
}

func (c *slowly) ask() { c.send(fmt.Sprintf("NG\r\nSET n %d\r\nGET big\r\nPI", c.sent)) }

// stuck says whether its connection waits for it to read.
func (c *slowly) stuck() bool {
	c.s.roster.mu.Lock()
	defer c.s.roster.mu.Unlock()
	for _, conn := range c.s.roster.conns {
		if p, _ := conn.phaseSince(); p == writing && conn.nc.RemoteAddr().String() == c.LocalAddr().String() {
			return true
		}
	}
	return false
}

// readAll takes the replies of all rounds.
func (c *slowly) readAll(t *testing.T) {
	t.Helper()
	for i := range c.sent {
		if ping, set, big := c.reply(), c.reply(), c.reply(); ping != "+PONG" || set != "+OK" || len(big) != slowSize {
			t.Fatalf("round %d: %s, %s, %d bytes", i, ping, set, len(big))
		}
	}
}

// owing is how many connections have replies with the log, or sync for them.
func (s *solo) owing() (n int) {
	s.roster.mu.Lock()
	defer s.roster.mu.Unlock()
	for _, c := range s.roster.conns {
		if c.later.owing.Load() {
			n++
		}
	}
	return n
}

// What the kernel does not take at once is sent by the connection itself, in order,
// when the client reads again.
func TestRepliesThatTheKernelDoesNotTake(t *testing.T) {
	slow := readsSlowly(t, nil, func(*Config) {})
	for range 20 {
		slow.ask()
		slow.sent++
	}
	slow.readAll(t)
	slow.send("NG\r\nGET n\r\n")
	if ping, n := slow.reply(), slow.reply(); ping != "+PONG" || n != fmt.Sprint(slow.sent-1) {
		t.Errorf("%s, and n is %s after %d rounds", ping, n, slow.sent)
	}
}

// A client that reads slowly once, and then leaves half a request behind, is still
// one that left half a request behind.
func TestHalfARequestBehindASlowReplyIsCutOff(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	slow := readsSlowly(t, clock.now, func(c *Config) { c.Times.Request = 300 * time.Millisecond })
	slow.readAll(t)
	waitFor(t, "the half request to be what it waits for", func() bool { return slow.s.inPhase(partial) == 1 })
	clock.advance(time.Second)
	if got := slow.reply(); !strings.Contains(got, "did not come within") {
		t.Errorf("got %s", got)
	}
	slow.expectClosed()
}
