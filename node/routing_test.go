package node

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

const otherAddress = "127.0.0.1:7402"

// half is the lower half of the ring; keyIn finds keys on either side of it.
func half() ring.Range { return ring.Range{Start: 1<<32 - 1, End: 1<<31 - 1} }

func keyIn(r ring.Range, n int) string {
	for i := 0; ; i++ {
		key := "k" + strconv.Itoa(i)
		if r.Contains(ring.PositionOfString(key)) {
			if n == 0 {
				return key
			}
			n--
		}
	}
}

func upperHalf() ring.Range { return ring.Range{Start: half().End, End: half().Start} }

func TestAKeyOfAnotherNodeIsMoved(t *testing.T) {
	s := startSolo(t, soloOptions{})
	s.own(7, half(), otherAddress)
	c := s.dial()
	mine, theirs := keyIn(half(), 0), keyIn(upperHalf(), 0)
	moved := "-MOVED 7 " + otherAddress
	if got := c.do("SET " + mine + " 1"); got != "+OK" {
		t.Errorf("mine: %s", got)
	}
	for _, line := range []string{
		"GET " + theirs, "SET " + theirs + " 1", "INCR " + theirs, "TTL " + theirs, "GETV " + theirs, "DEL " + theirs,
		"EXISTS " + mine + " " + theirs, "MGET " + mine + " " + theirs, "MSET " + theirs + " 1 " + mine + " 2",
	} {
		if got := c.do(line); got != moved {
			t.Errorf("%s: %s, want %s", line, got, moved)
		}
	}
	if got := c.do("GET " + mine); got != "1" {
		t.Errorf("a refused MSET changed something: %s", got)
	}
	if got := s.stats.moved.Load(); got != 9 {
		t.Errorf("%d counted", got)
	}
}

// TestAllKeysAreCheckedFirst: nothing of a request is done when one of its keys
// is not owned here, whichever it is.
func TestAllKeysAreCheckedFirst(t *testing.T) {
	s := startSolo(t, soloOptions{})
	c := s.dial()
	a, b, theirs := keyIn(half(), 0), keyIn(half(), 1), keyIn(upperHalf(), 0)
	c.do("MSET " + a + " 1 " + b + " 2")
	s.own(2, half(), otherAddress)
	if got := c.do(fmt.Sprintf("DEL %s %s %s", a, b, theirs)); got != "-MOVED 2 "+otherAddress {
		t.Errorf("DEL: %s", got)
	}
	if got := c.do(fmt.Sprintf("MGET %s %s", a, b)); got != "[1 2]" {
		t.Errorf("after it: %s", got)
	}
}

func TestWithoutATopologyNothingIsServed(t *testing.T) {
	s := startSolo(t, soloOptions{})
	s.state.current.Store(&view{why: "the node is reading its log"})
	c := s.dial()
	for line, want := range map[string]string{
		"GET a": "-UNAVAILABLE the node is reading its log", "DBSIZE": "-UNAVAILABLE the node is reading its log",
		"TOPOLOGY": "-UNAVAILABLE the node is reading its log", "PING": "+PONG", "GET": "-ERR wrong number of arguments for 'GET'; usage: GET key",
		"STAGE_RANGE m 0 1 " + otherAddress: "-UNAVAILABLE the node is reading its log",
	} {
		if got := c.do(line); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	s.own(1, ring.Range{}, soloAddress)
	if got := c.do("GET a"); got != "(nil)" {
		t.Errorf("once it serves: %s", got)
	}
}

func TestNoOwnerAndNotYetOwner(t *testing.T) {
	s := startSolo(t, soloOptions{})
	c := s.dial()
	c.do("GET a")
	if err := s.engine().SetOwnership(nil); err != nil {
		t.Fatal(err)
	}
	if got := c.do("GET a"); !strings.HasPrefix(got, "-TRYAGAIN ") {
		t.Errorf("the document says that it is ours and the engine does not serve: %s", got)
	}
	s.state.current.Store(&view{why: "the cluster has no active node yet"})
	if got := c.do("GET a"); got != "-UNAVAILABLE no node owns this key yet: the cluster has no active node yet" {
		t.Errorf("no owner: %s", got)
	}
}

// TestParkedUntilTheRangeIsOursAgain: a sealed range holds requests; earlier
// replies of the batch leave meanwhile, and the request is answered when the seal
// is gone.
func TestParkedUntilTheRangeIsOursAgain(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Times.Park = 20 * time.Second }})
	c := s.dial()
	a, b, free := keyIn(half(), 0), keyIn(half(), 1), keyIn(upperHalf(), 0)
	c.do(fmt.Sprintf("MSET %s 1 %s 2 %s 3", a, b, free))
	s.seal("m1", half())
	c.send(fmt.Sprintf("GET %s\r\nGET %s\r\nDEL %s %s %s\r\n", free, a, free, a, b))
	if got := c.reply(); got != "3" {
		t.Errorf("before the held one: %s", got)
	}
	waitFor(t, "the request to be parked", func() bool { return s.stats.parked.Load() == 1 })
	if _, err := s.engine().Unseal("m1"); err != nil {
		t.Fatal(err)
	}
	if got := c.reply(); got != "1" {
		t.Errorf("the held one: %s", got)
	}
	if got := c.reply(); got != ":3" {
		t.Errorf("after it: %s", got)
	}
}

