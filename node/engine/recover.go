package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// replayQueue is how many payloads a worker may lag behind the log's reader.
const replayQueue = 8

// Mark is the newest document this node has acted on: a document that is older
// is refused at start.
type Mark struct {
	Cluster string
	Epoch   ring.Epoch
	Counter uint64
}

// HeldRange is a range that a move holds here.
type HeldRange struct {
	Move  string
	Range ring.Range
	// Complete, HLC and Count are set for a staged range whose StageComplete was logged.
	Complete bool
	HLC      Version
	Count    uint64
}

// Recovered is what the log left unfinished: facts to compare with the document,
// not a right to serve.
type Recovered struct {
	Mark   Mark
	Sealed []HeldRange
	Staged []HeldRange
	// Keys is how many entries the log held, whoever owns them.
	Keys int
	// Ahead is how far the newest version of the log is ahead of the wall clock, 0
	// when it is not: one of the two is wrong, and expiry follows the log's.
	Ahead time.Duration
}

// Recovered returns what [Open] found.
func (e *Engine) Recovered() Recovered { return e.recovered }

// SetMark logs the document that this node now acts on, unless it is the last one
// logged: trying again does not use up a disk that is nearly full.
func (e *Engine) SetMark(m Mark) (wal.LSN, error) {
	if len(m.Cluster) > maxName {
		return 0, fmt.Errorf("%w: a cluster's name has at most %d bytes", ErrConflict, maxName)
	}
	e.ranges.Lock()
	defer e.ranges.Unlock()
	if m == e.mark {
		return e.markLSN, nil
	}
	lsn, err := e.logEvent(event{kind: kindMark, name: m.Cluster, a: uint64(m.Epoch), b: m.Counter})
	if err != nil {
		return 0, err
	}
	e.mark, e.markLSN = m, lsn
	return lsn, nil
}

// ledger is what range records add up to.
type ledger struct {
	mark           Mark
	sealed, staged map[string]HeldRange
}

// apply adds one record. A record about a range ends every older hold that
// overlaps it: a range is in one state at a time, and when the note of a hold's end
// did not get into the log, the next hold tells.
func (l *ledger) apply(ev event) {
	held := HeldRange{Move: ev.name, Range: ev.r}
	switch ev.kind {
	case kindMark:
		l.mark = Mark{Cluster: ev.name, Epoch: ring.Epoch(ev.a), Counter: ev.b}
	case kindSeal:
		l.end(ev.r)
		l.sealed[ev.name] = held
	case kindStage:
		l.end(ev.r)
		l.staged[ev.name] = held
	case kindComplete:
		held.Complete, held.HLC, held.Count = true, Version(ev.a), ev.b
		l.staged[ev.name] = held
	case kindUnseal, kindActivate, kindWipe:
		l.end(ev.r)
	}
}

func (l *ledger) end(r ring.Range) {
	overlaps := func(_ string, h HeldRange) bool { return h.Range.Overlaps(r) }
	maps.DeleteFunc(l.sealed, overlaps)
	maps.DeleteFunc(l.staged, overlaps)
}

// replay applies the log with several workers. Each sees every record, in order,
// and applies those of its own partitions: order matters within a partition only.
type replay struct {
	e       *Engine
	base    *loadedBase
	workers []*replayWorker
	done    sync.WaitGroup
	failed  atomic.Bool
}

// replayWorker is touched by its own goroutine until replay.done.
type replayWorker struct {
	replay *replay
	index  int
	blocks chan *replayBlock
	s      *Session
	ledger *ledger // of worker 0; nil for the others
	lsn    wal.LSN // of the record at hand; what is not newer has been applied
	newest Version
	err    error
}

// replayBlock is a payload on its way through all workers; the last releases it.
type replayBlock struct {
	payload []byte
	end     wal.LSN
	users   atomic.Int32
}

// recover fills memory from base and log and restores the holds.
func (e *Engine) recover(workers int, from *Base) error {
	base, err := from.open(e.log)
	if err != nil {
		return err
	}
	r, led := &replay{e: e, base: base}, base.ledger()
	for i := range min(workers, partitions) {
		w := &replayWorker{replay: r, index: i, blocks: make(chan *replayBlock, replayQueue), s: e.NewSession()}
		if i == 0 {
			w.ledger = led
		}
		r.workers = append(r.workers, w)
	}
	for _, w := range r.workers {
		r.done.Go(w.run) // Each counts them all.
	}
	if err = base.archived(r.feed); err == nil {
		err = e.log.Replay(r.feed)
	}
	for _, w := range r.workers {
		close(w.blocks)
	}
	r.done.Wait()
	for _, w := range r.workers {
		err = errors.Join(err, w.err)
		e.clock.Observe(w.newest)
	}
	if err == nil {
		e.restore(led)
	}
	return err
}

var errWorker = errors.New("a worker has failed")

// feed hands one payload to all workers.
func (r *replay) feed(payload []byte, end wal.LSN) error {
	if r.failed.Load() {
		return errWorker
	}
	b := &replayBlock{payload: payload, end: end}
	b.users.Store(int32(len(r.workers)))
	for _, w := range r.workers {
		w.blocks <- b
	}
	return nil
}

