// Package oracle is a load of reads and writes that knows what every answer must
// be. Each key has one writer, each write a number of its own, so that a read can
// be told right from wrong on the spot, and an audit at the end finds every
// acknowledged write that is missing, came back from the dead, or was never made.
//
// What it accepts for a key is the newest acknowledged write, or one of those
// whose outcome nobody could tell; nothing else. Deletes are writes like others.
//
// A [Workload] is used by one goroutine; its workers are its own.
package oracle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/quoitdb/quoit/client"
)

// Store is what a workload needs of a client.
type Store interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte, opts ...client.PutOption) error
	Delete(ctx context.Context, keys ...string) (int, error)
}

// WrongAnswer is an answer that must not be. It is the error of the operation
// that got it.
type WrongAnswer struct{ Text string }

func (e *WrongAnswer) Error() string { return e.Text }

// Options says what the load is like.
type Options struct {
	Prefix    string        // of every key
	Workers   int           // each with registers of its own
	Registers int           // keys for each worker
	Rate      int           // operations a second, over all workers; 0: as fast as answers come
	Timeout   time.Duration // of one operation
	// Keys, if set, chooses the keys instead: one for each call.
	Keys func(worker, register int) string
	// Extra, if set, takes the place of a fifth of the operations.
	Extra func(ctx context.Context, random *rand.Rand) error
	// Observe, if set, is told of every operation: when it began, how long it took,
	// and its error, a *WrongAnswer among them. It is called from all workers.
	Observe func(began time.Time, took time.Duration, err error)
}

// Workload is a running load.
type Workload struct {
	db      Store
	o       Options
	limiter *rate.Limiter
	workers [][]*register
	acked   atomic.Int64
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex
	wrong  int64    // guarded by mu
	faults []string // the first few; guarded by mu
}

// maxFaults bounds how many wrong answers are remembered in words.
const maxFaults = 10

// New prepares a load.
func New(db Store, o Options) *Workload {
	w := &Workload{db: db, o: o, limiter: rate.NewLimiter(rate.Inf, 1)}
	if o.Rate > 0 {
		w.limiter = rate.NewLimiter(rate.Limit(o.Rate), max(1, o.Rate/100))
	}
	if o.Keys == nil {
		o.Keys = func(worker, register int) string { return fmt.Sprintf("%s%d:%d", o.Prefix, worker, register) }
	}
	for i := range o.Workers {
		registers := make([]*register, o.Registers)
		for j := range registers {
			registers[j] = &register{key: o.Keys(i, j), unknown: make(map[int64]bool)}
		}
		w.workers = append(w.workers, registers)
	}
	return w
}

// Start starts the workers.
func (w *Workload) Start(ctx context.Context) {
	ctx, w.stop = context.WithCancel(ctx)
	for i, registers := range w.workers {
		random := rand.New(rand.NewPCG(uint64(i), 7))
		w.wg.Go(func() {
			for w.limiter.Wait(ctx) == nil {
				w.operate(ctx, registers[random.IntN(len(registers))], random)
			}
		})
	}
}

// Halt stops the workers and waits for what is under way: its outcome has to be
// known.
func (w *Workload) Halt() {
	w.stop()
	w.wg.Wait()
}

// Wrong returns how many answers were wrong, and what the first of them were.
func (w *Workload) Wrong() (int64, []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wrong, w.faults
}

// Acknowledged returns how many writes were.
func (w *Workload) Acknowledged() int64 { return w.acked.Load() }

// Audit reads every key once more and returns how many were checked, and what was
// lost or wrong. Call it after Halt.
func (w *Workload) Audit(ctx context.Context) (checked int, lost []string, err error) {
	return w.AuditOf(ctx, w.db)
}

// AuditOf is Audit of another store that must hold the same: one that was restored.
func (w *Workload) AuditOf(ctx context.Context, db Store) (checked int, lost []string, err error) {
	for _, registers := range w.workers {
		for _, r := range registers {
			value, err := db.Get(ctx, r.key)
			if err != nil && !errors.Is(err, client.ErrNotFound) {
				return checked, lost, fmt.Errorf("audit %s: %w", r.key, err)
			}
			checked++
			if e := r.check(value, err == nil); e != nil {
				lost = append(lost, e.Error())
			}
		}
	}
	return checked, lost, nil
}

