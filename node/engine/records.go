package engine

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/quoitdb/quoit/ring"
)

// kind is the first byte of a record. Numbers are never used again for
// something else: a kind that is not listed comes from a newer Quoit.
type kind byte

// An entry record says what happened to one key. It tells its own length, so
// records can simply follow each other, in a frame of the log as in the stream
// of a move. It carries the position, so that replay need not hash.
//
//	+------+----------+---------+------------+---------+-----------+-----+-------+
//	| kind | position | version | expireAt   | keyLen  | valueLen  | key | value |
//	| u8   | u32      | u64     | i64, TTL   | uvarint | uvarint,  |     |       |
//	|      |          |         | kinds only |         | not DEL,  |     |       |
//	|      |          |         |            |         | TOUCH     |     |       |
//	+------+----------+---------+------------+---------+-----------+-----+-------+
//
// Fixed numbers are little-endian.
const (
	kindPut      kind = 1 // key is value, without expiry
	kindPutTTL   kind = 2 // key is value until expireAt
	kindDelete   kind = 3 // key is gone
	kindTouch    kind = 4 // key keeps its value, expires at expireAt (0: never)
	kindAppend   kind = 5 // value is added to the key's value, expiry stays
	lastKeyKind       = kindAppend
	entryHeader       = 1 + 4 + 8
	maxEntryHead      = entryHeader + 8 + 2*binary.MaxVarintLen32
)

// A range record says what happened to a part of the ring, or (MARK) which
// document this node acts on.
//
//	+------+---------+------+-------+-----+-----+-----+
//	| kind | nameLen | name | start | end | a   | b   |
//	| u8   | u8      |      | u32   | u32 | u64 | u64 |
//	+------+---------+------+-------+-----+-----+-----+
//
// name is the move (the cluster for MARK). a and b are hlc and count (COMPLETE),
// epoch and counter (MARK), otherwise 0.
const (
	kindSeal     kind = 16 // no reads or writes of the range any more
	kindUnseal   kind = 17 // owned again
	kindStage    kind = 18 // wiped, and being received
	kindComplete kind = 19 // received whole
	kindActivate kind = 20 // no longer staged: served
	kindWipe     kind = 21 // forget every entry of the range
	kindMark     kind = 22
	rangeTail         = 4 + 4 + 8 + 8
	maxName           = 255
)

// entry is a decoded entry record; key and value are views.
type entry struct {
	kind     kind
	pos      ring.Position
	version  Version
	expireAt int64
	key      []byte
	value    []byte
}

// event is a decoded range record.
type event struct {
	kind kind
	name string
	r    ring.Range
	a, b uint64
}

func (k kind) isEntry() bool   { return k >= kindPut && k <= lastKeyKind }
func (k kind) isEvent() bool   { return k >= kindSeal && k <= kindMark }
func (k kind) hasExpiry() bool { return k == kindPutTTL || k == kindTouch }
func (k kind) hasValue() bool  { return k == kindPut || k == kindPutTTL || k == kindAppend }

// needsBase says whether the record changes an entry that must be there.
func (k kind) needsBase() bool { return k == kindTouch || k == kindAppend }

// putKind is the kind of a PUT with this expiry.
func putKind(expireAt int64) kind {
	if expireAt == 0 {
		return kindPut
	}
	return kindPutTTL
}

// appendEntry writes an entry record.
func appendEntry(b []byte, r entry) []byte {
	b = append(b, byte(r.kind))
	b = binary.LittleEndian.AppendUint32(b, uint32(r.pos))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.version))
	if r.kind.hasExpiry() {
		b = binary.LittleEndian.AppendUint64(b, uint64(r.expireAt))
	}
	b = binary.AppendUvarint(b, uint64(len(r.key)))
	if r.kind.hasValue() {
		b = binary.AppendUvarint(b, uint64(len(r.value)))
	}
	b = append(b, r.key...)
	return append(b, r.value...)
}

// entryPosition reads the position of a record that begins like an entry record.
func entryPosition(b []byte) (ring.Position, bool) {
	if len(b) < entryHeader {
		return 0, false
	}
	return ring.Position(binary.LittleEndian.Uint32(b[1:])), true
}

