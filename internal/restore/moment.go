package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// ErrEmpty means that the bucket has nothing of a cluster.
var ErrEmpty = errors.New("the bucket holds no snapshot and no log of any node")

// Options say what to open.
type Options struct {
	// At is the moment, in Unix milliseconds; 0 means the newest state there is.
	At int64
	// Now is the time by which keys have expired in the newest state; nil means the machine's clock.
	Now func() time.Time
	// Workers is how many nodes' logs are read at once: 4 if 0.
	Workers int
}

// Moment is what a cluster held at a moment, as far as its bucket says. It does not
// change, and may be read by any number of goroutines.
type Moment struct {
	cluster    string
	at         int64 // forever for the newest state
	alive      int64 // keys that expire up to here are gone
	nodes      []*nodeObjects
	plan       *plan
	documented bool // there is a cluster document
	gaps       []Gap
	parts      partReaders
}

// Open reads what the bucket's objects say up to a moment: documents, manifests, and
// the logs behind the snapshots, which it keeps in memory. The snapshots themselves
// are read by [Moment.Scan].
//
// What is missing or damaged is told by [Moment.Gaps]. An error is a bucket that cannot
// be read, holds nothing ([ErrEmpty]), or more than one cluster.
func Open(ctx context.Context, b bucket.Bucket, o Options) (*Moment, error) {
	m := &Moment{at: o.At}
	if o.At == 0 {
		m.at = forever
	}
	documents := cluster.NewStore(b, cluster.StoreOptions{})
	d, err := document(ctx, documents)
	if err != nil {
		return nil, err
	}
	m.documented = d != nil
	if m.nodes, err = nodesOf(ctx, b, d); err != nil {
		return nil, err
	}
	if len(m.nodes) == 0 {
		return nil, ErrEmpty
	}
	m.cluster = m.nodes[0].head.Cluster
	if other := slices.IndexFunc(m.nodes, func(n *nodeObjects) bool { return n.head.Cluster != m.cluster }); other > 0 {
		return nil, fmt.Errorf("the bucket holds nodes of two clusters: %s of %q and %s of %q", m.nodes[0].address, m.cluster,
			m.nodes[other].address, m.nodes[other].head.Cluster)
	}
	if err := m.prepare(ctx, max(o.Workers, 0)); err != nil {
		return nil, err
	}
	if m.at != forever && d != nil {
		m.gaps = append(m.gaps, m.silent(d)...)
	}
	if m.alive = m.at; m.at == forever {
		m.alive = now(o.Now).UnixMilli()
		// The document is read again: no older than what the logs say.
		if d, err = document(ctx, documents); err == nil && d != nil {
			var lags []Gap
			lags, err = m.plan.against(d)
			m.gaps = append(m.gaps, lags...)
		}
	}
	for i := range m.gaps {
		if m.gaps[i].To == forever {
			m.gaps[i].To = 0
		}
	}
	return m, err
}

func now(clock func() time.Time) time.Time {
	if clock == nil {
		return time.Now()
	}
	return clock()
}

// document returns the cluster document, nil if there is none.
func document(ctx context.Context, s *cluster.Store) (*cluster.Document, error) {
	d, _, err := s.Load(ctx)
	if errors.Is(err, cluster.ErrNoDocument) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &d, nil
}

// prepare reads the logs and decides who had what.
func (m *Moment) prepare(ctx context.Context, workers int) error {
	var views []*view
	for _, n := range m.nodes {
		views = append(views, n.views(m.at)...)
	}
	if err := readAll(ctx, views, workers); err != nil {
		return err
	}
	m.plan = newPlan(m.at, m.documented, views)
	// A snapshot that was taken right after its node had handed a range over knows
	// nothing of it; the one before may, where the next owner's records lag.
	for holes := m.plan.holes(); len(holes) > 0; holes = m.plan.holes() {
		more := m.older(holes)
		if len(more) == 0 {
			break
		}
		if err := readAll(ctx, more, workers); err != nil {
			return err
		}
		m.plan = newPlan(m.at, m.documented, append(m.plan.views, more...))
	}
	m.gaps = slices.Concat(m.plan.gaps(), m.unreached(), m.orphans())
	return nil
}

// older returns views from the snapshots before those that are used already.
func (m *Moment) older(holes []segment) []*view {
	var more []*view
	for _, n := range m.nodes {
		var oldest *view // of the life of the newest snapshot; one without a snapshot comes last
		for _, v := range m.plan.views {
			switch {
			case v.node != n.address:
			case v.manifest == nil && oldest != nil && sameLife(v, oldest):
				oldest = v
			case v.manifest != nil && (oldest == nil || oldest.manifest != nil && v.manifest.Sequence < oldest.manifest.Sequence):
				oldest = v
			}
		}
		if oldest == nil || oldest.manifest == nil {
			continue
		}
		if v := n.older(oldest, holes); v != nil {
			more = append(more, v)
		}
	}
	return more
}

