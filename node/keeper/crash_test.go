package keeper

import (
	"math/rand/v2"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// away is a bucket that cannot be reached.
func away(buckettest.Op) buckettest.Fault { return buckettest.Fault{Before: bucket.ErrUnavailable} }

// life is what a node does between its first start and its death.
func (m *machine) life() error {
	for _, step := range []func() error{
		func() error { return m.boot() },
		func() error { return m.put(0, 60, "first") },
		m.cut,
		func() error { return m.put(20, 80, "second") },
		m.send,
		func() error { return m.remove(0, 10) },
		m.cut,
		func() error { return m.put(70, 75, "third") },
		m.cut,
		func() error { return m.put(75, 85, "fourth") },
		m.cut,
		func() error { return m.put(5, 15, "fifth") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// after is what it does once it is back: everything goes on as if nothing had been.
func (m *machine) after() {
	m.t.Helper()
	if m.memoryCalls()%3 > 0 { // a third of them tells as much
		m.stop()
		return
	}
	must(m.t, m.put(200, 260, "later"))
	must(m.t, m.cut())
	must(m.t, m.put(230, 270, "latest"))
	must(m.t, m.cut())
	must(m.t, m.put(0, 3, "last"))
	m.stop()
	must(m.t, m.boot())
	m.check(m.acked)
	m.stop()
}

// everyDeath runs life again and again, and lets the process die at every operation
// on disk or bucket, before and after it; where the race detector makes all slow, at
// some of them. With step 2 it is every second one, beginning anywhere.
func everyDeath(t *testing.T, step int, what func(m *machine)) {
	died := 0
	step *= stride
	for at := 1 + rand.IntN(step); ; at += step {
		m := newMachine(t)
		m.die = at
		err := m.life()
		if m.survived() {
			must(t, err)
			m.stop()
			if died*step < 100 {
				t.Fatalf("only %d operations were met", died*step)
			}
			t.Logf("the process died at %d operations", died)
			return
		}
		died++
		func() {
			defer func() {
				if t.Failed() {
					t.Logf("the process had died at operation %d: %v", at, err)
				}
			}()
			what(m)
		}()
	}
}

func TestNothingAcknowledgedIsLostWhateverTheOperationItDiesAt(t *testing.T) {
	for name, c := range map[string]struct {
		keep func() bool
		step int
	}{"all is lost that was not synced": {lose, 1}, "nothing is lost": {kept, 2}, "some is lost": {some, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyDeath(t, c.step, func(m *machine) {
				m.crash(c.keep)
				must(t, m.boot())
				m.check(m.acked)
				m.after()
			})
		})
	}
}

// Wherever the power fails, snapshot and log on the disk join up by themselves: the
// bucket, which could replace the one, may be away, and is not the only copy of anything.
func TestARestartNeedsNoBucketWhereverThePowerFailed(t *testing.T) {
	for name, c := range map[string]struct {
		keep  func() bool
		disks int // that the same moment may leave behind
	}{"all is lost that was not synced": {lose, 1}, "some is lost": {some, 6}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyDeath(t, 1, func(m *machine) {
				var left []*vfs.Mem
				for range c.disks {
					left = append(left, m.disk.CrashClone(c.keep))
				}
				m.crash(c.keep)
				m.fail(away)
				history, acked := m.history, m.acked
				for _, m.disk = range left {
					m.history, m.acked = history, acked
					if err := m.boot(); m.engine == nil || !bucket.IsRetryable(err) { // the claim; everything before it has worked
						t.Fatalf("boot: %v", err)
					}
					m.check(acked)
					m.stop()
					m.engine, m.log = nil, nil
				}
			})
		})
	}
}

func TestALostDiskComesBackAsFarAsTheArchiveWhereverTheProcessDied(t *testing.T) {
	t.Parallel()
	everyDeath(t, 1, func(m *machine) {
		sent := m.sent
		bases, err := m.loseDisk(Search{})
		if sent == 0 && err != nil {
			return // nothing had come to the bucket, and it says so
		}
		must(t, err)
		if err := m.boot(bases...); err != nil {
			t.Fatalf("boot: %v", err)
		}
		m.check(sent)
		m.after()
	})
}
