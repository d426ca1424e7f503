package wal

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/quoitdb/quoit/internal/vfs"
)

// The power fails before every single operation of a log's life, and keeps
// none, all, or any part of what was not synced. Nothing acknowledged is lost,
// nothing is invented, and the log goes on from there.
func TestCrashBeforeEveryOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, h := vfs.NewMem(), &history{}
		var operations, images atomic.Int64
		fsys := vfs.Inject(m, func(op vfs.Op) error {
			operations.Add(1)
			known, disks := h.crashes(m, uint64(op.Seq))
			images.Add(int64(len(disks)))
			for how, disk := range disks {
				if err := known.checkAndGoOn(disk); err != nil {
					t.Errorf("crash before %v, %s: %v", op, how, err)
				}
			}
			return nil
		})
		if err := story(fsys, h); err != nil {
			t.Fatal(err)
		}
		if n := operations.Load(); n < 100 {
			t.Errorf("the story has only %d operations", n)
		}
		t.Logf("%d crash images of %d operations", images.Load(), operations.Load())
	})
}

// The same while recovering: every disk that a crash may have left is opened,
// and the power fails again before every operation of that.
func TestCrashDuringRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, h := vfs.NewMem(), &history{}
		fsys := vfs.Inject(m, func(op vfs.Op) error {
			if op.Seq%stride(5, 23) != 0 {
				return nil
			}
			known, disks := h.crashes(m, uint64(op.Seq))
			for how, disk := range disks {
				if err := crashWhileOpening(disk, known); err != nil {
					t.Errorf("crash before %v, %s, and again: %v", op, how, err)
				}
			}
			return nil
		})
		if err := story(fsys, h); err != nil {
			t.Fatal(err)
		}
	})
}

func crashWhileOpening(disk *vfs.Mem, h *history) (failed error) {
	fsys := vfs.Inject(disk, func(op vfs.Op) error {
		for _, again := range crashes(disk, uint64(op.Seq)) {
			if _, _, err := h.check(again); err != nil && failed == nil {
				failed = err
			}
		}
		return nil
	})
	if _, _, err := h.check(fsys); err != nil {
		return err
	}
	return failed
}

// A process that is killed loses nothing that the kernel has, and its zombie
// can do no harm.
func TestKillKeepsWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, h := vfs.NewMem(), &history{}
		l := openEmpty(t, small(m))
		h.fill(t, l, 20)
		m.Kill()
		for range 2 {
			must(t, h.append(l))
		}
		if err := h.wait(l); err == nil {
			t.Error("a killed process has acknowledged a record")
		}
		if err := l.Close(); err == nil {
			t.Error("closing a poisoned log reported no error")
		}
		disk := m.CrashClone(keepAll)
		first, next, err := h.check(disk)
		if err != nil || first != 0 || next != 20 {
			t.Errorf("records %d to %d, error %v", first, next, err)
		}
	})
}

// stride thins out the longest loops under the race detector and -short.
func stride(usual, thin int) int {
	if raceEnabled || testing.Short() {
		return thin
	}
	return usual
}
