package engine

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

func TestRecoveryIsTheSameWithAnyNumberOfWorkers(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	want := u.fill(2000)
	for i := range 500 {
		key := fmt.Sprint("key:", i)
		switch i % 3 {
		case 0:
			u.delete(key)
			delete(want, key)
		case 1:
			_, err := u.Append(at(key), []byte(key), []byte("+"))
			must(t, err)
			want[key] += "+"
		case 2:
			_, err := u.Expire(at(key), []byte(key), startedAt+1000, ExpireAlways)
			must(t, err)
		}
	}
	r := ring.Range{Start: 1<<30 + 5, End: 2<<30 + 7}
	m.sync(m.Seal("m", r))
	m.sync(m.Drop("m"))
	want = within(want, r, false)
	newest := m.Version()
	for _, workers := range []int{1, 2, 3, 7, 256, 1000} {
		m.stop()
		log, err := wal.Open(wal.Options{FS: m.disk, Dir: "wal", SegmentSize: 256 << 10})
		must(t, err)
		e, err := Open(Options{Log: log, WallClock: m.clock.now, Workers: workers})
		must(t, err)
		m.log, m.Engine = log, e
		must(t, m.SetOwnership([]ring.Range{wholeRing}))
		if got := m.user().scanAll(500); !maps.Equal(got, want) {
			t.Fatalf("%d workers: %d keys, want %d", workers, len(got), len(want))
		}
		checkSegments(t, m)
		if v := m.Version(); v <= newest-1<<counterBits {
			t.Fatalf("%d workers: version %s long after %s", workers, v, newest)
		}
	}
}

// At every step of a move, what a restart finds.
func TestWhatARestartFinds(t *testing.T) {
	r := shapes["over the top"]
	sealed := []HeldRange{{Move: "m", Range: r}}
	none := []HeldRange{}
	type found struct{ sealed, staged []HeldRange }
	p := newTestPair(t, r)
	p.source.user().fill(100)
	n := uint64(len(within(p.source.user().scanAll(100), r, true)))
	staged := func(hlc Version) []HeldRange {
		return []HeldRange{{Move: "m", Range: r, Complete: true, HLC: hlc, Count: n}}
	}
	check := func(step string, source, target found) {
		t.Helper()
		for name, c := range map[string]struct {
			m    *machine
			want found
		}{"source": {p.source, source}, "target": {p.target, target}} {
			clone := c.m.disk.CrashClone(lose)
			log, err := wal.Open(wal.Options{FS: clone, Dir: "wal", SegmentSize: 256 << 10})
			must(t, err)
			e, err := Open(Options{Log: log, WallClock: c.m.clock.now})
			must(t, err)
			got := e.Recovered()
			if !reflect.DeepEqual(found{got.Sealed, got.Staged}, c.want) {
				t.Errorf("%s of the %s: found %+v, want %+v", step, name, got, c.want)
			}
			s, g := e.Held()
			if !reflect.DeepEqual(found{s, g}, c.want) {
				t.Errorf("%s of the %s: holds %+v and %+v", step, name, s, g)
			}
			must(t, e.Close())
			must(t, log.Close())
		}
	}
	check("begin", found{none, none}, found{none, none})
	p.begin("m")
	check("stage", found{none, none}, found{none, []HeldRange{{Move: "m", Range: r}}})
	p.copy("m")
	p.source.sync(p.source.Seal("m", r))
	check("seal", found{sealed, none}, found{none, []HeldRange{{Move: "m", Range: r}}})
	p.seal("m")
	_, held := p.target.Held()
	check("complete", found{sealed, none}, found{none, staged(held[0].HLC)})
	p.target.sync(p.target.Activate("m"))
	check("activate", found{sealed, none}, found{none, none})
	p.source.sync(p.source.Drop("m"))
	check("drop", found{none, none}, found{none, none})
}

// When the end of a hold did not get into the log, a later record about the same
// part of the ring ends it.
func TestALaterHoldEndsAnEarlierOne(t *testing.T) {
	l := ledger{sealed: map[string]HeldRange{}, staged: map[string]HeldRange{}}
	a, b, c := ring.Range{Start: 10, End: 20}, ring.Range{Start: 15, End: 30}, ring.Range{Start: 30, End: 40}
	l.apply(event{kind: kindSeal, name: "m1", r: a})
	l.apply(event{kind: kindStage, name: "m2", r: c})
	l.apply(event{kind: kindStage, name: "m3", r: b})
	if s, g := inOrder(l.sealed), inOrder(l.staged); len(s) != 0 || len(g) != 2 {
		t.Fatalf("sealed %v, staged %v", s, g)
	}
	l.apply(event{kind: kindWipe, r: wholeRing})
	if len(l.staged) != 0 {
		t.Fatalf("staged %v after the wipe of everything", l.staged)
	}
}

