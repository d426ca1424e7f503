package table

import (
	"math"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// FuzzTable reads its input as a program of changes and compares the table with
// a map after it.
func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4})
	f.Add([]byte("\x00\x01\x10\x20\x00\x01\x10\xff\x08\x01\x10\x00"))
	f.Add([]byte("\x07\x00\x01\xff\x07\x40\x02\xff\x0c\x00\x01\x00\x0d\x40\x02\x80"))
	f.Fuzz(func(t *testing.T, program []byte) {
		slabs := newSlabs(t)
		tab, m := New(slabs, 0, math.MaxUint32), model{}
		defer tab.Release()
		for version := uint64(1); len(program) >= 4; version++ {
			step(tab, m, version, program[0], program[1], program[2], program[3])
			program = program[4:]
		}
		verify(t, tab)
		m.check(t, tab)
	})
}

// step makes one change to the table and to its model.
func step(tab *Table, m model, version uint64, op, where, which, size byte) {
	// The upper half of op chooses how positions crowd.
	pos := ring.Position(where) << (op >> 4 * 2)
	key := filler(int(which%32), uint64(which))
	switch op & 15 {
	case 0, 1, 2, 3:
		put(tab, m, pos, key, int(size), version, int64(op&1))
	case 4:
		put(tab, m, pos, key, int(size)*100, version, 0)
	case 5, 6, 7:
		for i := range int(size) + 1 {
			put(tab, m, pos+ring.Position(i)*ring.Position(op&3), filler(9, uint64(i)), int(which), version, 0)
		}
	case 8, 9:
		tab.Delete(pos, key)
		delete(m, modelKey(pos, key))
	case 10, 11:
		if e, ok := m[modelKey(pos, key)]; ok {
			tab.SetMeta(pos, key, version, int64(size))
			m.put(pos, key, e.Value, version, int64(size))
		}
	case 12, 13:
		for i := range int(size) + 1 {
			p := pos + ring.Position(i)*ring.Position(op&3)
			tab.Delete(p, filler(9, uint64(i)))
			delete(m, modelKey(p, filler(9, uint64(i))))
		}
	case 14:
		tab.Maintain(int(size) << 4)
	}
}

func put(tab *Table, m model, pos ring.Position, key []byte, size int, version uint64, expireAt int64) {
	value := filler(size, version)
	tab.Put(pos, key, value, version, expireAt)
	m.put(pos, key, value, version, expireAt)
}