var (
	errShort   = errors.New("record is cut short")
	errVersion = errors.New("record has no valid version")
	errExpiry  = errors.New("record has a negative expiry")
)

// decodeEntry reads the entry record at the start of b and returns what follows it.
func decodeEntry(b []byte) (r entry, rest []byte, err error) {
	pos, ok := entryPosition(b)
	if !ok {
		return entry{}, nil, errShort
	}
	r = entry{kind: kind(b[0]), pos: pos, version: Version(binary.LittleEndian.Uint64(b[5:]))}
	if !r.kind.isEntry() {
		return entry{}, nil, unknownKind(r.kind)
	}
	if r.version == 0 || r.version > maxVersion {
		return entry{}, nil, errVersion
	}
	b = b[entryHeader:]
	if r.kind.hasExpiry() {
		if len(b) < 8 {
			return entry{}, nil, errShort
		}
		if r.expireAt = int64(binary.LittleEndian.Uint64(b)); r.expireAt < 0 {
			return entry{}, nil, errExpiry
		}
		b = b[8:]
	}
	return decodeBody(r, b)
}

// decodeBody reads the lengths, the key and the value.
func decodeBody(r entry, b []byte) (entry, []byte, error) {
	keyLen, b, ok := cutLength(b)
	var valueLen uint64
	if ok && r.kind.hasValue() {
		valueLen, b, ok = cutLength(b)
	}
	// Each is compared by itself: their sum could wrap.
	if !ok || keyLen > uint64(len(b)) || valueLen > uint64(len(b))-keyLen {
		return entry{}, nil, errShort
	}
	r.key, b = b[:keyLen:keyLen], b[keyLen:]
	r.value, b = b[:valueLen:valueLen], b[valueLen:]
	return r, b, nil
}

func cutLength(b []byte) (uint64, []byte, bool) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), b[1:], true
	}
	n, used := binary.Uvarint(b)
	if used <= 0 {
		return 0, nil, false
	}
	return n, b[used:], true
}

// appendEvent writes a range record. The name is at most maxName bytes.
func appendEvent(b []byte, ev event) []byte {
	b = append(b, byte(ev.kind), byte(len(ev.name)))
	b = append(b, ev.name...)
	b = binary.LittleEndian.AppendUint32(b, uint32(ev.r.Start))
	b = binary.LittleEndian.AppendUint32(b, uint32(ev.r.End))
	b = binary.LittleEndian.AppendUint64(b, ev.a)
	return binary.LittleEndian.AppendUint64(b, ev.b)
}

// decodeEvent reads a range record, which is all of b.
func decodeEvent(b []byte) (event, error) {
	if len(b) < 2 {
		return event{}, errShort
	}
	ev, nameLen := event{kind: kind(b[0])}, int(b[1])
	if !ev.kind.isEvent() {
		return event{}, unknownKind(ev.kind)
	}
	if len(b) != 2+nameLen+rangeTail {
		return event{}, errShort
	}
	ev.name = string(b[2 : 2+nameLen])
	b = b[2+nameLen:]
	ev.r.Start = ring.Position(binary.LittleEndian.Uint32(b))
	ev.r.End = ring.Position(binary.LittleEndian.Uint32(b[4:]))
	ev.a = binary.LittleEndian.Uint64(b[8:])
	ev.b = binary.LittleEndian.Uint64(b[16:])
	return ev, nil
}

func unknownKind(k kind) error {
	return fmt.Errorf("record kind %d is not known to this version of Quoit, which knows 1-%d and %d-%d",
		k, lastKeyKind, kindSeal, kindMark)
}

// MaxRecord returns the size of the largest record of an engine with these
// limits: what the log's Options.MaxRecord must allow.
func MaxRecord(maxKey, maxValue int) int {
	return max(maxEntryHead+maxKey+maxValue, 2+maxName+rangeTail)
}

// RecordVersion returns the version of the write that a record of the log is about.
// Records about ranges have none.
func RecordVersion(rec []byte) (Version, bool) {
	if len(rec) < entryHeader || !kind(rec[0]).isEntry() {
		return 0, false
	}
	return Version(binary.LittleEndian.Uint64(rec[5:])), true
}
