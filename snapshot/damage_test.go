package snapshot

import (
	"bytes"
	"errors"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// smallPart is a file of several small blocks, some packed and some not.
func smallPart(t testing.TB) (file []byte, entries []Entry, info PartInfo) {
	entries = someEntries(12, 20)
	entries[3].Value = bytes.Repeat([]byte("packed "), blockTarget/7+1) // Packs into a few hundred bytes.
	entries[8].Value = bytes.Repeat([]byte{7}, blockTarget)
	for i := range entries { // Small blocks are worth packing too.
		if i < 3 {
			entries[i].Value = bytes.Repeat([]byte{1}, 200)
		}
	}
	file, info = writePart(t, entries, WriterOptions{Part: 2})
	if info.Blocks != 5 || len(file) > 4000 {
		t.Fatalf("%d blocks in %d bytes are not what these tests want", info.Blocks, len(file))
	}
	return file, entries, info
}

// placeOf says which section an offset lies in.
func placeOf(t testing.TB, file []byte, offset int64) (Section, int) {
	r, err := openPart(file, ReaderOptions{})
	must(t, err)
	switch {
	case offset < headerSize:
		return SectionHeader, -1
	case offset >= r.info.Size-footerSize:
		return SectionFooter, -1
	case offset >= r.info.IndexOffset:
		return SectionIndex, -1
	}
	for i := range r.Blocks() {
		if b := r.Block(i); offset < b.end() {
			return SectionBlock, i
		}
	}
	t.Fatalf("offset %d lies nowhere", offset)
	return "", 0
}

func TestEveryFlippedBitIsFoundWhereItIs(t *testing.T) {
	file, entries, _ := smallPart(t)
	var section Section
	var block int
	for bit := range len(file) * 8 {
		if bit%8 == 0 {
			section, block = placeOf(t, file, int64(bit/8))
		}
		damaged := bytes.Clone(file)
		damaged[bit/8] ^= 1 << (bit % 8)
		r, err := openPart(damaged, ReaderOptions{})
		if err == nil {
			var got []Entry
			got, err = collect(r.All(t.Context()))
			expectEntries(t, got, entries[:len(got)]) // What came before the damage is right.
		}
		c := corruption(t, err)
		if c.Section != section || c.Block != block || c.Offset > int64(bit/8) || c.Offset+c.Length <= int64(bit/8) {
			t.Fatalf("bit %d of byte %d, in %s %d: got %v", bit%8, bit/8, section, block, c)
		}
		if section != SectionBlock {
			continue
		}
		if b := r.Block(block); c.First != b.First || c.Last != b.Last {
			t.Fatalf("bit %d of byte %d: got positions %d to %d, want %d to %d", bit%8, bit/8, c.First, c.Last, b.First, b.Last)
		}
	}
	t.Logf("%d bits were flipped", len(file)*8)
}

func TestEveryTruncationIsFound(t *testing.T) {
	file, _, info := smallPart(t)
	for size := range len(file) {
		_, err := openPart(file[:size], ReaderOptions{})
		corruption(t, err)
		// And where a manifest knows how long the file was.
		_, err = OpenReader(t.Context(), InFile(bytes.NewReader(file[:size])), ReaderOptions{Object: "part", Size: info.Size})
		if c := corruption(t, err); c.Section != SectionFooter && size >= headerSize {
			t.Fatalf("cut to %d bytes: got %v, want a missing footer", size, c)
		}
	}
	_, err := openPart(append(bytes.Clone(file), 0), ReaderOptions{})
	corruption(t, err)
}

func TestAFileThatShrinksWhileItIsReadNamesTheFirstMissingBlock(t *testing.T) {
	file, _, info := smallPart(t)
	s := &shrinkingSource{file, len(file)}
	r, err := OpenReader(t.Context(), s, ReaderOptions{Object: "part", Size: info.Size})
	must(t, err)
	s.size = int(r.Block(2).Offset) + 1
	_, err = collect(r.All(t.Context()))
	if c := corruption(t, err); c.Block != 2 {
		t.Errorf("got %v, want block 2", err)
	}
}

func TestTheRestOfADamagedFileCanBeRead(t *testing.T) {
	file, entries, _ := smallPart(t)
	r, err := openPart(file, ReaderOptions{})
	must(t, err)
	bad := r.Block(2)
	damaged := bytes.Clone(file)
	damaged[bad.Offset+5] ^= 1
	damaged[r.Block(4).Offset+5] ^= 1
	r, err = openPart(damaged, ReaderOptions{})
	must(t, err)
	got, err := collect(r.Range(t.Context(), ring.Range{Start: ring.MaxPosition, End: bad.First - 1}))
	must(t, err)
	expectEntries(t, got, entries[:len(got)])
	if len(got) == 0 {
		t.Error("nothing came before the damage")
	}
	var found []int
	err = r.Verify(t.Context(), nil, func(c *CorruptionError) bool { found = append(found, c.Block); return true })
	if c := corruption(t, err); c.Block != 2 || len(found) != 2 || found[1] != 4 {
		t.Errorf("Verify found %v and returned %v, want blocks 2 and 4", found, err)
	}
}

func TestABlockOfAnotherFileOrPlaceDoesNotPass(t *testing.T) {
	entries := someEntries(10_000, 40)
	for i := range entries {
		entries[i].Value, entries[i].Version, entries[i].ExpireAt = nil, 1, 0
		entries[i].Key = entries[i].Key[:0]
		entries[i].Position = ring.Position(i) * 100_000
	}
	file, _ := writePart(t, entries, WriterOptions{Part: 1})
	sibling, _ := writePart(t, entries, WriterOptions{Part: 2})
	stranger, _ := writePart(t, entries, WriterOptions{Part: 1, Snapshot: NewID()})
	for name, other := range map[string][]byte{"another part": sibling, "another snapshot": stranger} {
		r, err := openPart(file, ReaderOptions{})
		must(t, err)
		b := r.Block(0)
		mixed := bytes.Clone(file)
		copy(mixed[b.Offset:b.end()], other[b.Offset:b.end()])
		r, err = openPart(mixed, ReaderOptions{})
		must(t, err)
		_, err = collect(r.All(t.Context()))
		if c := corruption(t, err); c.Block != 0 {
			t.Errorf("a block of %s: got %v", name, c)
		}
	}
}

// TestFilesThatContradictThemselves: every checksum is right, and yet no honest
// writer has made them.
func TestFilesThatContradictThemselves(t *testing.T) {
	good, _, info := smallPart(t)
	foot := len(good) - footerSize
	for name, test := range map[string]struct {
		at      int // of the byte that is changed
		section Section
		want    string
	}{
		"the part of the footer":  {foot + 56, SectionFooter, "belongs to"},
		"the newest version":      {foot + 32, SectionFooter, "newest version"},
		"the sum of entries":      {foot + 16, SectionIndex, "sums"},
		"an offset in the index":  {int(info.IndexOffset) + 32 + 8, SectionIndex, "follow"},
		"a first position":        {int(info.IndexOffset) + 3*32, SectionBlock, "first position"},
		"the entries of a block":  {headerSize, SectionBlock, ""},
		"the raw size of a block": {int(info.IndexOffset) - 8, SectionBlock, "raw size"},
		"the codec of a block":    {int(info.IndexOffset) - 12, SectionBlock, ""},
	} {
		t.Run(name, func(t *testing.T) {
			file := bytes.Clone(good)
			file[test.at] ^= 2
			reseal(file)
			r, err := openPart(file, ReaderOptions{})
			if err == nil {
				err = r.Verify(t.Context(), nil, nil)
			}
			if c := corruption(t, err); c.Section != test.section || !strings.Contains(c.Reason, test.want) {
				t.Errorf("got %v, want something about %q in the %s", err, test.want, test.section)
			}
		})
	}
}

func TestAFileOfTheFutureSaysSo(t *testing.T) {
	file, _, _ := smallPart(t)
	le.PutUint32(file[8:], 2)
	le.PutUint32(file[60:], crc32.Checksum(file[:60], castagnoli))
	_, err := openPart(file, ReaderOptions{})
	var v *VersionError
	if !errors.As(err, &v) || v.Version != 2 || v.Object != "part" || !strings.Contains(err.Error(), "newer") {
		t.Errorf("got %v", err)
	}
}

// TestGoldenPart holds the bytes of version 1: a change of them needs a new version.
func TestGoldenPart(t *testing.T) {
	file, _ := writePart(t, []Entry{
		{Position: 0x01020304, Key: []byte("key"), Value: []byte("value"), Version: 3},
		{Position: 0x01020305, Key: []byte("k"), Version: 2, ExpireAt: 1},
	}, WriterOptions{Part: 9})
	want := "QUOITPRT\x01\x00\x00\x00\x00\x00\x00\x00" + string(testID[:]) + "\x09\x00\x00\x00" + strings.Repeat("\x00", 24)
	want += string(le.AppendUint32(nil, crc32.Checksum([]byte(want), castagnoli)))
	body := "\x84\x86\x88\x08\x06\x05\x06keyvalue" + "\x01\x03\x00\x01\x02k"
	body += "\x00\x00\x00\x00\x15\x00\x00\x00"
	bound := string(testID[:]) + "\x09\x00\x00\x00"
	body += string(le.AppendUint32(nil, crc32.Checksum([]byte(bound+"\x00\x00\x00\x00"+body), castagnoli)))
	index := "\x04\x03\x02\x01\x05\x03\x02\x01" + "\x40\x00\x00\x00\x00\x00\x00\x00" + "\x21\x00\x00\x00\x15\x00\x00\x00\x02\x00\x00\x00" + body[len(body)-4:]
	footer := "\x61\x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00" + "\x02\x00\x00\x00\x00\x00\x00\x00\x15\x00\x00\x00\x00\x00\x00\x00" +
		"\x03\x00\x00\x00\x00\x00\x00\x00" + string(testID[:]) + "\x09\x00\x00\x00\x01\x00\x00\x00" + "\x04\x03\x02\x01\x05\x03\x02\x01"
	footer += string(le.AppendUint32(nil, crc32.Checksum([]byte(bound+"\xff\xff\xff\xff"+index), castagnoli)))
	footer += "\x00\x00\x00\x00\x01\x00\x00\x00"
	footer += string(le.AppendUint32(nil, crc32.Checksum([]byte(footer), castagnoli))) + "QUOITEND"
	if want += body + index + footer; string(file) != want {
		t.Errorf("the file is\n%q, want\n%q", file, want)
	}
}
