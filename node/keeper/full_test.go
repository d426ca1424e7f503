package keeper

import (
	"crypto/rand"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// TestAfterTheBucketWasAwayForTooLongADiskGetsRoomAgain: without a bucket the log fills
// the disk, and writes are refused. With it, the node published a snapshot and stayed
// read-only for ever: the log is cut one snapshot late, and there was no second one as
// nothing could change; or there was no room for a second snapshot beside the first.
func TestAfterTheBucketWasAwayForTooLongADiskGetsRoomAgain(t *testing.T) {
	const segment = 64 << 10
	for _, left := range []int64{1 << 10, 24 << 10} { // beside the log: no room for a snapshot, and room
		for _, first := range []bool{true, false} { // whether there is one from before
			t.Run(fmt.Sprintf("%d bytes left, a snapshot before: %v", left, first), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { fillAndRelieve(t, segment, left, first) })
			})
		}
	}
}

// noise writes keys with values that do not pack.
func (m *machine) noise(keys int) error {
	for i := range keys {
		if err := m.put(i, i+1, rand.Text()+rand.Text()+rand.Text()+rand.Text()); err != nil {
			m.history = m.history[:len(m.history)-1] // it was refused: nothing has happened
			return err
		}
	}
	return nil
}

func fillAndRelieve(t *testing.T, segment, left int64, first bool) {
	m := newMachine(t)
	m.segment = segment
	k, stop := running(t, m, func(*Options) {})
	sleep(time.Second)
	must(t, m.noise(60))
	if first {
		_, err := k.Snapshot(t.Context())
		must(t, err)
	}
	m.fail(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Before: bucket.ErrUnavailable} })
	m.fill(4*segment + left)
	sleep(time.Hour)
	if m.noise(1) == nil {
		t.Error("the disk is full, and a write was taken")
	}
	m.fail(nil)
	sleep(15 * time.Second)
	if !first && left < 2<<10 {
		// There is nothing that may go: the status says so, and a person has to help.
		if s := k.Status(); s.State == "ok" || m.noise(1) == nil {
			t.Errorf("without any room: %q", s.State)
		}
		m.disk.SetCapacity(m.disk.Used() + segment)
		sleep(7 * time.Minute)
	}
	if err := m.noise(60); err != nil {
		t.Errorf("after the bucket is back: %v; %+v", err, k.Status())
	}
	sleep(15 * time.Second)
	if s := k.Status(); s.State != "ok" || s.Sequence == 0 || m.log.Stats().Segments > 2 {
		t.Errorf("state %q, snapshot %d, %d segments", s.State, s.Sequence, m.log.Stats().Segments)
	}
	stop()
	must(t, m.boot())
	m.check(m.acked)
	m.stop()

	// And from the bucket alone.
	bases, err := m.loseDisk(Search{})
	must(t, err)
	must(t, m.boot(bases...))
	m.check(m.acked)
	m.stop()
}

// TestNothingIsLostWhereverAFullDiskGetsRoom: the process dies at every operation of the
// snapshot that makes room.
func TestNothingIsLostWhereverAFullDiskGetsRoom(t *testing.T) {
	for name, left := range map[string]int64{"in the place of the one before": 1 << 10, "beside it": 24 << 10, "beside it, but for the manifest": 8 << 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n, done := 1, false; !done; n += stride {
				m := newMachine(t)
				must(t, m.boot())
				must(t, m.noise(60))
				must(t, m.cut())
				m.fill(3*16<<10 + left)
				m.mu.Lock()
				m.die = m.ops + n
				m.mu.Unlock()
				err := m.cut()
				if done = m.survived(); done {
					must(t, err)
					if m.log.Stats().Segments > 1 {
						t.Errorf("the log has %d segments still", m.log.Stats().Segments)
					}
				}
				m.crash(some)
				m.disk.SetCapacity(0)
				if err := m.boot(); err != nil {
					t.Fatalf("it died at operation %d and does not start: %v", n, err)
				}
				m.check(m.acked)
				m.stop()
			}
		})
	}
}

// TestAFullDiskHasRoomForTheManifest: the log keeps the first segments that it lets go of
// for later, so that was no room for the manifest of a snapshot whose parts just
// fitted. The node published it, and another one at every try, and kept none.
func TestAFullDiskHasRoomForTheManifest(t *testing.T) {
	for left := int64(2 << 10); left < 16<<10; left += 1 << 10 {
		m := newMachine(t)
		must(t, m.boot())
		must(t, m.noise(60))
		must(t, m.cut())
		m.fill(left)
		if err := m.cut(); err != nil {
			t.Errorf("%d bytes left: %v", left, err)
		}
		if b, err := Local(m.disk, "data/snapshot"); err != nil || b == nil || b.Manifest.Sequence != 2 {
			t.Errorf("%d bytes left: on the disk is %+v, %v", left, b, err)
		}
		must(t, m.noise(20))
		m.stop()
		m.disk.SetCapacity(0)
		must(t, m.boot())
		m.check(m.acked)
		m.stop()
	}
}

// TestAFullDiskGivesTheRoomOfACopyThatIsNotTheNewest: a snapshot that had been published
// and could not be kept on the disk left the copy of the one before there, which then
// stood in the way of all that came: the node was read-only for ever.
func TestAFullDiskGivesTheRoomOfACopyThatIsNotTheNewest(t *testing.T) {
	m := newMachine(t)
	must(t, m.boot())
	must(t, m.noise(60))
	must(t, m.cut())
	must(t, m.noise(60))
	m.refuse = func(op vfs.Op) error {
		if op.Kind == vfs.OpCreate && strings.HasSuffix(op.Name, newManifest) {
			return syscall.ENOSPC
		}
		return nil
	}
	if m.cut() == nil {
		t.Fatal("a snapshot was kept without a manifest")
	}
	m.refuse = nil
	m.fill(2 << 10)
	must(t, m.cut())
	must(t, m.noise(20))
	m.stop()
	m.disk.SetCapacity(0)
	must(t, m.boot())
	m.check(m.acked)
	m.stop()
}

// fill leaves so much room on the disk, and writes until that is full.
func (m *machine) fill(room int64) {
	m.t.Helper()
	m.disk.SetCapacity(m.disk.Used() + room)
	for range 1000 {
		if m.noise(60) != nil {
			break
		}
	}
	for m.noise(1) == nil { // the last bytes
	}
	must(m.t, m.wait())
	if !m.log.Full() {
		m.t.Fatal("the disk is never full")
	}
}
