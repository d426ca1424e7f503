package table

import "encoding/binary"

const (
	unitShift   = 14 // of a ref, to the number of the chunk
	unitMask    = 1<<unitShift - 1
	bigBit      = ref(1) << 31
	maxChunks   = 1 << (31 - unitShift) // 8 GiB
	maxListed   = 256                   // units of the largest block kept for reuse: 1 KiB
	noChunk     = 0
	minSweep    = 16 << 10 // dead bytes below which a sweep is not worth while
	deadDivisor = 10       // a sweep is due when a tenth is dead
)

// arena allots blocks in chunks. New blocks go to the end of the open chunk, or
// into a free block that fits. It never moves a block by itself: see sweep.
//
// For each chunk live <= used <= chunkSize. Over all chunks the same sums are
// kept in the arena; used - live is what is dead. The untouched end of a full
// chunk counts as neither.
type arena struct {
	slabs  *Slabs
	chunks []*chunk // by number; nil where the number is not in use; 0 never is
	meta   []chunkMeta
	spare  []uint32 // numbers not in use
	open   uint32   // the chunk that takes new blocks, or noChunk
	limit  int      // how many chunks there may be

	live, used int64

	// free[n] is the first free block of n units; none lies in a victim.
	free [maxListed + 1]ref
}

type chunkMeta struct {
	live   uint32 // bytes that entries need, without slack
	used   uint32 // bytes given out
	victim bool   // a sweep is emptying it
}

func makeRef(chunk, offset uint32) ref { return ref(chunk<<unitShift | offset/unit) }

func (r ref) chunk() uint32 { return uint32(r) >> unitShift }

// at returns the memory from a block to the end of its chunk.
func (a *arena) at(r ref) []byte {
	return a.chunks[r.chunk()][(r&unitMask)*unit:]
}

// alloc returns a block for an entry of so many units, and its slack. It
// returns no ref when there are as many chunks as a ref can name.
func (a *arena) alloc(units uint32) (r ref, slack uint32) {
	r, slack = a.reuse(units)
	if r == 0 {
		if r = a.extend(units * unit); r == 0 {
			return 0, 0
		}
	}
	a.grow(r, int64(units)*unit)
	return r, slack
}

// reuse takes a free block that wastes little.
func (a *arena) reuse(units uint32) (r ref, slack uint32) {
	last := min(units+slackAllowed(units), maxListed)
	for n := units; n <= last; n++ {
		if r := a.free[n]; r != 0 {
			a.free[n] = ref(binary.LittleEndian.Uint32(a.at(r)))
			return r, n - units
		}
	}
	return 0, 0
}

// extend takes a block from the end of the open chunk.
func (a *arena) extend(size uint32) ref {
	if a.open == noChunk || a.meta[a.open].used+size > chunkSize {
		if a.open = a.addChunk(); a.open == noChunk {
			return 0
		}
	}
	m := &a.meta[a.open]
	r := makeRef(a.open, m.used)
	m.used += size
	a.used += int64(size)
	return r
}

func (a *arena) addChunk() uint32 {
	if n := len(a.spare); n > 0 {
		id := a.spare[n-1]
		a.spare = a.spare[:n-1]
		a.chunks[id] = a.slabs.takeChunk()
		return id
	}
	if len(a.chunks) == 0 {
		a.chunks, a.meta = append(a.chunks, nil), append(a.meta, chunkMeta{})
	}
	if len(a.chunks) > a.limit {
		return noChunk
	}
	a.chunks, a.meta = append(a.chunks, a.slabs.takeChunk()), append(a.meta, chunkMeta{})
	return uint32(len(a.chunks) - 1) // Below maxChunks.
}

// grow counts bytes more that the entry of a block needs.
func (a *arena) grow(r ref, bytes int64) {
	m := &a.meta[r.chunk()]
	m.live = uint32(int64(m.live) + bytes) // Within 0..chunkSize.
	a.live += bytes
}

// drop makes a block free.
func (a *arena) drop(r ref) {
	b := a.at(r)
	units, slack := unitsOf(blockSizes(b))
	a.grow(r, -int64(units)*unit)
	if n := units + slack; !a.meta[r.chunk()].victim && n <= maxListed {
		binary.LittleEndian.PutUint32(b, uint32(a.free[n]))
		a.free[n] = r
	}
}

// dead returns how many bytes of chunk memory no entry needs.
func (a *arena) dead() int64 { return a.used - a.live }

// wasteful reports whether a sweep is due.
func (a *arena) wasteful() bool { return a.dead() > a.used/deadDivisor+minSweep }

// forget drops the lists of free blocks: their chunks may go away.
func (a *arena) forget() { clear(a.free[:]) }

// freeChunk gives an empty chunk back. No list may name a block in it, and it
// must not be the open one.
func (a *arena) freeChunk(id uint32) {
	a.used -= int64(a.meta[id].used)
	a.slabs.giveChunk(a.chunks[id])
	a.chunks[id], a.meta[id] = nil, chunkMeta{}
	a.spare = append(a.spare, id)
}

// release gives all chunks back.
func (a *arena) release() {
	for _, c := range a.chunks {
		if c != nil {
			a.slabs.giveChunk(c)
		}
	}
	clear(a.chunks) // No pointer may outlive the memory of the slabs.
	*a = arena{slabs: a.slabs, limit: a.limit, chunks: a.chunks[:0], meta: a.meta[:0], spare: a.spare[:0]}
}
