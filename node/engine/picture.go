package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/ring"
)

const (
	// pictureChunk is the memory that a picture takes at once.
	pictureChunk = 256 << 10
	// entryCost is what an entry takes in a chunk besides key and value.
	entryCost = 4 + 8 + 8 + 4 + 4
)

// picture is one partition as a checkpoint copies it: entries in ring order, and
// behind them, as late ones, what changed after the scan had passed. While it is
// attached to its partition, it is guarded by that one's lock.
type picture struct {
	next    ring.Position // what lies before has been passed
	through bool          // all has been passed

	chunks  [][]byte // of entries, one after the other; none crosses a border
	scanned []int    // of each chunk, how many bytes the scan has filled
	spare   [][]byte // empty chunks

	dirty     map[place]struct{} // changed behind the scan and not copied again
	dirtyCost int
	late      []lateEntry
	hidden    []piece // whose end is in the log
}

// place is a key and its position.
type place struct {
	pos ring.Position
	key string
}

// lateEntry is what a key was found to be after the scan.
type lateEntry struct {
	pos           ring.Position
	key           string
	there         bool
	chunk, offset int
}

// note tells a checkpoint of a change. It is called after the change, under the lock.
func (p *partition) note(pos ring.Position, key []byte, valueLen int) {
	if pic := p.picture; pic != nil && (pic.through || pos < pic.next) {
		pic.noted(pos, key, valueLen)
	}
}

func (pic *picture) noted(pos ring.Position, key []byte, valueLen int) {
	if _, ok := pic.dirty[place{pos, string(key)}]; ok {
		return
	}
	if pic.dirty == nil {
		pic.dirty = map[place]struct{}{}
	}
	pic.dirty[place{pos, string(key)}] = struct{}{}
	pic.dirtyCost += entryCost + len(key) + valueLen
}

func (pic *picture) takeDirty() map[place]struct{} {
	dirty := pic.dirty
	pic.dirty, pic.dirtyCost = nil, 0
	return dirty
}

// reset forgets everything: the partition is empty now. How far the scan has come
// stays.
func (pic *picture) reset() {
	for _, chunk := range pic.chunks {
		if cap(chunk) == pictureChunk {
			pic.spare = append(pic.spare, chunk[:0])
		}
	}
	pic.chunks, pic.scanned, pic.late = nil, nil, nil
	pic.takeDirty()
}

// prepare takes memory for the next step outside of the lock.
func (pic *picture) prepare() {
	if len(pic.spare) == 0 {
		pic.spare = append(pic.spare, make([]byte, 0, pictureChunk))
	}
}

// bytes returns the memory held.
func (pic *picture) bytes() int64 {
	n := int64(0)
	for _, chunk := range pic.chunks {
		n += int64(cap(chunk))
	}
	const lateSize, placeSize = 56, 48
	for _, l := range pic.late {
		n += lateSize + int64(len(l.key))
	}
	return n + placeSize*int64(len(pic.dirty))
}

// chunk returns the chunk for the next entry and how many bytes are in it. An
// entry that is larger than a chunk gets one of its own.
func (pic *picture) chunk(need int) (index, offset int) {
	last := len(pic.chunks) - 1
	if last >= 0 && cap(pic.chunks[last])-len(pic.chunks[last]) >= need {
		return last, len(pic.chunks[last])
	}
	var chunk []byte
	switch n := len(pic.spare); {
	case need > pictureChunk:
		chunk = make([]byte, 0, need)
	case n == 0:
		chunk = make([]byte, 0, pictureChunk)
	default:
		chunk, pic.spare = pic.spare[n-1], pic.spare[:n-1]
	}
	pic.chunks, pic.scanned = append(pic.chunks, chunk), append(pic.scanned, 0)
	return last + 1, 0
}

// add copies an entry that the scan has met, and returns its cost.
func (pic *picture) add(pos ring.Position, e table.Entry) int {
	cost := pic.write(pos, e)
	last := len(pic.chunks) - 1
	pic.scanned[last] = len(pic.chunks[last])
	return cost
}

