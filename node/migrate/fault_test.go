package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
)

// nothing is what survives a power failure at worst, everything at best.
func nothing() bool    { return false }
func everything() bool { return true }

// withTraffic runs a move under checked traffic and a fault, and then demands that
// it is through, with every acknowledged write.
func withTraffic(t *testing.T, prepare func(w *world)) {
	t.Helper()
	inWorld(t, small, func(t *testing.T, w *world) {
		prepare(w)
		w.survives()
		for _, p := range w.a.pauses() {
			if p > w.a.mover.o.SealTimeout+200*time.Millisecond {
				t.Errorf("the range was held for %v", p)
			}
		}
	})
}

// survives runs the move under checked traffic and demands that it succeeds.
func (w *world) survives() {
	want := w.fill(60)
	l := w.begin(2, 1000, time.Millisecond)
	w.start()
	w.settled()
	wait(10 * time.Millisecond)
	l.end()
	l.into(want)
	w.mustOwn(w.b)
	w.verify(want)
	w.unheld()
}

// unheld demands that no node holds a range for a move any more.
func (w *world) unheld() {
	w.t.Helper()
	for _, n := range []*machine{w.a, w.b} {
		if sealed, staged := n.e.Held(); len(sealed)+len(staged) > 0 {
			w.t.Errorf("%s still holds %v and %v", n.address, sealed, staged)
		}
	}
}

// TestEveryMessageOfAMoveMeetsEveryFate disturbs one message at a time, on each
// link in each direction, until a move has no n-th message any more.
func TestEveryMessageOfAMoveMeetsEveryFate(t *testing.T) {
	links := []struct {
		name string
		ends func(w *world) (from, to string)
	}{
		{"source to target", func(w *world) (string, string) { return w.a.address, w.b.address }},
		{"source to manager", func(w *world) (string, string) { return w.a.address, managerAddress }},
		{"manager to source", func(w *world) (string, string) { return managerAddress, w.a.address }},
	}
	for _, link := range links {
		for _, f := range []fate{lose, twice, late, cut, cutAfter} {
			for _, reply := range []bool{false, true} {
				name := fmt.Sprintf("%s/request %s", link.name, f)
				if reply {
					name = fmt.Sprintf("%s/reply %s", link.name, f)
				}
				t.Run(name, func(t *testing.T) {
					for n, there := 1, true; there && n < 40; n++ {
						withTraffic(t, func(w *world) {
							there = false
							w.net.proxy(link.ends(w)).decide = func(r bool, k int, _ string) fate {
								if r == reply && k == n {
									there = true
									return f
								}
								return deliver
							}
						})
						if t.Failed() {
							t.Fatalf("with message %d", n)
						}
					}
				})
			}
		}
	}
}

// TestEveryFailPoint makes each step of a move fail once, at both ends.
func TestEveryFailPoint(t *testing.T) {
	for _, point := range Points() {
		t.Run(point, func(t *testing.T) {
			came := false
			withTraffic(t, func(w *world) {
				w.leadTo(point)
				for _, n := range []*machine{w.a, w.b} {
					n.points.OnHit(point, 1, func() error { came = true; return failpoint.ErrInjected })
				}
			})
			if !came {
				t.Error("nobody came there")
			}
		})
	}
}

// TestEveryPause stops one side at each step for longer than anyone waits. It
// runs in real time: who pauses may hold a lock, which stops a bubble's clock.
func TestEveryPause(t *testing.T) {
	hasty := func(o *Options) {
		small(o)
		o.SealTimeout, o.ReplyTimeout = 50*time.Millisecond, 100*time.Millisecond
		o.RetryMin, o.RetryMax = 5*time.Millisecond, 20*time.Millisecond
	}
	for _, point := range Points() {
		for name, then := range map[string]error{"and goes on": nil, "and fails": failpoint.ErrInjected} {
			t.Run(point+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, hasty)
				defer w.stop()
				w.leadTo(point)
				for _, n := range []*machine{w.a, w.b} {
					n.points.OnHit(point, 1, func() error { wait(250 * time.Millisecond); return then })
				}
				w.survives()
			})
		}
	}
}

