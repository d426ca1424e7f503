package wal

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
)

// diskWith returns a disk that holds one segment with the given bytes.
func diskWith(t testing.TB, content []byte) *vfs.Mem {
	m := vfs.NewMem()
	must(t, m.MkdirAll("wal"))
	f, err := m.Create(segmentPath(1))
	must(t, err)
	_, err = f.WriteAt(content, 0)
	must(t, err)
	return m
}

// segmentBytes is a small segment as the log writes it.
func segmentBytes(t testing.TB, records int) (content []byte) {
	m, h := vfs.NewMem(), &history{}
	l := openEmpty(t, small(m))
	h.fill(t, l, records)
	must(t, l.Close())
	edit(t, m, segmentPath(1), func(b []byte) { content = append(content, b...) })
	return content
}

// openAny opens whatever is on the disk and reads it. Only the two errors that
// explain themselves may come back.
func openAny(t testing.TB, m *vfs.Mem) (payloads [][]byte, err error) {
	l, err := Open(Options{FS: m, Dir: "wal", SegmentSize: minSegment})
	if err == nil {
		err = l.Replay(func(payload []byte, _ LSN) error {
			payloads = append(payloads, payload)
			return nil
		})
		must(t, errors.Join(l.Close()))
	}
	var corrupt *CorruptionError
	var future *VersionError
	if err != nil && !errors.As(err, &corrupt) && !errors.As(err, &future) {
		t.Fatalf("%v (%T)", err, err)
	}
	return payloads, err
}

// FuzzSegment: any bytes at all in the place of a segment.
func FuzzSegment(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(magic))
	for n := range 4 {
		f.Add(segmentBytes(f, n))
	}
	f.Add(header{version: 1, log: 9, number: 1, size: maxSegment}.encode())
	f.Fuzz(func(t *testing.T, content []byte) {
		if _, err := openAny(t, diskWith(t, content)); errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	})
}

// FuzzDamage: a sound log with some bytes overwritten. It is refused, or it
// holds a beginning of what it held.
func FuzzDamage(f *testing.F) {
	f.Add(uint16(headerSize), []byte{0})
	f.Add(uint16(headerSize+16), []byte("xyz"))
	f.Add(uint16(headerSize+8), []byte{0xff, 0xff, 0xff, 0x3f})
	f.Add(uint16(8), []byte{2})
	sound := segmentBytes(f, 4)
	f.Fuzz(func(t *testing.T, at uint16, with []byte) {
		content := append([]byte(nil), sound...)
		if int(at) < len(content) {
			copy(content[at:], with)
		}
		h := &history{appended: 4}
		_, _, err := h.check(diskWith(t, content))
		var corrupt *CorruptionError
		var future *VersionError
		if err != nil && !errors.As(err, &corrupt) && !errors.As(err, &future) {
			t.Fatal(err)
		}
	})
}

// FuzzFrames: frames with right checksums and any fields. Each piece of plan
// is a frame: a length byte, flags, a promise, and whether to move on by the
// true length.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{10, 0, 0, 0, 20, 1, 5, 0})
	f.Add([]byte{0, 1, 0, 0, 8, 1, 0, 0, 255, 3, 255, 255})
	f.Add([]byte{8, 1, 0, 0, 0, 1, 0, 0})
	f.Add([]byte("00\x00000\x020")) // a promise that points into a frame
	f.Fuzz(func(t *testing.T, plan []byte) {
		h := header{version: 1, log: 9, number: 1, size: minSegment}
		content := make([]byte, minSegment)
		copy(content, h.encode())
		for off := int64(headerSize); len(plan) >= 4 && off+frameHeader+256 < minSegment; plan = plan[4:] {
			b := content[off : off+frameHeader+int64(plan[0])]
			encodeFrame(b, h.seed(), off, plan[1]&1 != 0, uint32(plan[2])*8)
			if plan[1]&2 != 0 { // lie about the length
				le.PutUint32(b[8:], uint32(plan[3])<<(plan[1]&24))
				le.PutUint32(b, frameSum(b, h.seed(), off))
			}
			off += alignUp(int64(len(b))) + int64(plan[3]&8)
		}
		payloads, _ := openAny(t, diskWith(t, content))
		for _, payload := range payloads {
			for len(payload) > 0 {
				_, rest, err := NextRecord(payload)
				if err != nil {
					break
				}
				payload = rest
			}
		}
	})
}

func FuzzNextRecord(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x03abc\x00\x01x"))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, payload []byte) {
		for len(payload) > 0 {
			rec, rest, err := NextRecord(payload)
			if err != nil {
				return
			}
			if rec == nil || len(rec)+len(rest) >= len(payload) {
				t.Fatalf("no progress: %d + %d of %d", len(rec), len(rest), len(payload))
			}
			payload = rest
		}
	})
}
