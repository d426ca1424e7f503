package engine

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/ring"
)

func TestCaptureNeedsARangeOfOurs(t *testing.T) {
	m := newMachine(t, nil)
	t.Cleanup(m.stop)
	must(t, m.SetOwnership([]ring.Range{{Start: 100, End: 200}}))
	_, err := m.Capture("m", ring.Range{Start: 100, End: 201}, &pipe{})
	wantErr(t, err, ErrConflict)
	_, err = m.Capture("", ring.Range{Start: 100, End: 200}, &pipe{})
	wantErr(t, err, ErrConflict)
	c, err := m.Capture("m", ring.Range{Start: 100, End: 200}, &pipe{})
	must(t, err)
	must(t, m.SetOwnership(nil))
	_, err = c.CopyNext(1)
	wantErr(t, err, ErrConflict)
	c.Close()
	c.Close()
}

func TestANewCaptureSilencesTheOld(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.fill(20)
	var pipes [2]pipe
	var captures [2]*Capture
	for i := range pipes {
		var err error
		captures[i], err = m.Capture("m", wholeRing, &pipes[i])
		must(t, err)
		if done, err := captures[i].CopyNext(1 << 20); err != nil || !done {
			t.Fatalf("done %v, %v", done, err)
		}
	}
	first := len(pipes[0].records)
	u.put("k", "v")
	if len(pipes[0].records) != first || len(pipes[1].records) <= first {
		t.Fatalf("the sinks have %d and %d bytes", len(pipes[0].records), len(pipes[1].records))
	}
	if keys, share := captures[1].Copied(); keys != 20 || share != 1 {
		t.Fatalf("copied %d keys and %v of the range", keys, share)
	}
}

// Changes at the borders of a range, and of what was copied, go exactly where
// they belong.
func TestCaptureKnowsItsBorders(t *testing.T) {
	for name, r := range shapes {
		t.Run(name, func(t *testing.T) {
			m := newOwner(t)
			sink := &pipe{}
			c, err := m.Capture("m", r, sink)
			must(t, err)
			u := m.user()
			streamed := func(pos ring.Position) bool {
				t.Helper()
				sink.take()
				_, err := u.Put(pos, []byte("border"), nil, PutOptions{})
				must(t, err)
				return len(sink.take()) > 0
			}
			// A first copy step ends at the first key.
			first := r.Start + 1
			_, err = u.Put(first, []byte("first"), nil, PutOptions{})
			must(t, err)
			_, err = u.Put(r.End, []byte("last"), nil, PutOptions{})
			must(t, err)
			done, err := c.CopyNext(1)
			must(t, err)
			if !streamed(first) {
				t.Error("a change at the position just copied is missed")
			}
			if !done && streamed(r.End) {
				t.Error("a change that the copy will find is streamed")
			}
			for !done {
				done, err = c.CopyNext(1)
				must(t, err)
			}
			for pos, want := range map[ring.Position]bool{
				first: true, r.End: true, r.Start: r.Contains(r.Start), r.End + 1: r.Contains(r.End + 1),
			} {
				if streamed(pos) != want {
					t.Errorf("a change at %s is streamed: %v", pos, !want)
				}
			}
			c.Close()
			if streamed(first) {
				t.Error("a closed capture is given a change")
			}
		})
	}
}

// A seal recovered after a restart: the range is copied again while sealed.
func TestASealedRangeIsCopiedAgainAfterARestart(t *testing.T) {
	p := newTestPair(t, shapes["over the top"])
	all := p.source.user().fill(200)
	p.begin("m")
	p.copy("m")
	p.source.sync(p.source.Seal("m", p.r))
	p.source.crash(lose)
	must(t, p.source.SetOwnership([]ring.Range{wholeRing}))
	sealed, _ := p.source.Held()
	if len(sealed) != 1 || sealed[0].Move != "m" || sealed[0].Range != p.r {
		t.Fatalf("held: %+v", sealed)
	}
	_, err := p.source.Capture("other", p.r, &pipe{})
	wantErr(t, err, ErrConflict)
	p.begin("m")
	p.copy("m")
	p.seal("m")
	p.commit("m")
	if got := p.target.user().scanAll(64); !maps.Equal(got, within(all, p.r, true)) {
		t.Fatalf("%d keys at the target", len(got))
	}
}

// While the target is behind, writes to what was copied are held; reads, other
// ranges, and what the copy has not reached, go on.
func TestThrottle(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	r := ring.Range{Start: 1 << 30, End: 1 << 31}
	keys := keysIn(r, 50)
	for _, key := range keys {
		u.put(key, "v")
	}
	sink := &pipe{limit: 1}
	c, err := m.Capture("m", r, sink)
	must(t, err)
	if _, err = c.CopyNext(1); err != nil { // Copies at least one position.
		t.Fatal(err)
	}
	var held *HeldError
	refused := 0
	for _, key := range keys {
		_, err := u.Put(at(key), []byte(key), []byte("w"), PutOptions{})
		if errors.As(err, &held) {
			refused++
			u.want(key, "v")
		}
	}
	if refused == 0 || refused > 10 || held.Reason != HeldThrottled {
		t.Fatalf("%d writes were held, %+v", refused, held)
	}
	u.put(keysIn(ring.Range{Start: 1 << 31, End: 3 << 30}, 1)[0], "elsewhere")
	sink.take()
	<-held.Resolved
	for done := false; !done; {
		done, err = c.CopyNext(1 << 20)
		must(t, err)
		sink.take()
		u.put(keys[0], "x")
		sink.take()
	}
	c.Close()
}

