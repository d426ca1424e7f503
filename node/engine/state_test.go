package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"iter"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// someState has every field filled.
func someState() *State {
	s := &State{
		LSN: 1 << 40, HLC: maxVersion, Mark: Mark{Cluster: strings.Repeat("c", maxName), Epoch: 5, Counter: 6},
		Sealed: []HeldRange{{Move: "a", Range: ring.Range{Start: 1, End: 2}}},
		Staged: []HeldRange{
			{Move: "b", Range: wholeRing, Complete: true, HLC: 7, Count: 8},
			{Move: strings.Repeat("m", maxName), Range: ring.Range{Start: 9, End: 4}},
		},
		Owned: []ring.Range{{Start: ring.MaxPosition, End: 3}, {Start: 10, End: 20}},
	}
	for i := range s.Cuts {
		s.Cuts[i] = 1<<40 - wal.LSN(i)
	}
	return s
}

func TestStatesComeBack(t *testing.T) {
	for name, want := range map[string]*State{
		"full": someState(), "empty": {Sealed: []HeldRange{}, Staged: []HeldRange{}},
	} {
		s, err := DecodeState(want.Encode())
		must(t, err)
		if !reflect.DeepEqual(s, want) {
			t.Errorf("%s: %+v came back as %+v", name, want, s)
		}
	}
	if least := someState().MinCut(); least != 1<<40-255 {
		t.Errorf("the least cut is %d", least)
	}
}

// seal gives bytes the checksum of a state.
func sealState(body []byte) []byte {
	return binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, stateSum))
}

func TestDamagedStatesAreRefused(t *testing.T) {
	whole := someState().Encode()
	for n := range whole {
		if _, err := DecodeState(whole[:n]); !errors.Is(err, ErrBase) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		flipped := bytes.Clone(whole)
		flipped[n] ^= 0x10
		if _, err := DecodeState(flipped); !errors.Is(err, ErrBase) {
			t.Fatalf("flipped at %d: %v", n, err)
		}
		// Cut, and with a checksum that is right again.
		if n < len(whole)-4 {
			if _, err := DecodeState(sealState(bytes.Clone(whole[:n]))); !errors.Is(err, ErrBase) {
				t.Fatalf("cut and sealed at %d: %v", n, err)
			}
		}
	}
}

func TestStatesThatContradictThemselvesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *State)
		reason string
	}{
		"a cut behind the ledger":     {func(s *State) { s.Cuts[9] = s.LSN + 1 }, "partition 9"},
		"a clock beyond all versions": {func(s *State) { s.HLC = maxVersion + 1 }, "version"},
		"a sealed range complete":     {func(s *State) { s.Sealed[0].Complete = true }, "complete"},
		"holds out of order":          {func(s *State) { s.Staged[0].Move = "z" }, "out of order"},
		"a hold twice":                {func(s *State) { s.Staged[1] = s.Staged[0] }, "out of order"},
		"a hold without a name":       {func(s *State) { s.Sealed[0].Move = "" }, "without a name"},
		"figures of an incomplete":    {func(s *State) { s.Staged[1].Count = 1 }, "contradicting"},
	} {
		s := someState()
		c.change(s)
		_, err := DecodeState(s.Encode())
		if !errors.Is(err, ErrBase) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := someState().Encode()
	b = b[:len(b)-4]
	if _, err := DecodeState(sealState(append(bytes.Clone(b), 0))); !errors.Is(err, ErrBase) {
		t.Errorf("a byte too many: %v", err)
	}
	b[len(stateMagic)] = 2
	if _, err := DecodeState(sealState(b)); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("of a newer version: %v", err)
	}
}

