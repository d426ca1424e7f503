package client

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// Whatever ranges are given, taken and cut, a cover is the whole ring in order,
// and each connection knows how much of what it has is not live.
func TestACoverStaysWhole(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	places := []ring.Position{0, 1, 2, 1000, 1 << 31, ring.MaxPosition - 1, ring.MaxPosition}
	for range 200 {
		c := newCover()
		conns := []*watchConn{nil, {}, {}}
		owner := make(map[ring.Position]*watchConn) // of places
		for range 40 {
			r := ring.Range{Start: places[random.IntN(len(places))], End: places[random.IntN(len(places))]}
			from, to := conns[random.IntN(3)], conns[random.IntN(3)]
			some := c.within(uint32(r.Start), uint32(r.End), from, func(s *stretch) {
				if s.from != nil {
					s.free(nil)
				}
				if to != nil {
					s.give(to)
				}
				if to != nil && random.IntN(2) == 0 {
					s.caughtUp(1)
				}
			})
			for _, p := range places {
				if r.Contains(p) && owner[p] == from {
					owner[p] = to
					if !some {
						t.Fatalf("%v has nothing of a connection that tells %v", r, p)
					}
				}
			}
			if random.IntN(4) == 0 {
				c.cut(places[random.IntN(3) : 4+random.IntN(3)])
			}
			checkCover(t, &c, conns, owner)
		}
	}
}

func checkCover(t *testing.T, c *cover, conns []*watchConn, owner map[ring.Position]*watchConn) {
	t.Helper()
	next := uint64(0)
	catching := make(map[*watchConn]uint64)
	for i := range c.all {
		s := &c.all[i]
		if uint64(s.low) != next || s.high < s.low {
			t.Fatalf("a gap at %d: %+v", next, c.all)
		}
		next = uint64(s.high) + 1
		if s.from != nil && !s.live {
			catching[s.from] += s.size()
		}
	}
	if next != ringSize {
		t.Fatalf("it ends at %d", next)
	}
	for _, k := range conns[1:] {
		if k.catching != catching[k] {
			t.Fatalf("%d positions are catching up, not %d", catching[k], k.catching)
		}
	}
	for p, k := range owner {
		if s := c.at(p); s == nil || s.low > p || s.high < p || s.from != k {
			t.Fatalf("%v is told by somebody else: %+v", p, s)
		}
	}
}

func TestACoverOfOnePosition(t *testing.T) {
	for _, p := range []ring.Position{0, 1, ring.MaxPosition} {
		c := newCoverOf(p)
		c.cut([]ring.Position{0, p, ring.MaxPosition})
		asked := c.all[0].asked()
		r := ring.Range{Start: ring.Position(asked.Start), End: ring.Position(asked.End)}
		if len(c.all) != 1 || r.Size() != 1 || !r.Contains(p) {
			t.Errorf("%v is asked for as %v", p, r)
		}
		if c.at(p+1) != nil || c.at(p-1) != nil || c.at(p) == nil {
			t.Errorf("more than %v is covered", p)
		}
	}
}

// asLedger has one connection that tells all, live from version 10.
func asLedger(prefix string, state bool) (l *ledger, from *watchConn, told *[]Change) {
	made := newLedger(&protocol.Watch{Prefix: true, Selector: []byte(prefix), State: state})
	from, told = &watchConn{}, new([]Change)
	made.emit = func(c Change) bool {
		*told = append(*told, c)
		return true
	}
	made.cover.all[0].give(from)
	made.cover.all[0].caughtUp(10)
	return &made, from, told
}

func aPut(key string, version uint64) *push {
	return &push{Push: protocol.Push{Kind: protocol.PushPut, ID: 1, Version: version, Value: []byte("v")}, key: key}
}

func aDelete(key string, version uint64) *push {
	return &push{Push: protocol.Push{Kind: protocol.PushDelete, ID: 1, Version: version}, key: key}
}

func onAll(kind protocol.PushKind, version uint64) *push {
	return &push{Push: protocol.Push{Kind: kind, ID: 1, Version: version, Start: 7, End: 7}}
}

// What is not newer than what was told is dropped, whoever says it again.
func TestNothingIsToldTwice(t *testing.T) {
	for _, state := range []bool{false, true} {
		l, from, told := asLedger("", state)
		for i, step := range []struct {
			push *push
			news bool
		}{
			{aPut("a", 10), false}, // the range is told up to 10
			{aPut("a", 11), true},
			{aPut("a", 11), false},
			{aPut("a", 10), false},
			{aDelete("a", 11), false},
			{aDelete("a", 12), true},
			{aDelete("a", 12), false},
			{aPut("a", 12), false},
			{aPut("a", 13), true},
			{onAll(protocol.PushProgress, 13), false},
			{aPut("a", 13), false},
			{aDelete("a", 13), false},
			{onAll(protocol.PushProgress, 5), false}, // a version that goes back is none
			{aPut("a", 13), false},
			{aPut("b", 14), true},
			{onAll(protocol.PushBehind, 0), false},
			{aPut("b", 14), false},
			{aDelete("b", 15), true},
			{onAll(protocol.PushProgress, 15), false}, // nothing is live
			{onAll(protocol.PushSynced, 15), false},
			{aPut("b", 15), false},
			{aPut("b", 16), true},
		} {
			before := len(*told)
			if _, err := l.take(from, step.push); err != nil {
				t.Fatal(err)
			}
			if got := len(*told) > before; got != step.news {
				t.Errorf("step %d (state: %v): told is %v", i, state, got)
			}
		}
		if l.progress(from, 16); len(l.told.recent) != 0 {
			t.Errorf("%d keys are remembered for nothing", len(l.told.recent))
		}
	}
}

