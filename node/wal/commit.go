package wal

import (
	"errors"
	"fmt"
	"time"
)

// Wait returns nil once lsn is durable. Whoever finds nobody syncing does it
// itself, for everybody; the others sleep until it is done. Under SyncInterval
// and SyncNever it returns at once. An error means that the log is poisoned
// and the outcome unknown.
func (l *Log) Wait(lsn LSN) error {
	if l.Durable() >= lsn {
		return nil
	}
	if l.o.Sync != SyncAlways {
		return l.Err()
	}
	return l.SyncTo(lsn)
}

// SyncTo makes everything up to lsn durable, in every mode.
func (l *Log) SyncTo(lsn LSN) error {
	l.mu.Lock()
	if end := alignUp(l.pend.end()); lsn > end {
		l.mu.Unlock()
		return fmt.Errorf("wal: wait for position %d, but the log ends at %d", lsn, end)
	}
	for l.Durable() < lsn {
		if err := l.Err(); err != nil {
			l.mu.Unlock()
			return err
		}
		if !l.leading {
			l.leading = true
			l.lead(true)
			continue
		}
		ch, heir := l.queue(lsn)
		l.mu.Unlock()
		<-ch
		if !heir && l.Durable() >= lsn {
			return nil
		}
		l.mu.Lock()
		if heir {
			l.lead(true)
		}
	}
	l.mu.Unlock()
	return nil
}

// queue returns what to wait for while somebody else leads: the end of the
// batch that lsn is in. The first to wait for the batch that still gathers is
// its heir: it gets the lead as soon as it is free.
func (l *Log) queue(lsn LSN) (ch <-chan struct{}, heir bool) {
	switch {
	case l.inflight == nil:
		return l.pend.doneChan(), false // the leader is about to take it
	case lsn <= l.inflight.end():
		return l.inflight.doneChan(), false
	case l.pend.heir == nil:
		l.pend.heir = make(chan struct{})
		return l.pend.heir, true
	default:
		return l.pend.doneChan(), false
	}
}

// lead writes what has gathered, and syncs. The caller holds the lock, and the
// lead; it keeps the lock but has passed the lead on, or given it up.
func (l *Log) lead(sync bool) {
	b := l.take()
	l.mu.Unlock()
	var round round
	err := l.Err()
	if err == nil {
		round, err = l.write(b, sync)
	}
	l.mu.Lock()
	notices := b.notices
	l.finish(b, round, err)
	if notices != nil {
		fate := l.Err()
		l.mu.Unlock()
		notices.deliver(fate)
		l.mu.Lock()
	}
}

// take makes the gathering batch the one in flight.
func (l *Log) take() *batch {
	b := l.pend
	b.finishFrame()
	next := l.idle
	l.idle = nil
	next.base = b.end()
	l.pend, l.inflight = next, b
	l.fastEnd = 0
	return b
}

// finish ends the round: wakes those who waited for it, and passes the lead to
// the heir of the next, or to the committer where nobody waits but notices do.
func (l *Log) finish(b *batch, r round, err error) {
	if err != nil {
		l.poison(err)
	}
	l.counts.Groups += r.groups
	l.counts.Bytes += r.bytes
	l.counts.Syncs += r.syncs
	l.counts.SyncTime += r.syncTime
	l.counts.SyncMax = max(l.counts.SyncMax, r.syncTime)
	l.inflight = nil
	b.wake()
	b.heir = nil
	b.reset(l.o.MaxPending)
	l.idle = b
	if heir := l.pend.heir; heir != nil {
		l.pend.heir = nil
		close(heir)
		return
	}
	if l.pend.notices != nil {
		l.handOver()
		return
	}
	l.leading = false
	if l.o.Sync != SyncAlways && len(l.pend.buf) > 0 {
		l.rouse(true)
	}
}

// poison makes err the fate of the log. Nothing is written after a failed
// write or sync: the page cache may hold, and show, what the disk does not.
func (l *Log) poison(cause error) {
	if l.Err() != nil {
		return
	}
	err := fmt.Errorf("%w: %w", ErrPoisoned, cause)
	l.fault.Store(&err)
	if !errors.Is(l.refuse, ErrClosed) {
		l.setRefuse(err)
	}
	if l.o.OnPoison != nil {
		go l.o.OnPoison(err)
	}
}

// A round is what one leader did.
type round struct {
	groups, bytes, syncs uint64
	syncTime             time.Duration
}

// write puts the batch into its segments and, if sync is set, makes it
// durable. Only the leader may call it.
func (l *Log) write(b *batch, sync bool) (round, error) {
	var r round
	if err := l.o.Points.Hit(pointWrite); err != nil {
		return r, err
	}
	for frames := b.frames; len(frames) > 0; {
		seg, n := frames[0].seg, 1
		for n < len(frames) && frames[n].seg == seg {
			n++
		}
		if err := l.enterSegment(seg, &r); err != nil {
			return r, err
		}
		if err := l.writeFrames(b, frames[:n]); err != nil {
			return r, err
		}
		r.groups++
		frames = frames[n:]
	}
	r.bytes = uint64(len(b.buf))
	if !sync || l.Durable() == l.Written() {
		return r, nil
	}
	if err := l.o.Points.Hit(pointWritten); err != nil {
		return r, err
	}
	if err := l.sync(&r); err != nil {
		return r, err
	}
	return r, l.o.Points.Hit(pointSynced)
}

// writeFrames fills in the headers of neighbouring frames and writes them.
func (l *Log) writeFrames(b *batch, frames []span) error {
	durable, seg := l.Durable(), l.cur
	for _, f := range frames {
		at := b.base + LSN(f.start)
		encodeFrame(b.buf[f.start:f.end], seg.seed, seg.offset(at), f.mark, uint32(at-durable))
	}
	from, to := frames[0].start, alignUp(frames[len(frames)-1].end)
	if err := seg.write(b.buf[from:to], b.base+LSN(from), l.zerosFor(to-from)); err != nil {
		return err
	}
	l.written.Store(uint64(b.base) + uint64(to))
	return nil
}

// zerosFor returns what to write ahead of a group of n bytes.
func (l *Log) zerosFor(n int) []byte {
	if l.o.Sync != SyncAlways || n > wetGroup {
		return nil
	}
	return zeros[:]
}

// sync makes everything written durable.
func (l *Log) sync(r *round) error {
	start := time.Now()
	if err := l.cur.file.Sync(); err != nil {
		return err
	}
	r.syncs++
	r.syncTime += time.Since(start)
	l.durable.Store(l.written.Load())
	return nil
}

// enterSegment makes seg the one being written. The one before is synced
// first, in every mode: so a segment that has a successor is whole, and
// anything bad in it is damage.
func (l *Log) enterSegment(seg *segment, r *round) error {
	if seg == l.cur {
		return nil
	}
	if err := l.sync(r); err != nil {
		return err
	}
	if err := l.cur.close(); err != nil {
		return err
	}
	if err := l.o.Points.Hit(pointSegment); err != nil {
		return err
	}
	h := header{
		version: formatVersion, log: l.id, number: seg.number, size: seg.size,
		start: seg.start, synced: seg.start, oldest: l.Start(),
	}
	if err := seg.publish(l.o, h); err != nil {
		return err
	}
	l.cur = seg
	return l.o.Points.Hit(pointSegmented)
}
