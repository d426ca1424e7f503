package wal

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/vfs"
)

// failures are the ways in which a single operation fails.
var failures = map[string]func(vfs.Op) error{
	"EIO":    func(vfs.Op) error { return syscall.EIO },
	"ENOSPC": func(vfs.Op) error { return syscall.ENOSPC },
	"short write": func(op vfs.Op) error {
		if op.Kind == vfs.OpWriteAt {
			return &vfs.ShortWrite{N: int(op.N / 2), Err: syscall.EIO}
		}
		return syscall.EIO
	},
}

// failNth makes operation n fail and tells whether there was one.
func failNth(fsys vfs.FS, n int, fail func(vfs.Op) error) (failing vfs.FS, hit *vfs.Op) {
	hit = new(vfs.Op)
	return vfs.Inject(fsys, func(op vfs.Op) error {
		if op.Seq == n {
			*hit = op
			return fail(op)
		}
		return nil
	}), hit
}

// honest reports whether err admits the injected failure instead of blaming
// the log.
func honest(err error) bool {
	var corrupt *CorruptionError
	return !errors.As(err, &corrupt) &&
		(errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrDiskFull))
}

// Each operation of a log's life fails once. The error surfaces as what it is
// or does no harm, nothing acknowledged is lost, and the next Open, on the
// same machine or after a power failure, finds a sound log.
func TestEveryOperationFailsOnce(t *testing.T) {
	for name, fail := range failures {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for n := 1; ; n++ {
					m, h := vfs.NewMem(), &history{}
					fsys, hit := failNth(m, n, fail)
					err := story(fsys, h)
					if hit.Seq == 0 {
						must(t, err)
						t.Logf("%d operations", n-1)
						return
					}
					if err != nil && !honest(err) {
						t.Errorf("%v fails: the log says %v", *hit, err)
					}
					checkAftermath(t, fmt.Sprintf("%v fails (%v)", *hit, err), m, h, n)
				}
			})
		})
	}
}

// checkAftermath opens the log after a failure: as it is, and after crashes.
func checkAftermath(t *testing.T, what string, m *vfs.Mem, h *history, seed int) {
	t.Helper()
	for how, disk := range crashes(m, uint64(seed)) {
		if err := h.checkAndGoOn(disk); err != nil {
			t.Errorf("%s, then a crash, %s: %v", what, how, err)
		}
	}
	// What a restart has found stays, even if the pages it has read were
	// marked clean by a failed sync and never got to the disk.
	_, found, err := h.check(m)
	if err != nil {
		t.Errorf("%s, then a restart: %v", what, err)
		return
	}
	_, left, err := (&history{durable: found, appended: found, dropped: h.dropped}).check(m.CrashClone(keepNone))
	if err != nil {
		t.Errorf("%s: a restart found records up to %d; after a power failure there are those up to %d: %v", what, found, left, err)
	}
}

// Each operation of a recovery fails once.
func TestEveryOperationOfRecoveryFailsOnce(t *testing.T) {
	for name, fail := range failures {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, image := range tornImages(t) {
					for n := 1; ; n++ {
						disk := image.disk.CrashClone(keepAll)
						fsys, hit := failNth(disk, n, fail)
						_, _, err := image.known.check(fsys)
						if hit.Seq == 0 {
							must(t, err)
							break
						}
						if err != nil && !honest(err) {
							t.Errorf("%v fails: the log says %v", *hit, err)
						}
						checkAftermath(t, fmt.Sprintf("%v fails (%v)", *hit, err), disk, image.known, n)
					}
				}
			})
		})
	}
}

type image struct {
	disk  *vfs.Mem
	known *history
}

// tornImages are disks after crashes in the middle of the story.
func tornImages(t *testing.T) (images []image) {
	m, h := vfs.NewMem(), &history{}
	var mu sync.Mutex // a segment is reserved in a goroutine of its own
	must(t, story(vfs.Inject(m, func(op vfs.Op) error {
		if op.Seq%stride(37, 97) == 0 {
			known, disks := h.crashes(m, uint64(op.Seq))
			mu.Lock()
			defer mu.Unlock()
			images = append(images, image{disks["all kept"], known}, image{disks["some kept"], known})
		}
		return nil
	}), h))
	return images
}

