package gateway

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

const (
	// firstBuffer is what a connection reads into before it has shown that it
	// sends more. It is not counted: the number of connections bounds it.
	firstBuffer = 4 << 10
	// streamBuffer is how far a buffer grows for a peer that keeps it full.
	streamBuffer = 64 << 10
	// shrinkAfter is how many reads in a row may leave three quarters of the
	// buffer unused before half of it is given back.
	shrinkAfter = 64
)

// errBudget means that all connections together hold as many bytes as they may.
var errBudget = errors.New("gateway: in-flight budget spent")

// budget counts the bytes of all buffers that have grown beyond the first size.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

// account is one buffer's part of a budget. It belongs to one goroutine.
type account struct {
	of   *budget
	held int64
}

// set changes the part to size bytes and says whether the budget allows that.
// Giving back always succeeds; a refused growth changes nothing.
func (a *account) set(size int) bool {
	want := int64(size)
	if want <= firstBuffer {
		want = 0
	}
	if delta := want - a.held; delta > 0 && !a.of.take(delta) {
		return false
	} else if delta < 0 {
		a.of.used.Add(delta)
	}
	a.held = want
	return true
}

// tab is a part of a budget that several goroutines add to until it is settled:
// the answers of one batch. What comes later is refused and not counted.
type tab struct {
	of *budget

	mu      sync.Mutex
	held    int64 // guarded by mu
	settled bool  // guarded by mu
}

func (t *tab) add(bytes int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.settled || !t.of.take(int64(bytes)) {
		return false
	}
	t.held += int64(bytes)
	return true
}

// settle gives all of it back, for good.
func (t *tab) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of.used.Add(-t.held)
	t.held, t.settled = 0, true
}

// inbox is a buffer that requests or replies are read into and parsed in. It
// grows as bytes arrive, never ahead of them: who announces 64 MiB and sends
// nothing holds 4 KiB.
type inbox struct {
	buf  []byte
	r, w int // buf[r:w] is read and not consumed
	full bool
	low  int // reads in a row that left most of it unused
	part account
}

func (b *inbox) bytes() []byte { return b.buf[b.r:b.w] }
func (b *inbox) pending() bool { return b.r < b.w }
func (b *inbox) consume(n int) { b.r += n }
func (b *inbox) large() bool   { return len(b.buf) > firstBuffer }

// makeRoom prepares the next read. need is how many bytes the request at the end
// of the buffer certainly lacks.
func (b *inbox) makeRoom(need int) error {
	if !b.pending() {
		return b.fit()
	}
	if b.full && len(b.buf) < streamBuffer && b.resize(2*len(b.buf)) == nil {
		return nil
	}
	if room := len(b.buf) - b.w; room >= need && room > 0 || room > 0 && b.r == 0 {
		return nil
	}
	if b.r > 0 && b.w-b.r <= len(b.buf)/2 { // there is room in front
		b.w = copy(b.buf, b.bytes())
		b.r = 0
		return nil
	}
	held := b.w - b.r
	size := max(2*len(b.buf), firstBuffer)
	if want := held + need; len(b.buf) >= streamBuffer && want < size {
		size = max(want, len(b.buf)+len(b.buf)/4)
	}
	return b.resize(size)
}

// fit chooses the size of an empty buffer by what the last reads brought.
func (b *inbox) fit() error {
	b.r, b.w = 0, 0
	switch {
	case b.buf == nil:
		return b.resize(firstBuffer)
	case len(b.buf) > streamBuffer:
		return b.resize(streamBuffer)
	case b.full && len(b.buf) < streamBuffer:
		if b.resize(2*len(b.buf)) != nil {
			b.full = false // no budget for comfort: go on with what there is
		}
	case b.low >= shrinkAfter && b.large():
		return b.resize(len(b.buf) / 2)
	}
	return nil
}

func (b *inbox) resize(size int) error {
	if !b.part.set(size) {
		return errBudget
	}
	next := make([]byte, size)
	b.w = copy(next, b.buf[b.r:b.w])
	b.buf, b.r, b.low, b.full = next, 0, 0, false
	return nil
}

func (b *inbox) readFrom(r io.Reader) (int, error) {
	n, err := r.Read(b.buf[b.w:])
	if n > 0 {
		b.w += n
		b.full = b.w == len(b.buf)
		if b.low++; b.w*4 > len(b.buf) {
			b.low = 0
		}
	}
	return n, err
}

// shrink gives back what an idle connection does not need.
func (b *inbox) shrink() {
	if !b.pending() && b.large() {
		b.r, b.w = 0, 0
		_ = b.resize(firstBuffer) // giving back cannot fail
	}
}

// release gives everything back at the end.
func (b *inbox) release() {
	b.buf, b.r, b.w = nil, 0, 0
	b.part.set(0)
}
