package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

func TestOneConnectionTooManyIsToldWhy(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Limits.Connections = 2 }})
	a, b := s.dial(), s.dial()
	a.do("PING")
	b.do("PING")
	c := s.dial()
	if got := c.reply(); !strings.HasPrefix(got, "-OVERLOADED ") || !strings.Contains(got, "QUOIT_NODE_MAX_CONNECTIONS") {
		t.Errorf("third connection: %s", got)
	}
	c.expectClosed()
	if got := a.do("PING"); got != "+PONG" {
		t.Errorf("first connection: %s", got)
	}
	b.do("QUIT")
	b.expectClosed()
	waitFor(t, "room for another", func() bool {
		d := s.dial()
		defer d.Close()
		d.send("PING\r\n")
		return d.reply() == "+PONG"
	})
}

func TestOneAddressCannotTakeAllPlaces(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Limits.PerAddress = 2 }})
	a, b := s.dial(), s.dial()
	a.do("PING")
	b.do("PING")
	c := s.dial()
	if got := c.reply(); !strings.HasPrefix(got, "-OVERLOADED ") || !strings.Contains(got, "QUOIT_NODE_MAX_PER_ADDRESS") {
		t.Errorf("third connection of an address: %s", got)
	}
	c.expectClosed()
	other := s.dialFrom("127.0.0.2")
	if got := other.do("PING"); got != "+PONG" {
		t.Errorf("another address: %s", got)
	}
	for _, c := range []*testClient{a, b, other} {
		c.do("QUIT")
		c.expectClosed()
	}
	waitFor(t, "the addresses to be forgotten", func() bool {
		s.roster.mu.Lock()
		defer s.roster.mu.Unlock()
		return s.roster.from.Addresses() == 0
	})
}

// TestStrangersOfOneAddressCannotTakeAllPlaces, who never say who they are: those who do
// have theirs, from that address and from others.
func TestStrangersOfOneAddressCannotTakeAllPlaces(t *testing.T) {
	s, i := guarded(t, soloOptions{config: func(c *Config) { c.Limits.Connections = 12 }})
	token, refused := i.token(root()), 0
	known := []*testClient{s.login(token), s.login(token), s.login(token), s.login(token)} // more than there may be strangers
	var strangers []*testClient
	for range 3 {
		c := s.dial()
		c.want("GET a", "-NOAUTH ")
		strangers = append(strangers, c)
	}
	for range 5 {
		c := s.dial()
		if got := c.reply(); strings.HasPrefix(got, "-OVERLOADED ") && strings.Contains(got, "that have not authenticated") {
			refused++
		}
		c.expectClosed()
	}
	if refused != 5 {
		t.Errorf("%d of 5 strangers too many were refused", refused)
	}
	other := s.dialFrom("127.0.0.2")
	other.login(token)
	for _, c := range known {
		c.want("GET a", "(nil)")
	}
	strangers[0].login(token) // which makes room for another
	s.login(token).want("RESET", "+RESET")
	for _, c := range strangers[1:] {
		c.do("QUIT")
		c.expectClosed()
	}
	waitFor(t, "the strangers to be forgotten", func() bool {
		s.roster.mu.Lock()
		defer s.roster.mu.Unlock()
		return s.roster.strange.Addresses() == 0
	})
}

// TestTenThousandConnections opens as many as the machine's limit of open files
// allows (each takes two here), uses all, and sees them all counted and gone.
func TestTenThousandConnections(t *testing.T) {
	want := 10_000
	if testing.Short() {
		want = 500
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if room := int(min(limit.Cur, 1<<20)/2) - 200; room < want {
		t.Logf("reduced from %d to %d connections by ulimit -n %d", want, room, limit.Cur)
		want = room
	}
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Limits.Connections = want }})
	conns := make([]net.Conn, want)
	for i := range conns {
		nc, err := net.Dial("tcp", s.listener.Addr().String())
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer nc.Close()
		conns[i] = nc
	}
	reply := make([]byte, len("+OK\r\n"))
	for _, nc := range conns {
		if _, err := io.WriteString(nc, "SET a 1\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	for i, nc := range conns {
		if _, err := io.ReadFull(nc, reply); err != nil || string(reply) != "+OK\r\n" {
			t.Fatalf("connection %d: %q, %v", i, reply, err)
		}
	}
	if totals, n := s.totals(); n != want || totals.commands[protocol.CmdPut] != uint64(want) {
		t.Errorf("%d connections and %d writes counted, want %d", n, totals.commands[protocol.CmdPut], want)
	}
	for _, nc := range conns {
		nc.Close()
	}
	waitFor(t, "all gone", func() bool { _, n := s.totals(); return n == 0 })
	if used := s.budget.Used(); used != 0 {
		t.Errorf("%d bytes of buffers are still counted", used)
	}
}

