package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/ring"
)

const whole = "(4294967295, 4294967295]"

func TestAWatcherSeesWhatIsThereAndThenEveryChange(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("a:1", "one")
	u.put("b:1", "other")
	v := m.view("a:", wholeRing)
	v.catchUp()
	v.wantLog("watching", "state "+whole, "put a:1 one", "synced "+whole)
	u.put("a:1", "two")
	u.put("b:1", "other")
	u.put("a:2", "")
	u.delete("a:1")
	_, err := u.Append(at("a:2"), []byte("a:2"), []byte("tail"))
	must(t, err)
	_, err = u.Expire(at("a:2"), []byte("a:2"), m.Now()+1000, ExpireAlways)
	must(t, err)
	v.catchUp()
	v.wantLog("put a:1 two", "put a:2 ", "delete a:1", "put a:2 tail", "put a:2 tail")
	m.clock.add(2000)
	u.want("a:2", "")
	v.catchUp()
	v.wantLog("delete a:2")
	m.hub.tick()
	v.catchUp()
	v.wantLog("progress")
	m.hub.tick()
	v.catchUp()
	v.wantLog() // nothing has happened
}

func TestWatchFromNowOn(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("k", "old")
	w := m.NewWatcher()
	defer w.Close()
	must(t, w.Watch(1, []byte("k"), false, false, []WatchRange{{Range: wholeRing}}))
	v := &viewer{t: t, known: map[string]seen{}, versions: map[ring.Range]Version{}}
	v.connect(m)
	v.w.Close()
	v.w, v.log, v.versions = w, nil, map[ring.Range]Version{wholeRing: 0}
	v.catchUp()
	u.put("k", "new")
	u.put("k2", "of another")
	u.delete("k")
	v.catchUp()
	v.wantLog("watching", "synced "+whole, "put k new", "delete k")
}

// Nothing is told that a crash could take back.
func TestNothingIsToldBeforeItIsDurable(t *testing.T) {
	m := newOwner(t)
	v := m.view("", wholeRing)
	v.catchUp()
	v.wantLog("watching", "state "+whole, "synced "+whole)
	_, err := m.NewSession().Put(at("k"), []byte("k"), []byte("v"), PutOptions{})
	must(t, err)
	v.read(1 << 20)
	v.wantLog()
	must(t, m.hub.pump())
	v.read(1 << 20)
	v.wantLog("put k v")
}

// One who comes back while the ring remembers is told each change, others included
// that were overwritten since.
func TestResumeFromTheRing(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("k", "0")
	v := m.view("", wholeRing)
	v.catchUp()
	m.hub.tick()
	v.catchUp()
	v.w.Close()
	u.put("k", "1")
	u.put("k", "2")
	u.delete("k")
	v.log = nil
	v.connect(m)
	v.catchUp()
	v.wantLog("watching", "put k 1", "put k 2", "delete k", "synced "+whole)
}

// Where the ring is gone, the latest state of each key is told, removals included.
func TestResumeWithoutTheRing(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("k", "0")
	u.put("stays", "0")
	u.put("back", "0")
	v := m.view("", wholeRing)
	v.catchUp()
	m.hub.tick()
	v.catchUp()
	v.w.Close()
	m.clock.add(m.hub.o.Retention.Milliseconds() - 1)
	u.put("k", "1")
	u.delete("k")
	u.delete("back")
	u.put("back", "again")
	m.clock.add(2)
	m.hub.reap(m.Now() - m.hub.o.Retention.Milliseconds())
	if m.hub.active.Load() != 0 {
		t.Fatal("the ring is still there")
	}
	v.log = nil
	v.connect(m)
	v.catchUp()
	if at("k") < at("back") {
		v.wantLog("watching", "delete k", "put back again", "synced "+whole)
	} else {
		v.wantLog("watching", "put back again", "delete k", "synced "+whole)
	}
}

// Where removals are forgotten, all that is there is told.
func TestResumeBeyondTheHorizon(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("k", "0")
	u.put("stays", "0")
	v := m.view("", wholeRing)
	v.catchUp()
	m.hub.tick()
	v.catchUp()
	v.w.Close()
	u.delete("k")
	m.clock.add(2 * m.hub.o.Retention.Milliseconds())
	for range 2 * partitions {
		m.Tick(tickBudget)
	}
	m.hub.reap(m.Now())
	v.log = nil
	v.connect(m)
	v.catchUp()
	v.wantLog("watching", "state "+whole, "put stays 0", "synced "+whole)
	v.want(m, wholeRing)
}