// TestEveryCrash takes the power from one side at each step, once so that nothing
// unsynced survives, and once so that everything does.
func TestEveryCrash(t *testing.T) {
	for _, point := range Points() {
		for survives, keep := range map[string]func() bool{"nothing": nothing, "everything": everything} {
			t.Run(point+"/unsynced survives "+survives, func(t *testing.T) {
				crashAt(t, point, 1, keep)
			})
		}
	}
}

// TestACrashAtEveryBatch crashes each side later and later in the copy, with a
// random half of what was not synced surviving.
func TestACrashAtEveryBatch(t *testing.T) {
	for _, point := range []string{pointSourceCopy, pointTargetCopy, pointTargetCopied} {
		t.Run(point, func(t *testing.T) {
			for n := 2; n <= 12; n++ {
				rnd := rand.New(rand.NewPCG(uint64(n), 0))
				crashAt(t, point, n, func() bool { return rnd.IntN(2) == 0 })
			}
		})
	}
}

// crashAt runs a move under traffic and crashes whichever node reaches the point
// for the n-th time. Where the point is part of an abort, the manager first refuses
// to commit.
func crashAt(t *testing.T, point string, n int, keep func() bool) {
	t.Helper()
	inWorld(t, small, func(t *testing.T, w *world) {
		crashed := make(chan *machine, 1)
		for _, m := range []*machine{w.a, w.b} {
			m.points.OnHit(point, n, func() error {
				m.crash(keep)
				crashed <- m
				return errDead
			})
		}
		w.leadTo(point)
		want := w.fill(60)
		l := w.begin(2, 1000, time.Millisecond)
		w.start()
		var restart sync.WaitGroup
		restart.Go(func() {
			select {
			case m := <-crashed:
				wait(300 * time.Millisecond) // It takes a moment to be missed.
				w.reboot(m)
			case <-time.After(10 * time.Second):
				if n == 1 {
					t.Errorf("nobody came to %s", point)
				}
			}
		})
		restart.Wait()
		w.settled()
		l.end()
		l.into(want)
		w.mustOwn(w.b)
		w.verify(want)
		w.unheld()
	})
}

// leadTo makes sure that the move passes a point: those of an abort when the manager
// refuses to commit, that of waiting for the commit when it takes its time.
func (w *world) leadTo(point string) {
	switch point {
	case pointSourceAbort, pointSourceUnseal, pointTargetUnstage:
		w.manager.setBefore(refuseFirst())
	case pointTargetCommit:
		w.manager.setBefore(func(cluster.MoveID) error { wait(2 * firstLook); return nil })
	}
}

// refuseFirst makes a manager refuse to commit the first move.
func refuseFirst() func(cluster.MoveID) error {
	var mu sync.Mutex // A source that has lost patience asks again beside its first question.
	var first cluster.MoveID
	return func(id cluster.MoveID) error {
		mu.Lock()
		defer mu.Unlock()
		if first == "" {
			first = id
		}
		if id == first {
			return errors.New("not this one")
		}
		return nil
	}
}

func TestTheManagerDiesAndNeverComesBack(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		want := w.fill(200)
		w.a.points.OnHit(pointSourceComplete, 1, func() error { w.manager.stop(); return nil })
		l := w.begin(2, 1000, time.Millisecond)
		w.start()
		id := w.document().Moves[0].ID
		w.await("the source aborts its move", func(d cluster.Document) bool { return d.Moves[0].ID != id })
		wait(100 * time.Millisecond)
		l.end()
		l.into(want)
		w.mustOwn(w.a)
		w.verify(want)
		w.unheld()
		if p := w.a.pauses(); len(p) != 1 || p[0] < 2*time.Second || p[0] > 2200*time.Millisecond {
			t.Errorf("the range was held for %v, want about the seal timeout", p)
		}
	})
}

