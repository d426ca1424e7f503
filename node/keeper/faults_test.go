package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// started boots a machine with one snapshot.
func started(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	must(t, m.boot())
	must(t, m.put(0, 60, "first"))
	must(t, m.cut())
	return m
}

// restart stops and boots, and wants everything back.
func (m *machine) restart() {
	m.t.Helper()
	m.stop()
	must(m.t, m.boot())
	m.check(m.acked)
}

func TestEveryBucketFailureIsSurvivedAndTriedAgain(t *testing.T) {
	for name, fault := range map[string]buckettest.Fault{
		"busy": buckettest.Busy(), "lost reply": buckettest.LoseReply(), "lost request": buckettest.LoseRequest(), "refused": {Before: errors.New("no permission")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := 1 + rand.IntN(stride); ; at += stride {
				m, calls := newMachine(t), 0
				m.patient = true
				m.fail(func(buckettest.Op) buckettest.Fault {
					if calls++; calls == at {
						return fault
					}
					return buckettest.Fault{}
				})
				must(t, m.boot())
				for i := range 3 {
					must(t, m.put(i*20, i*20+40, fmt.Sprint("round ", i)))
					for m.cut() != nil {
						if calls > at+200 {
							t.Fatalf("call %d: it never succeeds again", at)
						}
					}
				}
				m.fail(nil)
				m.restart()
				bases, err := m.loseDisk(Search{})
				must(t, err)
				must(t, m.boot(bases...))
				m.check(m.acked)
				m.stop()
				if calls < at {
					return
				}
			}
		})
	}
}

func TestAProcessThatWasTakenOverPublishesNothingAndKeepsItsLog(t *testing.T) {
	m := started(t)
	must(t, m.put(0, 60, "second"))
	must(t, m.cut())
	other, err := snapshot.NewStore(m.memory, testNode, snapshot.StoreOptions{})
	must(t, err)
	was, err := other.Claim(t.Context(), testCluster, m.incarnation+1)
	must(t, err)
	must(t, m.put(0, 60, "third"))
	start := m.log.Start()
	var fenced *snapshot.FencedError
	if err := m.cut(); !errors.As(err, &fenced) {
		t.Fatalf("its snapshot: %v", err)
	}
	if err := m.send(); !errors.As(err, &fenced) {
		t.Fatalf("its archive: %v", err)
	}
	if is, err := other.Head(t.Context()); err != nil || is.Counter != was.Counter {
		t.Fatalf("the head went from %d to %d, %v", was.Counter, is.Counter, err)
	}
	if m.log.Start() != start {
		t.Fatal("it has cut its log")
	}
	m.stop()
}

func TestARunningKeeperThatIsTakenOverSaysSoAndEnds(t *testing.T) {
	m := started(t)
	lost := make(chan error, 1)
	o := m.options()
	o.Lost = func(err error) { lost <- err }
	k := New(o)
	ended := make(chan struct{})
	go func() {
		k.Run(context.Background())
		close(ended)
	}()
	other, err := snapshot.NewStore(m.memory, testNode, snapshot.StoreOptions{})
	must(t, err)
	_, err = other.Claim(t.Context(), testCluster, m.incarnation+1)
	must(t, err)
	must(t, m.put(0, 60, "second"))
	for {
		if _, err := k.Snapshot(t.Context()); err != nil && !errors.Is(err, snapshot.ErrNotClaimed) {
			break
		}
	}
	<-ended
	var fenced *snapshot.FencedError
	if err := <-lost; !errors.As(err, &fenced) {
		t.Errorf("the node was told %v", err)
	}
	if s := k.Status(); !s.Fenced || !strings.Contains(s.State, "another process has taken this node's place") {
		t.Errorf("status %+v", s)
	}
	if _, err := k.Snapshot(t.Context()); !errors.As(err, &fenced) {
		t.Errorf("a snapshot afterwards: %v", err)
	}
	m.stop()
}