// Present returns how many keys must be there now, at least and at most: writes
// whose outcome is not known count for the difference.
func (w *Workload) Present() (least, most int) {
	for _, registers := range w.workers {
		for _, r := range registers {
			there := r.acked.number > 0 && !r.acked.deleted
			if there && !r.maybe(true) {
				least++
			}
			if there || r.maybe(false) {
				most++
			}
		}
	}
	return least, most
}

func (w *Workload) operate(ctx context.Context, r *register, random *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.o.Timeout)
	defer cancel()
	began := time.Now()
	var err error
	switch dice := random.IntN(100); {
	case dice >= 80 && w.o.Extra != nil:
		err = w.o.Extra(ctx, random)
	case dice < 45:
		err = w.put(ctx, r)
	case dice < 52:
		err = w.delete(ctx, r)
	default:
		err = w.read(ctx, r)
	}
	var bad *WrongAnswer
	if errors.As(err, &bad) {
		w.blame(bad)
	}
	if w.o.Observe != nil {
		w.o.Observe(began, time.Since(began), err)
	}
}

func (w *Workload) blame(e *WrongAnswer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong++
	if len(w.faults) < maxFaults {
		w.faults = append(w.faults, e.Text)
	}
}

func (w *Workload) put(ctx context.Context, r *register) error {
	r.next++
	number := r.next
	err := w.db.Put(ctx, r.key, r.value(number))
	w.settle(r, write{number: number}, err)
	return err
}

func (w *Workload) delete(ctx context.Context, r *register) error {
	r.next++
	number := r.next
	_, err := w.db.Delete(ctx, r.key)
	w.settle(r, write{number: number, deleted: true}, err)
	return err
}

func (w *Workload) read(ctx context.Context, r *register) error {
	value, err := w.db.Get(ctx, r.key)
	found := err == nil
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		return err
	}
	if err := r.check(value, found); err != nil {
		return &WrongAnswer{err.Error()}
	}
	return nil
}

// register is one key and what its only writer knows of it.
type register struct {
	key string
	// acked is the newest write that was acknowledged.
	acked write
	// unknown are the writes whose outcome nobody could tell: number -> it was a
	// delete. A request that a broken link left behind may be done late, so they
	// stay possible.
	unknown map[int64]bool
	next    int64
}

type write struct {
	number  int64 // 0: never written
	deleted bool
}

// settle notes what became of a write. One that failed for whatever reason may
// still have happened: only an acknowledgement is proof.
func (w *Workload) settle(r *register, made write, err error) {
	if err != nil {
		r.unknown[made.number] = made.deleted
		return
	}
	r.acked = made
	w.acked.Add(1)
}

// maybe says whether a write of this kind is among the unknown ones.
func (r *register) maybe(deleted bool) bool {
	for _, d := range r.unknown {
		if d == deleted {
			return true
		}
	}
	return false
}

// check compares what was read with what may be there.
func (r *register) check(value []byte, found bool) error {
	if !found {
		if r.acked.number == 0 || r.acked.deleted || r.maybe(true) {
			return nil
		}
		return fmt.Errorf("%s is gone; write %d had been acknowledged", r.key, r.acked.number)
	}
	number, err := r.parse(value)
	if err != nil {
		return err
	}
	if deleted, unknown := r.unknown[number]; unknown && !deleted {
		return nil
	}
	if number == r.acked.number && !r.acked.deleted {
		return nil
	}
	return fmt.Errorf("%s holds write %d; the newest acknowledged is %d (a delete: %v)", r.key, number, r.acked.number, r.acked.deleted)
}

// value holds the number, the key and padding: a value of another key or a part of
// a value cannot pass for it.
func (r *register) value(number int64) []byte {
	return []byte(strconv.FormatInt(number, 10) + "|" + r.key + "|" + strings.Repeat("x", int(number%97)))
}

func (r *register) parse(value []byte) (int64, error) {
	text, _, _ := strings.Cut(string(value), "|")
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || string(r.value(number)) != string(value) {
		return 0, fmt.Errorf("%s holds %q, which nobody wrote", r.key, value)
	}
	return number, nil
}