// A node that has lost the newest writes says so by its state; the consumer is
// told, although versions go back.
func TestAStateIsBelievedEvenIfItIsOlder(t *testing.T) {
	l, from, told := asLedger("", true)
	for _, p := range []*push{
		aPut("changed", 20), aPut("lost", 21), aPut("same", 22), aPut("back", 23), aDelete("back", 24),
		onAll(protocol.PushState, 0), aPut("changed", 19), aPut("same", 22), aPut("back", 18), onAll(protocol.PushSynced, 19),
		aPut("new", 20),
	} {
		if _, err := l.take(from, p); err != nil {
			t.Fatal(err)
		}
	}
	text := ""
	for _, c := range (*told)[5:] {
		text += c.Kind.String() + " " + c.Key + " "
	}
	if text != "put changed put back delete lost put new " {
		t.Errorf("told %s", text)
	}
}

// A state ends when it is synced, also if its reader was too slow in between.
func TestAStateGoesOnBehindBehind(t *testing.T) {
	l, from, told := asLedger("", true)
	for _, p := range []*push{
		aPut("gone", 20), aPut("stays", 21), onAll(protocol.PushState, 0), onAll(protocol.PushBehind, 0),
		aPut("stays", 21), onAll(protocol.PushSynced, 30), onAll(protocol.PushBehind, 0), onAll(protocol.PushSynced, 31),
	} {
		if _, err := l.take(from, p); err != nil {
			t.Fatal(err)
		}
	}
	if last := (*told)[len(*told)-1]; len(*told) != 3 || last.Kind != ChangeDelete || last.Key != "gone" || from.catching != 0 {
		t.Errorf("told %v", *told)
	}
}

// The version of what moved is the one of moved, even if a progress has said
// more: the next owner may give those in between.
func TestWhatMovedGoesOnWhereItWasLetGo(t *testing.T) {
	l, from, _ := asLedger("", false)
	l.progress(from, 100)
	moved := onAll(protocol.PushMoved, 90)
	moved.Start, moved.End = 1000, 2000
	if err := l.moved(from, moved, func(*stretch) *waiting { return nil }); err != nil {
		t.Fatal(err)
	}
	if s := l.cover.at(1500); s.version != 90 || s.from != nil || s.size() != 1000 || from.catching != 0 {
		t.Errorf("it goes on as %+v", s)
	}
	// What was catching up has told nothing for sure.
	l.cover.at(5).catchUp(0)
	moved.Start, moved.End = 0, 10
	if err := l.moved(from, moved, func(*stretch) *waiting { return nil }); err != nil {
		t.Fatal(err)
	}
	if s := l.cover.at(5); s.version != 100 || s.from != nil {
		t.Errorf("it goes on as %+v", s)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	l, from, told := asLedger("", false)
	for i := range maxRecent + 1000 {
		if _, err := l.take(from, aPut(strconv.Itoa(i), 11+uint64(i))); err != nil {
			t.Fatal(err)
		}
	}
	if len(*told) != maxRecent+1000 || len(l.told.recent) > maxRecent {
		t.Errorf("%d told, %d remembered", len(*told), len(l.told.recent))
	}
	l.cover.each(from, func(s *stretch) { s.version = 11 + maxRecent/2 + 500 })
	for i := range maxRecent {
		if _, err := l.take(from, aPut("x"+strconv.Itoa(i), 1<<40+uint64(i))); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.told.recent) > maxRecent {
		t.Errorf("%d remembered", len(l.told.recent))
	}
}

// A node that cuts a watch into ever smaller pieces is stopped.
func TestACoverDoesNotGrowForEver(t *testing.T) {
	l, from, _ := asLedger("", false)
	whole := l.cover.all[0]
	l.cover.all = make([]stretch, maxStretches, maxStretches+10)
	for i := range l.cover.all {
		l.cover.all[i] = whole
		l.cover.all[i].low, l.cover.all[i].high = ring.Position(i)*100, ring.Position(i)*100+99
	}
	p := onAll(protocol.PushState, 0)
	p.Start, p.End = 10, 20
	if _, err := l.take(from, p); err == nil {
		t.Error("it may go on")
	}
}
