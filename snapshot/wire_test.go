package snapshot

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// richManifest has something in every field.
func richManifest() Manifest {
	k, _ := keysOf(testNode)
	other := ID{0xff}
	m := Manifest{
		Cluster: testCluster, Node: testNode, Incarnation: 1<<64 - 1, Snapshot: testID, Sequence: 9, Created: 1_700_000_000_000,
		HLC: 1<<64 - 1, Cuts: []uint64{0, 1<<64 - 1, 5}, LedgerLSN: 77, State: []byte{0, 1, 255, '<'},
		Document: DocumentMark{testCluster, 3, 4}, Owned: []ring.Range{{Start: 5, End: 9}, {Start: ring.MaxPosition, End: ring.MaxPosition}},
		Log: []LogPiece{
			{Key: k.log(3, 5, 9), Incarnation: 3, From: 5, To: 9, Size: 4, CRC: 1, FirstMS: 1, LastMS: 2},
			{Key: k.log(4, 0, 9), Incarnation: 4, From: 0, To: 9, Size: 4, CRC: 1, FirstMS: 2, LastMS: 2},
		},
	}
	for i, slice := range Slices(1) {
		info := PartInfo{
			Snapshot: other, Number: uint32(i), Size: 64 + 100 + 32 + 96, CRC: 5, Blocks: 1, Entries: 2, Raw: 90,
			First: slice.First, Last: slice.Last, Newest: 3, IndexOffset: 164, IndexLength: 32,
		}
		m.Parts = append(m.Parts, Part{k.part(other, uint32(i)), slice, info})
	}
	return m
}

// richHead has something in every field.
func richHead() Head {
	k, _ := keysOf(testNode)
	kept := func(sequence uint64) Kept {
		return Kept{
			Sequence: sequence, Manifest: k.manifest(sequence, "nonce"), SHA256: strings.Repeat("0a", 32), Snapshot: testID,
			Incarnation: 3, Created: 5, HLC: 1 << 63, Entries: 7, Size: 8, Verified: sequence == 2, VerifiedAt: int64(sequence&2) / 2,
		}
	}
	old := kept(1)
	old.VerifiedAt = 0
	return Head{
		Cluster: testCluster, Node: testNode, Incarnation: 4, Counter: 6, Nonce: "b", Recent: []string{"a"},
		Snapshots: []Kept{kept(2), {Sequence: 5, Manifest: k.manifest(5, "n"), SHA256: strings.Repeat("ff", 32)}},
		Condemned: []Condemned{{old, 99}}, Log: richManifest().Log,
	}
}

func TestManifestAndHeadAreReadAsWritten(t *testing.T) {
	m := richManifest()
	b, err := m.Encode()
	must(t, err)
	got, err := DecodeManifest(b)
	must(t, err)
	if !reflect.DeepEqual(got, m) {
		t.Errorf("got\n%+v, want\n%+v", got, m)
	}
	h := richHead()
	b, err = h.Encode()
	must(t, err)
	head, err := DecodeHead(b)
	must(t, err)
	if !reflect.DeepEqual(head, h) {
		t.Errorf("got\n%+v, want\n%+v", head, h)
	}
}

// spoiled are ways to spoil a text, and what the answer has to speak of.
var spoiled = map[string]struct{ from, to, want string }{
	"an unknown field":     {`"node":`, `"mode":`, "mode"},
	"a field twice":        {`"cluster":"6f1c2d0e"`, `"cluster":"6f1c2d0e","cluster":"6f1c2d0e"`, "form"},
	"another case":         {`"cluster"`, `"Cluster"`, "form"},
	"spaces":               {`"cluster":`, `"cluster": `, "form"},
	"something behind":     {"}\n", "}\n{}", "follows"},
	"a cut":                {"}\n", "", "damaged"},
	"no format":            {`"format":1,`, ``, "format"},
	"an invalid address":   {`"node":"10.0.0.1:7401"`, `"node":"10.0.0.1"`, "address"},
	"another node":         {`"node":"10.0.0.1:7401"`, `"node":"10.0.0.2:7401"`, "not its own"},
	"no cluster":           {`"cluster":"6f1c2d0e"`, `"cluster":""`, "cluster"},
	"a piece out of order": {`log/00000000000000000003-`, `log/00000000000000000005-`, "not its own"},
}

func TestSpoiledTextsAreRefused(t *testing.T) {
	manifest, head := must1(richManifest().Encode()), must1(richHead().Encode())
	for name, s := range spoiled {
		for what, text := range map[string][]byte{"manifest": manifest, "head": head} {
			bad := strings.Replace(string(text), s.from, s.to, 1)
			if bad == string(text) {
				t.Fatalf("%s: nothing in the %s was changed", name, what)
			}
			_, err := DecodeManifest([]byte(bad))
			if what == "head" {
				_, err = DecodeHead([]byte(bad))
			}
			var f *FormatError
			if !errors.As(err, &f) || !strings.Contains(err.Error(), s.want) {
				t.Errorf("%s with %s: got %v, want something about %q", what, name, err, s.want)
			}
		}
	}
}