// After a restart the log remembers; after a crash that took told versions along,
// nobody is left with what is no more.
func TestResumeAfterARestart(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("k", "0")
	u.put("stays", "0")
	v := m.view("", wholeRing)
	v.catchUp()
	m.hub.tick()
	v.catchUp()
	v.w.Close()
	u.delete("k")
	u.put("new", "1")
	must(t, u.Wait())
	m.reboot()
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	v.log = nil
	v.connect(m)
	v.catchUp()
	v.want(m, wholeRing)
	if strings.Contains(strings.Join(v.log, " "), "state") || len(v.log) != 4 {
		t.Fatal(v.log)
	}
}

func TestAVersionThatACrashTookBackIsNotResumed(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("k", "0")
	must(t, u.Wait())
	v := m.view("", wholeRing)
	v.catchUp()
	v.w.Close()
	m.clock.add(1000)
	v.versions[wholeRing] = u.put("lost", "0")
	v.known["lost"] = seen{value: "0", version: v.versions[wholeRing]}
	m.crash(lose)
	m.clock.add(1000)
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	u = m.user()
	u.put("k2", "0")
	v.log = nil
	v.connect(m)
	v.catchUp()
	v.want(m, wholeRing)
}

// A reader that is too slow is told so, and catches up.
func TestASlowReaderCatchesUp(t *testing.T) {
	m := newOwner(t)
	m.hub.o.History = 16 << 10
	u := m.user()
	v := m.view("", wholeRing)
	v.catchUp()
	v.log = nil
	value := strings.Repeat("x", 1000)
	for i := range 100 {
		u.put(fmt.Sprint("k", i%5), value+fmt.Sprint(i))
	}
	u.delete("k1")
	v.catchUp()
	if v.log[0] != "behind" || len(v.log) > 12 {
		t.Fatalf("%d: %.200s", len(v.log), v.log)
	}
	v.want(m, wholeRing)
	if !v.live[wholeRing] {
		t.Fatal("not synced again")
	}
}

// A range that is sealed and dropped is told to the end, with the version that its
// next owner goes on from; there it is resumed exactly.
func TestAMoveIsFollowedWithoutAGap(t *testing.T) {
	a, b := newOwner(t), newMachine(t, nil)
	t.Cleanup(b.stop)
	b.clock.add(-5000) // Its clock is behind.
	must(t, b.SetOwnership(nil))
	u := a.user()
	keys := keysIn(upperHalf, 5)
	for _, key := range keys {
		u.put(key, "0")
	}
	u.put("below", "0")
	v := a.view("in:", wholeRing)
	v.catchUp()
	moveRange(t, a, b, "m1", upperHalf, func() {
		u.put(keys[0], "1")
		u.delete(keys[1])
	}, func() {
		a.hub.tick()
		v.catchUp()
	})
	v.catchUp()
	version := v.moved[0].Version
	if len(v.moved) != 1 || v.moved[0].Range != upperHalf || version == 0 || version <= v.known[keys[1]].version {
		t.Fatal(v.moved, v.log)
	}
	w := b.view("in:")
	w.known, w.versions[upperHalf] = v.known, version
	bu := b.user()
	bu.delete(keys[2])
	bu.put(keys[3], "3")
	must(t, bu.Wait())
	w.add(upperHalf)
	w.catchUp()
	w.want(b, upperHalf)
	w.wantLog("watching", "watching", "delete "+keys[2], "put "+keys[3]+" 3", "synced "+upperHalf.String())
	lower := ring.Range{Start: upperHalf.End, End: upperHalf.Start}
	if !v.live[lower] {
		t.Fatal("the rest is not live any more", v.live)
	}
	v.want(a, lower)
}

var upperHalf = ring.Range{Start: 1<<31 - 5, End: ring.MaxPosition}

// moveRange moves a range from a to b: during runs while the copy is half way, sealed
// while the range is sealed.
func moveRange(t tester, a, b *machine, move string, r ring.Range, during, sealed func()) {
	t.Helper()
	b.sync(b.Stage(move, r))
	sink := &pipe{}
	c, err := a.Capture(move, r, sink)
	must(t, err)
	_, err = c.CopyNext(100)
	must(t, err)
	during()
	for done := false; !done; {
		done, err = c.CopyNext(1 << 20)
		must(t, err)
	}
	a.sync(a.Seal(move, r))
	sealed()
	sink.deliver(t, b, move)
	hlc, err := a.SealVersion(move)
	must(t, err)
	b.sync(b.StageComplete(move, hlc, c.Count()))
	b.sync(b.Activate(move))
	c.Close()
	a.sync(a.Drop(move))
}