func TestPoison(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpWriteAt, vfs.OpSync} {
		t.Run(kind.String(), func(t *testing.T) {
			var broken atomic.Bool
			fsys := vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
				if broken.Load() && op.Kind == kind {
					return syscall.EIO
				}
				return nil
			})
			told := make(chan error, 2)
			o := small(fsys)
			o.OnPoison = func(err error) { told <- err }
			l, h := openEmpty(t, o), &history{}
			h.fill(t, l, 2)
			durable := l.Durable()

			broken.Store(true)
			must(t, h.append(l))
			err := h.wait(l)
			if !errors.Is(err, ErrPoisoned) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("wait: %v", err)
			}
			broken.Store(false) // the disk is fine again; the log must not believe it
			if err := <-told; !errors.Is(err, ErrPoisoned) {
				t.Errorf("OnPoison was told %v", err)
			}
			_, appendErr := l.Append([]byte("x"))
			for what, err := range map[string]error{
				"Append": appendErr, "Wait": h.wait(l), "SyncTo": l.SyncTo(l.Appended()), "Err": l.Err(), "Truncate": l.Truncate(1), "Close": l.Close(),
			} {
				if !errors.Is(err, ErrPoisoned) && what != "Truncate" {
					t.Errorf("%s of a poisoned log: %v", what, err)
				}
			}
			if l.Durable() != durable {
				t.Error("a poisoned log became more durable")
			}
			if err := l.Wait(durable); err != nil {
				t.Errorf("waiting for what had been durable before: %v", err)
			}
			select {
			case err := <-told:
				t.Errorf("OnPoison was called again: %v", err)
			default:
			}
		})
	}
}

// Everybody who waits learns of the poison, whatever they wait for.
func TestPoisonWakesAllWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := make(chan struct{})
		var armed atomic.Bool
		var after atomic.Int32 // operations after the failure
		o := small(vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && armed.CompareAndSwap(true, false) {
				<-broken
				after.Store(0)
				return syscall.EIO
			}
			after.Add(1)
			return nil
		}))
		o.MaxPending = 64
		l := openEmpty(t, o)
		armed.Store(true)
		results := make(chan error)
		for range 20 { // one syncs, some wait for it, most for a place in the next batch
			go func() {
				lsn, err := l.Append(make([]byte, 20))
				if err == nil {
					err = l.Wait(lsn)
				}
				results <- err
			}()
			synctest.Wait()
		}
		close(broken)
		for range 20 {
			if err := <-results; !errors.Is(err, ErrPoisoned) {
				t.Errorf("a waiter got %v", err)
			}
		}
		if n := after.Load(); n != 0 {
			t.Errorf("%d operations on a poisoned log", n)
		}
		if err := l.Close(); !errors.Is(err, ErrPoisoned) {
			t.Error(err)
		}
	})
}

// The disk is full after every possible number of bytes. Records are refused
// or acknowledged, never lost; the log is not poisoned, and goes on by itself
// when there is space.
func TestDiskFullAfterEveryByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := stride(1, 61)
		for capacity := 1; ; capacity += step {
			m, h := vfs.NewMem(), &history{}
			m.SetCapacity(int64(capacity))
			full, err := fillDisk(m, h)
			if err != nil {
				t.Errorf("capacity %d: %v", capacity, err)
			}
			if err := h.checkAndGoOn(m.CrashClone(keepNone)); err != nil {
				t.Errorf("capacity %d, then a power failure: %v", capacity, err)
			}
			if !full {
				t.Logf("up to %d bytes", capacity)
				return
			}
		}
	})
}

// fillDisk appends to a log until the disk is full, or for three segments; then
// makes room and appends again. An error is what must not happen.
func fillDisk(m *vfs.Mem, h *history) (full bool, err error) {
	l, err := Open(small(m))
	if err != nil {
		if !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, ErrDiskFull) {
			return false, err
		}
		return true, nil
	}
	if _, _, err := contents(l); err != nil {
		return false, err
	}
	for len(h.lsn) < 25 && err == nil {
		if err = h.append(l); err == nil {
			err = h.wait(l)
		}
	}
	full = err != nil
	if full && !errors.Is(err, ErrDiskFull) {
		return full, err
	}
	m.SetCapacity(0)
	<-time.After(retryPause)
	for range 10 {
		if err := h.append(l); err != nil {
			return full, fmt.Errorf("with space again: %w", err)
		}
	}
	if err := h.wait(l); err != nil {
		return full, err
	}
	return full, l.Close()
}

