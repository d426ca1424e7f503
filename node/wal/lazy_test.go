package wal

import (
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/vfs"
)

func lazyOptions(m vfs.FS, mode SyncMode) Options {
	return Options{FS: m, Dir: "wal", SegmentSize: 1 << 20, Sync: mode, Interval: time.Second}
}

// Without syncs a record reaches the kernel within milliseconds, and the disk
// only by SyncTo, at the end of a segment, or at the end.
func TestNeverSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, h := vfs.NewMem(), &history{}
		l := openEmpty(t, lazyOptions(m, SyncNever))
		start := time.Now()
		must(t, h.append(l))
		must(t, l.Wait(h.lsn[0]))
		if time.Since(start) != 0 || l.Durable() >= h.lsn[0] {
			t.Error("Wait has waited")
		}
		<-time.After(2 * lazyDelay)
		if l.Written() < h.lsn[0] {
			t.Error("nothing was written after the delay")
		}
		<-time.After(time.Hour)
		if s := l.Stats(); s.Syncs != 0 || l.Durable() >= h.lsn[0] {
			t.Errorf("%d syncs", s.Syncs)
		}
		must(t, l.SyncTo(h.lsn[0]))
		if l.Durable() < h.lsn[0] || l.Stats().Syncs != 1 {
			t.Errorf("SyncTo: durable %d, want %d", l.Durable(), h.lsn[0])
		}
		must(t, h.append(l))
		must(t, l.Close())
		if _, next, err := h.check(m.CrashClone(keepNone)); next != 2 || err != nil {
			t.Errorf("closed, then a crash: records to %d, error %v", next, err)
		}
	})
}

func TestIntervalSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, h := vfs.NewMem(), &history{}
		o := lazyOptions(m, SyncInterval)
		l := openEmpty(t, o)
		must(t, h.append(l))
		<-time.After(o.Interval / 2)
		if l.Durable() >= h.lsn[0] {
			t.Error("synced too early")
		}
		must(t, h.append(l))
		<-time.After(o.Interval/2 + 2*lazyDelay)
		if l.Durable() < h.lsn[1] {
			t.Errorf("durable %d after an interval, want %d", l.Durable(), h.lsn[1])
		}
		<-time.After(time.Minute)
		if s := l.Stats(); s.Syncs != 1 {
			t.Errorf("%d syncs for two records and a quiet minute", s.Syncs)
		}
		must(t, h.append(l))
		<-time.After(o.Interval + 2*lazyDelay)
		if l.Durable() < h.lsn[2] {
			t.Error("no sync after the quiet minute")
		}
		must(t, l.Close())
	})
}

// A crash takes a tail back, not more: what is left is a beginning.
func TestLazyCrashesLeaveABeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, mode := range []SyncMode{SyncInterval, SyncNever} {
			m, h := vfs.NewMem(), &history{}
			fsys := vfs.Inject(m, func(op vfs.Op) error {
				known, disks := h.crashes(m, uint64(op.Seq))
				for how, disk := range disks {
					if err := known.checkAndGoOn(disk); err != nil {
						t.Errorf("%v: crash before %v, %s: %v", mode, op, how, err)
					}
				}
				return nil
			})
			o := lazyOptions(fsys, mode)
			o.SegmentSize = minSegment
			l := openEmpty(t, o)
			for i := range 60 {
				must(t, h.append(l))
				if i%20 == 19 {
					must(t, l.SyncTo(h.lsn[i]))
					h.change(func(h *history) { h.durable = i + 1 })
				}
				if i%4 == 3 {
					<-time.After(2 * lazyDelay)
				}
			}
			must(t, l.Close())
		}
	})
}

// A large batch is written before the delay is over.
func TestLazyWritesEarlyWhenMuchIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := lazyOptions(vfs.NewMem(), SyncNever)
		o.SegmentSize = 16 << 20
		l := openEmpty(t, o)
		defer l.Close()
		start := time.Now()
		for l.Stats().Pending < lazyBytes+frameTarget {
			_, err := l.Append(make([]byte, 10<<10))
			must(t, err)
		}
		synctest.Wait()
		if l.Written() == 0 || time.Since(start) != 0 {
			t.Errorf("written %d after %v", l.Written(), time.Since(start))
		}
	})
}

func TestLazyPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		fsys := vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
			if broken.Load() && op.Kind == vfs.OpSync {
				return syscall.EIO
			}
			return nil
		})
		l, h := openEmpty(t, lazyOptions(fsys, SyncInterval)), &history{}
		must(t, h.append(l))
		broken.Store(true)
		<-time.After(time.Minute)
		if err := l.Wait(h.lsn[0]); err == nil {
			t.Error("Wait does not tell that the log is poisoned")
		}
		if err := h.append(l); err == nil {
			t.Error("a poisoned log takes records")
		}
		if err := l.Close(); err == nil {
			t.Error("Close does not tell that the log is poisoned")
		}
	})
}

func TestParseSyncMode(t *testing.T) {
	for _, mode := range []SyncMode{SyncAlways, SyncInterval, SyncNever} {
		if got, err := ParseSyncMode(mode.String()); got != mode || err != nil {
			t.Errorf("%v: %v, %v", mode, got, err)
		}
	}
	if _, err := ParseSyncMode("sometimes"); err == nil {
		t.Error("accepted")
	}
}
