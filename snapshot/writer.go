package snapshot

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"

	"github.com/quoitdb/quoit/ring"
)

// How blocks are cut. See [Writer].
const (
	blockTarget = 128 << 10
	blockLimit  = 4 << 20
)

// WriterOptions says how a [Writer] works.
type WriterOptions struct {
	Snapshot ID     // that the part belongs to
	Part     uint32 // its number in that snapshot
	// Workers is the number of goroutines that compress and check sum. With 0 the
	// caller of Add does it; with more a further goroutine writes.
	Workers int
}

// Writer writes a part file to a stream.
//
// Entries gather in a block of about 128 KiB, which is cut where the position
// changes. Only a value of that size, which gets a block of its own, and a crowd
// of more than 4 MiB on one position are cut off within a position.
//
// Memory is bounded by (Workers + 2) * 2 blocks, and by the index, 32 bytes for
// each block.
type Writer struct {
	id   identity
	out  io.Writer
	pipe *pipeline // nil without workers

	job     *job // the block that gathers
	coder   coder
	lastKey []byte

	started bool
	closed  bool
	untried atomic.Int32 // blocks to store raw without trying

	err error

	mu     sync.Mutex // guards what follows while the pipeline writes
	sum    PartInfo
	blocks []Block
	failed error // of out
}

// job is a block on its way: gathered, sealed, written.
type job struct {
	raw, out []byte
	stored   []byte // raw or out, with the trailer
	number   uint32
	block    Block
	newest   uint64
	done     chan struct{} // has one element when the block is sealed
}

// NewWriter returns a Writer, after writing the header to w. Close it in any case.
func NewWriter(w io.Writer, o WriterOptions) (*Writer, error) {
	s := &Writer{id: identity{o.Snapshot, o.Part}, out: w}
	s.sum = PartInfo{Snapshot: o.Snapshot, Number: o.Part}
	if err := s.write(s.id.header()); err != nil {
		return nil, err
	}
	if o.Workers > 0 {
		s.pipe = newPipeline(s, o.Workers)
	}
	s.job = s.freshJob()
	return s, nil
}

// Add adds an entry, which must come after the one before in the order of
// position and key, else the error is [ErrOrder]. Key and value are copied. After
// an error the file is worth nothing.
func (w *Writer) Add(e Entry) error {
	if w.err == nil {
		w.err = w.check(&e)
	}
	if w.err != nil {
		return w.err
	}
	if w.job.block.Entries > 0 && w.mustCut(&e) {
		if w.err = w.cut(); w.err != nil {
			return w.err
		}
	}
	b := &w.job.block
	if b.Entries == 0 {
		b.First = e.Position
	}
	b.Last = e.Position
	b.Entries++
	w.job.newest = max(w.job.newest, e.Version)
	w.job.raw = w.coder.put(w.job.raw, &e)
	w.lastKey = append(w.lastKey[:0], e.Key...)
	w.started = true
	return nil
}

// check says whether e can come next.
func (w *Writer) check(e *Entry) error {
	switch {
	case w.closed:
		return fmt.Errorf("snapshot part: an entry after Close")
	case !e.fits():
		return fmt.Errorf("%w: an entry with a key of %d bytes, a value of %d, expiring at %d; want at most %d, %d, and no negative time",
			ErrLimit, len(e.Key), len(e.Value), e.ExpireAt, MaxKey, MaxValue)
	case w.started && (e.Position < w.last() || e.Position == w.last() && bytes.Compare(e.Key, w.lastKey) <= 0):
		return fmt.Errorf("%w: key %.40q at position %d after key %.40q at position %d",
			ErrOrder, e.Key, e.Position, w.lastKey, w.last())
	}
	return nil
}

// last returns the position of the last entry. A fresh block has it from the one before.
func (w *Writer) last() ring.Position { return w.job.block.Last }

// mustCut says whether the block that gathers ends before e.
func (w *Writer) mustCut(e *Entry) bool {
	gathered, size := len(w.job.raw), len(e.Key)+len(e.Value)
	switch {
	case size >= blockTarget, gathered+size >= blockLimit:
		return true
	case w.job.block.Entries == 1 && gathered >= blockTarget: // A value with a block of its own.
		return true
	default:
		return gathered+size > blockTarget && e.Position != w.job.block.Last
	}
}