// TestTheNodeIsToldOnceThatItWasTakenOver: cuts and archive both found it out, told the
// node twice, and the keeper did not end if the node listened once.
func TestTheNodeIsToldOnceThatItWasTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		told, reached := 0, make(chan struct{})
		points := failpoint.New()
		k, stop := running(t, m, func(o *Options) {
			o.Lost, o.Points = func(error) { told++ }, points
		})
		other, err := snapshot.NewStore(m.memory, testNode, snapshot.StoreOptions{})
		must(t, err)
		_, err = other.Claim(t.Context(), testCluster, m.incarnation+1)
		must(t, err)
		must(t, m.put(0, 60, "new"))
		// The cut waits in the bucket's refusal until the archive has met it as well.
		points.On("keeper.write", func() error {
			<-reached
			return &snapshot.FencedError{}
		})
		answer := make(chan error, 1)
		go func() {
			_, err := k.Snapshot(context.Background())
			answer <- err
		}()
		sleep(11 * time.Second) // The archive is due.
		close(reached)
		if err := <-answer; err == nil {
			t.Error("a snapshot was published")
		}
		stop()
		if told != 1 {
			t.Errorf("the node was told %d times", told)
		}
	})
}

func TestAFullDiskFailsTheSnapshotAndNothingElse(t *testing.T) {
	m := started(t)
	must(t, m.put(0, 60, "second"))
	names, err := m.disk.ReadDir("data/snapshot")
	must(t, err)
	for room := int64(0); ; room += 512 {
		m.disk.SetCapacity(m.disk.Used() + room)
		if m.cut() == nil {
			if room < 2<<10 {
				t.Fatalf("a snapshot fitted into %d bytes", room)
			}
			break
		}
		m.check(m.acked) // it serves on
		if is, err := m.disk.ReadDir("data/snapshot"); err != nil || !slices.Equal(is, names) {
			t.Fatalf("with room for %d bytes it left %v, want %v (%v)", room, is, names, err)
		}
	}
	m.disk.SetCapacity(0)
	must(t, m.put(10, 20, "third"))
	must(t, m.cut())
	m.restart()
	m.stop()
}

// damage flips a bit in the middle of a file.
func (m *machine) damage(name string) {
	m.t.Helper()
	f, err := m.disk.Open(name)
	must(m.t, err)
	size, err := f.Size()
	must(m.t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, size/2)
	must(m.t, err)
	b[0] ^= 4
	_, err = f.WriteAt(b, size/2)
	must(m.t, err)
	must(m.t, errors.Join(f.Sync(), f.Close()))
}

func TestADamagedLocalSnapshotIsReplacedByTheBuckets(t *testing.T) {
	for name, spoil := range map[string]func(m *machine, name string){
		"a bit of it is flipped": (*machine).damage,
		"it is missing":          func(m *machine, name string) { must(m.t, m.disk.Remove(name)) },
	} {
		for _, file := range []string{"manifest", "part"} {
			t.Run(file+": "+name, func(t *testing.T) {
				m := started(t)
				for i := range 3 {
					must(t, m.put(i*20, i*20+60, fmt.Sprint("round ", i)))
					must(t, m.cut())
				}
				must(t, m.put(0, 20, "behind"))
				if m.log.Start() == 0 {
					t.Fatal("the log has its beginning still")
				}
				m.stop()
				target := manifestName
				if file == "part" {
					local, err := Local(m.disk, "data/snapshot")
					must(t, err)
					target = partName(local.Manifest.Parts[0].PartInfo)
				}
				spoil(m, "data/snapshot/"+target)
				must(t, m.boot())
				if m.base == nil || m.base.Local {
					t.Fatalf("it started from %+v", m.base)
				}
				m.check(m.acked)
				must(t, m.put(20, 30, "later"))
				must(t, m.cut())
				m.restart()
				if m.base == nil || !m.base.Local {
					t.Fatalf("after a new snapshot it started from %+v", m.base)
				}
				m.stop()
			})
		}
	}
}