// TestParkedUntilTheRangeIsAnothers: the same, and the range is handed over.
func TestParkedUntilTheRangeIsAnothers(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Times.Park = 20 * time.Second }})
	c := s.dial()
	a := keyIn(half(), 0)
	s.seal("m1", half())
	c.send("SET " + a + " 2\r\nPING\r\n")
	waitFor(t, "the request to be parked", func() bool { return s.stats.parked.Load() == 1 })
	s.own(2, upperHalf(), otherAddress) // the document first, then the engine, as the node does
	if _, err := s.engine().Drop("m1"); err != nil {
		t.Fatal(err)
	}
	if got := c.reply(); got != "-MOVED 2 "+otherAddress {
		t.Errorf("got %s", got)
	}
	if got := c.reply(); got != "+PONG" {
		t.Errorf("after it: %s", got)
	}
}

func TestTryAgainWhenTheBudgetIsSpent(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Times.Park = 300 * time.Millisecond }})
	c := s.dial()
	a := keyIn(half(), 0)
	s.seal("m1", half())
	began := time.Now()
	c.send(strings.Repeat("GET "+a+"\r\n", 100))
	for i := range 100 {
		if got := c.reply(); !strings.HasPrefix(got, "-TRYAGAIN ") {
			t.Fatalf("reply %d: %s", i, got)
		}
	}
	if took := time.Since(began); took < 300*time.Millisecond || took > 25*time.Second {
		t.Errorf("a batch of 100 waited %v, and its budget is 300ms", took)
	}
	if s.stats.parked.Load() != 1 || s.stats.tryAgain.Load() != 100 {
		t.Errorf("parked %d, told to try again %d", s.stats.parked.Load(), s.stats.tryAgain.Load())
	}
}

// TestARequestForAStagedRangeHastensTheReading: the target has everything and the
// document may say already that it owns it.
func TestARequestForAStagedRangeHastensTheReading(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Times.Park = 20 * time.Second }})
	s.own(2, upperHalf(), otherAddress)
	e := s.engine()
	if _, err := e.Stage("m1", half()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.StageComplete("m1", e.Version(), 0); err != nil {
		t.Fatal(err)
	}
	c := s.dial()
	a := keyIn(half(), 0)
	c.send("SET " + a + " 1\r\n")
	waitFor(t, "a hint", func() bool {
		s.members.mu.Lock()
		defer s.members.mu.Unlock()
		return s.members.hints == 1
	})
	s.own(3, ring.Range{}, soloAddress)
	if _, err := e.Activate("m1"); err != nil {
		t.Fatal(err)
	}
	if got := c.reply(); got != "+OK" {
		t.Errorf("got %s", got)
	}
}