// TestNothingIsSealedWithoutAManager: as long as nobody could commit, the range
// serves, and what it is told meanwhile arrives as well.
func TestNothingIsSealedWithoutAManager(t *testing.T) {
	for name, leave := range map[string]func(w *world){
		"it is gone":        func(w *world) { w.manager.stop() },
		"it does not react": func(w *world) { w.manager.stop(); w.net.up(managerAddress, mute) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, small, func(t *testing.T, w *world) {
				want := w.fill(200)
				w.a.points.OnHit(pointSourceCopied, 1, func() error { leave(w); return nil })
				l := w.begin(2, 1000, time.Millisecond)
				w.start()
				w.servesFor(20*time.Second, l)
				if p := w.a.mover.Progress(); len(p) != 1 || p[0].Reason == "" {
					t.Errorf("progress %+v does not say what is missing", p)
				}
				w.manager = newManager(w)
				w.settled()
				l.end()
				l.into(want)
				w.mustOwn(w.b)
				w.verify(want)
				w.unheld()
			})
		})
	}
}

// mute takes what comes and says nothing.
func mute(c net.Conn) {
	defer c.Close()
	_, _ = io.Copy(io.Discard, c)
}

// servesFor demands that the source goes on serving for some time.
func (w *world) servesFor(d time.Duration, l *load) {
	w.t.Helper()
	before := l.count()
	wait(d)
	if n := l.count() - before; n < int(d/time.Millisecond) {
		w.t.Errorf("%d operations in %v", n, d)
	}
	if sealed, _ := w.a.e.Held(); len(sealed)+len(w.a.pauses()) > 0 {
		w.t.Errorf("sealed %v, held for %v", sealed, w.a.pauses())
	}
}

// TestPausesForNothingBecomeRare: a manager that is there and never commits makes
// every move end with a pause.
func TestPausesForNothingBecomeRare(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		want := w.fill(100)
		w.manager.setBefore(func(cluster.MoveID) error { return errors.New("not now") })
		w.start()
		wait(10 * time.Minute)
		var held time.Duration
		for _, p := range w.a.pauses() {
			held += p
		}
		if n := len(w.a.pauses()); n < 5 || n > 20 || held > 40*time.Second {
			t.Errorf("%d pauses of together %v in ten minutes", n, held)
		}
		if s := w.a.mover.Stats(); s.Committed != 0 || int(s.Aborted) != len(w.a.pauses()) || s.LongestPause < 2*time.Second {
			t.Errorf("stats %+v", s)
		}
		w.manager.setBefore(nil)
		w.settled()
		w.mustOwn(w.b)
		w.verify(want)
		if s := w.a.mover.Stats(); s.Committed != 1 || s.Keys < 100 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestNothingIsSealedWithoutADocument: as long as nobody could read a decision.
func TestNothingIsSealedWithoutADocument(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		want := w.fill(200)
		w.a.points.OnHit(pointSourceCopied, 1, func() error {
			w.bucket.setAway(errors.New("the bucket is away"))
			wait(time.Second)
			return nil
		})
		l := w.begin(2, 1000, time.Millisecond)
		w.start()
		w.servesFor(20*time.Second, l)
		w.bucket.setAway(nil)
		w.settled()
		l.end()
		l.into(want)
		w.mustOwn(w.b)
		w.verify(want)
	})
}

func TestTwoManagersDoNoHarm(t *testing.T) {
	withTraffic(t, func(w *world) {
		second := &manager{world: w, store: cluster.NewStore(w.documents(), cluster.StoreOptions{})}
		second.ctx, second.cancel = w.manager.ctx, func() {}
		second.schedule()
		w.manager.running.Go(func() {
			// It commits whatever it finds sealed, as the first one does.
			for w.manager.ctx.Err() == nil {
				if sealed, _ := w.a.e.Held(); len(sealed) > 0 {
					if _, staged := w.b.e.Held(); len(staged) > 0 && staged[0].Complete {
						second.commit(cluster.MoveID(sealed[0].Move))
					}
				}
				wait(time.Millisecond)
			}
		})
	})
}