func TestHalfARequestAndSilence(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s := startSolo(t, soloOptions{clock: clock.now, config: func(c *Config) { c.Times.Write = 40 * time.Millisecond }})
	c, quiet := s.dial(), s.dial()
	quiet.do("PING")
	c.send("*2\r\n$3\r\nGET\r\n$1000\r\nabc")
	// The other must be through with its reply, or it is the one that time runs out for.
	waitFor(t, "the half request to be read", func() bool { return s.inPhase(partial) == 1 && s.inPhase(idle) == 1 })
	clock.advance(s.times.Request + time.Second)
	if got := c.reply(); !strings.Contains(got, "did not come within 30s") {
		t.Errorf("got %s", got)
	}
	c.expectClosed()
	if got := quiet.do("PING"); got != "+PONG" {
		t.Errorf("the idle connection: %s", got)
	}
}

func TestARequestThatDripsInIsNotCut(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s := startSolo(t, soloOptions{clock: clock.now, config: func(c *Config) { c.Times.Write = 20 * time.Millisecond }})
	c := s.dial()
	for _, part := range []string{"SE", "T a", " 1"} {
		before := s.received()
		c.send(part)
		waitFor(t, "the part to be read", func() bool { return s.received() > before && s.inPhase(partial) == 1 })
		clock.advance(20 * time.Second)
	}
	if got := c.do(""); got != "+OK" {
		t.Errorf("got %s", got)
	}
}

func TestIdleConnectionsAreClosedWhenAsked(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s := startSolo(t, soloOptions{clock: clock.now, config: func(c *Config) {
		c.Times.Idle, c.Times.Write = time.Minute, 20*time.Millisecond
	}})
	c := s.dial()
	c.do("PING")
	waitFor(t, "the connection to be idle", func() bool { return s.inPhase(idle) == 1 })
	clock.advance(2 * time.Minute)
	c.expectClosed()
	if s.stats.idleClosed.Load() != 1 {
		t.Error("not counted")
	}
}

// TestWhoIsCutOffIsCountedOnce although the sweeper comes by again before the connection
// has noticed.
func TestWhoIsCutOffIsCountedOnce(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s := startSolo(t, soloOptions{clock: clock.now, config: func(c *Config) { c.Times.Idle, c.Times.Write = time.Minute, time.Minute }})
	idler, _ := s.enrol(&sink{})
	writer, _ := s.enrol(&recorder{})
	clock.advance(time.Second)
	s.clock.refresh()
	writer.mark(writing)
	clock.advance(2 * time.Minute)
	s.clock.refresh()
	for range 3 {
		s.sweepOnce()
	}
	if idle, slow := s.stats.idleClosed.Load(), s.stats.slowReaders.Load(); idle != 1 || slow != 1 {
		t.Errorf("counted %d idle and %d slow connections, want 1 and 1", idle, slow)
	}
	s.remove(idler)
	s.remove(writer)
}

