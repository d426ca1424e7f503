package wal

// Append copies rec into the log and returns the LSN to Wait for. It does not
// wait for the disk, except when MaxPending bytes are already on their way or
// the next segment is just being reserved. An error means that nothing has
// happened: ErrDiskFull, ErrNoSegment, ErrTooLarge, ErrPoisoned or ErrClosed.
func (l *Log) Append(rec []byte) (LSN, error) { return l.append(rec, false) }

// AppendUrgent is Append for the few records that must go on when the disk is
// full, such as deletes and the seals of a range that moves away: it may use
// the part of each segment (1/64; more in a small one that Open had to make do
// with) that is kept in reserve until the next segment is there.
func (l *Log) AppendUrgent(rec []byte) (LSN, error) { return l.append(rec, true) }

func (l *Log) append(rec []byte, urgent bool) (LSN, error) {
	if len(rec) > l.o.MaxRecord {
		return 0, ErrTooLarge
	}
	need := recordSize(len(rec))
	l.mu.Lock()
	if len(l.pend.buf)+need > l.fastEnd {
		if err := l.makeRoom(need, urgent); err != nil {
			l.mu.Unlock()
			return 0, err
		}
	}
	b := l.pend
	b.buf = appendRecord(b.buf, rec)
	l.counts.Records++
	lsn := b.base + LSN(len(b.buf))
	l.mu.Unlock()
	return lsn, nil
}

// makeRoom returns with an open frame in pend that takes need more bytes, in a
// segment that has the space. It sets fastEnd so that the next records do not
// come here.
func (l *Log) makeRoom(need int, urgent bool) error {
	for {
		if l.refuse != nil {
			return l.refuse
		}
		b := l.pend
		if len(b.buf) >= l.o.MaxPending {
			l.drain()
			continue
		}
		tail := l.segs.last()
		limit := l.limit(tail, urgent)
		if b.open && b.lastFrameFits(need) && b.end()+LSN(need) <= limit {
			l.setFastEnd(tail, need) // only an old limit lay in the way
			return nil
		}
		if b.nextFrame()+frameHeader+LSN(need) <= limit {
			l.startFrame(tail, need)
			return nil
		}
		if err := l.nextSegment(); err != nil {
			return err
		}
	}
}

// lastFrameFits reports whether the open frame may take need more bytes.
func (b *batch) lastFrameFits(need int) bool {
	return len(b.buf)-b.frames[len(b.frames)-1].start+need <= frameTarget
}

// limit is where records must end in seg. The reserve is open to everyone once
// the next segment is there to carry on.
func (l *Log) limit(seg *segment, urgent bool) LSN {
	end := seg.end() - markRoom
	if !urgent && !l.stock.ready() {
		end -= LSN(seg.reserve())
	}
	return end
}

func (l *Log) startFrame(tail *segment, need int) {
	b := l.pend
	first := len(b.buf) == 0
	b.openFrame(tail, false)
	l.setFastEnd(tail, need)
	if b.end() > tail.start+LSN(tail.size/2) {
		l.reserveNext()
	}
	if l.o.Sync != SyncAlways {
		l.rouse(first)
	}
}

// setFastEnd lets records into the new frame without a look around: until the
// frame is large enough, the segment full or the batch due.
func (l *Log) setFastEnd(tail *segment, need int) {
	b := l.pend
	room := l.limit(tail, false)
	frame := max(b.frames[len(b.frames)-1].start+frameTarget, len(b.buf)+need)
	segment := max(0, int(int64(room)-int64(b.base)))
	l.fastEnd = min(frame, segment, l.o.MaxPending)
}

// nextSegment moves the end of the log into a reserved segment, waiting for
// one that is being reserved.
func (l *Log) nextSegment() error {
	if !l.stock.ready() {
		if err := l.stock.refusal(); err != nil {
			return err
		}
		l.reserveNext()
		l.await(l.stock.busy)
		return l.stock.refusal()
	}
	l.pend.finishFrame()
	tail := l.segs.last()
	next := l.stock.take()
	next.number = tail.number + 1
	next.start = l.pend.end()
	l.segs = append(l.segs, next)
	return nil
}

// drain gets pend written when it is full: as the leader, or by waiting.
func (l *Log) drain() {
	if !l.leading {
		l.leading = true
		l.lead(l.o.Sync == SyncAlways)
		return
	}
	l.await(l.roundDone())
}

// roundDone is closed when the present leader has done its batch.
func (l *Log) roundDone() <-chan struct{} {
	if l.inflight != nil {
		return l.inflight.doneChan()
	}
	return l.pend.doneChan() // it is about to take this one
}

// await sleeps until ch is closed, without the lock.
func (l *Log) await(ch <-chan struct{}) {
	l.mu.Unlock()
	<-ch
	l.mu.Lock()
}

func (l *Log) setRefuse(err error) {
	l.refuse = err
	l.fastEnd = 0
}
