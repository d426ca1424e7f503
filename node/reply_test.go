package node

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/inbox"
)

// spendBudget holds all that is left of the budget, as other connections would, and
// returns what was used before.
// First the connection must wait again: until then its own part may change.
func (s *solo) spendBudget() (before int64) {
	s.t.Helper()
	waitFor(s.t, "the connection to be idle", func() bool { return s.inPhase(idle)+s.inPhase(idleLarge) == 1 })
	before = s.budget.Used()
	s.budget.Take(s.budget.Limit - before)
	return before
}

// standstill is a server whose clock stands still, so that no buffer is given back
// because its client is slow.
func standstill(t *testing.T) *solo {
	t.Helper()
	return startSolo(t, soloOptions{clock: (&fakeClock{at: time.Unix(1_800_000_000, 0)}).now})
}

// TestAWriteIsToldHoweverLittleRoomThereIs spends the budget and pipelines more
// replies than the free part of a buffer takes. Whatever was done must be told, and
// whoever is told OVERLOADED must find nothing done.
func TestAWriteIsToldHoweverLittleRoomThereIs(t *testing.T) {
	s := standstill(t)
	c := s.dial()
	value := strings.Repeat("e", 1700)
	c.set("big", value)
	s.spendBudget()
	const n = 500
	c.send(strings.Repeat("GET big\n", 3) + strings.Repeat("INCR n\n", n) + "GET n\n" + strings.Repeat("GET big\n", 3) + "SET n 1\nDEL n\nMGET big big\n")
	for range 3 {
		if got := c.reply(); got != value {
			t.Fatalf("a value that fits: %.60s", got)
		}
	}
	for i := range n {
		if got := c.reply(); got != ":"+strconv.Itoa(i+1) {
			t.Fatalf("INCR %d: %s", i+1, got)
		}
	}
	want := []string{strconv.Itoa(n), value, value, value, "+OK", ":1", "[" + value + " " + value + "]"}
	for i, want := range want {
		if got := c.reply(); got != want {
			t.Fatalf("reply %d: %.60s", i, got)
		}
	}
}

// TestAValueThatDoesNotFitIsNotTakenAway spends the budget: the commands that answer
// with the old value and change it are refused before they have done anything.
func TestAValueThatDoesNotFitIsNotTakenAway(t *testing.T) {
	s := standstill(t)
	c := s.dial()
	value := strings.Repeat("v", 40<<10)
	c.set("k", value)
	before := s.spendBudget()
	for _, line := range []string{"GETDEL k", "GETSET k new", "SET k new GET", "GET k"} {
		if got := c.do(line); !strings.HasPrefix(got, "-OVERLOADED ") {
			t.Fatalf("%s: %.60s", line, got)
		}
	}
	if got := c.do("STRLEN k"); got != ":"+strconv.Itoa(len(value)) {
		t.Errorf("afterwards: %s", got)
	}
	if got := c.do("GETSET small old"); got != "(nil)" {
		t.Errorf("another key: %s", got)
	}
	if got := c.do("GETDEL small"); got != "old" {
		t.Errorf("a value that fits: %s", got)
	}
	s.budget.Give(s.budget.Used() - before)
	if got := c.do("GETDEL k"); got != value {
		t.Errorf("with room again: %d bytes", len(got))
	}
}

// TestARefusedReplyLeavesNoLargeBuffer refuses one reply in the middle of a batch;
// the requests after it are none the worse.
func TestARefusedReplyLeavesNoLargeBuffer(t *testing.T) {
	s := standstill(t)
	c := s.dial()
	value := strings.Repeat("v", 40<<10)
	c.set("k", value)
	c.do("SET a 1")
	before := s.spendBudget()
	c.send(strings.Repeat("GET a\n", 100) + "GET k\n" + strings.Repeat("GET a\nINCR n\n", 1000))
	for range 100 {
		if got := c.reply(); got != "1" {
			t.Fatal(got)
		}
	}
	if got := c.reply(); !strings.HasPrefix(got, "-OVERLOADED ") {
		t.Fatalf("%.60s", got)
	}
	for i := range 1000 {
		if a, n := c.reply(), c.reply(); a != "1" || n != ":"+strconv.Itoa(i+1) {
			t.Fatalf("pair %d: %s %s", i, a, n)
		}
	}
	s.budget.Give(s.budget.Used() - before)
}

func TestTheReplyBufferIsCharged(t *testing.T) {
	s := startSolo(t, soloOptions{})
	c := newConn(s.server, nil, 1)
	defer c.chargeOut(0)
	for range 40 {
		if !c.reserve() {
			t.Fatal("no room")
		}
		c.out = append(c.out, make([]byte, replyRoom)...)
		if cap(c.out) > inbox.First && !c.fit(0) || cap(c.out) > c.room() {
			t.Fatalf("%d bytes of which %d are charged", cap(c.out), c.room())
		}
	}
	c.rewind(10)
	if len(c.out) != 10 {
		t.Errorf("%d bytes after taking back", len(c.out))
	}
}