func TestASlowReaderIsCutOffAndNobodyElseNotices(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s := startSolo(t, soloOptions{clock: clock.now, config: func(c *Config) { c.Times.Write = 100 * time.Millisecond }})
	other := s.dial()
	if got := other.do("SET big " + strings.Repeat("x", 60<<10)); got != "+OK" {
		t.Fatal(got)
	}
	slow := s.dial()
	_ = slow.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	// It asks for far more than the kernel buffers, and reads nothing.
	go func() { _, _ = slow.Write(bytes.Repeat([]byte("GET big\r\n"), 2000)) }()
	left := uint64(0)
	waitFor(t, "a reply that cannot leave", func() bool {
		if got := other.do("PING"); got != "+PONG" {
			t.Fatal(got)
		}
		totals, _ := s.totals()
		stuck := s.inPhase(writing) == 1 && s.inPhase(idle) == 1 && totals.out-left == uint64(len("+PONG\r\n"))
		left = totals.out
		return stuck
	})
	clock.advance(time.Second)
	waitFor(t, "its connection to be gone", func() bool { _, n := s.totals(); return n == 1 })
	if got := other.do("PING"); got != "+PONG" {
		t.Errorf("the other connection: %s", got)
	}
	if n, logged := s.stats.slowReaders.Load(), strings.Count(s.logs.String(), "does not take its replies"); n != 1 || logged != 1 {
		t.Errorf("counted %d times, logged %d times", n, logged)
	}
}

// TestWhatVeryManyArgumentsNeedIsCounted: each may be of six bytes, and needs forty beside
// them, for as long as the request is not complete.
func TestWhatVeryManyArgumentsNeedIsCounted(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) {
		c.Limits.Value, c.Limits.InFlight = 128<<10, 1<<20
	}})
	const part = 10_000
	for n := range 3 { // of which each has its 400 KiB
		c := s.dial()
		c.send("*100000\r\n" + strings.Repeat("$0\r\n\r\n", part))
		if n < 2 {
			least := int64(n+1) * 40 * part
			waitFor(t, "the arguments to be counted", func() bool { return s.budget.Used() > least })
			continue
		}
		if got := c.reply(); !strings.HasPrefix(got, "-OVERLOADED ") {
			t.Errorf("the third is told %s", got)
		}
		c.expectClosed()
	}
	s.dial().want("PING", "+PONG")
}

func TestBytesInFlightAreBounded(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) {
		c.Limits.Value, c.Limits.InFlight = 512<<10, 1<<20
	}})
	huge := strings.Repeat("x", 500<<10)
	var waiting []*testClient
	for range 6 { // each holds its half a value in a buffer
		c := s.dial()
		c.send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$512000\r\n" + huge[:300<<10])
		waiting = append(waiting, c)
	}
	waitFor(t, "someone to be refused", func() bool { return s.stats.overloaded.Load() > 0 })
	if used := s.budget.Used(); used > 1<<20 {
		t.Errorf("%d bytes in flight", used)
	}
	told := make(chan string, len(waiting))
	var readers sync.WaitGroup
	for _, c := range waiting { // who was not refused is told nothing
		readers.Go(func() {
			if text, err := readReply(c.r); err == nil {
				told <- text
			}
		})
	}
	select {
	case text := <-told:
		if !strings.HasPrefix(text, "-OVERLOADED") {
			t.Errorf("told %s", text)
		}
	case <-time.After(time.Minute):
		t.Error("nobody was told")
	}
	for _, c := range waiting {
		c.Close()
	}
	readers.Wait()
	waitFor(t, "the memory to be back", func() bool { return s.budget.Used() == 0 })
	if got := s.dial().set("a", huge); got != "+OK" {
		t.Errorf("afterwards: %s", got)
	}
}

func TestAReplyLargerThanTheBudgetIsRefused(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) {
		c.Limits.Value, c.Limits.InFlight = 512<<10, 1<<20
	}})
	c := s.dial()
	for _, k := range []string{"a", "b", "c", "d"} {
		if got := c.set(k, strings.Repeat(k, 400<<10)); got != "+OK" {
			t.Fatal(got)
		}
	}
	if got := c.do("MGET a b c d"); !strings.HasPrefix(got, "-OVERLOADED") {
		t.Errorf("got %d bytes", len(got))
	}
	if got := c.do("GET b"); got != strings.Repeat("b", 400<<10) {
		t.Errorf("afterwards: %d bytes", len(got))
	}
}

