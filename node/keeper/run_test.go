package keeper

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// running starts a keeper in a bubble, where time passes when everybody waits.
func running(t *testing.T, m *machine, change func(*Options)) (*Keeper, func()) {
	t.Helper()
	must(t, m.boot())
	o := m.options()
	o.Pace, o.Retry = time.Second, time.Second
	change(&o)
	k := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		k.Run(ctx)
		close(done)
	}()
	synctest.Wait()
	return k, func() {
		cancel()
		<-done
		m.stop()
	}
}

// sleep lets time pass.
func sleep(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestASnapshotIsTakenWhenItIsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		k, stop := running(t, m, func(o *Options) { o.Interval = time.Hour })
		defer stop()
		sleep(15 * time.Second)
		if s := k.Status(); s.Sequence != 1 {
			t.Fatalf("a node without a snapshot has %+v after a while", s)
		}
		sleep(3 * time.Hour)
		if s := k.Status(); s.Sequence != 1 || s.AgeMS < (2*time.Hour).Milliseconds() {
			t.Fatalf("without a change: %+v", s)
		}
		must(t, m.put(0, 10, "new"))
		sleep(73 * time.Minute)
		if s := k.Status(); s.Sequence != 2 || s.State != "ok" || s.Published != 2 {
			t.Fatalf("an hour later, give or take: %+v", s)
		}
	})
}

func TestASnapshotIsTakenWhenTheLogHasGrown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		k, stop := running(t, m, func(o *Options) { o.LogBytes = 64 << 10 })
		defer stop()
		must(t, m.put(0, 100, "small"))
		sleep(time.Hour)
		if s := k.Status(); s.Sequence != 0 || s.Uncovered == 0 {
			t.Fatalf("a short log: %+v", s)
		}
		must(t, m.put(0, 300, "more"))
		sleep(3 * time.Second)
		if s := k.Status(); s.Sequence != 1 || s.Uncovered != 0 {
			t.Fatalf("a long log: %+v", s)
		}
	})
}

func TestTheArchiveFollowsAndAnIdleNodeAsksNothing(t *testing.T) {
	for mode, wants := range map[ArchiveMode]struct{ behind, full bool }{
		ArchiveInterval: {}, ArchiveSegment: {behind: true}, ArchiveOff: {behind: true, full: true},
	} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				k, stop := running(t, m, func(o *Options) { o.Archive = mode })
				defer stop()
				must(t, m.put(0, 300, "value")) // several segments
				sleep(11 * time.Second)
				end, now := k.archive.end(), m.log.Durable()
				if behind := end < now; behind != wants.behind || (end == 0) != wants.full {
					t.Errorf("the archive ends at %s, the log at %s", end, now)
				}
				before := m.memoryCalls()
				sleep(time.Hour)
				if after := m.memoryCalls(); after != before {
					t.Errorf("%d operations of an idle node", after-before)
				}
				_, err := k.Snapshot(t.Context())
				must(t, err)
				bases, err := Find(t.Context(), Search{Store: m.store, Snapshots: mode == ArchiveOff})
				if err != nil || bases[0].Manifest.Sequence != 1 {
					t.Fatalf("the bucket has %v, %v", bases, err)
				}
			})
		})
	}
}

// TestTheArchiveTakesWhatNobodyHasSynced: a log that syncs never, or whose last record
// nobody waits for, was not archived until its segment was full.
func TestTheArchiveTakesWhatNobodyHasSynced(t *testing.T) {
	for _, mode := range []wal.SyncMode{wal.SyncAlways, wal.SyncInterval, wal.SyncNever} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				m.sync = mode
				k, stop := running(t, m, func(o *Options) { o.Archive = ArchiveInterval })
				defer stop()
				must(t, m.put(0, 10, "value"))
				end := m.log.Appended()
				if _, err := m.engine.SetMark(engine.Mark{Cluster: testCluster, Counter: 1}); err != nil {
					t.Fatal(err)
				}
				if m.log.Appended() == end {
					t.Fatal("nothing was appended")
				}
				sleep(11 * time.Second)
				if lag, err := k.archive.lag(k.o); lag != 0 || err != nil {
					t.Errorf("%d bytes are in no archive, %v", lag, err)
				}
			})
		})
	}
}

func TestABucketThatIsAwayIsAskedEverMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		k, stop := running(t, m, func(o *Options) { o.Interval = time.Minute })
		defer stop()
		sleep(15 * time.Second)
		m.fail(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Before: errors.New("no route")} })
		must(t, m.put(0, 10, "new"))
		_, err := k.Snapshot(t.Context())
		if err == nil || !strings.Contains(err.Error(), "no route") {
			t.Fatalf("a snapshot without a bucket: %v", err)
		}
		sleep(time.Hour)
		first := m.asked()
		sleep(time.Hour)
		if s := k.Status(); m.asked()-first > 400 || !strings.HasPrefix(s.State, "no snapshot since ") || !strings.Contains(s.State, "no route") {
			t.Fatalf("%d calls in an hour, status %+v", m.asked()-first, s)
		}
		must(t, m.put(10, 20, "served meanwhile"))
		m.fail(nil)
		sleep(7 * time.Minute)
		if s := k.Status(); s.Sequence != 2 || s.State != "ok" {
			t.Fatalf("after the bucket is back: %+v", s)
		}
	})
}