// Watching a range that is held waits for the outcome.
func TestAWatchOfAHeldRangeWaits(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	key := keysIn(upperHalf, 1)[0]
	u.put(key, "0")
	m.sync(m.Seal("m1", upperHalf))
	v := m.view("", upperHalf)
	v.catchUp()
	v.wantLog("watching")
	m.sync(m.Unseal("m1"))
	v.catchUp()
	v.wantLog("state "+upperHalf.String(), "put "+key+" 0", "synced "+upperHalf.String())
	m.sync(m.Seal("m2", upperHalf))
	v2 := m.view("", upperHalf)
	v2.catchUp()
	m.sync(m.Drop("m2"))
	v2.catchUp()
	v2.wantLog("watching", "moved "+upperHalf.String()+" not live")
	v.catchUp()
	v.wantLog("moved " + upperHalf.String() + " known")
}

// Progress does not run ahead of a seal: the next owner may write older versions.
func TestProgressStopsAtASeal(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	v := m.view("", wholeRing)
	v.catchUp()
	m.sync(m.Seal("m1", upperHalf))
	hlc, err := m.SealVersion("m1")
	must(t, err)
	m.clock.add(10_000)
	u.put(keysIn(ring.Range{Start: upperHalf.End, End: upperHalf.Start}, 1)[0], "later")
	m.hub.tick()
	v.catchUp()
	if v.versions[wholeRing] > hlc {
		t.Fatalf("%d is behind the seal's %d", v.versions[wholeRing], hlc)
	}
	m.sync(m.Unseal("m1"))
	m.hub.tick()
	v.catchUp()
	if v.versions[wholeRing] <= hlc {
		t.Fatal("and does not go on")
	}
}

func TestWatchingWhatIsNotOwned(t *testing.T) {
	m := newMachine(t, nil)
	t.Cleanup(m.stop)
	lower := ring.Range{Start: upperHalf.End, End: upperHalf.Start}
	must(t, m.SetOwnership([]ring.Range{lower}))
	v := m.view("", wholeRing)
	v.catchUp()
	v.wantLog("watching", "moved "+upperHalf.String()+" not live", "state "+lower.String(), "synced "+lower.String())
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	v.versions[upperHalf] = 0
	v.add(upperHalf)
	v.catchUp()
	v.wantLog("watching", "state "+upperHalf.String(), "synced "+upperHalf.String())
	must(t, m.SetOwnership(nil))
	v.catchUp()
	if len(v.live) != 0 || len(v.moved) == 0 {
		t.Fatal(v.log)
	}
}

func TestManyWatchersOfOnePrefixShareAWalk(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.fill(2000)
	var views []*viewer
	for range 50 {
		views = append(views, m.view("key:1", wholeRing))
	}
	for m.hub.round() {
	}
	must(t, m.hub.pump())
	shared := map[*byte]int{}
	for _, v := range views {
		for _, q := range v.w.members[v.id].q {
			if q.c != nil {
				shared[&q.c.key[0]]++
			}
		}
		v.catchUp()
		v.want(m, wholeRing)
		v.w.Close()
	}
	if len(shared) != 1111 {
		t.Errorf("%d changes were made for all", len(shared))
	}
}

func TestAWatchHasOneSelector(t *testing.T) {
	m := newOwner(t)
	w := m.NewWatcher()
	all := []WatchRange{{Range: wholeRing}}
	must(t, w.Watch(1, []byte("a"), false, false, all))
	wantErr(t, w.Watch(1, []byte("a"), true, false, all), ErrWatchSelector)
	wantErr(t, w.Watch(1, []byte("b"), false, false, all), ErrWatchSelector)
	if !w.Unwatch(1) || w.Unwatch(1) {
		t.Error("unwatch")
	}
	must(t, w.Watch(1, []byte("b"), false, false, all))
	w.Close()
	w.Close()
	wantErr(t, w.Watch(1, []byte("b"), false, false, all), ErrWatchLimit)
}

