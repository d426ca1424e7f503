// Package table is the memory of one partition: an ordered map from ring
// position and key to value, version and expiry, kept outside the reach of the
// garbage collector.
//
// What it promises: entries live in 64 KiB chunks of anonymous memory taken from
// a [Slabs] shared by all tables; an index of eight bytes a slot keeps them in
// ring order, so that [Table.Ascend] walks neighbours; no call ever waits for a
// whole-table rehash or a whole-table compaction.
//
// What it does not promise: a Table is not safe for concurrent use, except that
// any number of [Table.Get] and [Table.Ascend] calls may run beside each other
// while nobody writes. It knows no clock: an entry whose ExpireAt has passed is
// an entry like any other.
//
//	slabs := table.NewSlabs()
//	defer slabs.Close()
//	t := table.New(slabs, 0, math.MaxUint32)
//	defer t.Release()
//	t.Put(pos, []byte("k"), []byte("v"), version, 0)
//	e, ok := t.Get(pos, []byte("k"))
package table

import (
	"github.com/quoitdb/quoit/ring"
)

// Entry is a view of one stored key. Key and Value point into the memory of the
// table: they must not be changed, and they are valid until the next call that
// changes the table.
type Entry struct {
	Key      []byte
	Value    []byte
	Version  uint64
	ExpireAt int64 // Unix milliseconds; 0 means never.
}

// Stats describes the memory of one table in bytes and counts.
type Stats struct {
	Entries    int   // live entries
	LiveBytes  int64 // keys and values of live entries
	BlockBytes int64 // what live entries need in chunks, headers and rounding included
	DeadBytes  int64 // written chunk memory that no live entry needs
	ChunkBytes int64 // memory of all chunks held
	IndexBytes int64 // memory of the index
	BigEntries int   // entries too large for a chunk
	BigBytes   int64 // memory of those
}

// Table is an ordered map of one arc of the ring. Make one with [New].
type Table struct {
	lo, hi  ring.Position
	index   index
	arena   arena
	bigs    bigs
	sweep   sweep
	entries int
	payload int64 // bytes of all keys and values
}

// New returns an empty table for the positions lo..hi, both included.
func New(slabs *Slabs, lo, hi ring.Position) *Table {
	return &Table{
		lo: lo, hi: hi,
		index: index{slabs: slabs, lo: lo, end: uint64(hi) + 1},
		arena: arena{slabs: slabs, limit: maxChunks - 1},
		bigs:  bigs{used: &slabs.used},
	}
}

// Get returns the entry of key at pos.
func (t *Table) Get(pos ring.Position, key []byte) (Entry, bool) {
	_, r := t.find(pos, key)
	if r == 0 {
		return Entry{}, false
	}
	// What entry does; a tenth of a cached get is passing its result on.
	if r&bigBit != 0 {
		return t.bigs.at(r).entry(), true
	}
	return blockEntry(t.arena.at(r)), true
}

// Put stores a copy of key and value and reports whether the key was there
// before. key and value must not point into the memory of this table, and pos
// must be one of its positions.
func (t *Table) Put(pos ring.Position, key, value []byte, version uint64, expireAt int64) (existed bool) {
	if pos < t.lo || pos > t.hi {
		panic("table: put at " + pos.String() + ", outside of " + t.lo.String() + ".." + t.hi.String())
	}
	c, old := t.find(pos, key)
	if old == 0 {
		t.index.insert(c, pos, t.store(key, value, version, expireAt))
		t.entries++
		t.payload += int64(len(key) + len(value))
		t.pay(0)
		return false
	}
	t.payload += int64(len(value)) - int64(len(t.entry(old).Value))
	if t.overwrite(old, key, value, version, expireAt) {
		return true
	}
	r := t.store(key, value, version, expireAt)
	t.index.pages[c.page][c.slot] = makeSlot(pos, r)
	t.pay(t.drop(old))
	return true
}

// SetMeta changes version and expiry of a key and reports whether it is there.
func (t *Table) SetMeta(pos ring.Position, key []byte, version uint64, expireAt int64) bool {
	c, r := t.find(pos, key)
	switch {
	case r == 0:
		return false
	case r&bigBit != 0:
		e := t.bigs.at(r)
		e.version, e.expireAt = version, expireAt
	case !setBlockMeta(t.arena.at(r), version, expireAt):
		// The block moves: an expiry is stored only where there is one.
		e := blockEntry(t.arena.at(r))
		t.index.pages[c.page][c.slot] = makeSlot(pos, t.store(e.Key, e.Value, version, expireAt))
		t.pay(t.drop(r))
	}
	return true
}

// Delete removes a key and reports whether it was there.
func (t *Table) Delete(pos ring.Position, key []byte) bool {
	c, r := t.find(pos, key)
	if r == 0 {
		return false
	}
	e := t.entry(r)
	t.payload -= int64(len(e.Key) + len(e.Value))
	t.index.remove(c)
	dead := t.drop(r)
	if t.entries--; t.entries == 0 {
		t.Release()
		return true
	}
	t.pay(dead)
	return true
}