func TestMarkComesBack(t *testing.T) {
	m := newOwner(t)
	if r := m.Recovered(); r.Mark != (Mark{}) {
		t.Fatalf("a new engine has %+v", r.Mark)
	}
	for i := range uint64(3) {
		m.sync(m.SetMark(Mark{Cluster: "c1", Epoch: ring.Epoch(i), Counter: 10 * i}))
	}
	_, err := m.SetMark(Mark{Cluster: strings.Repeat("c", 256)})
	wantErr(t, err, ErrConflict)
	m.crash(lose)
	if r := m.Recovered(); r.Mark != (Mark{Cluster: "c1", Epoch: 2, Counter: 20}) {
		t.Fatalf("recovered %+v", r.Mark)
	}
}

// A log with records of something else, or of a newer Quoit, is refused whole.
func TestForeignRecordsAreRefused(t *testing.T) {
	for name, rec := range map[string][]byte{
		"empty":           {},
		"of a newer kind": append([]byte{99}, make([]byte, 40)...),
		"too long":        append(appendEntry(nil, entry{kind: kindPut, version: 1}), 0),
		"without a base":  appendEntry(nil, entry{kind: kindAppend, version: 1, key: []byte("k")}),
		"a mark cut":      appendEvent(nil, event{kind: kindMark})[:10],
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewMem()
			log, err := wal.Open(wal.Options{FS: disk, Dir: "wal", SegmentSize: 64 << 10})
			must(t, err)
			e, err := Open(Options{Log: log})
			must(t, err)
			_, err = log.Append(rec)
			must(t, err)
			must(t, e.Close())
			must(t, log.Close())
			log, err = wal.Open(wal.Options{FS: disk, Dir: "wal", SegmentSize: 64 << 10})
			must(t, err)
			_, err = Open(Options{Log: log})
			wantErr(t, err, ErrRecord)
			must(t, log.Close())
		})
	}
}

// FuzzStageApply: whatever a peer sends, the engine refuses or applies it, stays
// whole, and comes back from its log as it was.
func FuzzStageApply(f *testing.F) {
	r := ring.Range{Start: 1 << 31, End: 1 << 30}
	var good []byte
	for _, rec := range someEntries {
		f.Add(appendEntry(nil, rec))
		if r.Contains(rec.pos) && !rec.kind.needsBase() {
			good = appendEntry(good, rec)
		}
	}
	f.Add(good)
	f.Add(append(good, good...))
	f.Fuzz(func(t *testing.T, records []byte) {
		m := newMachine(t, nil)
		defer func() { m.stop() }()
		must(t, m.SetOwnership(nil))
		m.sync(m.Stage("m", r))
		_, _ = m.StageApply("m", records)
		checkSegments(t, m)
		n := m.count(r)
		m.sync(m.StageComplete("m", 1, n))
		m.reboot()
		m.sync(m.Activate("m"))
		if back := m.Count(); uint64(back) != n {
			t.Fatalf("%d keys came back, want %d", back, n)
		}
		checkSegments(t, m)
	})
}

// Acting on the same document again logs nothing, also after a restart.
func TestTheSameMarkIsLoggedOnce(t *testing.T) {
	m := newOwner(t)
	mark := Mark{Cluster: "c", Epoch: 3, Counter: 9}
	first, err := m.SetMark(mark)
	must(t, err)
	end := m.log.Appended()
	again, err := m.SetMark(mark)
	if must(t, err); again != first || m.log.Appended() != end {
		t.Fatalf("logged again: %d after %d", again, first)
	}
	must(t, m.log.SyncTo(again))
	m.reboot()
	end = m.log.Appended()
	if lsn, err := m.SetMark(mark); err != nil || m.log.Appended() != end || m.log.SyncTo(lsn) != nil {
		t.Fatalf("logged again after a restart: %d, %v", lsn, err)
	}
	mark.Counter++
	if lsn, err := m.SetMark(mark); err != nil || lsn <= end {
		t.Fatalf("the next mark: %d, %v", lsn, err)
	}
}