func TestTheLengthsOfPrefixesAreBounded(t *testing.T) {
	m := newOwner(t)
	w := m.NewWatcher()
	defer w.Close()
	for i := range maxLengths {
		must(t, w.Watch(int64(i+1), []byte(strings.Repeat("x", i)), true, false, []WatchRange{{Range: wholeRing}}))
	}
	err := w.Watch(1000, []byte(strings.Repeat("x", 100)), true, false, []WatchRange{{Range: wholeRing}})
	wantErr(t, err, ErrWatchLimit)
	wantErr(t, err, errLengths)
	must(t, w.Watch(1001, []byte("yy"), true, false, []WatchRange{{Range: wholeRing}}))
	if !w.Unwatch(6) {
		t.Fatal("no watch")
	}
	must(t, w.Watch(1000, []byte(strings.Repeat("x", 100)), true, false, []WatchRange{{Range: wholeRing}}))
}

func TestAFailedLogEndsWatching(t *testing.T) {
	m := newOwner(t)
	w := m.NewWatcher()
	m.hub.fail(errors.New("no disk"))
	if _, err := w.Take(1, func(*WatchEvent) {}); err == nil {
		t.Error("go on")
	}
	wantErr(t, w.Watch(1, nil, true, false, nil), ErrWatchLimit)
}

// With everything going on at once, no change of a live range is missing. What is
// walked changes under the walker, and readers are ahead of it and behind.
func TestWatchersBesideWritersAndTheWalker(t *testing.T) {
	m := newOwner(t)
	m.user().fill(3000)
	ctx, stop := context.WithCancel(t.Context())
	var serving, writing, watching, begun sync.WaitGroup
	serving.Go(func() { must(t, m.RunWatches(ctx)) })
	defer serving.Wait()
	defer stop()
	const writers, writes = 3, 2000
	for i := range 6 {
		begun.Add(1)
		watching.Go(func() { watchUntilTheEnd(t, m, i, writers, begun.Done) })
	}
	begun.Wait() // Who is told from now on only must not come when all is over.
	for i := range writers {
		writing.Go(func() {
			s := m.NewSession()
			for n := range writes {
				key := fmt.Appendf(nil, "key:%d:%d", i, n%7)
				_, err := s.Put(ring.PositionOf(key), key, fmt.Append(nil, n), PutOptions{})
				must(t, err)
				must(t, s.Wait())
			}
			key := fmt.Append(nil, "key:end:", i)
			_, err := s.Put(ring.PositionOf(key), key, nil, PutOptions{})
			must(t, err)
			must(t, s.Wait())
		})
	}
	writing.Wait()
	watching.Wait()
}

// watchUntilTheEnd begins at some moment, and checks that what it is told of a key that
// is counted up is each number from the first that it hears once its range is live.
// begun is called when it watches, or in the middle of catching up.
func watchUntilTheEnd(t *testing.T, m *machine, seed, writers int, begun func()) {
	w := m.NewWatcher()
	defer w.Close()
	rnd := rand.New(rand.NewPCG(uint64(seed), 1))
	must(t, w.Watch(1, []byte("key:"), true, seed%2 == 0, []WatchRange{{Range: wholeRing}}))
	patience := time.After(2 * time.Minute)
	last, versions, ended, synced := map[string]int{}, map[string]Version{}, 0, false
	begun = sync.OnceFunc(begun)
	defer begun()
	hear := func(e *WatchEvent) {
		if e.Kind == WatchSynced || e.Kind == WatchState {
			begun()
		}
		switch e.Kind {
		case WatchSynced:
			synced = true
		case WatchBehind:
			synced, last = false, map[string]int{}
		case WatchPut:
			key := string(e.Key)
			if e.Version <= versions[key] {
				t.Errorf("%s goes back from version %d to %d", key, versions[key], e.Version)
			}
			versions[key] = e.Version
			if strings.HasPrefix(key, "key:end:") {
				ended++
			} else if n, err := strconv.Atoi(string(e.Value)); err == nil {
				if before, ok := last[key]; ok && synced && n != before+7 {
					t.Errorf("%s goes from %d to %d", key, before, n)
				}
				last[key] = n
			}
		}
	}
	for ended < writers {
		select {
		case <-w.Wake():
		case <-patience:
			t.Errorf("only %d of %d have ended", ended, writers)
			return
		}
		for more := true; more; {
			var err error
			more, err = w.Take(1+rnd.IntN(3000), hear)
			must(t, err)
		}
	}
}