func TestDrainLetsParkedRequestsGo(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Times.Park = 20 * time.Second }})
	c := s.dial()
	s.seal("m1", half())
	c.send("GET " + keyIn(half(), 0) + "\r\n")
	waitFor(t, "the request to be parked", func() bool { return s.stats.parked.Load() == 1 })
	go s.stop()
	if got := c.reply(); !strings.HasPrefix(got, "-TRYAGAIN ") {
		t.Errorf("got %s", got)
	}
}

func (s *solo) seal(move string, r ring.Range) {
	s.t.Helper()
	if _, err := s.engine().Seal(move, r); err != nil {
		s.t.Fatal(err)
	}
}

// TestScanGivesEveryKeyThatStays walks the keys while others come and go.
func TestScanGivesEveryKeyThatStays(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Log.Fsync = Fsync(wal.SyncNever) }})
	c, writer := s.dial(), s.dial()
	stay := map[string]bool{}
	for i := range 2000 {
		stay[fmt.Sprintf("stay:%d", i)] = true
	}
	for key := range stay {
		c.do("SET " + key + " v")
	}
	seen := map[string]int{}
	for cursor, page := "0", 0; page == 0 || cursor != "0"; page++ {
		for i := range 20 {
			writer.do(fmt.Sprintf("SET come:%d v", page*20+i))
			writer.do(fmt.Sprintf("DEL come:%d", page*20+i-100))
		}
		var keys []string
		cursor, keys = c.scan(cursor, "MATCH", "stay:*", "COUNT", "97")
		for _, key := range keys {
			seen[key]++
		}
	}
	for key := range stay {
		if seen[key] != 1 {
			t.Fatalf("%s was given %d times", key, seen[key])
		}
	}
	if len(seen) != len(stay) {
		t.Errorf("%d keys, want %d", len(seen), len(stay))
	}
}

// TestScanAtAHeldRange: a page ends where a held range begins, and the next one
// waits for it.
func TestScanAtAHeldRange(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) {
		c.Times.Park, c.Log.Fsync = 20*time.Millisecond, Fsync(wal.SyncNever)
	}})
	c := s.dial()
	for i := range 500 {
		c.do(fmt.Sprintf("SET key:%d v", i))
	}
	s.seal("m1", upperHalf())
	var got []string
	cursor := "0"
	for {
		c.send("SCAN " + cursor + " COUNT 50\r\n")
		text := c.reply()
		if strings.HasPrefix(text, "-TRYAGAIN") {
			break
		}
		next, keys, _ := strings.Cut(strings.Trim(text, "[]"), " ")
		cursor = next
		got = append(got, strings.Fields(strings.Trim(keys, "[]"))...)
	}
	for _, key := range got {
		if !half().Contains(ring.PositionOfString(key)) {
			t.Fatalf("%s is in the held range", key)
		}
	}
	if _, err := s.engine().Unseal("m1"); err != nil {
		t.Fatal(err)
	}
	for cursor != "0" {
		var keys []string
		cursor, keys = c.scan(cursor, "COUNT", "50")
		got = append(got, keys...)
	}
	slices.Sort(got)
	if got = slices.Compact(got); len(got) != 500 {
		t.Errorf("%d keys, want 500", len(got))
	}
}

// TestAScanWaitsWhileOwnershipIsSet: the published topology may give the node a
// range that its engine does not serve yet; it must not be passed over.
func TestAScanWaitsWhileOwnershipIsSet(t *testing.T) {
	s := startSolo(t, soloOptions{})
	a, b := s.dial(), s.dial()
	a.do("SET a 1")
	s.state.settling.Lock()
	a.send("SCAN 0\r\nDBSIZE\r\n")
	if got := b.do("GET a"); got != "1" {
		t.Errorf("a request for a key: %s", got)
	}
	waitFor(t, "the scan to be under way", func() bool { return s.inPhase(running) == 1 })
	s.state.settling.Unlock()
	if got := a.reply(); got != "[0 [a]]" {
		t.Errorf("SCAN: %s", got)
	}
	if got := a.reply(); got != ":1" {
		t.Errorf("DBSIZE: %s", got)
	}
}