// The newest snapshot is damaged, here and in the bucket, and nothing else was archived:
// the one before it goes together with the log on the disk, which therefore reaches so far.
func TestTheLogReachesBackToTheSnapshotBeforeTheNewest(t *testing.T) {
	m := newMachine(t)
	m.archive = ArchiveOff
	must(t, m.boot())
	for i := range 4 {
		must(t, m.put(i*20, i*20+120, fmt.Sprint("round ", i)))
		must(t, m.cut())
	}
	if m.log.Start() == 0 {
		t.Fatal("the log has its beginning still")
	}
	must(t, m.put(0, 20, "behind"))
	current, err := m.store.Head(t.Context())
	must(t, err)
	newest, _ := current.Current()
	m.stop()
	m.damage("data/snapshot/" + manifestName)
	m.spoilObject(newest.Manifest)
	must(t, m.boot())
	if m.base == nil || m.base.Manifest.Sequence != newest.Sequence-1 {
		t.Fatalf("it started from %+v, want snapshot %d", m.base, newest.Sequence-1)
	}
	m.check(m.acked)
	m.stop()
}

func TestARestartNeedsNoBucket(t *testing.T) {
	m := started(t)
	for i := range 3 {
		must(t, m.put(i*20, i*20+60, fmt.Sprint("round ", i)))
		must(t, m.cut())
	}
	m.stop()
	m.fail(away)
	if err := m.boot(); !bucket.IsRetryable(err) { // the claim; everything before it has worked
		t.Fatalf("boot: %v", err)
	}
	m.check(m.acked)
	must(t, m.put(0, 10, "away"))
	if err := m.cut(); !bucket.IsRetryable(err) {
		t.Fatalf("a snapshot without a bucket: %v", err)
	}
	m.fail(nil)
	must(t, m.keeper.tryClaim(t.Context()))
	must(t, m.cut())
	m.restart()
	m.stop()
}

// spoilObject changes objects of the bucket whose key contains a word; the newest in
// the order of keys only.
func (m *machine) spoilObject(key string) {
	m.t.Helper()
	o, err := m.memory.GetRange(context.Background(), key, 0, m.size(key))
	must(m.t, err)
	o[len(o)/2] ^= 4
	_, err = m.memory.Put(context.Background(), key, bytes.NewReader(o), int64(len(o)))
	must(m.t, err)
}

func (m *machine) size(key string) int64 {
	i, err := m.memory.Head(context.Background(), key)
	must(m.t, err)
	return i.Size
}

func TestALostDiskWithADamagedSnapshotLosesNothingOrIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil   func(m *machine, h snapshot.Head, newest snapshot.Manifest)
		archive ArchiveMode
		refused bool // unless an older one is allowed
		never   bool // also then
	}{
		"a part of the newest": {spoil: func(m *machine, _ snapshot.Head, newest snapshot.Manifest) { m.spoilObject(newest.Parts[0].Key) }},
		"a part of the newest is gone": {spoil: func(m *machine, _ snapshot.Head, newest snapshot.Manifest) {
			must(m.t, m.memory.Delete(context.Background(), newest.Parts[0].Key))
		}},
		"the newest manifest": {refused: true, spoil: func(m *machine, h snapshot.Head, _ snapshot.Manifest) {
			m.spoilObject(h.Snapshots[len(h.Snapshots)-1].Manifest)
		}},
		"a part of the newest, without an archive": {archive: ArchiveOff, refused: true, spoil: func(m *machine, _ snapshot.Head, newest snapshot.Manifest) {
			m.spoilObject(newest.Parts[0].Key)
		}},
		"the newest piece of log": {never: true, refused: true, spoil: func(m *machine, h snapshot.Head, _ snapshot.Manifest) {
			m.spoilObject(h.Log[len(h.Log)-1].Key)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.archive = c.archive
			must(t, m.boot())
			for i := range 3 {
				must(t, m.put(i*20, i*20+60, fmt.Sprint("round ", i)))
				if c.archive != ArchiveOff {
					must(t, m.send())
				}
				must(t, m.put(i*20, i*20+10, "between"))
				must(t, m.cut())
			}
			if c.archive != ArchiveOff {
				must(t, m.put(0, 20, "behind"))
				must(t, m.send())
			}
			h, err := m.store.Head(t.Context())
			must(t, err)
			newest, err := m.store.Current(t.Context())
			must(t, err)
			c.spoil(m, h, newest)
			err = m.restore(Search{Snapshots: c.archive == ArchiveOff})
			if c.refused != (err != nil) {
				t.Fatalf("refused: %v, %v", c.refused, err)
			}
			if err == nil {
				m.check(m.acked)
				m.stop()
				return
			}
			var refused *RefusedError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), "QUOIT_ALLOW_OLDER_SNAPSHOT=true") {
				t.Fatalf("it does not say what to do: %v", err)
			}
			m.older = true
			err = m.restore(Search{Older: true})
			if c.never {
				if err == nil {
					t.Fatal("it went on from a piece of log that is damaged")
				}
				return
			}
			must(t, err)
			if m.base.Missing == "" && c.archive != ArchiveOff {
				t.Error("it does not say what is missing")
			}
			m.check(1)
			// Whatever happens from here on, old and new positions are never mixed.
			must(t, m.put(300, 330, "anew"))
			must(t, m.send())
			must(t, m.cut())
			must(t, m.restore(Search{}))
			m.check(m.sent)
			m.stop()
		})
	}
}