// Writers of all kinds race with a copy and its stream; when it is sealed, the
// target has exactly what the source has: nothing missed, nothing twice, nothing
// in the wrong order.
func TestCaptureMissesNothing(t *testing.T) {
	for _, r := range []ring.Range{shapes["the whole ring from elsewhere"], shapes["over the top"]} {
		p := newTestPair(t, r)
		p.source.user().fill(3000)
		p.begin("m")
		stop, wg := make(chan struct{}), &sync.WaitGroup{}
		for w := range 3 {
			wg.Go(func() { storm(p.source, uint64(w), stop) })
		}
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					p.source.Tick(100)
					runtime.Gosched() // As in storm.
				}
			}
		})
		for done := false; !done; {
			var err error
			done, err = p.capture.CopyNext(2000)
			must(t, err)
			p.sink.deliver(t, p.target, "m")
		}
		for range 20 {
			p.sink.deliver(t, p.target, "m")
		}
		p.source.sync(p.source.Seal("m", r)) // Under full load.
		p.sink.deliver(t, p.target, "m")
		close(stop)
		wg.Wait()
		p.seal("m")
		checkSame(t, p)
	}
}

// checkSame compares the range at both ends, entry by entry.
func checkSame(t *testing.T, p *pair) {
	t.Helper()
	dump := func(m *machine) map[string]got {
		all := map[string]got{}
		for i := range m.parts {
			part := &m.parts[i]
			part.walk(part.lo, part.hi, 1<<30, func(pos ring.Position, e table.Entry) int {
				if p.r.Contains(pos) {
					all[string(e.Key)] = got{string(e.Value), Version(e.Version), e.ExpireAt}
				}
				return 0
			})
		}
		return all
	}
	source, target := dump(p.source), dump(p.target)
	if !maps.Equal(source, target) {
		t.Fatalf("the source has %d entries, the target %d, or they differ", len(source), len(target))
	}
}

// storm does random writes until the range is sealed or the test says stop.
func storm(m *machine, seed uint64, stop <-chan struct{}) {
	u, r := m.user(), rand.New(rand.NewPCG(seed, 2))
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		key := []byte(fmt.Sprint("key:", r.IntN(4000)))
		pos := ring.PositionOf(key)
		var err error
		switch r.IntN(7) {
		case 0, 1:
			_, err = u.Put(pos, key, fmt.Append(nil, "storm ", i), PutOptions{})
		case 2:
			_, err = u.Put(pos, key, make([]byte, r.IntN(200)), PutOptions{ExpireAt: m.Now() + r.Int64N(3)})
		case 3:
			_, err = u.Delete(pos, key, nil)
		case 4:
			_, err = u.Append(pos, key, []byte("+"))
		case 5:
			_, err = u.Expire(pos, key, m.Now()+r.Int64N(1000)-10, ExpireAlways)
		case 6:
			m.clock.add(1)
			err = u.Get(pos, key, func(Item) {})
		}
		var held *HeldError
		if err != nil && !errors.Is(err, ErrNotFound) && !errors.As(err, &held) {
			must(u.t, err)
		}
		runtime.Gosched() // Or, on one processor, the copy waits for a time slice of each writer.
	}
}

// Once Seal has returned, no write is under way: nothing that began before it
// reaches the log or the sink later.
func TestSealExcludesWritesUnderWay(t *testing.T) {
	r := shapes["over the top"]
	for round := range 20 {
		p := newTestPair(t, r)
		p.begin("m")
		p.copy("m")
		var accepted, late atomic.Int64
		var sealed atomic.Bool
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				u := p.source.user()
				for i := 0; ; i++ {
					key := fmt.Sprint(w, ":", i)
					after := sealed.Load()
					_, err := u.Put(at(key), []byte(key), nil, PutOptions{})
					var held *HeldError
					switch {
					case errors.As(err, &held):
						must(t, u.Wait())
						return
					case err != nil:
						t.Error(err)
						return
					case after && r.Contains(at(key)):
						late.Add(1)
					case r.Contains(at(key)):
						accepted.Add(1)
					}
				}
			})
		}
		lsn, err := p.source.Seal("m", r)
		streamed := len(p.sink.take())
		sealed.Store(true)
		must(t, err)
		wg.Wait()
		if n := late.Load(); n != 0 {
			t.Fatalf("round %d: %d writes were accepted after the seal", round, n)
		}
		if n := len(p.sink.take()); n != 0 {
			t.Fatalf("round %d: %d bytes were streamed after the seal, %d before", round, n, streamed)
		}
		if n := int(p.source.count(r)); n != int(accepted.Load()) {
			t.Fatalf("round %d: %d keys, %d accepted", round, n, accepted.Load())
		}
		// With the seal durable, so is every write before it.
		must(t, p.source.log.SyncTo(lsn))
		p.source.crash(lose)
		if n := int(p.source.count(r)); n != int(accepted.Load()) {
			t.Fatalf("round %d: %d keys recovered, %d accepted", round, n, accepted.Load())
		}
	}
}
