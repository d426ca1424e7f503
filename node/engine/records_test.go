package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

var someEntries = []entry{
	{kind: kindPut, pos: 0, version: 1, key: []byte("k"), value: []byte("v")},
	{kind: kindPut, pos: ring.MaxPosition, version: maxVersion, key: []byte{}, value: []byte{}},
	{kind: kindPut, pos: 7, version: 9, key: bytes.Repeat([]byte("k"), 300), value: bytes.Repeat([]byte("v"), 70_000)},
	{kind: kindPutTTL, pos: 1 << 31, version: 2, expireAt: 1, key: []byte("k"), value: []byte("\r\n\x00")},
	{kind: kindDelete, pos: 3, version: 3, key: []byte("gone")},
	{kind: kindTouch, pos: 4, version: 4, expireAt: 0, key: []byte("t")},
	{kind: kindAppend, pos: 5, version: 5, key: []byte("a"), value: []byte("tail")},
}

var someEvents = []event{
	{kind: kindSeal, name: "m1", r: ring.Range{Start: 1, End: 2}},
	{kind: kindUnseal, name: "m1", r: ring.Range{Start: 1, End: 2}},
	{kind: kindStage, name: strings.Repeat("m", maxName), r: ring.Range{Start: ring.MaxPosition, End: 0}},
	{kind: kindComplete, name: "m2", r: ring.Range{Start: 3, End: 3}, a: 1 << 60, b: 12},
	{kind: kindActivate, name: "m2", r: ring.Range{Start: 3, End: 3}},
	{kind: kindWipe, r: ring.Range{Start: 4, End: 9}},
	{kind: kindMark, name: "cluster", a: 5, b: 6},
}

func sameEntry(a, b entry) bool {
	return a.kind == b.kind && a.pos == b.pos && a.version == b.version && a.expireAt == b.expireAt &&
		bytes.Equal(a.key, b.key) && bytes.Equal(a.value, b.value)
}

func TestEntriesFollowEachOtherAndComeBack(t *testing.T) {
	var stream []byte
	for _, r := range someEntries {
		stream = appendEntry(stream, r)
	}
	for i, want := range someEntries {
		r, rest, err := decodeEntry(stream)
		must(t, err)
		if !sameEntry(r, want) {
			t.Fatalf("entry %d came back as %+v", i, r)
		}
		stream = rest
	}
	if len(stream) != 0 {
		t.Fatalf("%d bytes are left", len(stream))
	}
}

func TestEventsComeBack(t *testing.T) {
	for _, want := range someEvents {
		ev, err := decodeEvent(appendEvent(nil, want))
		must(t, err)
		if ev != want {
			t.Fatalf("%+v came back as %+v", want, ev)
		}
	}
}

func TestRecordsCutAnywhereAreRefused(t *testing.T) {
	for _, r := range someEntries {
		whole := appendEntry(nil, r)
		for n := range min(len(whole), 400) {
			if _, _, err := decodeEntry(whole[:n]); !errors.Is(err, errShort) {
				t.Fatalf("kind %d cut at %d: %v", r.kind, n, err)
			}
		}
	}
	for _, ev := range someEvents {
		whole := appendEvent(nil, ev)
		for n := range whole {
			if _, err := decodeEvent(whole[:n]); err == nil {
				t.Fatalf("kind %d cut at %d was accepted", ev.kind, n)
			}
		}
		if _, err := decodeEvent(append(whole, 0)); err == nil {
			t.Fatalf("kind %d with a byte too many was accepted", ev.kind)
		}
	}
}

func TestRecordsOfANewerVersionAreNamed(t *testing.T) {
	for _, k := range []kind{0, lastKeyKind + 1, 15, kindMark + 1, 255} {
		entryRec := appendEntry(nil, entry{kind: kindPut, version: 1})
		entryRec[0] = byte(k)
		if _, _, err := decodeEntry(entryRec); err == nil || !strings.Contains(err.Error(), "not known to this version") {
			t.Errorf("entry of kind %d: %v", k, err)
		}
		eventRec := appendEvent(nil, event{kind: kindMark})
		eventRec[0] = byte(k)
		if _, err := decodeEvent(eventRec); err == nil || !strings.Contains(err.Error(), "not known to this version") {
			t.Errorf("event of kind %d: %v", k, err)
		}
	}
}

func TestHostileEntriesAreRefused(t *testing.T) {
	head := appendEntry(nil, entry{kind: kindPut, version: 1})[:entryHeader]
	huge := binary.AppendUvarint(nil, 1<<64-1)
	ttl := appendEntry(nil, entry{kind: kindPutTTL, version: 1, expireAt: -1, key: []byte("k")})
	for name, b := range map[string][]byte{
		"version 0":           appendEntry(nil, entry{kind: kindPut}),
		"version too high":    appendEntry(nil, entry{kind: kindPut, version: maxVersion + 1}),
		"negative expiry":     ttl,
		"huge key":            append(append(bytes.Clone(head), huge...), 1, 'k'),
		"huge value":          append(append(append(bytes.Clone(head), 1), huge...), 'k'),
		"lengths that wrap":   append(append(append(bytes.Clone(head), 2), huge...), 'k', 'v'),
		"length without end":  append(bytes.Clone(head), bytes.Repeat([]byte{0xff}, 11)...),
		"length over 64 bits": append(append(bytes.Clone(head), bytes.Repeat([]byte{0xff}, 9)...), 0x7f, 0),
	} {
		if _, _, err := decodeEntry(b); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestMaxRecordCoversEveryRecord(t *testing.T) {
	for _, r := range someEntries {
		if n := len(appendEntry(nil, r)); n > MaxRecord(len(r.key), len(r.value)) {
			t.Errorf("a record of kind %d takes %d bytes", r.kind, n)
		}
	}
	for _, ev := range someEvents {
		if n := len(appendEvent(nil, ev)); n > MaxRecord(0, 0) {
			t.Errorf("a record of kind %d takes %d bytes", ev.kind, n)
		}
	}
}

// FuzzDecodeEntry: never a panic, views inside the input, and what decodes
// encodes to something that decodes to the same.
func FuzzDecodeEntry(f *testing.F) {
	for _, r := range someEntries {
		f.Add(appendEntry(nil, r))
	}
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := decodeEntry(b)
		if err != nil {
			return
		}
		if len(r.key)+len(r.value)+len(rest) > len(b)-entryHeader {
			t.Fatalf("%d bytes gave a key of %d, a value of %d and %d more", len(b), len(r.key), len(r.value), len(rest))
		}
		again, none, err := decodeEntry(appendEntry(nil, r))
		if err != nil || len(none) != 0 || !sameEntry(r, again) {
			t.Fatalf("%+v came back as %+v, %v", r, again, err)
		}
	})
}

// FuzzDecodeEvent: never a panic, and exactly one spelling.
func FuzzDecodeEvent(f *testing.F) {
	for _, ev := range someEvents {
		f.Add(appendEvent(nil, ev))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ev, err := decodeEvent(b)
		if err == nil && !bytes.Equal(b, appendEvent(nil, ev)) {
			t.Fatalf("%x decodes to %+v, which encodes differently", b, ev)
		}
	})
}