func readAll(ctx context.Context, views []*view, workers int) error {
	g, ctx := errgroup.WithContext(ctx)
	if workers == 0 {
		workers = 4
	}
	g.SetLimit(workers)
	for _, v := range views {
		g.Go(func() error {
			if err := v.read(ctx); err != nil {
				return fmt.Errorf("the log of node %s: %w", v.node, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// unreached says which snapshots could not be used, and which nodes have nothing that
// is as old as the moment.
func (m *Moment) unreached() []Gap {
	var gaps []Gap
	holes := len(m.plan.holes()) > 0
	for _, n := range m.nodes {
		from := int64(-1)
		base := n.base(m.at)
		if base >= 0 {
			from = millisOf(n.manifests[base].HLC)
		}
		for _, g := range n.broken {
			if g.At > m.at || g.At < from {
				continue
			}
			gaps = append(gaps, g)
			if until := m.until(n.address); until < g.At {
				gaps = append(gaps, Gap{
					Kind: GapLog, Node: n.address, From: until, To: m.at,
					Reason: fmt.Sprintf("which pieces of log there are until snapshot %d stands in its manifest: %s", g.Sequence, g.Reason),
				})
			}
		}
		if holes && base < 0 && n.pruned() {
			gaps = append(gaps, Gap{
				Kind: GapNothing, Node: n.address, To: m.at,
				Reason: "the oldest that the bucket keeps of it is of " + stamp(millisOf(n.head.Snapshots[0].HLC)),
			})
		}
	}
	return gaps
}

// silent are the members that have nothing in the bucket, where a range may have been
// theirs.
func (m *Moment) silent(d *cluster.Document) []Gap {
	var gaps []Gap
	for _, member := range d.Nodes {
		known := slices.ContainsFunc(m.nodes, func(n *nodeObjects) bool { return n.address == member.Address })
		if !known && len(m.plan.holes()) > 0 {
			gaps = append(gaps, Gap{
				Kind: GapNothing, Node: member.Address, To: m.at, Reason: "it has neither a snapshot nor any log in the bucket",
			})
		}
	}
	return gaps
}

// orphans are the stretches of which no record says who had them, where that may be
// because the log of who did is not kept: the first owners of a ring have no records of
// it before their first snapshot, and need none as long as all logs reach back to their
// beginning.
func (m *Moment) orphans() []Gap {
	var short []string
	for _, n := range m.nodes {
		if n.pruned() {
			short = append(short, n.address)
		}
	}
	if len(short) == 0 {
		return nil
	}
	var gaps []Gap
	for _, h := range m.plan.holes() {
		gaps = append(gaps, Gap{
			Kind: GapNothing, Node: short[0], Range: h.ring(), To: m.at,
			Reason: "no record in the bucket says who had the range; it may have been here before the oldest that is kept of " + strings.Join(short, ", "),
		})
	}
	return gaps
}

// until returns the newest moment that is known of a node.
func (m *Moment) until(node string) (until int64) {
	for _, v := range m.plan.views {
		if v.node == node {
			until = max(until, v.until)
		}
	}
	return until
}

// Cluster returns the id of the cluster that the bucket belongs to.
func (m *Moment) Cluster() string { return m.cluster }

// Gaps says what is not exact. Nothing means that the bucket has everything that was
// acknowledged up to the moment; for the newest state, up to the end of each node's log
// in the bucket ([Moment.Nodes]).
func (m *Moment) Gaps() []Gap { return slices.Clone(m.gaps) }

// GapsAt says what is not exact about one position, and whether anything is.
func (m *Moment) GapsAt(at ring.Position) (gaps []Gap, exact bool) {
	owner := ""
	for _, c := range m.plan.owners {
		if c.lo <= at && at <= c.hi && c.view != nil {
			owner = c.view.node
		}
	}
	exact = true
	for _, g := range m.gaps {
		whole := g.Range == (ring.Range{})
		if whole && (owner == "" || owner == g.Node) || !whole && g.Range.Contains(at) {
			gaps = append(gaps, g)
			exact = exact && g.Harmless()
		}
	}
	return gaps, exact
}

// Exact says that no gap may have cost anything.
func (m *Moment) Exact() bool {
	return !slices.ContainsFunc(m.gaps, func(g Gap) bool { return !g.Harmless() })
}

// NodeState says what a moment takes of one node.
type NodeState struct {
	Node     string  `json:"node"`
	Sequence uint64  `json:"snapshot,omitempty"` // 0: from the log alone
	Log      int     `json:"log_records"`        // records behind the snapshot
	Until    int64   `json:"until_ms,omitempty"` // the newest write known, Unix milliseconds
	Share    float64 `json:"share"`              // of the ring that is taken from it, as far as its records say
}

// Nodes returns what is taken of each node, in the order of addresses.
func (m *Moment) Nodes() []NodeState {
	share := map[*view]float64{}
	for _, c := range m.plan.owners {
		share[c.view] += float64(uint64(c.hi)-uint64(c.lo)+1) / (1 << 32)
	}
	var all []NodeState
	for _, v := range m.plan.views {
		s := NodeState{Node: v.node, Until: v.until, Share: share[v]}
		if v.manifest != nil {
			s.Sequence = v.manifest.Sequence
		}
		for i := range v.tail {
			s.Log += len(v.tail[i])
		}
		all = append(all, s)
	}
	return all
}

// sameLife says whether two views of one node are of the same log.
func sameLife(a, b *view) bool {
	return len(a.pieces) > 0 && len(b.pieces) > 0 && a.pieces[0].Key == b.pieces[0].Key
}
