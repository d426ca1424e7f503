package engine

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/quoitdb/quoit/ring"
)

func TestNothingIsServedBeforeOwnershipIsKnown(t *testing.T) {
	m := newOwner(t)
	m.user().fill(50)
	m.reboot()
	u := m.user()
	_, err := u.lookup("key:1")
	wantErr(t, err, ErrNotOwned)
	_, err = u.Put(at("key:1"), []byte("key:1"), nil, PutOptions{})
	wantErr(t, err, ErrNotOwned)
	if n := m.Count(); n != 0 {
		t.Fatalf("%d keys are counted", n)
	}
	if n := len(u.scanAll(10)); n != 0 {
		t.Fatalf("a scan gives %d keys", n)
	}
	if r := m.Recovered(); r.Keys != 50 {
		t.Fatalf("%d keys recovered", r.Keys)
	}
	// Nobody has said yet that they are someone else's: nothing may be wiped.
	if lsn, err := m.WipeForeign(); err != nil || lsn != 0 {
		t.Fatalf("wiped at %s, %v", lsn, err)
	}
	m.Tick(1 << 20)
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	u.want("key:1", "value 1")
}

func TestLeftoversAreHiddenWipedAndDoNotComeBack(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.fill(500)
	half := ring.Range{Start: 1 << 31, End: ring.MaxPosition}
	must(t, m.SetOwnership([]ring.Range{half}))
	kept := m.Count()
	if kept == 0 || kept == 500 {
		t.Fatalf("%d keys in half the ring", kept)
	}
	// Taking the range back as it is would revive what may be outdated.
	wantErr(t, m.SetOwnership([]ring.Range{wholeRing}), ErrConflict)
	if n := m.Count(); n != kept {
		t.Fatalf("%d leftovers are served", n-kept)
	}
	m.sync(m.WipeForeign())
	must(t, m.SetOwnership([]ring.Range{wholeRing})) // Frees what is doomed at once.
	if n := m.Count(); n != kept {
		t.Fatalf("%d leftovers are served", n-kept)
	}
	m.crash(lose)
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	if n := m.Count(); n != kept {
		t.Fatalf("%d keys came back from the log", n-kept)
	}
}

func TestDoomedMemoryIsFreedByTicks(t *testing.T) {
	m := newOwner(t)
	m.user().fill(5000)
	must(t, m.SetOwnership([]ring.Range{{Start: 1 << 31, End: 1<<31 + 1<<20}}))
	m.sync(m.WipeForeign())
	if s := m.Stats(); s.Doomed < 4000 {
		t.Fatalf("%d keys are doomed", s.Doomed)
	}
	for i := 0; m.Tick(100); i++ {
		if i > 1000 {
			t.Fatal("the ticks do not come to an end")
		}
	}
	if s := m.Stats(); s.Doomed != 0 {
		t.Fatalf("%d keys are still there", s.Doomed)
	}
}

func TestSetOwnershipLeavesHeldRangesAlone(t *testing.T) {
	m := newMachine(t, nil)
	t.Cleanup(m.stop)
	a, b, c := quarters(1), quarters(2), quarters(3)
	must(t, m.SetOwnership([]ring.Range{a}))
	m.sync(m.Seal("out", a))
	m.sync(m.Stage("in", b))
	must(t, m.SetOwnership([]ring.Range{a, b, c}))
	s, g := m.Held()
	if len(s) != 1 || s[0].Range != a || len(g) != 1 || g[0].Range != b {
		t.Fatalf("held: %v and %v", s, g)
	}
	u := m.user()
	u.put(keysIn(c, 1)[0], "v")
	_, err := u.lookup(keysIn(b, 1)[0])
	wantErr(t, err, ErrNotOwned)
	must(t, m.SetOwnership(nil))
	if s, g := m.Held(); len(s) != 1 || len(g) != 1 {
		t.Fatalf("held: %v and %v", s, g)
	}
}

// quarters returns the n-th quarter of the ring, wrapping.
func quarters(n int) ring.Range {
	start := ring.Position(n<<30) - 1<<20
	return ring.Range{Start: start, End: start + 1<<30}
}

// Segments against a map of positions: any sequence of ranges and states keeps
// them sorted, complete and counted.
func TestSegmentsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t, nil)
		defer m.stop()
		must(t, m.SetOwnership([]ring.Range{wholeRing}))
		s := m.NewSession()
		// Positions on a coarse grid, so that borders and keys meet.
		position := rapid.Custom(func(t *rapid.T) ring.Position {
			return ring.Position(rapid.Uint32Range(0, 1<<10-1).Draw(t, "grid")<<22 - rapid.Uint32Range(0, 1).Draw(t, "less"))
		})
		keys := map[ring.Position]int{}
		for i := range rapid.IntRange(0, 60).Draw(t, "keys") {
			pos := position.Draw(t, "pos")
			_, err := s.Put(pos, []byte{byte(i)}, nil, PutOptions{})
			must(t, err)
			keys[pos]++
		}
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			r := ring.Range{Start: position.Draw(t, "start"), End: position.Draw(t, "end")}
			to := rapid.SampledFrom([]state{owned, foreign, sealed}).Draw(t, "state")
			m.setState(r, to, nil)
			checkSegments(t, m)
			want := 0
			for pos, n := range keys {
				if got := m.part(pos).at(pos).state; r.Contains(pos) && got != to {
					t.Fatalf("%s in %s is %d, want %d", pos, r, got, to)
				}
				if r.Contains(pos) {
					want += n
				}
			}
			if n := m.count(r); n != uint64(want) {
				t.Fatalf("%d keys in %s, want %d", n, r, want)
			}
		}
	})
}

func checkSegments(t tester, m *machine) {
	t.Helper()
	for i := range m.parts {
		p := &m.parts[i]
		sum := 0
		for j, seg := range p.segs {
			if n := p.countEntries(p.begin(j), seg.end); n != seg.keys || p.begin(j) > seg.end {
				t.Fatalf("partition %d: segment %d has %d keys and counts %d", i, j, n, seg.keys)
			}
			sum += seg.keys
			if j > 0 && p.segs[j-1].state == seg.state && p.segs[j-1].hold == seg.hold {
				t.Fatalf("partition %d: segments %d and %d are alike", i, j-1, j)
			}
		}
		if sum != p.table.Len() || p.segs[len(p.segs)-1].end != p.hi {
			t.Fatalf("partition %d: %d keys of %d", i, sum, p.table.Len())
		}
	}
}

// Pieces cover a range exactly, each within one partition.
func TestPiecesCoverTheRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := ring.Range{
			Start: ring.Position(rapid.Uint32().Draw(t, "start")), End: ring.Position(rapid.Uint32().Draw(t, "end")),
		}
		if rapid.Bool().Draw(t, "whole") {
			r.End = r.Start
		}
		next, size := r.Start+1, uint64(0)
		for _, pc := range pieces(r) {
			if pc.from != next || pc.to < pc.from || int(pc.from/partitionSpan) != pc.index || int(pc.to/partitionSpan) != pc.index {
				t.Fatalf("piece %+v of %s, expected to begin at %s", pc, r, next)
			}
			next = pc.to + 1
			size += uint64(pc.to-pc.from) + 1
		}
		if size != r.Size() || next != r.End+1 {
			t.Fatalf("the pieces of %s cover %d of %d", r, size, r.Size())
		}
	})
}