func TestLargeBuffersOfIdleConnectionsAreGivenBack(t *testing.T) {
	clock := &fakeClock{at: time.Unix(1_800_000_000, 0)}
	s := startSolo(t, soloOptions{clock: clock.now, config: func(c *Config) { c.Times.Write = 20 * time.Millisecond }})
	c := s.dial()
	value := strings.Repeat("x", 200<<10)
	if got := c.set("a", value); got != "+OK" {
		t.Fatal(got)
	}
	if got := c.do("GET a"); got != value {
		t.Fatal(len(got))
	}
	waitFor(t, "large buffers", func() bool { return s.inPhase(idleLarge) == 1 && s.budget.Used() > 200<<10 })
	clock.advance(3 * time.Second)
	waitFor(t, "small ones", func() bool { return s.budget.Used() == 0 })
	if got := c.do("GET a"); got != value {
		t.Error("the connection did not survive it")
	}
}

func TestValuesAreBounded(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Limits.Value = 1 << 10 }})
	c := s.dial()
	if got := c.set("a", strings.Repeat("x", 1025)); !strings.HasPrefix(got, "-TOOLARGE") {
		t.Errorf("a large value: %s", got)
	}
	if got := c.set(strings.Repeat("k", 65<<10), "v"); !strings.HasPrefix(got, "-TOOLARGE") {
		t.Errorf("a large key: %s", got)
	}
	c.do("SET a " + strings.Repeat("x", 1000))
	if got := c.do("APPEND a " + strings.Repeat("x", 100)); !strings.HasPrefix(got, "-TOOLARGE") {
		t.Errorf("append: %s", got)
	}
	if got := c.do("STRLEN a"); got != ":1000" {
		t.Errorf("after a refused append: %s", got)
	}
}

// TestPanicInOneConnection lets a command panic: that connection ends, the panic
// is counted and logged with its stack, and the others go on.
func TestPanicInOneConnection(t *testing.T) {
	s := startSolo(t, soloOptions{})
	s.commands[protocol.CmdEcho].run = func(*conn, [][]byte) error { panic("a bug") }
	a, b := s.dial(), s.dial()
	b.do("PING")
	a.send("ECHO x\r\n")
	a.expectClosed()
	if got := b.do("PING"); got != "+PONG" {
		t.Errorf("the other connection: %s", got)
	}
	waitFor(t, "the count", func() bool { _, n := s.totals(); return n == 1 && s.stats.panics.Load() == 1 })
	var metrics bytes.Buffer
	s.stats.write(&metrics)
	if !strings.Contains(metrics.String(), `quoit_node_connections_cut_total{why="panic"} 1`) || s.stats.panics.Asked() != 1 {
		t.Errorf("metrics:\n%s", &metrics)
	}
	if log := s.logs.String(); !strings.Contains(log, "a bug") || !strings.Contains(log, "limits_test.go") {
		t.Errorf("log: %s", log)
	}
}

// unsendable is a connection whose Write brings a bug to light.
type unsendable struct{ net.Conn }

func (unsendable) Write([]byte) (int, error) { panic("a bug") }

// What sends pushes is a goroutine of its own, and a panic there is no worse.
func TestPanicInAConnectionThatWatches(t *testing.T) {
	s := startSolo(t, soloOptions{})
	other := s.dial()
	near, far := net.Pipe()
	defer near.Close()
	s.welcome(unsendable{far})
	if _, err := io.WriteString(near, "WATCH 1 KEY k 0 0 0\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection that watched: %v", err)
	}
	if got := other.do("SET k v"); got != "+OK" {
		t.Errorf("the other connection: %s", got)
	}
	waitFor(t, "its end", func() bool { _, n := s.totals(); return n == 1 && s.engine().WatchStats().Watchers == 0 })
	if s.stats.panics.Asked() != 1 || !strings.Contains(s.logs.String(), "a bug") {
		t.Errorf("not counted, or not logged:\n%s", s.logs)
	}
}

// brokenSink is a move that panics when it is told of a write.
type brokenSink struct{}

func (brokenSink) Add([]byte)            { panic("a bug") }
func (brokenSink) Full() <-chan struct{} { return nil }

// brokenMover panics at the second message of a connection.
type brokenMover struct{ noMover }

