package wal

// frameTarget is where a frame of many records ends and the next one begins:
// small enough to be replayed in parallel, large enough that its header is
// nothing.
const frameTarget = 128 << 10

// A batch is what one leader writes: frames in one buffer, laid out as they
// will lie in the log, with their headers still blank. Two batches take turns:
// one gathers while the other is written.
type batch struct {
	base   LSN    // of buf[0]
	buf    []byte // frames; byte i is at base + i
	frames []span
	open   bool // the last frame takes more records

	// done is closed when the batch has been written, or has failed. heir is
	// closed to hand the lead to the waiter that made it. Both are made by
	// whoever waits first.
	done, heir chan struct{}
	notices    *Notice // to be delivered when the batch has been written, or has failed
}

// A span is a frame in a batch, and the segment it belongs to.
type span struct {
	seg        *segment
	start, end int // in buf; end is set when the frame is finished
	mark       bool
}

func (b *batch) end() LSN { return b.base + LSN(len(b.buf)) }

// nextFrame is where the next frame would start.
func (b *batch) nextFrame() LSN { return alignUp(b.end()) }

// openFrame starts a frame for seg.
func (b *batch) openFrame(seg *segment, mark bool) {
	b.finishFrame()
	b.frames = append(b.frames, span{seg: seg, start: len(b.buf), mark: mark})
	b.buf = append(b.buf, make([]byte, frameHeader)...)
	b.open = true
}

// finishFrame ends the open frame and pads it.
func (b *batch) finishFrame() {
	if !b.open {
		return
	}
	b.open = false
	b.frames[len(b.frames)-1].end = len(b.buf)
	b.buf = append(b.buf, make([]byte, alignUp(len(b.buf))-len(b.buf))...)
}

func (b *batch) doneChan() chan struct{} {
	if b.done == nil {
		b.done = make(chan struct{})
	}
	return b.done
}

// wake releases everybody who waits for this batch.
func (b *batch) wake() {
	if b.done != nil {
		close(b.done)
		b.done = nil
	}
}

// reset empties the batch for reuse. A buffer that one huge record has grown
// far beyond the usual is given back.
func (b *batch) reset(usual int) {
	if cap(b.buf) > 2*usual {
		b.buf = nil
	}
	b.buf = b.buf[:0]
	b.notices = nil
	clear(b.frames)
	b.frames = b.frames[:0]
}