func TestScanBoundsItsPages(t *testing.T) {
	s := startSolo(t, soloOptions{config: func(c *Config) { c.Log.Fsync = Fsync(wal.SyncNever) }})
	c := s.dial()
	for i := range 400 {
		c.set(strings.Repeat("long", 1000)+strconv.Itoa(i), "v")
	}
	total, cursor := 0, "0"
	for page := 0; page == 0 || cursor != "0"; page++ {
		var keys []string
		cursor, keys = c.scan(cursor, "COUNT", "10000")
		if total += len(keys); len(keys) > 2*scanStep {
			t.Errorf("page %d has %d keys of 4 kB", page, len(keys))
		}
	}
	if total != 400 {
		t.Errorf("%d keys", total)
	}
	if got := c.do("SCAN 99999999999999999999"); !strings.HasPrefix(got, "-ERR invalid cursor") {
		t.Errorf("a cursor that is no number: %s", got)
	}
	if got := c.do("SCAN 18446744073709551615"); !strings.HasPrefix(got, "-ERR invalid cursor") {
		t.Errorf("a cursor that no scan returned: %s", got)
	}
}

// scan runs one SCAN and takes its reply apart.
func (c *testClient) scan(cursor string, options ...string) (next string, keys []string) {
	c.t.Helper()
	c.send(string(protocol.AppendRequestStrings(nil, "SCAN", append([]string{cursor}, options...)...)))
	text := c.reply()
	next, list, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), " ")
	if !ok || text[0] != '[' {
		c.t.Fatalf("SCAN: %s", text)
	}
	return next, strings.Fields(strings.Trim(list, "[]"))
}

// recordingMover answers member commands and remembers them.
type recordingMover struct {
	noMover
	lsn    func() wal.LSN
	closed chan any
}

func (m *recordingMover) Command(_ context.Context, link *any, cmd protocol.Command, args [][]byte, reply []byte) ([]byte, wal.LSN, error) {
	if cmd == protocol.CmdStageSeal {
		return reply, 0, engine.ErrCount
	}
	if *link == nil {
		*link = new(int)
	}
	n := (*link).(*int)
	*n++
	return protocol.AppendInt(reply, int64(*n)), m.lsn(), nil
}

func (m *recordingMover) Closed(link any) { m.closed <- link }

// TestMoveMessagesGoToTheMover: with its own value for the connection, behind the
// log position that it names, and an error to a staging message closes.
func TestMoveMessagesGoToTheMover(t *testing.T) {
	m := &recordingMover{closed: make(chan any, 1)}
	s := startSolo(t, soloOptions{mover: m})
	session := s.engine().NewSession()
	m.lsn = func() wal.LSN {
		if _, err := session.Put(ring.PositionOfString("x"), []byte("x"), []byte("y"), engine.PutOptions{}); err != nil {
			t.Error(err)
		}
		return session.Seen()
	}
	c := s.dial()
	c.send("STAGE_RANGE m 0 5 " + otherAddress + "\r\nSTAGE_DATA m 1 abc\r\nMIGRATE_RANGE 0 5 " + otherAddress + " m2\r\n")
	for want := 1; want <= 3; want++ {
		if got := c.reply(); got != ":"+strconv.Itoa(want) {
			t.Errorf("message %d: %s", want, got)
		}
	}
	if log := s.state.store.Load().log; log.Durable() < session.Seen() {
		t.Errorf("answered at %d, and durable is %d", session.Seen(), log.Durable())
	}
	c.send("STAGE_SEAL m 2 1 1\r\n")
	if got := c.reply(); !strings.HasPrefix(got, "-ERR engine: staged keys") {
		t.Errorf("seal: %s", got)
	}
	c.expectClosed()
	if link := <-m.closed; *link.(*int) != 3 {
		t.Errorf("closed with %v", link)
	}
}