func TestTextsOfTheFutureSaySo(t *testing.T) {
	for what, text := range map[string][]byte{"manifest": must1(richManifest().Encode()), "head": must1(richHead().Encode())} {
		next := bytes.Replace(text, []byte(`"format":1,`), []byte(`"format":2,"unheardOf":[{}],`), 1)
		_, err := DecodeManifest(next)
		if what == "head" {
			_, err = DecodeHead(next)
		}
		var v *VersionError
		if !errors.As(err, &v) || v.Version != 2 || !strings.Contains(err.Error(), "newer") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func TestInconsistentManifestsAreNotWritten(t *testing.T) {
	for name, spoil := range map[string]func(m *Manifest){
		"sequence 0":              func(m *Manifest) { m.Sequence = 0 },
		"a foreign key":           func(m *Manifest) { m.Parts[0].Key = "nodes/other/parts/x-1" },
		"a part twice":            func(m *Manifest) { m.Parts[1].Key, m.Parts[1].PartInfo = m.Parts[0].Key, m.Parts[0].PartInfo },
		"overlapping slices":      func(m *Manifest) { m.Parts[1].Slice.First-- },
		"entries outside a slice": func(m *Manifest) { m.Parts[0].Last = m.Parts[0].Slice.Last + 1 },
		"versions of the future":  func(m *Manifest) { m.HLC = 2 },
		"an impossible index":     func(m *Manifest) { m.Parts[0].IndexLength++ },
		"log in the wrong order":  func(m *Manifest) { m.Log[0], m.Log[1] = m.Log[1], m.Log[0] },
		"log that ends too soon":  func(m *Manifest) { m.Log[0].LastMS = 0 },
		"too many cuts":           func(m *Manifest) { m.Cuts = make([]uint64, MaxCuts+1) },
		"too much state":          func(m *Manifest) { m.State = make([]byte, MaxState+1) },
	} {
		m := richManifest()
		spoil(&m)
		var f *FormatError
		if _, err := m.Encode(); !errors.As(err, &f) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestTheLargestManifestCanBeRead(t *testing.T) {
	m := richManifest()
	part, piece := m.Parts[0], m.Log[0]
	k, _ := keysOf(testNode)
	m.Parts, m.Log = nil, nil
	for i, slice := range Slices(14) {
		p := part
		p.Slice, p.First, p.Last, p.Number = slice, slice.First, slice.Last, uint32(i)
		p.Key = k.part(p.Snapshot, p.Number)
		m.Parts = append(m.Parts, p)
		l := piece
		l.From, l.To = uint64(i), uint64(i)+1
		l.Key = k.log(l.Incarnation, l.From, l.To)
		m.Log = append(m.Log, l)
	}
	m.Cuts, m.State = make([]uint64, MaxCuts), make([]byte, MaxState)
	b, err := m.Encode()
	must(t, err)
	got, err := DecodeManifest(b)
	must(t, err)
	if len(got.Parts) != MaxParts || len(got.Log) != MaxPieces {
		t.Errorf("%d parts and %d pieces of log", len(got.Parts), len(got.Log))
	}
}

// FuzzManifest: any bytes at all. What is read is written as the same bytes.
func FuzzManifest(f *testing.F) {
	text := must1(richManifest().Encode())
	f.Add(text)
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"parts":[{}]}`))
	for _, s := range spoiled {
		f.Add([]byte(strings.Replace(string(text), s.from, s.to, 1)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(b)
		if err != nil {
			explained(t, err)
			return
		}
		again, err := m.Encode()
		must(t, err)
		if !bytes.Equal(again, b) {
			t.Errorf("read\n%s, wrote\n%s", b, again)
		}
	})
}

// FuzzHead: likewise.
func FuzzHead(f *testing.F) {
	text := must1(richHead().Encode())
	f.Add(text)
	f.Add([]byte(`{"format":99999999999999999999}`))
	for _, s := range spoiled {
		f.Add([]byte(strings.Replace(string(text), s.from, s.to, 1)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := DecodeHead(b)
		if err != nil {
			explained(t, err)
			return
		}
		again, err := h.Encode()
		must(t, err)
		if !bytes.Equal(again, b) {
			t.Errorf("read\n%s, wrote\n%s", b, again)
		}
	})
}

// FuzzParseNodeName reads names as a listing of a bucket gives them: each is the name
// of one address, or of none.
func FuzzParseNodeName(f *testing.F) {
	for _, seed := range []string{"10.0.0.1__7401", "_5b____1_5d__7401", "_", "__", "_5", "_zz", "a_2fb", "_+5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		address, err := ParseNodeName(name)
		if err != nil {
			return
		}
		if again, err := NodeName(address); err != nil || again != name {
			t.Fatalf("%q is %q, whose name is %q (%v)", name, address, again, err)
		}
	})
}
