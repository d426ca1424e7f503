package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/transfer"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
)

// ProgressKey is the key in which [Fill] keeps, in the cluster that it fills and until
// it is through, how far it has come. It is never restored itself.
const ProgressKey = "quoit:restore:progress"

var (
	// ErrSameCluster: the cluster to fill is the one that the bucket belongs to.
	ErrSameCluster = errors.New("the cluster to restore into is the one that the bucket belongs to: start a new one with an empty bucket of its own")
	// ErrNotEmpty: the cluster to fill holds keys.
	ErrNotEmpty = errors.New("the cluster to restore into is not empty")
	// ErrOtherRestore: a restore of something else was begun there.
	ErrOtherRestore = errors.New("another restore into this cluster was begun and not finished, of another bucket, another moment, or before the bucket had what it has now")
	// ErrIncomplete: the cluster does not hold what was written into it.
	ErrIncomplete = errors.New("the cluster does not hold what was restored")
)

// FillOptions say how to fill a cluster.
type FillOptions struct {
	Workers      int  // units under way at once: 8 if 0
	IntoNonempty bool // also if the cluster holds keys: they stay, or are overwritten
	Check        bool // read everything back and compare
	// Report is called from several goroutines with keys written (or, while checking,
	// compared) since the last call; nil for none.
	Report func(phase Phase, keys int64)
}

// Phase is what Fill is at.
type Phase string

// The phases of [Fill].
const (
	Writing  Phase = "writing"
	Checking Phase = "checking"
)

// FillReport says what Fill did.
type FillReport struct {
	Keys    int64            `json:"keys"` // of the moment that are alive; those of finished units of an earlier run included
	Bytes   int64            `json:"bytes"`
	Expired int64            `json:"expired"` // keys of the moment whose time has passed since
	Resumed bool             `json:"resumed"` // an earlier run had begun
	Written int64            `json:"written"` // by this run
	Nodes   map[string]int64 `json:"nodes"`   // keys of each node
	Checked int64            `json:"checked"` // keys read back and compared
}

// Fill writes everything that a moment has into a running cluster of any number of
// nodes, and makes sure that the nodes then count as many keys. Times to live end when
// they would have ended. Broken off and called again with the same moment of the same
// bucket it goes on.
func Fill(ctx context.Context, m *Moment, db *client.Client, o FillOptions) (FillReport, error) {
	f := &filling{m: m, db: db, o: o, now: time.Now().UnixMilli(), nodes: map[string]*tally{}}
	if f.o.Workers <= 0 {
		f.o.Workers = 8
	}
	if err := f.begin(ctx); err != nil {
		return f.report(), err
	}
	if err := f.each(ctx, f.fill); err != nil {
		return f.report(), err
	}
	if o.Check {
		if err := f.each(ctx, f.compare); err != nil {
			return f.report(), err
		}
	}
	if err := f.end(ctx); err != nil {
		return f.report(), fmt.Errorf("remove the note of the restore (key %s): %w", ProgressKey, err)
	}
	return f.report(), f.count(ctx)
}

// end removes the note, again where nobody can say whether that was done.
func (f *filling) end(ctx context.Context) (err error) {
	const tries = 5
	for range tries {
		if _, err = f.db.Delete(ctx, ProgressKey); !errors.Is(err, client.ErrOutcomeUnknown) {
			return err
		}
	}
	return err
}

// filling is one call of Fill.
type filling struct {
	m      *Moment
	db     *client.Client
	o      FillOptions
	now    int64
	owners *ring.Map
	epoch  ring.Epoch

	written, checked, expired, bytes atomic.Int64

	mu    sync.Mutex
	note  progress
	nodes map[string]*tally
}

// progress is what the ProgressKey holds.
type progress struct {
	Cluster string `json:"cluster"` // that is restored
	Moment  string `json:"moment"`  // digest of what is restored
	Done    []int  `json:"done"`    // units
	resumed bool
}

// tally counts keys, and those of them that end.
type tally struct {
	keys int64
	ends []int64
}

