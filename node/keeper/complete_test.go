package keeper

import (
	"bytes"
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// complete is what the bucket says of the end of the node's log.
func (m *machine) complete() snapshot.Complete {
	m.t.Helper()
	h, err := m.store.Head(context.Background())
	must(m.t, err)
	return h.Complete
}

// TestWhatIsSettledIsInTheLog: behind the position no record is of the moment or before,
// whatever writers do meanwhile.
func TestWhatIsSettledIsInTheLog(t *testing.T) {
	m := newMachine(t)
	must(t, m.boot())
	defer m.stop()
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			s := m.engine.NewSession()
			for i := 0; ctx.Err() == nil; i++ {
				key := []byte{byte('a' + w), byte(i), byte(i >> 8)}
				if _, err := s.Put(ring.PositionOf(key), key, key, engine.PutOptions{}); err != nil {
					t.Error(err)
					return
				}
				if i%64 == 0 {
					if err := s.Wait(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	var said []snapshot.Complete
	for len(said) < 300 {
		at, to := m.engine.Settled()
		said = append(said, snapshot.Complete{At: at, To: uint64(to)})
	}
	cancel()
	writers.Wait()
	must(t, m.log.SyncTo(m.log.Appended()))
	for at, version := range versions(t, m.log) {
		for _, c := range said {
			if uint64(at) > c.To && version.Millis() <= c.At {
				t.Fatalf("a record of %d ends at %s, behind %d, where everything up to %d was said to be", version.Millis(), at, c.To, c.At)
			}
		}
	}
}

// versions returns the version of each record of a log, by where it ends.
func versions(t *testing.T, log *wal.Log) map[wal.LSN]engine.Version {
	t.Helper()
	pieces, err := log.Pieces(log.Start())
	must(t, err)
	all := map[wal.LSN]engine.Version{}
	for _, p := range pieces {
		var body bytes.Buffer
		must(t, log.CopyPiece(&body, p))
		must(t, wal.NewArchiveReader(p.From).Read("log", &body, func(payload []byte, end wal.LSN) error {
			at := wal.PayloadStart(payload, end)
			for {
				rec, rest, err := wal.NextRecord(payload)
				if err != nil || rec == nil {
					return err
				}
				at += wal.LSN(len(payload) - len(rest))
				payload = rest
				if v, ok := engine.RecordVersion(rec); ok {
					all[at] = v
				}
			}
		}))
	}
	return all
}

// TestAnIdleNodeHasSaidThatThisIsAll: the last piece says so without a request of its
// own, SNAPSHOT says it again where nothing has changed, and so does a node that stops.
func TestAnIdleNodeHasSaidThatThisIsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		k, stop := running(t, m, func(*Options) {})
		sleep(time.Second)
		must(t, m.put(0, 10, "new"))
		written := time.Now().UnixMilli()
		sleep(time.Hour)
		c := m.complete()
		if c.At <= written || c.To != uint64(m.log.Appended()) {
			t.Errorf("idle since %d, the archive is complete as of %+v; the log ends at %d", written, c, m.log.Appended())
		}
		_, err := k.Snapshot(t.Context())
		must(t, err)
		sleep(time.Hour)
		before := time.Now().UnixMilli()
		s, err := k.Snapshot(t.Context())
		must(t, err)
		if c := m.complete(); c.At < before-1 || s.Sequence != 1 {
			t.Errorf("asked at %d, snapshot %d, the archive is complete as of %+v", before, s.Sequence, c)
		}
		must(t, m.put(10, 20, "last words"))
		before = time.Now().UnixMilli()
		stop()
		if c := m.complete(); c.At < before-1 {
			t.Errorf("stopped at %d, the archive is complete as of %+v", before, c)
		}
	})
}

// TestANodeThatStopsArchivesTheRest: what was written since the last piece was on its
// disk alone, also when it had been stopped in order, for good.
func TestANodeThatStopsArchivesTheRest(t *testing.T) {
	for name, c := range map[string]struct {
		mode     ArchiveMode
		away     bool
		archived bool
	}{
		"interval": {ArchiveInterval, false, true}, "segment": {ArchiveSegment, false, true},
		"off": {ArchiveOff, false, false}, "bucket away": {ArchiveInterval, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				k, stop := running(t, m, func(o *Options) { o.Archive = c.mode })
				sleep(time.Second)
				must(t, m.put(0, 10, "last words"))
				if c.away {
					m.fail(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Before: bucket.ErrUnavailable} })
				}
				began, end := time.Now(), m.log.Appended()
				stop()
				if done := k.archive.end() >= end; done != c.archived {
					t.Errorf("the archive ends at %s, the log at %s", k.archive.end(), end)
				}
				if took := time.Since(began); took > lastWord+time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// TestAnArchiveThatIsNotCompleteDoesNotSaySo: only full segments go, so the rest is on
// the disk alone.
func TestAnArchiveThatIsNotCompleteDoesNotSaySo(t *testing.T) {
	m := newMachine(t)
	must(t, m.boot())
	defer m.stop()
	must(t, m.put(0, 300, "value")) // several segments
	must(t, m.keeper.send(t.Context(), 0, math.MaxUint64, true))
	if c := m.complete(); m.keeper.archive.end() == 0 || c != (snapshot.Complete{}) {
		t.Errorf("the archive ends at %s, complete as of %+v; the log ends at %s", m.keeper.archive.end(), c, m.log.Appended())
	}
}

// TestAClockThatStepsBackOverARestartMakesNoLiar: the archive was said to be complete as
// of a moment that the node, started again, had before it still: what it wrote then was
// called complete while it lay on the disk alone.
func TestAClockThatStepsBackOverARestartMakesNoLiar(t *testing.T) {
	m := newMachine(t)
	now := int64(1_000_000)
	m.wall = func() int64 { return now }
	must(t, m.boot())
	must(t, m.put(0, 10, "before"))
	now += 60_000
	must(t, m.keeper.vouch(t.Context()))
	if c := m.complete(); c.At < 1_000_000 {
		t.Fatalf("it is complete as of %+v", c)
	}
	said := m.complete()
	m.stop()
	now += 1_000 // In the same millisecond it would have to take that one back.
	must(t, m.boot())
	if c := m.complete(); c != said {
		t.Errorf("started again with its clock as it was, the archive is complete as of %+v, not %+v", c, said)
	}
	m.stop()

	now = 1_020_000
	must(t, m.boot())
	must(t, m.put(0, 10, "after"))
	if c := m.complete(); c.At >= now || c.At < 1_000_000 {
		t.Errorf("it wrote at %d and archived nothing, and is complete as of %+v", now, c)
	}
	m.stop()
}