// A full disk refuses records but lets through what makes room: urgent
// records, and truncation.
func TestDiskFullKeepsAReserve(t *testing.T) {
	for _, recycle := range []int{2, -1} {
		testReserve(t, recycle)
	}
}

func testReserve(t *testing.T, recycle int) {
	synctest.Test(t, func(t *testing.T) {
		m, h := vfs.NewMem(), &history{}
		o := small(m)
		o.SegmentSize, o.Recycle = 16<<10, recycle
		l := openEmpty(t, o)
		for l.Stats().Segments < 3 {
			h.fill(t, l, 1)
		}
		m.SetCapacity(m.Used())
		var err error
		for err == nil {
			if err = h.append(l); err == nil {
				err = h.wait(l)
			}
		}
		if !errors.Is(err, ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		for err = nil; err == nil; { // the smallest records fit a little longer
			_, err = l.Append([]byte("x"))
		}
		if !errors.Is(err, ErrDiskFull) {
			t.Fatal(err)
		}
		lsn, err := l.AppendUrgent(make([]byte, reserve(o.SegmentSize)/2))
		must(t, err)
		must(t, l.Wait(lsn))
		synctest.Wait() // for a reservation that is just failing
		must(t, l.Truncate(h.lsn[len(h.lsn)-1]))
		lsn, err = l.Append(make([]byte, 300))
		must(t, err)
		must(t, l.Wait(lsn))
		if _, err := l.AppendUrgent(make([]byte, o.SegmentSize)); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
		must(t, l.Close())
	})
}

// A node that restarts on a full disk must come up, to be read and emptied.
func TestOpenOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, h := vfs.NewMem(), &history{}
		o := small(m)
		o.SegmentSize = 64 << 10
		l := openEmpty(t, o)
		h.fill(t, l, 100)
		must(t, l.Close())
		m.SetCapacity(m.Used() + minSegment)
		l, err := Open(o)
		must(t, err)
		_, next, err := contents(l)
		if err != nil || next != 100 {
			t.Errorf("%d records, error %v", next, err)
		}
		must(t, l.Close())
	})
}

// On a nearly full disk the first segment after a restart is small, but keeps
// what urgent records need.
func TestASmallFirstSegmentKeepsRoomForUrgentRecords(t *testing.T) {
	for _, room := range []int64{8 << 10, 40 << 10, 100 << 10, 900 << 10} {
		m := vfs.NewMem()
		o := Options{FS: m, Dir: "wal", SegmentSize: 1 << 20}
		l := openEmpty(t, o)
		_, err := l.Append(make([]byte, l.o.MaxRecord)) // so that its segment has nothing to give back
		must(t, err)
		must(t, l.Close())
		m.SetCapacity(m.Used() + room)
		l, err = Open(o)
		must(t, err)
		must(t, l.Replay(func([]byte, LSN) error { return nil }))
		for err == nil {
			_, err = l.Append(make([]byte, 20))
		}
		if !errors.Is(err, ErrDiskFull) {
			t.Fatal(err)
		}
		urgent := int64(0)
		for {
			if _, err := l.AppendUrgent(make([]byte, 50)); err != nil {
				break
			}
			urgent += 50
		}
		if want := min(urgentFloor, (room-2*minSegment)/2) * 3 / 4; urgent < want {
			t.Errorf("with %d bytes free, %d bytes of urgent records, want %d", room, urgent, want)
		}
		must(t, l.Close())
		m.SetCapacity(0)
		if l, err = Open(o); err != nil {
			t.Fatal(err)
		}
		must(t, l.Replay(func([]byte, LSN) error { return nil }))
		must(t, l.Close())
	}
}

// Too many open files is not a full disk, and passes.
func TestTooManyOpenFilesIsNotAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var short atomic.Bool
		l := openEmpty(t, small(vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
			if op.Kind == vfs.OpCreate && short.Load() {
				return syscall.EMFILE
			}
			return nil
		})))
		short.Store(true)
		var err error
		for err == nil {
			_, err = l.Append(make([]byte, 100))
		}
		if errors.Is(err, ErrDiskFull) || !errors.Is(err, ErrNoSegment) || !errors.Is(err, syscall.EMFILE) {
			t.Error(err)
		}
		short.Store(false)
		<-time.After(retryPause)
		_, err = l.Append(make([]byte, 100))
		must(t, err)
		must(t, l.Close())
	})
}
