package engine

import (
	"bytes"
	"errors"
	"iter"
	"maps"
	"slices"
	"testing"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// entryCopy is an owned copy of an Entry.
type entryCopy struct {
	pos ring.Position
	key string
	got
}

func copyOf(e Entry) entryCopy {
	return entryCopy{e.Position, string(e.Key), got{string(e.Value), e.Version, e.ExpireAt}}
}

// parts are the entries of a checkpoint, as a bucket would keep them.
type parts [Partitions][]entryCopy

// load is what a Base calls.
func (p *parts) load(i int) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, e := range p[i] {
			if !yield(Entry{e.pos, Item{[]byte(e.key), []byte(e.value), e.version, e.expireAt}}, nil) {
				return
			}
		}
	}
}

// take takes one partition and checks that it comes in order.
func (p *parts) take(t tester, cp *Checkpoint, i int) Cut {
	t.Helper()
	p[i] = nil
	cut, err := cp.Partition(i, func(e Entry) error {
		p[i] = append(p[i], copyOf(e))
		return nil
	})
	must(t, err)
	for j := range p[i] {
		if j > 0 && compareEntries(p[i][j-1], p[i][j]) >= 0 {
			t.Fatalf("partition %d: %+v comes before %+v", i, p[i][j-1], p[i][j])
		}
	}
	if cut.Keys != len(p[i]) || cut.Changed > cut.LSN {
		t.Fatalf("partition %d: %d entries and %+v", i, len(p[i]), cut)
	}
	return cut
}

func compareEntries(a, b entryCopy) int {
	if a.pos != b.pos {
		return int(int64(a.pos) - int64(b.pos))
	}
	return bytes.Compare([]byte(a.key), []byte(b.key))
}

// checkpoint takes a whole checkpoint and makes it the machine's base.
func (m *machine) checkpoint() (*State, *parts) {
	m.t.Helper()
	cp, err := m.BeginCheckpoint()
	must(m.t, err)
	defer cp.Close()
	p := &parts{}
	for i := range p {
		p.take(m.t, cp, i)
	}
	s, err := cp.Finish()
	must(m.t, err)
	m.base = &Base{State: s.Encode(), Load: p.load}
	return s, p
}

// contents returns everything that memory holds and the log does not know to be gone.
func (m *machine) contents() map[string]got {
	all := map[string]got{}
	m.segments(func(p *partition, s *segment) {
		if s.gone() {
			return
		}
		i := slices.IndexFunc(p.segs, func(o segment) bool { return o.end == s.end })
		p.walk(p.begin(i), s.end, 1<<30, func(_ ring.Position, e table.Entry) int {
			all[string(e.Key)] = got{string(e.Value), Version(e.Version), e.ExpireAt}
			return 0
		})
	})
	return all
}

func TestANodeComesBackFromABaseAndWhatTheLogKept(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.fill(9000)
	mark := Mark{Cluster: "c", Epoch: 3, Counter: 4}
	m.sync(m.SetMark(mark))
	s, _ := m.checkpoint()
	for i := range 50 {
		u.put("key:"+string(rune('0'+i%10)), "after")
	}
	u.delete("key:77")
	_, err := u.Append(at("key:78"), []byte("key:78"), []byte("+"))
	must(t, err)
	must(t, u.Wait())
	want := m.contents()
	must(t, m.log.Truncate(s.MinCut()))
	if m.log.Start() == 0 {
		t.Fatal("nothing was truncated")
	}
	m.crash(lose)
	if got := m.contents(); !maps.Equal(got, want) {
		t.Fatalf("%d entries came back, want %d", len(got), len(want))
	}
	if r := m.Recovered(); r.Mark != mark || r.Keys != len(want) {
		t.Fatalf("recovered %+v", r)
	}
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	m.user().want("key:78", "value 78+")
	checkSegments(t, m)
}

func TestACheckpointOfAnotherTimeOrLogIsRefused(t *testing.T) {
	m := newOwner(t)
	m.user().fill(9000)
	s, p := m.checkpoint()
	m.user().fill(9000)
	s2, _ := m.checkpoint()
	must(t, m.log.Truncate(s2.MinCut()))
	start := m.log.Start()
	m.stop()
	open := func(base *Base) error {
		log, err := wal.Open(wal.Options{FS: m.disk, Dir: "wal", SegmentSize: 256 << 10})
		must(t, err)
		e, err := Open(Options{Log: log, Base: base, WallClock: m.clock.now})
		if err == nil {
			must(t, e.Close())
		}
		must(t, log.Close())
		return err
	}
	var gap *wal.GapError
	if err := open(nil); !errors.As(err, &gap) || gap.From != 0 || gap.Start != start {
		t.Errorf("without a base: %v", err)
	}
	old := &Base{State: s.Encode(), Load: p.load}
	if err := open(old); !errors.As(err, &gap) || gap.From != s.MinCut() || gap.Start != start {
		t.Errorf("with a base that is too old: %v", err)
	}
	ahead := *s2
	ahead.LSN = 1 << 40
	wantErr(t, open(&Base{State: ahead.Encode(), Load: p.load}), ErrBase)
	wantErr(t, open(&Base{State: s2.Encode()}), ErrBase)
	wantErr(t, open(&Base{State: s2.Encode()[1:], Load: p.load}), ErrBase)
	must(t, open(m.base))
	m.boot()
}
