package wal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestHeaderBytes(t *testing.T) {
	h := header{
		version: 1, log: 0x1122334455667788, number: 3, start: 0x100, synced: 0x120, oldest: 0x80, size: 64 << 20,
	}
	want := strings.Join([]string{
		"51554f495457414c", // QUOITWAL
		"01000000", "00000000",
		"8877665544332211",
		"0300000000000000",
		"0001000000000000",
		"2001000000000000",
		"8000000000000000",
		"0000000400000000",
		"6f575b90", "00000000",
	}, "")
	if got := hex.EncodeToString(h.encode()); got != want {
		t.Errorf("the format has changed; raise the version and keep reading the old one\n got %s\nwant %s", got, want)
	}
	if got, err := decodeHeader(h.encode()); got != h || err != nil {
		t.Errorf("decoded %+v, error %v", got, err)
	}
}

func TestFrameBytes(t *testing.T) {
	b := append(make([]byte, frameHeader), "payload"...)
	encodeFrame(b, 0x01020304, 4096, false, 24)
	const want = "89112232" + "7069e3f4" + "07000000" + "18000000" + "7061796c6f6164"
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("the format has changed; raise the version and keep reading the old one\n got %s\nwant %s", got, want)
	}
}

func TestDecodeHeaderRefuses(t *testing.T) {
	good := header{version: 1, log: 1, number: 1, size: 1 << 20}
	for name, c := range map[string]struct {
		change func(*header)
		want   error
	}{
		"future version":        {func(h *header) { h.version = 2 }, errFutureVersion},
		"version 0":             {func(h *header) { h.version = 0 }, errFutureVersion},
		"no room for frames":    {func(h *header) { h.size = headerSize - 1 }, errHeaderValues},
		"negative size":         {func(h *header) { h.size = -1 }, errHeaderValues},
		"size beyond the limit": {func(h *header) { h.size = maxSegment + 1 }, errHeaderValues},
		"synced before start":   {func(h *header) { h.start = 8 }, errHeaderValues},
		"synced beyond the end": {func(h *header) { h.synced = 1<<20 + 8 }, errHeaderValues},
		"begins behind itself":  {func(h *header) { h.oldest = 8 }, errHeaderValues},
		"start not aligned":     {func(h *header) { h.start, h.synced = 4, 4 }, errHeaderValues},
	} {
		h := good
		c.change(&h)
		if _, err := decodeHeader(h.encode()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for n := range headerLen {
		if _, err := decodeHeader(good.encode()[:n]); !errors.Is(err, errNotSegment) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for bit := range 64 * 8 {
		b := good.encode()
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := decodeHeader(b); !errors.Is(err, errHeaderChecksum) && !errors.Is(err, errNotSegment) {
			t.Errorf("bit %d flipped: %v", bit, err)
		}
	}
}

// Any flip in a frame header, and any payload flip, is seen; and the bounds
// hold even for headers whose checksum is right.
func TestDecodeFrameRefuses(t *testing.T) {
	const seed, offset, room = 7, headerSize + 800, 256
	good := append(make([]byte, frameHeader), "some records"...)
	encodeFrame(good, seed, offset, false, 800)
	if f, ok := decodeFrame(good, seed, offset, room); !ok || f.length != 12 || f.mark || f.unsynced != 800 {
		t.Fatalf("%+v %v", f, ok)
	}
	for bit := range frameHeader * 8 {
		b := bytes.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		if _, ok := decodeFrame(b, seed, offset, room); ok {
			t.Errorf("bit %d flipped and not seen", bit)
		}
	}
	for name, f := range map[string]func() bool{
		"another segment":       func() bool { _, ok := decodeFrame(good, seed+1, offset, room); return ok },
		"another place":         func() bool { _, ok := decodeFrame(good, seed, offset+8, room); return ok },
		"longer than the room":  func() bool { _, ok := decodeFrame(good, seed, offset, 27); return ok },
		"empty and not a mark":  func() bool { return decodeAfter(seed, offset, nil, false, 0) },
		"promise out of bounds": func() bool { return decodeAfter(seed, offset, []byte("x"), false, 801) },
	} {
		if f() {
			t.Errorf("accepted: %s", name)
		}
	}
	if !decodeAfter(seed, offset, nil, true, 0) {
		t.Error("refused: a closing mark")
	}
}

func decodeAfter(seed uint32, offset int64, payload []byte, mark bool, unsynced uint32) bool {
	b := append(make([]byte, frameHeader), payload...)
	encodeFrame(b, seed, offset, mark, unsynced)
	_, ok := decodeFrame(b, seed, offset, 256)
	return ok
}

// What an earlier life of a recycled file left at the same offset is never
// valid: not by chance, but because different seeds give different sums.
func TestSeedsOfOneLogAreDistinct(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := rapid.Uint64().Draw(t, "log")
		a := rapid.Uint32().Draw(t, "a")
		b := rapid.Uint32().Draw(t, "b")
		offset := headerSize + 8*rapid.Int64Range(0, 1<<20).Draw(t, "offset")
		seedA, seedB := header{log: log, number: uint64(a)}.seed(), header{log: log, number: uint64(b)}.seed()
		if (seedA == seedB) != (a == b) {
			t.Fatalf("numbers %d and %d have seeds %d and %d", a, b, seedA, seedB)
		}
		frame := append(make([]byte, frameHeader), rapid.SliceOfN(rapid.Byte(), 1, 50).Draw(t, "payload")...)
		encodeFrame(frame, seedA, offset, false, 0)
		if _, ok := decodeFrame(frame, seedB, offset, 1<<10); ok != (a == b) {
			t.Fatalf("a frame of segment %d is valid in segment %d: %v", a, b, ok)
		}
	})
}

func TestRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 300)).Draw(t, "records")
		var payload []byte
		for _, rec := range records {
			before := len(payload)
			payload = appendRecord(payload, rec)
			if got := len(payload) - before; got != recordSize(len(rec)) {
				t.Fatalf("recordSize(%d) = %d, appended %d", len(rec), recordSize(len(rec)), got)
			}
		}
		for _, want := range records {
			rec, rest, err := NextRecord(payload)
			if err != nil || rec == nil || !bytes.Equal(rec, want) {
				t.Fatalf("got %q, error %v, want %q", rec, err, want)
			}
			payload = rest
		}
		if rec, _, err := NextRecord(payload); rec != nil || err != nil {
			t.Fatalf("at the end: %q, %v", rec, err)
		}
	})
}

func TestNextRecordRefuses(t *testing.T) {
	for name, payload := range map[string]string{
		"longer than the payload": "\x05abcd",
		"length not finished":     "\x80",
		"length beyond 64 bits":   strings.Repeat("\xff", 10) + "\x01",
		"length near 2^64":        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x",
	} {
		if rec, _, err := NextRecord([]byte(payload)); err == nil {
			t.Errorf("%s: accepted as %q", name, rec)
		}
	}
	rec, _, err := NextRecord([]byte("\x02abcd"))
	must(t, err)
	if cap(rec) != 2 {
		t.Error("appending to a record would overwrite the next one")
	}
}

func TestSegmentNames(t *testing.T) {
	for _, number := range []uint64{1, 42, 1 << 40, 1<<64 - 1} {
		if got, ok := parseSegmentName(segmentName(number)); !ok || got != number {
			t.Errorf("%d: %s parsed as %d, %v", number, segmentName(number), got, ok)
		}
	}
	for _, name := range []string{"", ".wal", "1.wal", "0000000000000001", "00000000000000001.wal", "-000000000000001.wal", "LOCK", "spare-1"} {
		if number, ok := parseSegmentName(name); ok {
			t.Errorf("%q parsed as %d", name, number)
		}
	}
}