// TestARestoredNodeThatStopsBeforeItsFirstSnapshotStartsAgain: its log begins at a
// multiple of 8, and the few bytes between that and the end of the snapshot were taken
// for a gap.
func TestARestoredNodeThatStopsBeforeItsFirstSnapshotStartsAgain(t *testing.T) {
	odd := 0
	for length := range 8 {
		m := newMachine(t)
		m.archive = ArchiveOff
		must(t, m.boot())
		must(t, m.put(0, 1, "value"))
		_, err := m.engine.SetMark(engine.Mark{Cluster: strings.Repeat("c", length)}) // Nobody waits for it.
		must(t, err)
		must(t, m.cut())
		must(t, m.restore(Search{Snapshots: true}))
		if m.log.Start() > m.base.State.LSN {
			odd++
		}
		m.restart()
		must(t, m.put(1, 2, "later"))
		m.restart()
		m.stop()
	}
	if odd == 0 {
		t.Error("every snapshot ended where a log can begin")
	}
}

// restore loses the disk and starts from the bucket.
func (m *machine) restore(s Search) error {
	bases, err := m.loseDisk(s)
	if err != nil {
		return err
	}
	return m.boot(bases...)
}

func TestASnapshotSendsOnlyTheSlicesThatChanged(t *testing.T) {
	m := newMachine(t)
	m.segment = 1 << 20
	must(t, m.boot())
	big := strings.Repeat("v", 3<<10)
	for i := 0; i < 9000; i += 1000 { // enough for several slices
		must(t, m.put(i, i+1000, fmt.Sprint(i, big)))
	}
	must(t, m.cut())
	first, err := m.store.Current(t.Context())
	must(t, err)
	if len(first.Parts) < 4 {
		t.Fatalf("%d parts", len(first.Parts))
	}
	must(t, m.put(7, 8, "changed"))
	must(t, m.cut())
	second, err := m.store.Current(t.Context())
	must(t, err)
	at := ring.PositionOfString("key:7")
	for i, p := range second.Parts {
		mine := p.Slice.First <= at && at <= p.Slice.Last
		if again := p.Key == first.Parts[i].Key; again == mine {
			t.Errorf("part %d of %+v is the old one: %v, and has the changed key: %v", i, p.Slice, again, mine)
		}
	}
	m.restart() // what is referred to again is in the folder still
	if m.base == nil || !m.base.Local {
		t.Fatalf("it started from %+v", m.base)
	}
	must(t, m.put(8, 9, "changed"))
	must(t, m.cut())
	if s := m.keeper.Status().Last; s.Reused != len(second.Parts)-1 {
		t.Errorf("after a restart %d of %d parts were referred to again", s.Reused, len(second.Parts))
	}
	must(t, m.restore(Search{}))
	m.check(m.acked)
	m.stop()
}

func TestNothingNewIsNoSnapshot(t *testing.T) {
	m := started(t)
	before := m.memoryCalls()
	must(t, m.cut())
	if s := m.keeper.Status(); s.Sequence != 1 {
		t.Errorf("it is at snapshot %d", s.Sequence)
	}
	if after := m.memoryCalls(); after != before {
		t.Errorf("%d operations on disk and bucket for nothing", after-before)
	}
	must(t, m.send()) // what the log has had since: nothing
	if after := m.memoryCalls(); after != before {
		t.Errorf("%d operations on disk and bucket to archive nothing", after-before)
	}
	m.stop()
}

func (m *machine) memoryCalls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}
