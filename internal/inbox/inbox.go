// Package inbox is what a connection reads into: a buffer that grows as bytes arrive
// and shrinks when they no longer come, within a budget that all connections share.
package inbox

import (
	"errors"
	"io"
	"sync/atomic"
)

const (
	// First is how large a buffer may be without being counted, since the number of
	// connections bounds those: ten thousand hold 40 MB. A buffer may begin with less
	// (NewBuffer), where most connections say nothing most of the time.
	First = 4 << 10
	// keepStreams is how many times the size for a stream an empty buffer may keep;
	// larger ones are for one large request and go as soon as it is done.
	keepStreams = 4
	// shrinkAfter is how many reads in a row may leave three quarters of the
	// buffer unused before half of it is given back.
	shrinkAfter = 64
)

// ErrBudget means that all connections together hold as many bytes as they may.
var ErrBudget = errors.New("inbox: in-flight budget spent")

// Budget counts the bytes of all buffers that have grown beyond the first size.
type Budget struct {
	// Limit is how many there may be.
	Limit int64
	used  atomic.Int64
}

// Take counts n bytes more, if there may be so many; Give gives them back.
func (b *Budget) Take(n int64) bool {
	if b.used.Add(n) > b.Limit {
		b.used.Add(-n)
		return false
	}
	return true
}

// Give gives n bytes back.
func (b *Budget) Give(n int64) { b.used.Add(-n) }

// Used is how many bytes are counted.
func (b *Budget) Used() int64 { return b.used.Load() }

// Account is one buffer's part of a budget. It belongs to one goroutine.
type Account struct {
	of   *Budget
	held int64
}

// NewAccount returns one that holds nothing.
func NewAccount(of *Budget) Account { return Account{of: of} }

// Held is the part, 0 for a buffer of the first size.
func (a *Account) Held() int { return int(a.held) }

// Set changes the part to size bytes and says whether the budget allows that.
// Giving back always succeeds; a refused growth changes nothing.
func (a *Account) Set(size int) bool {
	want := int64(size)
	if want <= First {
		want = 0
	}
	if delta := want - a.held; delta > 0 && !a.of.Take(delta) {
		return false
	} else if delta < 0 {
		a.of.Give(-delta)
	}
	a.held = want
	return true
}

// Buffer is what requests or replies are read into and parsed in. It grows as bytes
// arrive, never ahead of them: who announces 64 MiB and sends nothing holds 4 KiB.
type Buffer struct {
	buf    []byte
	r, w   int // buf[r:w] is read and not consumed
	full   bool
	low    int // reads in a row that left most of it unused
	least  int // bytes that it begins with, and has while the connection is idle
	stream int
	part   Account
}

// NewBuffer returns one that holds nothing yet. It begins with least bytes, at most
// First, and comes back to that when it is idle. stream is how far it grows for a peer
// that keeps it full; a larger request makes it larger.
func NewBuffer(of *Budget, least, stream int) Buffer {
	return Buffer{least: least, stream: stream, part: NewAccount(of)}
}

// Stream changes how far the buffer grows for a peer that keeps it full.
func (b *Buffer) Stream(size int) { b.stream = size }

// Bytes is what has been read and not consumed, until the next MakeRoom.
func (b *Buffer) Bytes() []byte { return b.buf[b.r:b.w] }

// Pending says whether there are such bytes.
func (b *Buffer) Pending() bool { return b.r < b.w }

// Consume takes the first n bytes away; they stay readable until the next MakeRoom.
func (b *Buffer) Consume(n int) { b.r += n }

// Offset is where Bytes begins.
func (b *Buffer) Offset() int { return b.r }

// Between is what lies between two offsets taken since the last MakeRoom.
func (b *Buffer) Between(from, to int) []byte { return b.buf[from:to] }

// Size is how many bytes the buffer holds in memory.
func (b *Buffer) Size() int { return len(b.buf) }

// Large says whether there is anything that Shrink would give back.
func (b *Buffer) Large() bool { return len(b.buf) > b.least }

// MakeRoom prepares the next Fill. need is how many bytes the request at the end
// of the buffer certainly lacks.
func (b *Buffer) MakeRoom(need int) error {
	if !b.Pending() {
		b.r, b.w = 0, 0
		return b.fit()
	}
	streaming := b.full && len(b.buf) < b.stream
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
	b.w = copy(b.buf, b.Bytes())
	b.r = 0
	return nil
}

// larger is the next size: twice as much, or less when that will do, but always
// a quarter more, so that the copying stays in proportion to what arrives.
func (b *Buffer) larger(need int) int {
	size := 2 * len(b.buf)
	if want := b.w - b.r + need; len(b.buf) >= b.stream && want < size {
		size = max(want, len(b.buf)+len(b.buf)/4)
	}
	return size
}

// fit chooses the size of an empty buffer by what the last reads brought.
func (b *Buffer) fit() error {
	switch {
	case len(b.buf) > keepStreams*b.stream:
		return b.resize(b.stream)
	case b.buf == nil:
		return b.resize(b.least)
	case b.full && len(b.buf) < b.stream:
		if b.resize(2*len(b.buf)) != nil {
			b.full = false // no budget for comfort: go on with what there is
		}
	case b.low >= shrinkAfter && len(b.buf) > b.least:
		return b.resize(len(b.buf) / 2)
	}
	return nil
}

func (b *Buffer) resize(size int) error {
	if !b.part.Set(size) {
		return ErrBudget
	}
	next := make([]byte, size)
	b.w = copy(next, b.buf[b.r:b.w])
	b.buf, b.r, b.low, b.full = next, 0, 0, false
	return nil
}

// Fill reads once from r into the room that MakeRoom made.
func (b *Buffer) Fill(r io.Reader) (int, error) {
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

// Room is how many bytes the next Fill can read at most.
func (b *Buffer) Room() int { return len(b.buf) - b.w }

// Shrink gives back what an idle connection does not need.
func (b *Buffer) Shrink() {
	if !b.Pending() && len(b.buf) > b.least {
		b.r, b.w = 0, 0
		_ = b.resize(b.least) // giving back cannot fail
	}
}

// Release gives everything back at the end.
func (b *Buffer) Release() {
	b.buf, b.r, b.w = nil, 0, 0
	b.part.Set(0)
}