func TestWhoeverWaitsForASnapshotIsToldThatTheNodeStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		var k *Keeper
		k, stop := running(t, m, func(*Options) {})
		silent := make(chan struct{})
		m.fail(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Wait: silent} })
		must(t, m.put(0, 10, "new"))
		answer := make(chan error, 1)
		go func() {
			_, err := k.Snapshot(context.Background())
			answer <- err
		}()
		synctest.Wait()
		stop()
		close(silent)
		if err := <-answer; err == nil {
			t.Error("it was told that all is well")
		}
		if _, err := k.Snapshot(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestAnUnclaimedKeeperSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		must(t, m.boot())
		m.fail(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Before: bucket.ErrUnavailable} })
		k := New(m.options())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			k.Run(ctx)
			close(done)
		}()
		synctest.Wait()
		if _, err := k.Snapshot(t.Context()); !errors.Is(err, snapshot.ErrNotClaimed) && !errors.Is(err, bucket.ErrUnavailable) {
			t.Errorf("a snapshot: %v", err)
		}
		if s := k.Status(); s.Sequence != 0 || !strings.Contains(s.State, "bucket") {
			t.Errorf("status %+v", s)
		}
		cancel()
		<-done
		m.stop()
	})
}

// TestTheLogIsArchivedSoonAfterAMove: a restore had to say that the writes of a range's
// new owner may be missing, for as long as the interval was.
func TestTheLogIsArchivedSoonAfterAMove(t *testing.T) {
	for mode, archived := range map[ArchiveMode]bool{ArchiveInterval: true, ArchiveSegment: true, ArchiveOff: false} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				k, stop := running(t, m, func(o *Options) { o.Archive, o.ArchiveEvery = mode, time.Hour })
				defer stop()
				sleep(time.Minute)
				must(t, m.put(0, 10, "moved here"))
				sleep(time.Minute)
				if end := k.archive.end(); end != 0 {
					t.Fatalf("before its time the archive ends at %s", end)
				}
				before := m.memoryCalls()
				for range 5 { // ranges of one rebalancing
					k.Moved()
					sleep(100 * time.Millisecond)
				}
				sleep(5 * time.Second)
				if done := k.archive.end() == m.log.Appended(); done != archived {
					t.Errorf("the archive ends at %s, the log at %s", k.archive.end(), m.log.Appended())
				}
				// A piece is a PUT, three small reads and a swap.
				if calls := m.memoryCalls() - before; calls > 10 {
					t.Errorf("%d operations", calls)
				}
			})
		})
	}
}

// TestAMoveIsArchivedWhenTheBucketIsBack: when the bucket was away just then, the log
// waited for its interval after all, which may be hours.
func TestAMoveIsArchivedWhenTheBucketIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		k, stop := running(t, m, func(o *Options) { o.ArchiveEvery = time.Hour })
		defer stop()
		sleep(time.Second)
		must(t, m.put(0, 10, "moved here"))
		m.fail(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Before: bucket.ErrUnavailable} })
		k.Moved()
		sleep(time.Minute)
		if s := k.Status(); s.State == "ok" || k.archive.end() != 0 {
			t.Errorf("without a bucket: %q, the archive ends at %s", s.State, k.archive.end())
		}
		m.fail(nil)
		sleep(moveAgain + time.Second)
		if s := k.Status(); s.State != "ok" || k.archive.end() != m.log.Appended() {
			t.Errorf("with it again: %q, the archive ends at %s, the log at %s", s.State, k.archive.end(), m.log.Appended())
		}
	})
}

// TestWhatAReaderHasBegunStaysForADay: nodes deleted what had left the head after an
// hour, under the hands of a restore that took longer.
func TestWhatAReaderHasBegunStaysForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		k, stop := running(t, m, func(o *Options) { o.Keep = 1 })
		defer stop()
		sleep(time.Second)
		snap := func(n int) {
			t.Helper()
			must(t, m.put(0, 10, strings.Repeat("new", n)))
			_, err := k.Snapshot(t.Context())
			must(t, err)
		}
		snap(1)
		read, err := m.store.Current(t.Context())
		must(t, err)
		there := func() bool {
			_, err := m.memory.Head(t.Context(), read.Parts[0].Key)
			return err == nil
		}
		snap(2) // it leaves the head
		sleep(23 * time.Hour)
		snap(3)
		if !there() {
			t.Error("it is gone after 23 hours")
		}
		sleep(2 * time.Hour)
		snap(4)
		if there() {
			t.Error("it is there after 25 hours")
		}
	})
}