// FuzzDecodeState: whatever is accepted is exactly what Encode writes.
func FuzzDecodeState(f *testing.F) {
	for _, s := range []*State{someState(), {}} {
		b := s.Encode()
		f.Add(b[:len(b)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b := sealState(bytes.Clone(body))
		s, err := DecodeState(b)
		if err != nil {
			if !errors.Is(err, ErrBase) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(s.Encode(), b) {
			t.Fatalf("%x was accepted, and is written as %x", b, s.Encode())
		}
	})
}

// openOn opens an engine on an empty log that begins at start.
func openOn(t *testing.T, start wal.LSN, base *Base) (*machine, error) {
	t.Helper()
	m := newMachine(t, nil)
	m.stop()
	log, err := wal.Open(wal.Options{FS: m.disk, Dir: "another", SegmentSize: 256 << 10, Start: start})
	must(t, err)
	m.log = log
	e, err := Open(Options{Log: log, Base: base, WallClock: m.clock.now, Monotonic: m.clock.mono, Workers: 2})
	if err != nil {
		must(t, log.Close())
		return nil, err
	}
	m.Engine = e
	return m, nil
}

func TestDamagedBasesAreRefusedWithTheReason(t *testing.T) {
	const lo = 7 * partitionSpan
	good := []Entry{
		{lo, Item{Key: []byte("a"), Version: 1}},
		{lo, Item{Key: []byte("b"), Version: 2}},
		{lo + 5, Item{Key: []byte("a"), Version: 3, ExpireAt: 9}},
	}
	state := (&State{HLC: 100}).Encode()
	ill := errors.New("the bucket is ill")
	for name, c := range map[string]struct {
		change func(e []Entry) []Entry
		fail   error
		reason string
	}{
		"good":                  {func(e []Entry) []Entry { return e }, nil, ""},
		"before the partition":  {func(e []Entry) []Entry { e[0].Position = lo - 1; return e }, nil, "not of this partition"},
		"behind the partition":  {func(e []Entry) []Entry { e[2].Position = lo + partitionSpan; return e }, nil, "not of this partition"},
		"twice":                 {func(e []Entry) []Entry { e[1].Key = e[0].Key; return e }, nil, "twice"},
		"keys out of order":     {func(e []Entry) []Entry { e[0], e[1] = e[1], e[0]; return e }, nil, "out of order"},
		"places out of order":   {func(e []Entry) []Entry { e[1], e[2] = e[2], e[1]; return e }, nil, "out of order"},
		"without a version":     {func(e []Entry) []Entry { e[1].Version = 0; return e }, nil, "version"},
		"newer than the base":   {func(e []Entry) []Entry { e[1].Version = 101; return e }, nil, "newer than the base"},
		"expired before 1970":   {func(e []Entry) []Entry { e[1].ExpireAt = -1; return e }, nil, "negative expiry"},
		"a bucket that is away": {func(e []Entry) []Entry { return e[:1] }, ill, ill.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			entries := c.change(append([]Entry(nil), good...))
			m, err := openOn(t, 0, &Base{State: state, Load: func(i int) iter.Seq2[Entry, error] {
				return func(yield func(Entry, error) bool) {
					for _, e := range entries {
						if i == 7 && !yield(e, nil) {
							return
						}
					}
					if c.fail != nil && i == 7 {
						yield(Entry{}, c.fail)
					}
				}
			}})
			if c.reason == "" {
				must(t, err)
				if len(m.contents()) == 0 {
					t.Fatal("nothing was loaded")
				}
				m.stop()
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.reason) || !strings.Contains(err.Error(), "partition 7") {
				t.Fatalf("error is %v", err)
			}
			if c.fail == nil {
				wantErr(t, err, ErrBase)
			}
		})
	}
}

// A node whose disk is gone comes back from base and archive, on a log that goes on
// where the archive ends, and a piece of the archive that is missing is noticed.
func TestALostDiskComesBackFromBaseAndArchive(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	var archive [][]byte
	archived := wal.LSN(0)
	upload := func() {
		pieces, err := m.log.Pieces(archived)
		must(t, err)
		for _, p := range pieces {
			var b bytes.Buffer
			must(t, m.log.CopyPiece(&b, p))
			archive, archived = append(archive, b.Bytes()), p.To
		}
	}
	read := func(pieces [][]byte) func(wal.LSN, func([]byte, wal.LSN) error) (wal.LSN, error) {
		return func(from wal.LSN, fn func([]byte, wal.LSN) error) (wal.LSN, error) {
			a := wal.NewArchiveReader(from)
			for _, p := range pieces {
				if err := a.Read("piece", bytes.NewReader(p), fn); err != nil {
					return 0, err
				}
			}
			return a.End(), nil
		}
	}
	u.fill(500)
	upload()
	state, p := m.checkpoint()
	for range 3 {
		for i := range 20 {
			_, err := u.Append(at("key:3"), []byte("key:3"), []byte("+"))
			must(t, err)
			u.put("later"+string(rune('a'+i)), "v")
		}
		m.sync(m.Seal("m", lowRange))
		upload()
	}
	want := m.contents()
	base := &Base{State: state.Encode(), Load: p.load, Archive: read(archive)}
	back, err := openOn(t, archived, base)
	must(t, err)
	if got := back.contents(); !maps.Equal(got, want) {
		t.Fatalf("%d entries came back, want %d", len(got), len(want))
	}
	if sealed, _ := back.Held(); len(sealed) != 1 {
		t.Fatalf("holds %v", sealed)
	}
	// It goes on, and comes back once more from base, archive and its own log.
	must(t, back.SetOwnership([]ring.Range{wholeRing}))
	_, err = back.user().Append(at("key:3"), []byte("key:3"), []byte("on the new disk"))
	must(t, err)
	m, u = back, back.user()
	must(t, m.log.SyncTo(m.log.Appended()))
	whole := len(archive)
	lost := archived
	upload() // Now the archive has the first records of the new log, too.
	base.Archive = read(archive)
	u.put("key:9", "on the new disk")
	want = back.contents()
	back.stop()
	back.log, err = wal.Open(wal.Options{FS: back.disk, Dir: "another", SegmentSize: 256 << 10})
	must(t, err)
	back.Engine, err = Open(Options{Log: back.log, Base: base, WallClock: back.clock.now, Monotonic: back.clock.mono})
	must(t, err)
	if got := back.contents(); !maps.Equal(got, want) {
		t.Fatalf("%d entries came back again, want %d", len(got), len(want))
	}
	back.stop()

	var gap *wal.GapError
	archive, archived = archive[:whole], lost
	base.Archive = nil
	if _, err := openOn(t, archived, base); !errors.As(err, &gap) || gap.From != state.MinCut() || gap.Start != archived {
		t.Errorf("without the archive: %v", err)
	}
	base.Archive = read(archive[:len(archive)-1])
	if _, err := openOn(t, archived, base); !errors.As(err, &gap) || gap.Start != archived {
		t.Errorf("without its last piece: %v", err)
	}
	base.Archive = read(append(archive[:1:1], archive[2:]...))
	if _, err := openOn(t, archived, base); !errors.As(err, &gap) {
		t.Errorf("without a piece in the middle: %v", err)
	}
	base.Archive = read(archive)
	_, err = openOn(t, 0, base)
	wantErr(t, err, ErrBase) // New records would get positions that are taken.
	_, err = openOn(t, state.LSN, base)
	wantErr(t, err, ErrBase) // The same: the archive knows of more.
}

func TestRecordsAreShownAsTheyAre(t *testing.T) {
	for _, e := range someEntries {
		r, err := DecodeRecord(appendEntry(nil, e))
		must(t, err)
		if r.Position != e.pos || r.Version != e.version || r.ExpireAt != e.expireAt || !bytes.Equal(r.Key, e.key) ||
			!bytes.Equal(r.Value, e.value) || r.Kind != recordKinds[e.kind] || r.Kind == 0 {
			t.Errorf("%+v is shown as %+v", e, r)
		}
	}
	for _, ev := range someEvents {
		r, err := DecodeRecord(appendEvent(nil, ev))
		must(t, err)
		want := Record{Kind: recordKinds[ev.kind], Move: ev.name, Range: ev.r}
		switch ev.kind {
		case kindMark:
			want = Record{Kind: RecordMark, Mark: Mark{ev.name, ring.Epoch(ev.a), ev.b}}
		case kindComplete:
			want.HLC, want.Count = Version(ev.a), ev.b
		}
		if !reflect.DeepEqual(r, want) || r.Kind == 0 {
			t.Errorf("%+v is shown as %+v", ev, r)
		}
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "another kind": {99}, "too long": append(appendEntry(nil, someEntries[0]), 0), "cut": {1, 2},
	} {
		if _, err := DecodeRecord(b); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The partitions are the ring, each position once.
func TestPartitionsCoverTheRing(t *testing.T) {
	size := uint64(0)
	for i := range Partitions {
		r := PartitionRange(i)
		size += r.Size()
		if before := PartitionRange((i + Partitions - 1) % Partitions); before.End != r.Start {
			t.Fatalf("partition %d is %s, the one before %s", i, r, before)
		}
	}
	if size != 1<<32 || !PartitionRange(0).Contains(0) {
		t.Fatalf("%d positions", size)
	}
}
