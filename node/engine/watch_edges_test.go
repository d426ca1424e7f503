package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// What somebody comes back for may leave the ring between the walker's look and its
// decision: then it is not there any more, and is found in the table.
func TestTheRingMayForgetWhileTheWalkerDecides(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("k", "0")
	v := m.view("", wholeRing)
	v.catchUp()
	m.hub.tick()
	v.catchUp()
	v.w.Close()
	u.put("k", "1")
	v.connect(m)
	var claims [partitions][]*member
	v.w.claim(&claims, false)
	i := at("k") / partitionSpan
	ps := &pass{h: m.hub, p: &m.parts[i], claims: claims[i], promise: m.hub.logged(false)}
	where := ps.gather()[0]
	st := ps.step(where.from, where.to, false)
	g := v.w.members[v.id].g
	for g.first < g.next {
		m.hub.ringBytes.Add(-g.shift())
	}
	v.w.members[v.id].hand(ps, &st)
	v.w.members[v.id].needy = true
	v.catchUp()
	v.want(m, wholeRing)
}

// A reader is woken for what became durable only after the pump had looked at its
// group: here for a range that is gone while the pump runs.
func TestTheEndOfARangeWakesItsReadersWhateverThePumpDoes(t *testing.T) {
	m := newOwner(t)
	keyed, other := m.NewWatcher(), m.NewWatcher()
	defer keyed.Close()
	defer other.Close()
	must(t, keyed.Watch(1, []byte("k"), false, false, []WatchRange{{Range: wholeRing}}))
	must(t, other.Watch(1, []byte("p"), true, false, []WatchRange{{Range: wholeRing}}))
	m.serveWatches()
	var told []string
	take := func() {
		_, err := keyed.Take(1<<20, func(e *WatchEvent) { told = append(told, describe(e)) })
		must(t, err)
	}
	take()
	_, err := m.NewSession().Put(at("x"), []byte("x"), nil, PutOptions{}) // not durable yet
	must(t, err)
	second := other.members[1].g
	second.mu.Lock() // broadcast stops here, with the first group told
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.hub.gone(wholeRing, 1)
	}()
	for dirty := false; !dirty; {
		m.hub.newsMu.Lock()
		dirty = len(m.hub.groups) > 0
		m.hub.newsMu.Unlock()
	}
	must(t, m.hub.pump())
	<-keyed.Wake()
	take()
	second.mu.Unlock()
	<-done
	must(t, m.hub.pump())
	select {
	case <-keyed.Wake():
		take()
	default:
	}
	if !strings.HasPrefix(told[len(told)-1], "moved") {
		t.Fatal(told)
	}
}

// Selectors of which much is written do not take from those of which little is.
func TestTheHistoryIsSharedFairly(t *testing.T) {
	m := newOwner(t)
	m.hub.o.History = 128 << 10
	u := m.user()
	busy := []*viewer{m.view("a", wholeRing), m.view("b", wholeRing)}
	quiet := m.view("c", wholeRing)
	for _, v := range append(busy, quiet) {
		v.catchUp()
	}
	value := strings.Repeat("x", 1000)
	for i := range 200 {
		u.put(fmt.Sprint("a", i), value)
		u.put(fmt.Sprint("b", i), value)
		if i >= 100 && i%4 == 0 {
			u.put(fmt.Sprint("c", i), strings.Repeat(value, 4))
			quiet.catchUp()
		}
		for _, v := range busy {
			v.catchUp()
		}
	}
	for _, v := range append(busy, quiet) {
		if strings.Contains(strings.Join(v.log, " "), "behind") {
			t.Errorf("the watch of %q, which reads all, is told that it is behind", v.prefix)
		}
	}
	m.hub.tick()
	if size := m.hub.ringBytes.Load(); size > m.hub.o.History/2 {
		t.Errorf("%d bytes are kept", size)
	}
}

// A version that is from nowhere is forgotten with what it was said to know: who
// believed it would pass over all that has older ones.
func TestAVersionOfTheFutureIsNotSynced(t *testing.T) {
	m := newOwner(t)
	m.user().put("k", "0")
	v := m.view("", wholeRing)
	v.w.Close()
	v.versions[wholeRing] = versionAt(m.Now() + 1_000_000)
	v.connect(m)
	v.catchUp()
	if got := v.versions[wholeRing]; got > Version(m.Engine.clock.last.Load()) {
		t.Errorf("synced at %d, and the newest is %d", got, m.Engine.clock.last.Load())
	}
	v.want(m, wholeRing)
}

// Who takes over a range without a move takes it over now, not when it last wrote: its
// last owner may have written until now.
func TestATakeoverEndsWhatWatchersKnow(t *testing.T) {
	m := newMachine(t, nil)
	t.Cleanup(m.stop)
	lower := ring.Range{Start: upperHalf.End, End: upperHalf.Start}
	must(t, m.SetOwnership([]ring.Range{lower}))
	u := m.user()
	u.put(keysIn(lower, 1)[0], "early")
	v := m.view("", upperHalf)
	v.catchUp()
	v.w.Close()
	m.clock.add(60_000)
	lost := keysIn(upperHalf, 1)[0]
	v.versions = map[ring.Range]Version{upperHalf: versionAt(m.Now())} // that another node has told
	v.known[lost] = seen{value: "lost", version: v.versions[upperHalf]}
	m.clock.add(60_000)
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	m.clock.add(60_000)
	u.put(keysIn(lower, 1)[0], "late")
	v.connect(m)
	v.catchUp()
	v.want(m, upperHalf)
}