func (f *filling) report() FillReport {
	r := FillReport{
		Bytes: f.bytes.Load(), Expired: f.expired.Load(), Resumed: f.note.resumed, Written: f.written.Load(),
		Checked: f.checked.Load(), Nodes: map[string]int64{},
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for node, t := range f.nodes {
		r.Nodes[node] = t.keys
		r.Keys += t.keys
	}
	return r
}

// begin makes sure that the cluster may be filled, and notes that it is being.
func (f *filling) begin(ctx context.Context) error {
	t := f.db.Topology()
	if t.Cluster == f.m.cluster {
		return ErrSameCluster
	}
	var err error
	if f.owners, err = t.Map(); err != nil {
		return err
	}
	f.epoch = t.Epoch
	body, err := f.db.Get(ctx, ProgressKey)
	switch {
	case err == nil:
		return f.resume(body)
	case !errors.Is(err, client.ErrNotFound):
		return err
	}
	n, err := f.db.Count(ctx)
	if err != nil {
		return err
	}
	if n > 0 && !f.o.IntoNonempty {
		return fmt.Errorf("%w: it holds %d keys", ErrNotEmpty, n)
	}
	f.note = progress{Cluster: f.m.cluster, Moment: f.m.Digest()}
	return f.save(ctx)
}

func (f *filling) resume(body []byte) error {
	if err := json.Unmarshal(body, &f.note); err != nil {
		return fmt.Errorf("the key %s is not the note of a restore: %w", ProgressKey, err)
	}
	if f.note.Cluster != f.m.cluster || f.note.Moment != f.m.Digest() {
		return ErrOtherRestore
	}
	f.note.resumed = true
	return nil
}

// save writes down how far the restore has come.
func (f *filling) save(ctx context.Context) error {
	f.mu.Lock()
	body, err := json.Marshal(f.note)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return transfer.Write(ctx, f.db, []client.Pair{{Key: ProgressKey, Value: body}})
}

// each calls fn for every unit, several at a time.
func (f *filling) each(ctx context.Context, fn func(ctx context.Context, unit int) error) error {
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(f.o.Workers)
	for unit := range f.m.Units() {
		if within.Err() != nil {
			break
		}
		g.Go(func() error {
			if within.Err() != nil {
				return within.Err()
			}
			return fn(within, unit)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	// Where the context ended while no unit was under way, none has said so.
	return ctx.Err()
}

// fill writes one unit, unless an earlier run has; then it only counts it.
func (f *filling) fill(ctx context.Context, unit int) error {
	f.mu.Lock()
	done := slices.Contains(f.note.Done, unit)
	f.mu.Unlock()
	p := &page{write: func(pairs []client.Pair, ends []int64) error {
		if !done {
			if err := f.write(ctx, pairs, ends); err != nil {
				return err
			}
			f.written.Add(int64(len(pairs)))
		}
		f.tally(pairs, ends)
		f.tell(Writing, len(pairs))
		return nil
	}}
	if err := f.pages(ctx, unit, p); err != nil || done {
		return err
	}
	f.mu.Lock()
	f.note.Done = append(f.note.Done, unit)
	f.mu.Unlock()
	return f.save(ctx)
}

func (f *filling) tell(phase Phase, keys int) {
	if f.o.Report != nil {
		f.o.Report(phase, int64(keys))
	}
}

// pages cuts a unit's keys into pages.
func (f *filling) pages(ctx context.Context, unit int, p *page) error {
	err := f.m.ScanUnit(ctx, unit, func(e snapshot.Entry) error {
		if string(e.Key) == ProgressKey {
			return nil
		}
		if e.ExpireAt != 0 && e.ExpireAt <= f.now {
			f.expired.Add(1)
			return nil
		}
		return p.add(e)
	})
	if err != nil {
		return err
	}
	return p.flush()
}

// page gathers keys to be written or read at once.
type page struct {
	pairs []client.Pair
	ends  []int64
	bytes int
	write func(pairs []client.Pair, ends []int64) error
}

const (
	pageKeys  = 512
	pageBytes = 1 << 20
)

func (p *page) add(e snapshot.Entry) error {
	p.pairs = append(p.pairs, client.Pair{Key: string(e.Key), Value: slices.Clone(e.Value)})
	p.ends = append(p.ends, e.ExpireAt)
	p.bytes += len(e.Key) + len(e.Value)
	if len(p.pairs) < pageKeys && p.bytes < pageBytes {
		return nil
	}
	return p.flush()
}

func (p *page) flush() error {
	if len(p.pairs) == 0 {
		return nil
	}
	err := p.write(p.pairs, p.ends)
	p.pairs, p.ends, p.bytes = nil, nil, 0
	return err
}

// endsAtOnce is how many keys with a time to live of their own are written at once: the
// client puts them into few messages.
const endsAtOnce = 64

// write writes a page: keys that stay together, others each with its end.
func (f *filling) write(ctx context.Context, pairs []client.Pair, ends []int64) error {
	var stay []client.Pair
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(endsAtOnce)
	for i, pair := range pairs {
		if ends[i] == 0 {
			stay = append(stay, pair)
			continue
		}
		g.Go(func() error {
			return transfer.Write(ctx, f.db, []client.Pair{pair}, client.WithExpireAt(time.UnixMilli(ends[i])))
		})
	}
	if len(stay) > 0 {
		g.Go(func() error { return transfer.Write(ctx, f.db, stay) })
	}
	return g.Wait()
}

// tally counts a page for the nodes that own its keys.
func (f *filling) tally(pairs []client.Pair, ends []int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, p := range pairs {
		f.bytes.Add(int64(len(p.Key) + len(p.Value)))
		node := f.owners.Owner(ring.PositionOfString(p.Key))
		t := f.nodes[node]
		if t == nil {
			t = &tally{}
			f.nodes[node] = t
		}
		t.keys++
		if ends[i] != 0 {
			t.ends = append(t.ends, ends[i])
		}
	}
}

// compare reads one unit back.
func (f *filling) compare(ctx context.Context, unit int) error {
	return f.pages(ctx, unit, &page{write: func(pairs []client.Pair, ends []int64) error {
		keys := make([]string, len(pairs))
		for i, p := range pairs {
			keys[i] = p.Key
		}
		found, err := f.db.MGet(ctx, keys...)
		if err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		for i, r := range found {
			if err := f.same(ctx, pairs[i], ends[i], r); err != nil {
				return err
			}
		}
		f.checked.Add(int64(len(pairs)))
		f.tell(Checking, len(pairs))
		return nil
	}})
}

func (f *filling) same(ctx context.Context, p client.Pair, ends int64, r client.Result) error {
	switch {
	case errors.Is(r.Err, client.ErrNotFound) && ends != 0 && ends <= time.Now().UnixMilli():
		return nil
	case errors.Is(r.Err, client.ErrNotFound):
		return fmt.Errorf("%w: key %.80q is missing", ErrIncomplete, p.Key)
	case !bytes.Equal(r.Value, p.Value):
		return fmt.Errorf("%w: key %.80q has another value (%d bytes, want %d)", ErrIncomplete, p.Key, len(r.Value), len(p.Value))
	case ends == 0:
		return nil
	}
	ttl, err := f.db.TTL(ctx, p.Key)
	if errors.Is(err, client.ErrNotFound) {
		return nil // Its time came just now: it was there.
	}
	if err == nil && ttl == client.NoExpiry {
		err = fmt.Errorf("%w: key %.80q stays, and should end %s", ErrIncomplete, p.Key, stamp(ends))
	}
	return err
}

// count compares what each node counts with what it was given. When ranges have moved
// meanwhile, only the sum can be compared.
func (f *filling) count(ctx context.Context) error {
	if f.o.IntoNonempty {
		return nil
	}
	if err := f.db.RefreshTopology(ctx); err != nil {
		return err
	}
	if f.db.Topology().Epoch != f.epoch {
		n, err := f.db.Count(ctx)
		if err != nil {
			return err
		}
		all := &tally{}
		for _, t := range f.nodes {
			all.keys += t.keys
			all.ends = append(all.ends, t.ends...)
		}
		return all.against("the cluster", n)
	}
	var wrong []error
	for _, node := range f.owners.Owners() {
		r, err := f.db.DoNode(ctx, node, "DBSIZE")
		if err != nil {
			return fmt.Errorf("count the keys of %s: %w", node, err)
		}
		t := f.nodes[node]
		if t == nil {
			t = &tally{}
		}
		wrong = append(wrong, t.against("node "+node, r.Int))
	}
	return errors.Join(wrong...)
}

// against compares a count. Keys whose time has come may be counted or not.
func (t *tally) against(who string, n int64) error {
	now, over := time.Now().UnixMilli(), int64(0)
	for _, end := range t.ends {
		if end <= now {
			over++
		}
	}
	if n <= t.keys && n >= t.keys-over {
		return nil
	}
	return fmt.Errorf("%w: %s counts %d keys, and was given %d", ErrIncomplete, who, n, t.keys)
}

// Digest names the moment and everything that it is read from: equal digests mean equal
// keys, but for those that expire.
func (m *Moment) Digest() string {
	var b strings.Builder
	fmt.Fprintln(&b, m.cluster, m.at, m.Units())
	for _, v := range m.plan.views {
		sequence, id := uint64(0), ""
		if v.manifest != nil {
			sequence, id = v.manifest.Sequence, v.manifest.Snapshot.String()
		}
		fmt.Fprintln(&b, v.node, sequence, id, v.end)
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:16])
}
