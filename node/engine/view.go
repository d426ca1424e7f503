package engine

import (
	"fmt"

	"github.com/quoitdb/quoit/ring"
)

// RecordKind says what a [Record] did.
type RecordKind uint8

// What a record did to a key, to a range, or to the node.
const (
	// RecordPut: the key is Value until ExpireAt (0: for ever).
	RecordPut RecordKind = iota + 1
	// RecordDelete: the key is gone.
	RecordDelete
	// RecordTouch: the key keeps its value and expires at ExpireAt (0: never).
	RecordTouch
	// RecordAppend: Value was added to the key's value; the expiry stays.
	RecordAppend
	// RecordSeal: Move holds Range at its source.
	RecordSeal
	// RecordUnseal: Range is owned again.
	RecordUnseal
	// RecordStage: every entry of Range is forgotten, and Move brings new ones.
	RecordStage
	// RecordComplete: everything of Range is here: Count keys, HLC the source's clock.
	RecordComplete
	// RecordActivate: Range is served.
	RecordActivate
	// RecordWipe: every entry of Range is forgotten.
	RecordWipe
	// RecordMark: the node acts on the document Mark.
	RecordMark
)

// recordKinds are the kinds of the log as the kinds of a Record.
var recordKinds = map[kind]RecordKind{
	kindPut: RecordPut, kindPutTTL: RecordPut, kindDelete: RecordDelete, kindTouch: RecordTouch, kindAppend: RecordAppend,
	kindSeal: RecordSeal, kindUnseal: RecordUnseal, kindStage: RecordStage, kindComplete: RecordComplete,
	kindActivate: RecordActivate, kindWipe: RecordWipe, kindMark: RecordMark,
}

// Record is a record of the log, for tools that read an archive. Only the fields
// that its kind names are set.
type Record struct {
	Kind RecordKind
	// Of a record about a key; Item.Key and Item.Value are views of what was
	// decoded. Only these have a version.
	Entry
	// Of a record about a range.
	Move  string
	Range ring.Range
	HLC   Version
	Count uint64
	// Of RecordMark.
	Mark Mark
}

// DecodeRecord reads one record as the log's reader delivers it. [ErrRecord] when
// it is not one, or of a newer Quoit.
func DecodeRecord(b []byte) (Record, error) {
	if len(b) == 0 {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, errShort)
	}
	if kind(b[0]).isEntry() {
		return decodeKeyRecord(b)
	}
	ev, err := decodeEvent(b)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	r := Record{Kind: recordKinds[ev.kind]}
	switch ev.kind {
	case kindMark:
		r.Mark = Mark{Cluster: ev.name, Epoch: ring.Epoch(ev.a), Counter: ev.b}
		return r, nil
	case kindComplete:
		r.HLC, r.Count = Version(ev.a), ev.b
	}
	r.Move, r.Range = ev.name, ev.r
	return r, nil
}

func decodeKeyRecord(b []byte) (Record, error) {
	e, rest, err := decodeEntry(b)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow the record", len(rest))
	}
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return Record{Kind: recordKinds[e.kind], Entry: Entry{Position: e.pos, Item: Item{
		Key: e.key, Value: e.value, Version: e.version, ExpireAt: e.expireAt,
	}}}, nil
}
