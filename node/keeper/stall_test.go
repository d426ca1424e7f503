package keeper

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// slow has calls of some methods end only when the channel is closed.
func slow(until <-chan struct{}, methods ...string) func(buckettest.Op) buckettest.Fault {
	return func(op buckettest.Op) buckettest.Fault {
		for _, m := range methods {
			if op.Method == m {
				return buckettest.Fault{Wait: until}
			}
		}
		return buckettest.Fault{}
	}
}

// TestABucketThatSaysNothingIsTold: nothing fails as long as a call waits, and the
// status was "ok" for the minutes that it takes the bucket's own limits to end it.
func TestABucketThatSaysNothingIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		methods []string
		ask     bool // for a snapshot
		want    string
	}{
		"archive":               {[]string{"Put"}, false, "bytes behind; the bucket has not answered for 1"},
		"first look":            {[]string{"Get"}, true, "there is no snapshot yet; the bucket has not answered for 1"},
		"upload":                {[]string{"Put"}, true, "there is no snapshot yet; the bucket has not answered for 1"},
		"footers and the piece": {[]string{"GetRange", "Head"}, true, "the bucket has not answered for 1"},
		"publication":           {[]string{"PutIfAbsent"}, true, "there is no snapshot yet; the bucket has not answered for 1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				k, stop := running(t, m, func(*Options) {})
				defer stop()
				sleep(time.Second)
				back := make(chan struct{})
				m.fail(slow(back, c.methods...))
				must(t, m.put(0, 10, "new"))
				answer := make(chan error, 1)
				if c.ask {
					go func() {
						_, err := k.Snapshot(context.Background())
						answer <- err
					}()
				} else {
					answer <- nil
					sleep(9 * time.Second) // the archive's turn
				}
				sleep(5 * time.Second)
				if s := k.Status(); s.State != "ok" {
					t.Errorf("after some seconds: %q", s.State)
				}
				sleep(10 * time.Second)
				if s := k.Status(); !strings.Contains(s.State, c.want) {
					t.Errorf("later: %q, want %q", s.State, c.want)
				}
				m.fail(nil)
				close(back)
				must(t, <-answer)
				sleep(15 * time.Second)
				if s := k.Status(); s.State != "ok" || s.ArchiveLag != 0 {
					t.Errorf("after the bucket is back: %q, lag %d", s.State, s.ArchiveLag)
				}
			})
		})
	}
}

func TestAKeeperThatCannotClaimSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		must(t, m.boot())
		back := make(chan struct{})
		m.fail(slow(back, "Get"))
		k := New(m.options())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			k.Run(ctx)
			close(done)
		}()
		sleep(5 * time.Second)
		if s := k.Status(); s.State != "starting" {
			t.Errorf("at first: %q", s.State)
		}
		sleep(10 * time.Second)
		if s := k.Status(); !strings.Contains(s.State, "the bucket has not answered for 15s") {
			t.Errorf("later: %q", s.State)
		}
		close(back)
		sleep(time.Second)
		if s := k.Status(); s.State != "ok" {
			t.Errorf("after the bucket is back: %q", s.State)
		}
		cancel()
		<-done
		m.stop()
	})
}

// TestASnapshotThatFailedIsTakenWhenTheBucketIsBack: one that somebody had asked for was
// never tried again, and its failure stood in the status until the next one was due;
// one that was due waited for the end of a pause of minutes.
func TestASnapshotThatFailedIsTakenWhenTheBucketIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		k, stop := running(t, m, func(*Options) {}) // none is ever due
		defer stop()
		sleep(time.Second)
		must(t, m.put(0, 10, "new"))
		m.fail(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Before: bucket.ErrUnavailable} })
		if _, err := k.Snapshot(t.Context()); err == nil {
			t.Fatal("a snapshot without a bucket")
		}
		sleep(time.Hour) // the pauses have become long
		if s := k.Status(); !strings.HasPrefix(s.State, "there is no snapshot yet; snapshot: ") {
			t.Errorf("without a bucket: %q", s.State)
		}
		m.fail(nil)
		sleep(15 * time.Second) // the archive's turn, and a little
		if s := k.Status(); s.State != "ok" || s.Sequence != 1 {
			t.Errorf("after the bucket is back: snapshot %d, %q", s.Sequence, s.State)
		}
	})
}

// TestABucketThatTakesItsTimeToDeleteIsNotSilent: a snapshot had been published, and the
// status said that there was none and the bucket did not answer, while hundreds of
// objects were deleted one after the other.
func TestABucketThatTakesItsTimeToDeleteIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		k, stop := running(t, m, func(o *Options) { o.Keep = 1 })
		defer stop()
		sleep(time.Second)
		for i := range 2 {
			must(t, m.put(0, 10, strings.Repeat("new", i+1)))
			_, err := k.Snapshot(t.Context())
			must(t, err)
		}
		sleep(25 * time.Hour) // the first one's grace
		back := make(chan struct{})
		m.fail(slow(back, "Delete"))
		must(t, m.put(0, 10, "newest"))
		answer := make(chan error, 1)
		go func() {
			_, err := k.Snapshot(context.Background())
			answer <- err
		}()
		sleep(30 * time.Second)
		if s := k.Status(); s.State != "ok" || s.Sequence != 3 {
			t.Errorf("after half a minute: snapshot %d, %q", s.Sequence, s.State)
		}
		sleep(time.Minute)
		if s := k.Status(); !strings.Contains(s.State, "the bucket has not answered for 1m") {
			t.Errorf("after a minute and a half: %q", s.State)
		}
		m.fail(nil)
		close(back)
		must(t, <-answer)
		if s := k.Status(); s.State != "ok" {
			t.Errorf("after the bucket is back: %q", s.State)
		}
	})
}
