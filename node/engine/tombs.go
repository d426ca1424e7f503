package engine

import (
	"encoding/binary"

	"github.com/quoitdb/quoit/ring"
)

// tombs remembers what was removed from a partition, oldest first, so that a watcher
// that comes back learns of it. A key that was put again since is in the table, and
// its tomb means nothing. They lie in one buffer, without a pointer for each:
//
//	+----------+---------+--------+-----+
//	| position | version | keyLen | key |
//	| u32      | u64     | u32    |     |
//	+----------+---------+--------+-----+
type tombs struct {
	buf  []byte
	head int // the oldest begins here
}

const tombHead = 4 + 8 + 4

// tomb is one of them; key is a view.
type tomb struct {
	pos     ring.Position
	version Version
	key     []byte
}

func (t *tombs) size() int { return len(t.buf) - t.head }

// add remembers a removal and forgets the oldest ones beyond limit bytes. It returns
// the newest version that was forgotten, 0 for none.
func (t *tombs) add(limit int, d tomb) (forgotten Version) {
	le := binary.LittleEndian
	t.buf = le.AppendUint32(t.buf, uint32(d.pos))
	t.buf = le.AppendUint64(t.buf, uint64(d.version))
	t.buf = le.AppendUint32(t.buf, uint32(len(d.key)))
	t.buf = append(t.buf, d.key...)
	for t.size() > limit {
		forgotten = max(forgotten, t.pop())
	}
	return forgotten
}

// expire forgets what was removed before a version, and returns as add does.
func (t *tombs) expire(before Version) (forgotten Version) {
	for t.size() > 0 && t.at(t.head).version < before {
		forgotten = max(forgotten, t.pop())
	}
	return forgotten
}

func (t *tombs) at(i int) tomb {
	le, b := binary.LittleEndian, t.buf[i:]
	end := tombHead + int(le.Uint32(b[12:]))
	return tomb{ring.Position(le.Uint32(b)), Version(le.Uint64(b[4:])), b[tombHead:end:end]}
}

// pop forgets the oldest, and gives memory back when half of it is unused.
func (t *tombs) pop() Version {
	d := t.at(t.head)
	t.head += tombHead + len(d.key)
	if t.head == len(t.buf) {
		t.buf, t.head = nil, 0
	} else if t.head > len(t.buf)/2 {
		t.buf = append(make([]byte, 0, 2*t.size()), t.buf[t.head:]...)
		t.head = 0
	}
	return d.version
}

// each calls fn for all, oldest first.
func (t *tombs) each(fn func(tomb)) {
	for i := t.head; i < len(t.buf); {
		d := t.at(i)
		fn(d)
		i += tombHead + len(d.key)
	}
}

// arrival is a part of a partition that came from elsewhere: what happened to it up to a
// version did not happen here.
type arrival struct {
	from, to ring.Position
	at       Version
}

// maxArrivals bounds what a partition remembers one by one.
const maxArrivals = 64

// arrive notes that a part has come: who knows it from before cannot be told what was
// removed from it. Other parts have nothing to do with that.
func (p *partition) arrive(from, to ring.Position, at Version) {
	if len(p.arrivals) == maxArrivals {
		p.acquired = max(p.acquired, latest(p.arrivals, p.lo, p.hi))
		p.horizon = max(p.horizon, p.acquired)
		p.arrivals = nil // not emptied: a step may hold on to them
	}
	p.arrivals = append(p.arrivals, arrival{from, to, at})
}

// latest is the version of the last arrival of anything between two positions.
func latest(all []arrival, from, to ring.Position) (at Version) {
	for _, a := range all {
		if a.from <= to && from <= a.to {
			at = max(at, a.at)
		}
	}
	return at
}

// mourn remembers a removal.
func (p *partition) mourn(limit int, pos ring.Position, key []byte, version Version) {
	p.horizon = max(p.horizon, p.tombs.add(limit, tomb{pos, version, key}))
}