// TestAbortRacesCommit lets both swaps start at the same moment, many times.
func TestAbortRacesCommit(t *testing.T) {
	for round := range 20 {
		inWorld(t, small, func(t *testing.T, w *world) {
			want := w.fill(60)
			var once sync.Once
			w.manager.setBefore(func(id cluster.MoveID) error {
				once.Do(func() {
					w.manager.running.Go(func() {
						_, err := w.store.Update(w.manager.ctx, func(d cluster.Document) (cluster.Document, error) { return d.Abort(id) })
						if err != nil && !errors.Is(err, cluster.ErrCommitted) && !errors.Is(err, cluster.ErrUnknownMove) {
							t.Error(err)
						}
					})
					if round%2 == 0 {
						synctest.Wait()
					}
				})
				return nil
			})
			l := w.begin(2, 1000, time.Millisecond)
			w.start()
			w.settled()
			l.end()
			l.into(want)
			w.mustOwn(w.b)
			w.verify(want)
			w.unheld()
		})
	}
}

// TestNothingIsSealedOrStagedForAMoveThatIsGone: the document changes between what a
// side has read and what it does about it.
func TestNothingIsSealedOrStagedForAMoveThatIsGone(t *testing.T) {
	for _, point := range []string{pointSourceSeal, pointTargetStage} {
		t.Run(point, func(t *testing.T) {
			inWorld(t, small, func(t *testing.T, w *world) {
				w.fill(100)
				gone := make(chan struct{})
				withdraw := func() error {
					w.update(func(d cluster.Document) (cluster.Document, error) { return d.Abort(d.Moves[0].ID) })
					w.a.running.Go(func() {
						defer close(gone)
						for _, n := range []*machine{w.a, w.b} {
							must(n.refresh(w.a.ctx))(t)
						}
					})
					if point == pointSourceSeal {
						<-gone
					}
					return nil
				}
				for _, n := range []*machine{w.a, w.b} {
					n.points.OnHit(point, 1, withdraw)
				}
				if err := w.manager.order(w.document().Moves[0]); err != nil {
					t.Fatal(err)
				}
				<-gone
				wait(time.Second)
				must(w.b.refresh(t.Context()))(t)
				w.unheld()
				if p := w.a.pauses(); len(p) > 0 && point == pointSourceSeal {
					t.Errorf("the range was sealed for a move that was gone, for %v", p)
				}
			})
		})
	}
}

// TestALostAnswerOfTheManagerIsFoundInTheDocument soon, not when patience is over.
func TestALostAnswerOfTheManagerIsFoundInTheDocument(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		want := w.fill(100)
		w.net.proxy(w.a.address, managerAddress).decide = func(reply bool, _ int, name string) fate {
			if reply && name == "OK" {
				return lose
			}
			return deliver
		}
		w.start()
		w.settled()
		w.mustOwn(w.b)
		w.verify(want)
		if p := w.a.pauses(); len(p) != 1 || p[0] > 2*firstLook {
			t.Errorf("the range was held for %v", p)
		}
	})
}