// Ascend calls fn for each entry in ring order, from position from (included) to
// the end of the table, until fn returns false. Entries of one position come in
// no particular order. fn must not change the table.
func (t *Table) Ascend(from ring.Position, fn func(pos ring.Position, e Entry) bool) {
	c := t.index.seek(from)
	for ; c.page < len(t.index.pages); c = (cursor{page: c.page + 1}) {
		for _, s := range t.index.pages[c.page][c.slot:] {
			if r := s.ref(); r != 0 && !fn(s.pos(), t.entry(r)) {
				return
			}
		}
	}
}

// Len returns the number of entries.
func (t *Table) Len() int { return t.entries }

// LiveBytes returns the bytes of all keys and values.
func (t *Table) LiveBytes() int64 { return t.payload }

// Stats returns the memory figures of the table.
func (t *Table) Stats() Stats {
	chunks := max(0, len(t.arena.chunks)-1) - len(t.arena.spare)
	return Stats{
		Entries:    t.entries,
		LiveBytes:  t.payload,
		BlockBytes: t.arena.live,
		DeadBytes:  t.arena.dead(),
		ChunkBytes: int64(chunks) * chunkSize,
		IndexBytes: int64(len(t.index.pages)) * pageSize,
		BigEntries: t.bigs.len(),
		BigBytes:   t.bigs.bytes,
	}
}

// Maintain does due housekeeping worth about budget bytes of copying and reports
// whether more is due. Calling it is optional: changes pay for what they cause.
func (t *Table) Maintain(budget int) bool {
	for left := int64(budget); left > 0 && (t.sweep.victims > 0 || t.beginSweep()); {
		left = t.sweepOn(left)
	}
	return t.sweep.victims > 0 || t.sweepDue()
}

// Release gives all memory back to the slabs. The table is empty afterwards and
// may be used again.
func (t *Table) Release() {
	t.index.release()
	t.arena.release()
	t.bigs.release()
	*t = Table{lo: t.lo, hi: t.hi, index: t.index, arena: t.arena, bigs: t.bigs}
}

// find returns the slot and the ref of a key; or no ref, and where a slot for the
// position belongs.
func (t *Table) find(pos ring.Position, key []byte) (cursor, ref) {
	last := t.index.pageOf(pos)
	var place int
	for i := last; i >= 0; i-- {
		p := t.index.pages[i]
		from := t.index.lowerBound(i, pos)
		for j := from; j < pageSlots && p[j].pos() == pos; j++ {
			if r := p[j].ref(); r != 0 && t.holds(r, key) {
				return cursor{i, j}, r
			}
		}
		if i == last {
			place = from
		}
		if t.index.firsts[i] != pos {
			break // No page before can hold the position.
		}
	}
	return cursor{last, place}, 0
}

// holds reports whether r is the entry of key.
func (t *Table) holds(r ref, key []byte) bool {
	if r&bigBit != 0 {
		e := t.bigs.at(r)
		return string(e.data[:e.key]) == string(key)
	}
	return blockHasKey(t.arena.at(r), key)
}

func (t *Table) entry(r ref) Entry {
	if r&bigBit != 0 {
		return t.bigs.at(r).entry()
	}
	return blockEntry(t.arena.at(r))
}

// store writes a new entry, into a block if it may have one.
func (t *Table) store(key, value []byte, version uint64, expireAt int64) ref {
	if units, ok := blockUnits(len(key), len(value), expireAt != 0); ok {
		if r, slack := t.arena.alloc(units); r != 0 {
			writeBlock(t.arena.at(r), key, value, version, expireAt, slack)
			return r
		}
	}
	return t.bigs.add(key, value, version, expireAt)
}

// overwrite changes an entry where it stands, if its memory fits without much
// waste.
func (t *Table) overwrite(r ref, key, value []byte, version uint64, expireAt int64) bool {
	if r&bigBit != 0 {
		e := t.bigs.at(r)
		if !e.replaceValue(value) {
			return false
		}
		e.version, e.expireAt = version, expireAt
		return true
	}
	b := t.arena.at(r)
	units, slack := unitsOf(blockSizes(b))
	need, ok := blockUnits(len(key), len(value), expireAt != 0)
	if !ok || need > units+slack || units+slack-need > slackAllowed(need) {
		return false
	}
	writeBlock(b, key, value, version, expireAt, units+slack-need)
	t.arena.grow(r, (int64(need)-int64(units))*unit)
	return true
}

// drop frees the memory of an entry and returns how many bytes are dead for it.
func (t *Table) drop(r ref) (dead uint32) {
	if r&bigBit != 0 {
		t.bigs.drop(r)
		return 0
	}
	units, slack := unitsOf(blockSizes(t.arena.at(r)))
	t.dropBlock(r)
	return (units + slack) * unit
}
