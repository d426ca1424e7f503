package migrate

import (
	"errors"
	"sync"
)

// outbox is what one attempt has captured and the target has not acknowledged. It
// cuts records into batches, hands them to the sender one window ahead of the
// acknowledgements, and holds writers of the range back when it is full. It is the
// engine's Sink.
//
// Who waits for what:
//
//	copier    room      for the backlog to fall, or for its fair share of the way
//	sender    take      for a batch and for room in the window
//	receiver  expect    for something that a reply is due to
//	writers   Full      for the backlog to fall below the limit
type outbox struct {
	batchBytes, windowBytes int

	mu   sync.Mutex
	wake sync.Cond // on mu; anything below has changed

	// All below is guarded by mu.
	queue    [][]byte // full batches, oldest first
	open     []byte   // the batch being filled; nil when there is none
	queued   int      // bytes in queue and open
	flying   []flight // taken, not acknowledged, oldest first
	unacked  int      // bytes of flying
	seq      uint64   // of the batch taken last
	gone     uint64   // of the batch that has left last
	limit    int      // backlog at which writers are held
	full     chan struct{}
	added    uint64 // bytes ever added
	copied   uint64 // added when the copier last had its turn
	finished bool   // nothing will be added any more
	last     *lastWord
	ending   bool  // the last word, which acknowledges everything, is on its way
	err      error // the attempt is over
	spare    [][]byte
}

// flight is a batch on its way.
type flight struct {
	seq   uint64
	bytes int
}

func newOutbox(o *Options) *outbox {
	b := &outbox{batchBytes: o.BatchBytes, windowBytes: o.WindowBytes, limit: o.BufferBytes}
	b.wake.L = &b.mu
	return b
}

// Add takes a record, in the engine's order, under a partition's lock.
func (b *outbox) Add(record []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return
	}
	if b.open != nil && len(b.open)+len(record) > b.batchBytes {
		b.queue = append(b.queue, b.open)
		b.open = nil
	}
	if b.open == nil {
		// Only now is there something new for anyone who waits: more bytes in the
		// same batch are none, and a write should not wake three goroutines.
		b.open = startBatch(b.blank())
		b.wake.Broadcast()
	}
	b.open = append(b.open, record...)
	b.queued += len(record)
	b.added += uint64(len(record))
	b.holdBack()
}

// holdBack makes writers wait when there is too much.
func (b *outbox) holdBack() {
	if b.full == nil && b.err == nil && !b.finished && b.backlog() > b.limit {
		b.full = make(chan struct{})
	}
}

// Full returns nil while there is room for more changes.
func (b *outbox) Full() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.full
}

// backlog is what the target has not acknowledged. Between the batches' headers
// and the records a few bytes of difference do not matter.
func (b *outbox) backlog() int { return b.queued + b.unacked }

// blank returns an empty buffer for a batch.
func (b *outbox) blank() []byte {
	if n := len(b.spare); n > 0 {
		buf := b.spare[n-1]
		b.spare = b.spare[:n-1]
		return buf
	}
	return make([]byte, 0, b.batchBytes+batchHeader)
}

// sent says that a batch has left, and gives its buffer back.
func (b *outbox) sent(buf []byte, seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = seq
	b.wake.Broadcast()
	if cap(buf) <= 2*b.batchBytes && len(b.spare) < 1+b.windowBytes/b.batchBytes {
		b.spare = append(b.spare, buf[:0])
	}
}

// room waits until the copier may add a batch: when the backlog is low, or when
// writers have added so much since its last turn that it would starve otherwise.
func (b *outbox) room() error {
	return b.await(func() bool {
		return b.backlog() <= b.limit/2 || b.added-b.copied >= uint64(2*b.batchBytes)
	})
}

// yield ends the copier's turn.
func (b *outbox) yield() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.copied = b.added
}

// tighten holds writers back earlier from now on, so that the backlog falls below
// target whatever they do.
func (b *outbox) tighten(target int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = min(b.limit, target-target/4)
	b.holdBack()
}

// drained waits until at most this much is not acknowledged.
func (b *outbox) drained(backlog int) error {
	return b.await(func() bool { return b.backlog() <= backlog })
}

// finish says that nothing will be added any more.
func (b *outbox) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finished = true
	b.letGo()
	b.wake.Broadcast()
}

// lastWord is what STAGE_SEAL says.
type lastWord struct{ hlc, count uint64 }

// conclude lets the last word go, once everything else has been sent.
func (b *outbox) conclude(w lastWord) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = &w
	b.wake.Broadcast()
}

// lastWord returns the last word when there is one, and its number.
func (b *outbox) lastWord() (lastWord, uint64, error) {
	if err := b.await(func() bool { return b.last != nil }); err != nil {
		return lastWord{}, 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ending = true
	b.wake.Broadcast()
	return *b.last, b.seq + 1, nil
}

// take returns the next batch to send and its number, a nil batch when all have
// been sent. A batch that is not full leaves only when nothing is on its way or
// nothing more will come: so a trickle of writes shares the target's syncs.
func (b *outbox) take() (batch []byte, seq uint64, err error) {
	err = b.await(func() bool {
		switch {
		case b.finished:
			return b.open == nil && len(b.queue) == 0 || b.unacked < b.windowBytes
		case len(b.queue) > 0:
			return b.unacked < b.windowBytes
		}
		return b.open != nil && b.unacked == 0
	})
	if err != nil {
		return nil, 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if batch = b.next(); batch == nil {
		return nil, 0, nil
	}
	b.seq++
	size := len(batch) - batchHeader
	b.queued -= size
	b.unacked += size
	b.flying = append(b.flying, flight{b.seq, size})
	b.wake.Broadcast()
	return batch, b.seq, nil
}

// next removes the oldest batch.
func (b *outbox) next() []byte {
	if len(b.queue) == 0 {
		batch := b.open
		b.open = nil
		return batch
	}
	batch := b.queue[0]
	b.queue[0] = nil
	b.queue = b.queue[1:]
	return batch
}

var errAck = errors.New("migrate: the target acknowledged a batch that was not sent")

// acked takes an acknowledgement of everything up to seq. Old ones are no news.
func (b *outbox) acked(seq uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if seq > b.seq {
		return errAck
	}
	n := 0
	for n < len(b.flying) && b.flying[n].seq <= seq {
		b.unacked -= b.flying[n].bytes
		n++
	}
	b.flying = append(b.flying[:0], b.flying[n:]...)
	if b.backlog() <= b.limit-b.limit/4 {
		b.letGo()
	}
	b.wake.Broadcast()
	return nil
}

// expect waits until a reply is due: a batch that still waits for the throttle, or
// for a slow link, has none.
func (b *outbox) expect() error {
	return b.await(func() bool { return len(b.flying) > 0 && b.flying[0].seq <= b.gone || b.ending })
}

// fail ends the attempt: everyone who waits is told why, writers are let go, and
// what is added is forgotten. The first reason stays.
func (b *outbox) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.letGo()
	b.wake.Broadcast()
}

// letGo lets writers go on.
func (b *outbox) letGo() {
	if b.full != nil {
		close(b.full)
		b.full = nil
	}
}

// await waits until ready or until the attempt is over.
func (b *outbox) await(ready func() bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.err == nil && !ready() {
		b.wake.Wait()
	}
	return b.err
}

// isEnding says whether the last message has been sent.
func (b *outbox) isEnding() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ending
}