// TestATargetThatVanishesAfterTheSeal costs the time that a range may stay sealed, and
// not what a dialler may take besides.
func TestATargetThatVanishesAfterTheSeal(t *testing.T) {
	var vanished atomic.Bool
	tune := func(o *Options) {
		small(o)
		dial := o.Dial
		o.Dial = func(ctx context.Context, to string) (net.Conn, error) {
			if vanished.Load() && to != managerAddress {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return dial(ctx, to)
		}
	}
	inWorld(t, tune, func(t *testing.T, w *world) {
		want := w.fill(100)
		w.a.points.OnHit(pointSourceSealed, 1, func() error {
			vanished.Store(true)
			return errors.New("the link breaks")
		})
		w.start()
		id := w.document().Moves[0].ID
		w.await("the move is aborted", func(d cluster.Document) bool { return d.Moves[0].ID != id })
		wait(100 * time.Millisecond)
		if p := w.a.pauses(); len(p) != 1 || p[0] > 2100*time.Millisecond {
			t.Errorf("the range was held for %v", p)
		}
		vanished.Store(false)
		w.settled()
		w.mustOwn(w.b)
		w.verify(want)
	})
}

// TestTheBucketIsAwayWhileARangeIsSealed: nothing can be decided, so nothing is
// served, until it can be read again.
func TestTheBucketIsAwayWhileARangeIsSealed(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		want := w.fill(60)
		w.a.points.OnHit(pointSourceComplete, 1, func() error {
			w.bucket.setAway(errors.New("the bucket is away"))
			return nil
		})
		w.start()
		wait(10 * time.Second)
		pos, key := w.key(0)
		for _, n := range []*machine{w.a, w.b} {
			if err := n.e.NewSession().Get(pos, key, func(engine.Item) {}); err == nil {
				t.Errorf("%s serves without knowing whether it may", n.address)
			}
		}
		w.bucket.setAway(nil)
		w.settled()
		w.mustOwn(w.b)
		w.verify(want)
	})
}

// TestWhatIsPromisedIsDurable looks at the disks at the moment of each promise, also
// with a log that does not sync by itself: the seal when the target is told of the
// end, everything when the target says COMPLETE.
func TestWhatIsPromisedIsDurable(t *testing.T) {
	for _, mode := range []wal.SyncMode{wal.SyncAlways, wal.SyncNever} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{t: t, tune: small, sync: mode}
				w.build()
				defer w.stop()
				want := w.fill(100)
				promises := 0
				w.net.proxy(w.a.address, w.b.address).decide = func(reply bool, _ int, name string) fate {
					switch {
					case name == "STAGE_SEAL":
						promises++
						if r := w.recovers(w.a); len(r.Sealed) != 1 {
							t.Errorf("the target is told of a seal that is not durable: %+v", r)
						}
					case reply && name == wordComplete:
						promises++
						if r := w.recovers(w.b); len(r.Staged) != 1 || !r.Staged[0].Complete || r.Keys != len(want) {
							t.Errorf("the source is told COMPLETE, and the disk has %+v", r)
						}
					}
					return deliver
				}
				w.start()
				w.settled()
				w.mustOwn(w.b)
				w.verify(want)
				if promises != 2 {
					t.Errorf("%d promises were looked at", promises)
				}
			})
		})
	}
}

// recovers returns what a node would find after a power failure at this moment.
func (w *world) recovers(n *machine) engine.Recovered {
	w.t.Helper()
	options := w.wal
	options.FS, options.Dir = n.disk.CrashClone(nothing), "wal"
	log := must(wal.Open(options))(w.t)
	defer log.Close()
	e := must(engine.Open(engine.Options{Log: log}))(w.t)
	defer e.Close()
	return e.Recovered()
}

// TestATargetWithoutMemoryRefusesAndNothingIsLost: the source says why the move does
// not get on and serves its range; with more memory there it goes through.
func TestATargetWithoutMemoryRefusesAndNothingIsLost(t *testing.T) {
	inWorld(t, small, func(t *testing.T, w *world) {
		w.memory = 160 << 10
		w.b = w.restart(w.b)
		w.memory = 0
		want := w.fill(5000)
		w.start()
		reason := func() string {
			for _, p := range w.a.theMover().Progress() {
				return p.Reason
			}
			return ""
		}
		for !strings.Contains(reason(), "the target's memory is full (QUOIT_NODE_MAX_MEMORY)") {
			wait(5 * time.Millisecond)
		}
		w.verify(want)
		if s := w.b.e.Stats(); s.UsedBytes > s.MaxMemory {
			t.Errorf("the target holds %+v", s)
		}
		w.b = w.restart(w.b)
		w.settled()
		w.mustOwn(w.b)
		w.verify(want)
	})
}