// Of two neighbours that move one after the other, the one that came first is resumed
// exactly as well, also when its watcher comes last.
func TestANeighbourThatArrivesLaterIsNoReasonToBeginAgain(t *testing.T) {
	a, b := newOwner(t), newMachine(t, nil)
	t.Cleanup(b.stop)
	must(t, b.SetOwnership(nil))
	first, second := ring.Range{Start: 1000, End: 2000}, ring.Range{Start: 2000, End: 3000}
	v := a.view("", wholeRing)
	v.catchUp()
	for i, r := range []ring.Range{first, second} {
		moveRange(t, a, b, fmt.Sprint("m", i), r, func() {}, func() {})
		a.clock.add(1000)
		b.clock.add(1000)
		a.user().put("later", "")
	}
	v.catchUp()
	w := b.view("none")
	w.catchUp()
	w.log, w.prefix, w.id = nil, "", 8
	for _, moved := range v.moved {
		w.versions[moved.Range] = moved.Version
	}
	w.add(first, second)
	w.catchUp()
	w.wantLog("watching", "synced "+first.String(), "synced "+second.String())
	w.versions[first] = v.moved[0].Version - 1 // a removal at the other node may be missing
	w.add(first)
	w.catchUp()
	w.wantLog("watching", "state "+first.String(), "synced "+first.String())
	for i := range ring.Position(2 * maxArrivals) {
		b.parts[0].arrive(i, i, b.Version())
	}
	if len(b.parts[0].arrivals) > maxArrivals {
		t.Error("they are not forgotten")
	}
	w.versions[first] = v.moved[0].Version
	w.add(first)
	w.catchUp()
	w.wantLog("watching", "state "+first.String(), "synced "+first.String())
}

// A watch to which ranges are added again and again is refused at some point, and not
// slower and slower.
func TestTheRangesOfAWatchAreBounded(t *testing.T) {
	m := newOwner(t)
	w := m.NewWatcher()
	defer w.Close()
	var err error
	n := 0
	for ; err == nil && n <= 2*maxRanges; n += 1000 {
		var some []WatchRange
		for i := range 1000 {
			at := ring.Position(2 * (n + i))
			some = append(some, WatchRange{Range: ring.Range{Start: at, End: at + 1}})
		}
		err = w.Watch(1, nil, true, false, some)
	}
	wantErr(t, err, ErrWatchLimit)
	if n < maxRanges || n > maxRanges+2000 {
		t.Errorf("%d ranges", n)
	}
}

// Readers of many selectors to which nobody writes are told how far they are for nothing:
// that leaves the room to those who are told of something.
func TestProgressTakesNoHistory(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	v := m.view("a", wholeRing)
	v.catchUp()
	for range 100 {
		u.put("other", "")
		m.hub.tick()
		v.catchUp()
	}
	if size := m.hub.ringBytes.Load(); size != 0 || v.log[len(v.log)-1] != "progress" || len(v.log) < 100 {
		t.Errorf("%d bytes are kept, and told was %d times, last %s", size, len(v.log), v.log[len(v.log)-1])
	}
}

// A slow reader is told how far it is, too, though there is always a newer progress.
func TestASlowReaderIsToldHowFarItIs(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	v := m.view("", wholeRing)
	v.catchUp()
	synced := v.versions[wholeRing]
	for i := range 50 {
		for range 3 {
			u.put("k", fmt.Sprint(i))
		}
		m.hub.tick()
		must(t, m.hub.pump())
		v.read(1)
		v.read(1)
	}
	if v.versions[wholeRing] <= synced {
		t.Error("it is not told")
	}
	v.catchUp()
	v.want(m, wholeRing)
}

// Whoever watches and lets go of ever other keys leaves little behind.
func TestSelectorsThatNobodyWatchesAreFewAtAnyTime(t *testing.T) {
	m := newOwner(t)
	w := m.NewWatcher()
	defer w.Close()
	for i := range 5 * maxLingering {
		must(t, w.Watch(1, fmt.Append(nil, "k", i), false, false, []WatchRange{{Range: wholeRing}}))
		w.Unwatch(1)
		if n := m.hub.active.Load(); n > 2*maxLingering+1 {
			t.Fatalf("%d are kept", n)
		}
	}
}

// A node on which nothing has been written yet tells that, and believes it.
func TestAWatchOfAnEmptyNodeGoesOn(t *testing.T) {
	m := newOwner(t)
	v := m.view("", wholeRing)
	v.catchUp()
	v.w.Close()
	v.versions[wholeRing], v.log = 1, nil // 0 would mean that nothing is known
	v.connect(m)
	v.catchUp()
	v.wantLog("watching", "synced "+whole)
}