// write copies an entry.
func (pic *picture) write(pos ring.Position, e table.Entry) int {
	cost := entryCost + len(e.Key) + len(e.Value)
	i, _ := pic.chunk(cost)
	b := binary.LittleEndian.AppendUint32(pic.chunks[i], uint32(pos))
	b = binary.LittleEndian.AppendUint64(b, e.Version)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.ExpireAt))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Key)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Value)))
	pic.chunks[i] = append(append(b, e.Key...), e.Value...)
	return cost
}

// read returns the entry at the start of b and what follows it.
func read(b []byte) (e Entry, rest []byte) {
	le := binary.LittleEndian
	e.Position = ring.Position(le.Uint32(b))
	e.Version, e.ExpireAt = Version(le.Uint64(b[4:])), int64(le.Uint64(b[12:]))
	key, value := entryCost+int(le.Uint32(b[20:])), int(le.Uint32(b[24:]))
	e.Key, e.Value = b[entryCost:key:key], b[key:key+value:key+value]
	return e, b[key+value:]
}

// delivery gives a picture to its reader: what the scan met, in order, with what was
// found later in its place.
type delivery struct {
	pic   *picture
	late  []lateEntry // sorted, one for each key
	run   []Entry     // of one position, which a table keeps in no order
	fn    func(Entry) error
	keys  int
	bytes int64
}

// deliver gives fn every entry, sorted. The picture is not attached any more.
func (pic *picture) deliver(fn func(Entry) error) (keys int, size int64, err error) {
	d := &delivery{pic: pic, late: newest(pic.late), fn: fn}
	for i, chunk := range pic.chunks {
		for rest := chunk[:pic.scanned[i]]; len(rest) > 0 && err == nil; {
			var e Entry
			e, rest = read(rest)
			if len(d.run) > 0 && d.run[0].Position != e.Position {
				err = d.flush()
			}
			d.run = append(d.run, e)
		}
	}
	if err == nil {
		err = d.flush()
	}
	for len(d.late) > 0 && err == nil {
		err = d.nextLate()
	}
	return d.keys, d.bytes, err
}

// newest sorts late entries and keeps the last of each key.
func newest(late []lateEntry) []lateEntry {
	slices.SortStableFunc(late, func(a, b lateEntry) int {
		return cmp.Or(cmp.Compare(a.pos, b.pos), strings.Compare(a.key, b.key))
	})
	kept := late[:0]
	for i, l := range late {
		if i+1 == len(late) || late[i+1].pos != l.pos || late[i+1].key != l.key {
			kept = append(kept, l)
		}
	}
	return kept
}

// flush delivers the entries of one position.
func (d *delivery) flush() error {
	if len(d.run) > 1 {
		slices.SortFunc(d.run, func(a, b Entry) int { return bytes.Compare(a.Key, b.Key) })
	}
	for _, e := range d.run {
		replaced, err := d.lateUpTo(e)
		if err == nil && !replaced {
			err = d.give(e)
		}
		if err != nil {
			return err
		}
	}
	d.run = d.run[:0]
	return nil
}

// lateUpTo delivers the late entries before e, and the one of the same key.
func (d *delivery) lateUpTo(e Entry) (replaced bool, err error) {
	for len(d.late) > 0 && !replaced && err == nil {
		l := &d.late[0]
		order := cmp.Compare(l.pos, e.Position)
		if order == 0 {
			order = strings.Compare(l.key, string(e.Key))
		}
		if order > 0 {
			break
		}
		replaced = order == 0
		err = d.nextLate()
	}
	return replaced, err
}

func (d *delivery) nextLate() error {
	l := d.late[0]
	d.late = d.late[1:]
	if !l.there {
		return nil
	}
	e, _ := read(d.pic.chunks[l.chunk][l.offset:])
	return d.give(e)
}

func (d *delivery) give(e Entry) error {
	for _, h := range d.pic.hidden {
		if h.from <= e.Position && e.Position <= h.to {
			return nil
		}
	}
	d.keys++
	d.bytes += int64(len(e.Key) + len(e.Value))
	return d.fn(e)
}
