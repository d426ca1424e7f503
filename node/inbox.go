package node

import (
	"errors"
	"io"
	"sync/atomic"
)

const (
	// firstBuffer is what a connection reads into before it has shown that it
	// sends more; ten thousand idle ones hold 40 MB.
	firstBuffer = 4 << 10
	// streamBuffer is how far the buffer grows for a client that keeps it full.
	streamBuffer = 256 << 10
	// keepBuffer is what an empty buffer may keep; larger ones are for one
	// large request and go as soon as it is done.
	keepBuffer = 1 << 20
	// shrinkAfter is how many reads in a row may leave three quarters of the
	// buffer unused before half of it is given back.
	shrinkAfter = 64
)

// errBudget means that all connections together hold as many bytes as they may.
var errBudget = errors.New("node: in-flight budget spent")

// budget counts the bytes of all buffers that have grown beyond the first size.
type budget struct {
	limit int64
	used  atomic.Int64
}

// account is one buffer's part of a budget.
type account struct{ held int64 }

// set changes the part to size bytes and says whether the budget allows that.
// Giving back always succeeds; a refused growth changes nothing.
func (a *account) set(b *budget, size int) bool {
	want := int64(size)
	if want <= firstBuffer {
		want = 0
	}
	delta := want - a.held
	if delta == 0 {
		return true
	}
	if used := b.used.Add(delta); delta > 0 && used > b.limit {
		b.used.Add(-delta)
		return false
	}
	a.held = want
	return true
}

// inbox is a read buffer that requests are parsed in. It grows as bytes arrive,
// never ahead of them: a client that announces 64 MiB and sends nothing holds 4 KiB.
type inbox struct {
	buf    []byte
	r, w   int // buf[r:w] is read and not consumed
	full   bool
	low    int // reads in a row that left most of it unused
	budget *budget
	part   account
}

func (b *inbox) bytes() []byte { return b.buf[b.r:b.w] }
func (b *inbox) pending() bool { return b.r < b.w }
func (b *inbox) consume(n int) { b.r += n }

// makeRoom prepares the next read. need is how many bytes the request at the end
// of the buffer certainly lacks.
func (b *inbox) makeRoom(need int) error {
	if !b.pending() {
		b.r, b.w = 0, 0
		return b.fit()
	}
	streaming := b.full && len(b.buf) < streamBuffer
	room := len(b.buf) - b.w
	if room >= need && !streaming || room > 0 && b.r == 0 {
		return nil
	}
	if streaming || b.r == 0 {
		err := b.resize(b.larger(need))
		if err == nil || b.r == 0 {
			return err
		}
		b.full = false // no budget for comfort: go on with what there is
	}
	b.w = copy(b.buf, b.bytes())
	b.r = 0
	return nil
}

// larger is the next size: twice as much, or less when that will do, but always
// a quarter more, so that the copying stays in proportion to what arrives.
func (b *inbox) larger(need int) int {
	size := 2 * len(b.buf)
	if want := b.w - b.r + need; len(b.buf) >= streamBuffer && want < size {
		size = max(want, len(b.buf)+len(b.buf)/4)
	}
	return size
}

// fit chooses the size of an empty buffer by what the last reads brought.
func (b *inbox) fit() error {
	switch {
	case len(b.buf) > keepBuffer:
		return b.resize(streamBuffer)
	case b.buf == nil:
		return b.resize(firstBuffer)
	case b.full && len(b.buf) < streamBuffer:
		if b.resize(2*len(b.buf)) != nil {
			b.full = false // no budget for comfort: go on with what there is
		}
	case b.low >= shrinkAfter && len(b.buf) > firstBuffer:
		return b.resize(len(b.buf) / 2)
	}
	return nil
}

func (b *inbox) resize(size int) error {
	if !b.part.set(b.budget, size) {
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
		if b.w*4 > len(b.buf) {
			b.low = 0
		} else {
			b.low++
		}
	}
	return n, err
}

// shrink gives back what an idle connection does not need.
func (b *inbox) shrink() {
	if !b.pending() && len(b.buf) > firstBuffer {
		b.r, b.w = 0, 0
		_ = b.resize(firstBuffer) // giving back cannot fail
	}
}

// release gives everything back at the end.
func (b *inbox) release() {
	b.buf, b.r, b.w = nil, 0, 0
	b.part.set(b.budget, 0)
}
