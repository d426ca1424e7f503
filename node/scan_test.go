package node

import (
	"strconv"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// slowKeys writes keys that match the pattern after as long as a pattern can take.
func slowKeys(s *solo, n int) (pattern string) {
	c := s.dial()
	for i := range n {
		c.set(strconv.Itoa(i)+strings.Repeat("a", 16<<10), "v")
	}
	return "*" + strings.Repeat("a", 300)
}

// scanner is a connection without a client, ready to scan.
func (s *solo) scanner(pattern string) *conn {
	c := newConn(s.server, nil, 1)
	c.attach()
	c.scratch.page.reset([]byte(pattern), nil)
	return c
}

// TestAPageIsBoundedByItsMatching scans keys that are slow to match: each page does
// little of it, and all of them together see every key.
func TestAPageIsBoundedByItsMatching(t *testing.T) {
	s := startSolo(t, soloOptions{})
	const n = 8 // of 5 million steps each
	pattern := slowKeys(s, n)
	c := s.scanner(pattern)
	pages, keys := 0, 0
	for cursor := uint64(0); pages == 0 || cursor != 0; pages++ {
		c.scratch.page.reset([]byte(pattern), nil)
		next, err := c.scanPage(protocol.ScanArgs{Cursor: cursor, Count: 10_000})
		if err != nil || next != 0 && next <= cursor || pages > n {
			t.Fatalf("page %d goes from %d to %d, %v", pages, cursor, next, err)
		}
		keys += c.scratch.page.number
		cursor = next
	}
	if pages != 2 || keys != n {
		t.Errorf("%d keys on %d pages, want %d on 2", keys, pages, n)
	}
}

// TestMatchingHoldsNobodyOff takes the lock of who changes what is served in the
// middle of the matching.
func TestMatchingHoldsNobodyOff(t *testing.T) {
	s := startSolo(t, soloOptions{})
	slowKeys(s, 3)
	c := s.scanner("*")
	if _, _, err := c.scanStep(0, scanStep, nil); err != nil {
		t.Fatal(err)
	}
	free := 0
	at, ended := c.scratch.page.match(0, func() bool {
		if s.state.settling.TryLock() {
			free++
			s.state.settling.Unlock()
		}
		return free == 2
	})
	if free != 2 || !ended || c.scratch.page.number != 2 {
		t.Fatalf("%d times free, %d keys, ended %v", free, c.scratch.page.number, ended)
	}
	c.scratch.page.reset([]byte("*"), nil)
	if next, err := c.scanPage(protocol.ScanArgs{Cursor: at, Count: 100}); err != nil || next != 0 || c.scratch.page.number != 1 {
		t.Errorf("the rest: %d keys, next %d, %v", c.scratch.page.number, next, err)
	}
}

// TestAPageEndsWhereTheViewChanges changes what is served between two steps.
func TestAPageEndsWhereTheViewChanges(t *testing.T) {
	s := startSolo(t, soloOptions{})
	c := s.scanner("*")
	v, _, err := c.scanStep(0, scanStep, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.own(2, ring.Range{Start: 0, End: 1 << 31}, "127.0.0.1:7999")
	if now, next, err := c.scanStep(77, scanStep, v); now == v || next != 77 || err != nil {
		t.Errorf("went on to %d under another view, %v", next, err)
	}
}

// TestAPageEndsWithTheNode stops the node in the middle of a long page.
func TestAPageEndsWithTheNode(t *testing.T) {
	s := startSolo(t, soloOptions{})
	slowKeys(s, 3)
	c := s.scanner("*")
	s.stop()
	next, err := c.scanPage(protocol.ScanArgs{Count: 10_000})
	if err != nil || next == 0 || c.scratch.page.number != 1 {
		t.Errorf("%d keys, next %d, %v", c.scratch.page.number, next, err)
	}
}
