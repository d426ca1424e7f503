package table

import (
	"slices"
	"sync/atomic"
)

// bigs holds the entries that are too large for a block, each in a piece of the
// Go heap: the collector sees one pointer per entry and nothing inside. Their
// numbers are reused.
type bigs struct {
	entries []*bigEntry
	spare   []uint32
	bytes   int64         // capacity of all of them
	used    *atomic.Int64 // of all tables
}

type bigEntry struct {
	data     []byte // key, then value
	key      int
	version  uint64
	expireAt int64
}

func (b *bigs) at(r ref) *bigEntry { return b.entries[r&^bigBit] }

func (b *bigs) add(key, value []byte, version uint64, expireAt int64) ref {
	e := &bigEntry{data: slices.Concat(key, value), key: len(key), version: version, expireAt: expireAt}
	b.count(int64(cap(e.data)))
	if n := len(b.spare); n > 0 {
		id := b.spare[n-1]
		b.spare = b.spare[:n-1]
		b.entries[id] = e
		return bigBit | ref(id)
	}
	b.entries = append(b.entries, e)
	return bigBit | ref(len(b.entries)-1) // Memory ends long before.
}

func (b *bigs) drop(r ref) {
	b.count(-int64(cap(b.at(r).data)))
	b.entries[r&^bigBit] = nil
	b.spare = append(b.spare, uint32(r&^bigBit))
}

func (b *bigs) count(bytes int64) {
	b.bytes += bytes
	b.used.Add(bytes)
}

// release lets go of all of them.
func (b *bigs) release() {
	b.count(-b.bytes)
	*b = bigs{used: b.used}
}

func (b *bigs) len() int { return len(b.entries) - len(b.spare) }

// replaceValue changes the value in place. It reports false if the memory is too
// small, or if more than a quarter of it would lie idle.
func (e *bigEntry) replaceValue(value []byte) bool {
	n := e.key + len(value)
	if n > cap(e.data) || n < cap(e.data)/4*3 {
		return false
	}
	e.data = append(e.data[:e.key], value...)
	return true
}

func (e *bigEntry) entry() Entry {
	return Entry{
		Key: e.data[:e.key:e.key], Value: e.data[e.key:len(e.data):len(e.data)],
		Version: e.version, ExpireAt: e.expireAt,
	}
}