func (w *replayWorker) run() {
	if w.err = w.load(); w.err != nil {
		w.replay.failed.Store(true)
	}
	for b := range w.blocks {
		if w.err == nil {
			if err := w.apply(b.payload, b.end); err != nil {
				w.err = fmt.Errorf("in the records before %s: %w", b.end, err)
				w.replay.failed.Store(true)
			}
		}
		if b.users.Add(-1) == 0 {
			w.replay.e.log.Release(b.payload)
		}
	}
}

func (w *replayWorker) apply(payload []byte, end wal.LSN) error {
	at := wal.PayloadStart(payload, end)
	for {
		rec, rest, err := wal.NextRecord(payload)
		if err != nil || rec == nil {
			return err
		}
		at += wal.LSN(len(payload) - len(rest))
		payload = rest
		if at <= w.lsn {
			continue // The log begins with what the archive ended with.
		}
		w.lsn = at
		if err := w.record(rec); err != nil {
			return fmt.Errorf("%w: %w", ErrRecord, err)
		}
	}
}

func (w *replayWorker) record(rec []byte) error {
	pos, ok := entryPosition(rec)
	if !ok || !kind(rec[0]).isEntry() {
		return w.event(rec)
	}
	index := int(pos / partitionSpan)
	if index%len(w.replay.workers) != w.index || w.lsn <= w.replay.base.Cuts[index] {
		return nil
	}
	r, rest, err := decodeEntry(rec)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes follow the record", len(rest))
	}
	w.newest = max(w.newest, r.version)
	p := w.s.e.part(pos)
	p.last, p.newest = w.lsn, max(p.newest, r.version)
	if r.kind == kindDelete {
		p.mourn(w.s.e.hub.tombLimit, pos, r.key, r.version)
	}
	return w.s.apply(p, &p.segs[0], r)
}

// event does what a range record says to the worker's own partitions.
func (w *replayWorker) event(rec []byte) error {
	ev, err := decodeEvent(rec)
	if err != nil {
		return err
	}
	if w.ledger != nil && w.lsn > w.replay.base.LSN {
		w.ledger.apply(ev)
	}
	if ev.kind == kindComplete {
		w.newest = max(w.newest, Version(ev.a))
		w.received(ev)
	}
	if ev.kind != kindWipe && ev.kind != kindStage {
		return nil
	}
	for _, pc := range pieces(ev.r) {
		if pc.index%len(w.replay.workers) == w.index && w.lsn > w.replay.base.Cuts[pc.index] {
			p := &w.s.e.parts[pc.index]
			w.s.purgeAll(p, pc.from, pc.to)
			p.last = w.lsn
		}
	}
	return nil
}

// received notes that what a range held when it came is not in this log as it happened.
func (w *replayWorker) received(ev event) {
	for _, pc := range pieces(ev.r) {
		if pc.index%len(w.replay.workers) == w.index {
			p := &w.s.e.parts[pc.index]
			p.horizon, p.newest = max(p.horizon, Version(ev.a)), max(p.newest, Version(ev.a))
		}
	}
}

var errBase = errors.New("record changes a key that is not there")

// apply does to memory what a record says.
func (s *Session) apply(p *partition, seg *segment, r entry) error {
	switch r.kind {
	case kindPut, kindPutTTL:
		p.put(seg, r.pos, r.key, r.value, r.version, r.expireAt)
	case kindDelete:
		p.remove(seg, r.pos, r.key)
	case kindTouch:
		if !p.setMeta(r.pos, r.key, r.version, r.expireAt) {
			return errBase
		}
	case kindAppend:
		old, ok := p.table.Get(r.pos, r.key)
		if !ok {
			return errBase
		}
		expireAt := old.ExpireAt
		s.value = append(append(s.value[:0], old.Value...), r.value...)
		p.put(seg, r.pos, r.key, s.value, r.version, expireAt)
	}
	return nil
}

// restore puts the ranges that moves held back into their states.
func (e *Engine) restore(led *ledger) {
	e.recovered = Recovered{Mark: led.mark, Sealed: inOrder(led.sealed), Staged: inOrder(led.staged)}
	e.mark = led.mark
	newest := Version(e.clock.last.Load()).Millis()
	e.recovered.Ahead = time.Duration(max(0, newest-e.clock.wall())) * time.Millisecond
	for i := range e.parts {
		e.recovered.Keys += e.parts[i].table.Len()
	}
	for _, held := range e.recovered.Sealed {
		h := newHold(held.Move, held.Range, HeldSealed)
		e.sealed[held.Move] = h
		e.setState(held.Range, sealed, h)
	}
	for _, held := range e.recovered.Staged {
		h := newHold(held.Move, held.Range, HeldStaged)
		h.complete, h.hlc, h.count = held.Complete, held.HLC, held.Count
		h.ready.Store(true)
		e.staged[held.Move] = h
		to := staging
		if h.complete {
			to = staged
		}
		e.setState(held.Range, to, h)
	}
}

func inOrder(held map[string]HeldRange) []HeldRange {
	list := make([]HeldRange, 0, len(held))
	for _, name := range slices.Sorted(maps.Keys(held)) {
		list = append(list, held[name])
	}
	return list
}
