// Package bench measures what the Go client gets out of a running cluster:
// operations a second and their latencies, with a number of callers that share
// one client, each waiting for its answer before it asks again.
//
// Keys are uniform over a keyspace, values random bytes. The figures are of this
// machine at this moment, load generator included: compare them with a figure
// taken beside them, never with one from elsewhere.
package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/quoitdb/quoit/client"
)

// Options says what to measure.
type Options struct {
	Callers  int
	Duration time.Duration
	Keys     int // size of the keyspace
	Size     int // bytes in a value
	// Reads is the share of operations that read, 0 to 1.
	Reads float64
	// Report is called once a second with what has been measured so far.
	Report func(Figures)
}

// Store is what the measurement needs of a client.
type Store interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte, opts ...client.PutOption) error
	MPut(ctx context.Context, pairs []client.Pair, opts ...client.PutOption) ([]error, error)
}

// Figures are what came out.
type Figures struct {
	Ops       int64         `json:"ops"`
	Seconds   float64       `json:"seconds"`
	OpsPerSec float64       `json:"ops_per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	P999      time.Duration `json:"p999_ns"`
	Max       time.Duration `json:"max_ns"`
	Misses    int64         `json:"misses"`
	Errors    int64         `json:"errors"`
	FirstErr  string        `json:"first_error,omitempty"`
}

// Fill writes every key of the keyspace, so that reads hit, a bounded number of
// bytes at once.
func Fill(ctx context.Context, db Store, o Options, report func(done int)) error {
	const most, bytes = 500, 8 << 20
	batch := min(most, max(1, bytes/max(o.Size, 1)))
	value := randomValue(o.Size)
	for start := 0; start < o.Keys; start += batch {
		pairs := make([]client.Pair, 0, batch)
		for i := start; i < min(start+batch, o.Keys); i++ {
			pairs = append(pairs, client.Pair{Key: key(i), Value: value})
		}
		if _, err := db.MPut(ctx, pairs); err != nil {
			return err
		}
		if report != nil {
			report(start + len(pairs))
		}
	}
	return nil
}

func key(i int) string {
	const width = 12
	digits := strconv.Itoa(i)
	return "key:" + "000000000000"[:max(0, width-len(digits))] + digits
}

func randomValue(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

// Run measures until the duration is over or ctx ends.
func Run(ctx context.Context, db Store, o Options) Figures {
	ctx, cancel := context.WithTimeout(ctx, o.Duration)
	defer cancel()
	began := time.Now()
	callers := make([]*caller, o.Callers)
	var wg sync.WaitGroup
	for i := range callers {
		c := &caller{random: rand.New(rand.NewPCG(uint64(i), 1)), value: randomValue(o.Size)}
		callers[i] = c
		wg.Go(func() { c.run(ctx, db, o) })
	}
	stop := watch(ctx, callers, began, o.Report)
	wg.Wait()
	stop()
	return sum(callers, time.Since(began))
}

func watch(ctx context.Context, callers []*caller, began time.Time, report func(Figures)) (stop func()) {
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if report != nil {
					report(sum(callers, time.Since(began)))
				}
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// caller is one goroutine that asks and waits.
type caller struct {
	random *rand.Rand
	value  []byte
	Recorder
}

func (c *caller) run(ctx context.Context, db Store, o Options) {
	for ctx.Err() == nil {
		began := time.Now()
		err := c.once(ctx, db, o)
		if ctx.Err() != nil {
			return
		}
		c.Record(time.Since(began), err)
	}
}

func (c *caller) once(ctx context.Context, db Store, o Options) error {
	k := key(c.random.IntN(o.Keys))
	if c.random.Float64() < o.Reads {
		_, err := db.Get(ctx, k)
		return err
	}
	return db.Put(ctx, k, c.value)
}

func sum(callers []*caller, elapsed time.Duration) Figures {
	var all Recorder
	for _, c := range callers {
		all.add(&c.Recorder)
	}
	return all.Figures(elapsed)
}

// Recorder collects the times and outcomes of operations. The zero value is ready,
// and any number of goroutines may use it.
type Recorder struct {
	mu       sync.Mutex
	times    histogram // guarded by mu
	misses   int64     // guarded by mu
	errors   int64     // guarded by mu
	firstErr string    // guarded by mu
}

// Record notes one operation. ErrNotFound is a miss, other errors are errors.
func (r *Recorder) Record(d time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.times.add(d)
	switch {
	case errors.Is(err, client.ErrNotFound):
		r.misses++
	case err != nil:
		r.errors++
		if r.firstErr == "" {
			r.firstErr = err.Error()
		}
	}
}

// add takes in what another recorder has.
func (r *Recorder) add(o *Recorder) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r.times.merge(&o.times)
	r.misses += o.misses
	r.errors += o.errors
	if r.firstErr == "" {
		r.firstErr = o.firstErr
	}
}

// Figures are what has been recorded in so much time.
func (r *Recorder) Figures(elapsed time.Duration) Figures {
	r.mu.Lock()
	defer r.mu.Unlock()
	perSecond := 0.0
	if elapsed > 0 {
		perSecond = float64(r.times.count) / elapsed.Seconds()
	}
	return Figures{
		Ops: r.times.count, Seconds: elapsed.Seconds(), OpsPerSec: perSecond,
		P50: r.times.quantile(0.5), P99: r.times.quantile(0.99), P999: r.times.quantile(0.999), Max: r.times.max,
		Misses: r.misses, Errors: r.errors, FirstErr: r.firstErr,
	}
}