func (brokenMover) Command(_ context.Context, link *any, _ protocol.Command, _ [][]byte, reply []byte) ([]byte, wal.LSN, error) {
	if *link != nil {
		panic("a bug")
	}
	*link = "linked"
	return protocol.AppendOK(reply), 0, nil
}

func (brokenMover) Closed(any) {}

// A panic that may have left memory other than the log ends the node: what it would
// serve on with is not what a restart would have.
func TestAPanicBetweenLogAndMemoryEndsTheNode(t *testing.T) {
	for name, request := range map[string]string{
		"of a client's write":      "SET k v\r\n",
		"of what a move brings in": "STAGE_RANGE m 0 5 " + otherAddress + "\r\nSTAGE_DATA m 1 abc\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := startSolo(t, soloOptions{mover: brokenMover{}})
			failed := make(chan error, 1)
			s.server.fail = func(err error) { failed <- err }
			c, err := s.engine().Capture("m", ring.Range{}, brokenSink{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for done := false; !done && err == nil; {
				done, err = c.CopyNext(1 << 20)
			}
			if err != nil {
				t.Fatal(err)
			}
			client := s.dial()
			client.send(request)
			if err := <-failed; !strings.Contains(err.Error(), "between the log and memory") {
				t.Errorf("the node was told %v", err)
			}
			if n := s.stats.panics.Asked(); n != 1 {
				t.Errorf("%d panics are counted", n)
			}
		})
	}
}

func TestDrainAnswersWhatWasSent(t *testing.T) {
	s := startSolo(t, soloOptions{})
	busy, quiet := s.dial(), s.dial()
	quiet.do("PING")
	before, requests := s.received(), strings.Repeat("INCR n\r\n", 1000)
	busy.send(requests)
	waitFor(t, "the requests to be read", func() bool { return s.received() == before+uint64(len(requests)) })
	s.stop()
	for i := range 1000 {
		if got := busy.reply(); got != ":"+strconv.Itoa(i+1) {
			t.Fatalf("reply %d: %s", i, got)
		}
	}
	busy.expectClosed()
	quiet.expectClosed()
	if _, err := net.Dial("tcp", s.listener.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v", err)
	}
}

func TestDrainCutsOffWhoDoesNotFinish(t *testing.T) {
	s := startSolo(t, soloOptions{})
	if got := s.dial().do("SET big " + strings.Repeat("x", 60<<10)); got != "+OK" {
		t.Fatal(got)
	}
	slow := s.dial()
	go func() { _, _ = slow.Write(bytes.Repeat([]byte("GET big\r\n"), 2000)) }()
	waitFor(t, "a reply that cannot leave", func() bool { return s.inPhase(writing) == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	s.drain(ctx)
	if _, n := s.totals(); n != 0 {
		t.Errorf("%d connections left", n)
	}
}

func TestDiskFullRefusesWritesAndGoesOnReading(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Log.Fsync = Fsync(wal.SyncAlways) }})
	c := s.dial()
	c.do("SET a 1")
	s.disk.SetCapacity(s.disk.Used())
	value := strings.Repeat("x", 50<<10)
	waitFor(t, "the disk to be full", func() bool { return strings.HasPrefix(c.do("SET b "+value), "-READONLY ") })
	if got := c.do("GET a"); got != "1" {
		t.Errorf("reading: %s", got)
	}
	s.disk.SetCapacity(0)
	waitFor(t, "writing to work again", func() bool { return c.do("SET b 2") == "+OK" })
}

// TestNoReplyAfterTheLogFailed lets the disk die under a write: the client must
// not be told that it happened, and the node is told that it cannot go on.
func TestNoReplyAfterTheLogFailed(t *testing.T) {
	s := startSolo(t, soloOptions{})
	failed := make(chan error, 16)
	s.fail = func(err error) { failed <- err }
	c := s.dial()
	c.do("SET a 1")
	s.disk.Kill()
	c.send("SET a 2\r\n")
	c.expectClosed()
	if err := <-failed; !errors.Is(err, wal.ErrPoisoned) {
		t.Errorf("failed with %v", err)
	}
}