// cut hands the block that gathers on and begins the next.
func (w *Writer) cut() error {
	last := w.job.block.Last
	w.job.block.Raw = uint32(len(w.job.raw))
	if w.pipe != nil {
		w.pipe.send(w.job)
	} else {
		w.seal(w.job)
		if err := w.emit(w.job); err != nil {
			return err
		}
	}
	number := w.job.number + 1
	w.job = w.freshJob()
	w.job.number = number
	w.job.block.Last = last
	w.coder = coder{}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// freshJob returns an empty block, in the memory of one that has been written.
func (w *Writer) freshJob() *job {
	var j *job
	switch {
	case w.pipe != nil:
		j = <-w.pipe.free
	case w.job != nil:
		j = w.job
	default:
		j = &job{}
	}
	// One huge value does not hold its memory until the end.
	if cap(j.raw) > 2*blockLimit {
		j.raw, j.out = nil, nil
	}
	if j.raw == nil {
		j.raw = make([]byte, 0, blockTarget+blockTarget/8)
	}
	*j = job{raw: j.raw[:0], out: j.out[:0], done: j.done}
	return j
}

// seal brings the block into its stored form.
func (w *Writer) seal(j *job) {
	size := len(j.raw)
	packed := false
	if w.untried.Add(-1) < 0 {
		j.out = compressor().EncodeAll(j.raw, j.out[:0])
		packed = len(j.out) < size-size/worthwhile
		w.untried.Store(0)
		if !packed {
			w.untried.Store(unpromising)
		}
	}
	if packed {
		j.out, j.block.crc = sealBlock(j.out, codecZstd, size, w.id, j.number)
		j.stored = j.out
	} else {
		j.raw, j.block.crc = sealBlock(j.raw, codecRaw, size, w.id, j.number)
		j.stored = j.raw
	}
	j.block.Stored = uint32(len(j.stored))
}

// emit writes a sealed block.
func (w *Writer) emit(j *job) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return w.failed
	}
	j.block.Offset = w.sum.Size
	if len(w.blocks) == 0 {
		w.sum.First = j.block.First
	}
	w.sum.Last = j.block.Last
	w.sum.Entries += uint64(j.block.Entries)
	w.sum.Raw += uint64(j.block.Raw)
	w.sum.Newest = max(w.sum.Newest, j.newest)
	w.blocks = append(w.blocks, j.block)
	if (len(w.blocks)+1)*indexEntrySize > maxIndex || w.sum.Size > MaxPart/2 {
		w.failed = fmt.Errorf("%w: a part of %d blocks and %d bytes; begin another part sooner", ErrLimit, len(w.blocks), w.sum.Size)
		return w.failed
	}
	w.failed = w.write(j.stored)
	return w.failed
}

func (w *Writer) write(b []byte) error {
	n, err := w.out.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("writing a snapshot part: %w", err)
	}
	w.sum.Size += int64(len(b))
	w.sum.CRC = crc32.Update(w.sum.CRC, castagnoli, b)
	return nil
}

// Size returns how many bytes have been written so far: when to begin the next part.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sum.Size
}

// Close writes what is left, index and footer, ends the Writer's goroutines, and
// returns what a manifest has to know. After an error, of this call or one
// before, the file is worth nothing. It does not close the stream.
func (w *Writer) Close() (PartInfo, error) {
	if w.closed {
		return PartInfo{}, fmt.Errorf("snapshot part: closed already")
	}
	if w.err == nil && w.job.block.Entries > 0 {
		w.err = w.cut()
	}
	w.closed = true
	if w.pipe != nil {
		w.pipe.close()
	}
	if w.err == nil {
		w.err = w.failed
	}
	if w.err == nil {
		w.err = w.finish()
	}
	if w.err != nil {
		return PartInfo{}, w.err
	}
	return w.sum, nil
}

// finish writes index and footer.
func (w *Writer) finish() error {
	index := appendIndex(nil, w.blocks)
	w.sum.Blocks = uint32(len(w.blocks))
	w.sum.IndexOffset, w.sum.IndexLength = w.sum.Size, int64(len(index))
	f := footer{w.sum, crc32.Update(w.id.seed(indexNumber), castagnoli, index)}
	return w.write(append(index, f.encode()...))
}

// pipeline seals blocks in several goroutines and writes them in order in one.
type pipeline struct {
	work  chan *job // to be sealed
	queue chan *job // the same, in the order of the file
	free  chan *job // blocks at rest: their number bounds the memory
	wg    sync.WaitGroup
}

func newPipeline(w *Writer, workers int) *pipeline {
	n := workers + 2 // One that gathers and one that is written, beside those at work.
	p := &pipeline{make(chan *job, n), make(chan *job, n), make(chan *job, n), sync.WaitGroup{}}
	for range n {
		p.free <- &job{done: make(chan struct{}, 1)}
	}
	for range workers {
		p.wg.Go(func() {
			for j := range p.work {
				w.seal(j)
				j.done <- struct{}{}
			}
		})
	}
	p.wg.Go(func() {
		for j := range p.queue {
			<-j.done
			_ = w.emit(j) // Kept in w.failed, which Add and Close return.
			p.free <- j
		}
	})
	return p
}

func (p *pipeline) send(j *job) {
	p.queue <- j
	p.work <- j
}

// close returns when every block sent has been written.
func (p *pipeline) close() {
	close(p.queue)
	close(p.work)
	p.wg.Wait()
}
