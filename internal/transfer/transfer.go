// Package transfer brings keys into a cluster and out of it: from a folder tree,
// JSON lines, CSV or a running Redis, and to JSON lines, with progress.
//
// A source is a sequence of items; [Import] writes it in batches from several
// workers. Of a key that comes twice the later value stays. An import that is run
// again writes the same keys again and does no harm, so that is also how one that
// broke off is finished. The first error ends it; what was written until then
// stays.
//
// [Export] writes what [JSONLines] reads: every key and value comes back byte for
// byte, also those that are no text. Times to live are as of the export.
//
// What is held in memory is bounded, whatever the size of source or cluster.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/ring"
)

// MaxValue is the largest value that a source gives: what nodes take by default.
const MaxValue = 64 << 20

// Item is one key on its way.
type Item struct {
	Key   string
	Value []byte
	// TTL is how long the key still lives; 0 is for ever.
	TTL time.Duration
}

// Store is what Import needs of a client.
type Store interface {
	MPut(ctx context.Context, pairs []client.Pair, opts ...client.PutOption) ([]error, error)
}

// Progress is how far a transfer has come.
type Progress struct {
	Keys, Bytes int64
	Elapsed     time.Duration
}

// KeysPerSecond is the rate so far.
func (p Progress) KeysPerSecond() float64 { return perSecond(p.Keys, p.Elapsed) }

// BytesPerSecond is the rate so far.
func (p Progress) BytesPerSecond() float64 { return perSecond(p.Bytes, p.Elapsed) }

func perSecond(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// Options says how to import. The zero value is sensible.
type Options struct {
	Workers int            // batches under way at once; 0: 4
	Report  func(Progress) // called after each batch, one call at a time
}

const (
	batchKeys  = 256
	batchBytes = 1 << 20
	// inFlight bounds the bytes of all batches that wait or are being written. A
	// single larger batch (one large value) takes all of it.
	inFlight = 128 << 20
	// differentTTLs is how many writes of one batch are under way at once when each
	// has a time to live of its own.
	differentTTLs = 64
	// rewrites bounds how often a batch is written again when a link broke and
	// nobody can say whether it had been written. Writing the same values twice is
	// what an import may do and a client may not.
	rewrites = 5
)

// Import writes every item and returns what it wrote.
//
// Each worker has a stretch of the ring: a key always goes through the same one,
// so that its last value is the one that stays, and most batches have one owner.
func Import(ctx context.Context, db Store, items iter.Seq2[Item, error], o Options) (Progress, error) {
	if o.Workers <= 0 {
		o.Workers = 4
	}
	g, ctx := errgroup.WithContext(ctx)
	c := &cutter{lanes: make([]lane, o.Workers), room: semaphore.NewWeighted(inFlight)}
	m := &meter{began: time.Now(), report: o.Report}
	for i := range c.lanes {
		batches := make(chan *batch, 1)
		c.lanes[i].out = batches
		g.Go(func() error {
			for b := range batches {
				if err := b.write(ctx, db); err != nil {
					return err
				}
				c.room.Release(b.weight())
				m.add(int64(len(b.pairs)), b.bytes)
			}
			return nil
		})
	}
	g.Go(func() error { return c.cut(ctx, items) })
	err := g.Wait()
	return m.progress(), err
}

// cutter makes batches out of items, one open batch for each lane.
type cutter struct {
	lanes []lane
	room  *semaphore.Weighted // bytes that may be under way
}

// lane leads to one worker.
type lane struct {
	out  chan<- *batch
	open *batch
}

// cut distributes the items until there are no more, and closes the lanes.
func (c *cutter) cut(ctx context.Context, items iter.Seq2[Item, error]) error {
	defer func() {
		for _, l := range c.lanes {
			close(l.out)
		}
	}()
	for item, err := range items {
		if err != nil {
			return err
		}
		l := &c.lanes[uint64(ring.PositionOfString(item.Key))*uint64(len(c.lanes))>>32]
		if l.open == nil {
			l.open = &batch{at: make(map[string]int)}
		}
		l.open.add(item)
		if l.open.full() {
			if err := c.send(ctx, l); err != nil {
				return err
			}
		}
	}
	for i := range c.lanes {
		if err := c.send(ctx, &c.lanes[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *cutter) send(ctx context.Context, l *lane) error {
	b := l.open
	if b == nil {
		return nil
	}
	if err := c.room.Acquire(ctx, b.weight()); err != nil {
		return err
	}
	select {
	case l.out <- b:
		l.open = nil
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// batch is what is written at once; no key is in it twice.
type batch struct {
	pairs []client.Pair
	ttls  []time.Duration // of each pair
	at    map[string]int  // where in pairs a key is
	bytes int64
}

func (b *batch) add(item Item) {
	b.bytes += int64(len(item.Key) + len(item.Value))
	pair := client.Pair{Key: item.Key, Value: item.Value}
	if i, twice := b.at[item.Key]; twice {
		b.bytes -= int64(len(item.Key) + len(b.pairs[i].Value))
		b.pairs[i], b.ttls[i] = pair, item.TTL
		return
	}
	b.at[item.Key] = len(b.pairs)
	b.pairs = append(b.pairs, pair)
	b.ttls = append(b.ttls, item.TTL)
}

func (b *batch) full() bool { return len(b.pairs) >= batchKeys || b.bytes >= batchBytes }

func (b *batch) weight() int64 { return min(b.bytes, inFlight) }

// write writes all pairs. A request has one time to live for all its keys, so each
// that occurs makes a request of its own.
func (b *batch) write(ctx context.Context, db Store) error {
	groups := make(map[time.Duration][]client.Pair)
	for i, ttl := range b.ttls {
		groups[ttl] = append(groups[ttl], b.pairs[i])
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(differentTTLs)
	for ttl, pairs := range groups {
		g.Go(func() error {
			if ttl > 0 {
				return Write(ctx, db, pairs, client.WithTTL(ttl))
			}
			return Write(ctx, db, pairs)
		})
	}
	return g.Wait()
}

// Write writes pairs, each with these options, and again where nobody can say whether
// they were written. An error names a key.
func Write(ctx context.Context, db Store, pairs []client.Pair, opts ...client.PutOption) error {
	for attempt := 1; ; attempt++ {
		errs, err := db.MPut(ctx, pairs, opts...)
		if err == nil {
			return nil
		}
		var again []client.Pair
		for i, e := range errs {
			if errors.Is(e, client.ErrOutcomeUnknown) {
				again = append(again, pairs[i])
			} else if e != nil {
				return fmt.Errorf("write %s: %w", quoted(pairs[i].Key), e)
			}
		}
		if len(again) == 0 || attempt == rewrites || ctx.Err() != nil {
			return err
		}
		pairs = again
	}
}

// quoted is a key as an error names it: a long one by its beginning.
func quoted(key string) string {
	const enough = 100
	if len(key) <= enough {
		return strconv.Quote(key)
	}
	return strconv.Quote(key[:enough]) + "... (" + strconv.Itoa(len(key)) + " bytes)"
}

// meter counts what went through.
type meter struct {
	began       time.Time
	keys, bytes atomic.Int64

	mu     sync.Mutex // calls of report do not overlap
	report func(Progress)
}

func (m *meter) add(keys, bytes int64) {
	m.keys.Add(keys)
	m.bytes.Add(bytes)
	if m.report == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.report(m.progress())
}

func (m *meter) progress() Progress {
	return Progress{Keys: m.keys.Load(), Bytes: m.bytes.Load(), Elapsed: time.Since(m.began)}
}
