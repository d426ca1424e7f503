package snapshot

import (
	"bytes"
	"errors"
	"hash/crc32"
	"testing"
)

// reseal makes the checksums of a damaged part file right again, so that what is
// behind them is tested too.
func reseal(file []byte) {
	if len(file) < minFile {
		return
	}
	size := int64(len(file))
	id := identity{part: le.Uint32(file[32:])}
	copy(id.snapshot[:], file[16:])
	le.PutUint32(file[60:], crc32.Checksum(file[:60], castagnoli))
	foot := file[size-footerSize:]
	defer func() { le.PutUint32(foot[84:], crc32.Checksum(foot[:84], castagnoli)) }()
	from, length := int64(le.Uint64(foot)), int64(le.Uint64(foot[8:]))
	if from < headerSize || length < 0 || from > size || length > size-footerSize-from {
		return
	}
	index := file[from : from+length]
	for n := uint32(0); len(index) >= indexEntrySize; n, index = n+1, index[indexEntrySize:] {
		offset, stored := int64(le.Uint64(index[8:])), int64(le.Uint32(index[16:]))
		if offset < headerSize || offset > from || stored <= trailerSize || stored > from-offset {
			continue
		}
		block := file[offset : offset+stored]
		crc := crc32.Update(id.seed(n), castagnoli, block[:stored-4])
		le.PutUint32(block[stored-4:], crc)
		le.PutUint32(index[28:], crc)
	}
	le.PutUint32(foot[72:], crc32.Update(id.seed(indexNumber), castagnoli, file[from:from+length]))
}

// FuzzPart: any bytes at all in the place of a part file, as they are and with
// right checksums. The errors explain themselves, entries come in order, and what
// can be read and verified can be written again and read as the same.
func FuzzPart(f *testing.F) {
	file, _, _ := smallPart(f)
	f.Add(file, false)
	f.Add(file, true)
	for _, n := range []int{0, 1, 40} {
		file, _ := writePart(f, someEntries(n, 10), WriterOptions{})
		f.Add(file, true)
	}
	for _, at := range []int{8, 70, 76, 80, len(file) - 100, len(file) - 90, len(file) - 60} {
		damaged := bytes.Clone(file)
		damaged[at] ^= 0x11
		f.Add(damaged, true)
	}
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, file []byte, sealed bool) {
		if sealed {
			file = bytes.Clone(file)
			reseal(file)
		}
		r, err := openPart(file, ReaderOptions{})
		if err != nil {
			explained(t, err)
			return
		}
		if r.info.Raw > 4<<20 {
			t.Skip("a bomb within the bounds of the format: too slow to be unpacked here")
		}
		got, err := collect(r.All(t.Context()))
		if err != nil {
			explained(t, err)
			return
		}
		again, _ := writePart(t, got, WriterOptions{})
		r, err = openPart(again, ReaderOptions{})
		must(t, err)
		back, err := collect(r.All(t.Context()))
		must(t, err)
		expectEntries(t, back, got)
	})
}

// explained fails the test unless err is one of those that bad bytes may cause.
func explained(t *testing.T, err error) {
	t.Helper()
	var (
		corrupt *CorruptionError
		future  *VersionError
		format  *FormatError
	)
	if !errors.As(err, &corrupt) && !errors.As(err, &future) && !errors.As(err, &format) {
		t.Fatalf("%v (%T)", err, err)
	}
}
