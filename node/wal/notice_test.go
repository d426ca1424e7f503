package wal

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
)

// notified appends a record and returns where the outcome arrives.
func notified(t *testing.T, l *Log, rec []byte) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	lsn, err := l.Append(rec)
	must(t, err)
	later, err := l.Notify(lsn, &Notice{Durable: func(err error) {
		if err == nil && l.Durable() < lsn {
			err = errors.New("it is not durable")
		}
		done <- err
	}})
	if !later {
		done <- err
	}
	return done
}

// Whoever finds nobody syncing syncs, and the others are told by whoever comes next:
// all that gathers during a sync shares one more.
func TestNoticesShareASync(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	o := small(vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && armed.CompareAndSwap(true, false) {
			close(entered)
			<-leave
		}
		return nil
	}))
	o.SegmentSize = 1 << 20
	l := openEmpty(t, o)
	armed.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := <-notified(t, l, []byte("first")); err != nil {
			t.Error(err)
		}
	})
	<-entered
	var all []<-chan error
	for range 50 {
		all = append(all, notified(t, l, []byte("more")))
	}
	close(leave)
	for _, done := range all {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if s := l.Stats(); s.Syncs != 2 || s.Records != 51 {
		t.Errorf("%d syncs for %d records, want 2 for 51", s.Syncs, s.Records)
	}
	must(t, l.Close())
}

// Some wait and some are told, on a log whose buffer is often full: every one of them
// learns that its record is durable, and Close waits for the last.
func TestWaitersAndNoticesTogether(t *testing.T) {
	const writers, records = 8, 300
	o := small(vfs.NewMem())
	o.SegmentSize, o.MaxPending = 8<<10, 1<<10
	l := openEmpty(t, o)
	var told sync.WaitGroup
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range records {
				lsn, err := l.Append(record(i))
				if err != nil {
					t.Error(err)
					return
				}
				if (i+w)%2 == 0 {
					if err := l.Wait(lsn); err != nil {
						t.Error(err)
					}
					continue
				}
				told.Add(1)
				n := &Notice{Durable: func(err error) {
					defer told.Done()
					if err != nil || l.Durable() < lsn {
						t.Errorf("told %v at %d, want %d", err, l.Durable(), lsn)
					}
				}}
				if later, err := l.Notify(lsn, n); !later {
					told.Done()
					if err != nil || l.Durable() < lsn {
						t.Errorf("Notify returned %v at %d, want %d", err, l.Durable(), lsn)
					}
				}
			}
		})
	}
	wg.Wait()
	must(t, l.Close())
	told.Wait() // Close has told everybody
}

func TestNoticesLearnThatTheLogIsPoisoned(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	l := openEmpty(t, small(vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && armed.CompareAndSwap(true, false) {
			close(entered)
			<-leave
			return syscall.EIO
		}
		return nil
	})))
	armed.Store(true)
	first := make(chan (<-chan error), 1)
	go func() { first <- notified(t, l, []byte("first")) }()
	<-entered
	next := notified(t, l, []byte("next"))
	close(leave)
	for _, done := range []<-chan error{<-first, next} {
		if err := <-done; !errors.Is(err, ErrPoisoned) {
			t.Errorf("told %v", err)
		}
	}
	if later, err := l.Notify(l.Appended(), &Notice{}); later || !errors.Is(err, ErrPoisoned) {
		t.Errorf("afterwards: %v, %v", later, err)
	}
	if err := l.Close(); !errors.Is(err, ErrPoisoned) {
		t.Error(err)
	}
}

// The lazy modes have nothing to wait for, and a position that is durable has not either.
func TestNoticesThatAreNotNeeded(t *testing.T) {
	for _, mode := range []SyncMode{SyncAlways, SyncInterval, SyncNever} {
		o := small(vfs.NewMem())
		o.Sync = mode
		l := openEmpty(t, o)
		lsn, err := l.Append([]byte("x"))
		must(t, err)
		never := &Notice{Durable: func(error) { t.Errorf("%s: called", mode) }}
		for range 2 {
			if later, err := l.Notify(lsn, never); later || err != nil {
				t.Errorf("%s: %v, %v", mode, later, err)
			}
		}
		if _, err := l.Notify(lsn+1<<20, never); mode == SyncAlways && err == nil {
			t.Error("a position behind the end")
		}
		must(t, l.Close())
	}
}
