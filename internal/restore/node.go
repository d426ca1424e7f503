package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// nodeObjects are the head and the manifests of one node.
type nodeObjects struct {
	address string
	store   *snapshot.Store
	head    snapshot.Head
	// manifests are those of the snapshots kept that can be read, oldest first.
	manifests []snapshot.Manifest
	broken    []Gap // those that cannot
}

// nodesOf reads what every node has: members of the cluster, and those that were.
func nodesOf(ctx context.Context, b bucket.Bucket, d *cluster.Document) ([]*nodeObjects, error) {
	var addresses []string
	for address, err := range snapshot.Nodes(ctx, b) {
		if err != nil {
			return nil, fmt.Errorf("list the nodes of the bucket: %w", err)
		}
		addresses = append(addresses, address)
	}
	if d != nil {
		for _, m := range d.Nodes {
			addresses = append(addresses, m.Address)
		}
	}
	slices.Sort(addresses)
	var all []*nodeObjects
	for _, address := range slices.Compact(addresses) {
		n, err := openNode(ctx, b, address)
		if errors.Is(err, snapshot.ErrNoSnapshot) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if d != nil && n.head.Cluster != d.Cluster {
			return nil, fmt.Errorf("node %s: %w", address, &snapshot.IdentityError{Subject: "cluster", Have: n.head.Cluster, Want: d.Cluster})
		}
		all = append(all, n)
	}
	return all, nil
}

func openNode(ctx context.Context, b bucket.Bucket, address string) (*nodeObjects, error) {
	store, err := snapshot.NewStore(b, address, snapshot.StoreOptions{})
	if err != nil {
		return nil, err
	}
	n := &nodeObjects{address: address, store: store}
	if n.head, err = store.Head(ctx); err != nil {
		return nil, err
	}
	for _, k := range n.head.Snapshots {
		m, err := store.Manifest(ctx, k.Sequence)
		if err == nil {
			err = stateFault(m)
		}
		switch {
		case err == nil:
			n.manifests = append(n.manifests, m)
		case unusable(err):
			n.broken = append(n.broken, Gap{Kind: GapSnapshot, Node: address, Sequence: k.Sequence, At: millisOf(k.HLC), Reason: err.Error()})
		default:
			return nil, err
		}
	}
	return n, nil
}

func stateFault(m snapshot.Manifest) error {
	_, err := engine.DecodeState(m.State)
	return err
}

// unusable says that an object is not what it should be, and will not become it.
func unusable(err error) bool {
	var format *snapshot.FormatError
	return isLoss(err) || errors.As(err, &format) || errors.Is(err, engine.ErrBase)
}

func millisOf(hlc uint64) int64 { return engine.Version(hlc).Millis() }

// life is a log from its beginning: a node that comes back with an empty folder begins
// a new one, in a higher incarnation.
type life struct {
	incarnation uint64 // of its first object
	pieces      []snapshot.LogPiece
}

// lives returns all pieces of log that are named, by life. There is always one.
func (n *nodeObjects) lives() []life {
	var pieces []snapshot.LogPiece
	for _, m := range n.manifests {
		pieces = append(pieces, m.Log...)
	}
	pieces = append(pieces, n.head.Log...)
	slices.SortFunc(pieces, func(a, b snapshot.LogPiece) int { return strings.Compare(a.Key, b.Key) })
	pieces = slices.CompactFunc(pieces, func(a, b snapshot.LogPiece) bool { return a.Key == b.Key })
	all := []life{{}}
	for _, began := range n.births(pieces) {
		all = append(all, life{incarnation: began})
	}
	for _, p := range pieces {
		l := &all[lifeAt(all, p.Incarnation)]
		l.pieces = append(l.pieces, p)
	}
	return all
}

// births returns the incarnations that began a log anew: their log begins at 0 although
// there was one before, or their snapshots have gone back in it.
func (n *nodeObjects) births(pieces []snapshot.LogPiece) []uint64 {
	type mark struct {
		incarnation, at uint64
		first           bool // of a log
	}
	var marks []mark
	for _, p := range pieces {
		marks = append(marks, mark{p.Incarnation, p.To, p.From == 0})
	}
	for _, m := range n.manifests {
		marks = append(marks, mark{m.Incarnation, m.LedgerLSN, false})
	}
	slices.SortStableFunc(marks, func(a, b mark) int { return cmp.Compare(a.incarnation, b.incarnation) })
	var births []uint64
	before, snapshots := uint64(0), uint64(0) // the highest positions of lower incarnations of this life
	for i := 0; i < len(marks); {
		end := i
		for end < len(marks) && marks[end].incarnation == marks[i].incarnation {
			end++
		}
		group := marks[i:end]
		again := slices.ContainsFunc(group, func(m mark) bool { return m.first && before > 0 })
		back := slices.ContainsFunc(n.manifests, func(m snapshot.Manifest) bool {
			return m.Incarnation == group[0].incarnation && m.LedgerLSN < snapshots
		})
		if again || back {
			births = append(births, group[0].incarnation)
			before, snapshots = 0, 0
		}
		for _, m := range group {
			before = max(before, m.at)
		}
		for _, m := range n.manifests {
			if m.Incarnation == group[0].incarnation {
				snapshots = max(snapshots, m.LedgerLSN)
			}
		}
		i = end
	}
	return births
}

// lifeAt returns which life an incarnation belongs to.
func lifeAt(all []life, incarnation uint64) int {
	for i := len(all) - 1; i > 0; i-- {
		if all[i].incarnation <= incarnation {
			return i
		}
	}
	return 0
}

// pruned says that the bucket does not have all of the node's history, from its first
// record on.
func (n *nodeObjects) pruned() bool {
	if len(n.head.Snapshots) == 0 {
		return false
	}
	first := n.lives()[0].pieces
	return n.head.Snapshots[0].Sequence > 1 || len(first) == 0 || first[0].From > 0
}

// base returns the index of the newest manifest at or before a moment, -1 for none. The
// clock of a node that wrote nothing stands still, that of an empty one at 0: when the
// snapshot was taken counts, too.
func (n *nodeObjects) base(at int64) int {
	for i := len(n.manifests) - 1; i >= 0; i-- {
		if m := &n.manifests[i]; max(millisOf(m.HLC), m.Created) <= at {
			return i
		}
	}
	return -1
}

// views returns what is known of the node at a moment: from its newest snapshot on, and
// the lives that began after that one.
func (n *nodeObjects) views(at int64) []*view {
	all, first := n.lives(), 0
	var views []*view
	if i := n.base(at); i >= 0 {
		v := n.viewOf(i, at, all)
		first = lifeAt(all, v.manifest.Incarnation) + 1
		views = append(views, v)
	}
	for i, l := range all[first:] {
		if len(l.pieces) > 0 {
			views = append(views, &view{node: n.address, store: n.store, pieces: l.pieces, at: at, complete: n.completeIn(all, first+i)})
		}
	}
	return views
}

// completeIn is what the head says of the end of one life's log: of the last one only.
func (n *nodeObjects) completeIn(all []life, i int) snapshot.Complete {
	if i < len(all)-1 {
		return snapshot.Complete{}
	}
	return n.head.Complete
}

// viewOf returns the view from one manifest on.
func (n *nodeObjects) viewOf(i int, at int64, all []life) *view {
	m := &n.manifests[i]
	state, _ := engine.DecodeState(m.State) // Checked when it was read.
	in := lifeAt(all, m.Incarnation)
	return &view{
		node: n.address, store: n.store, manifest: m, before: n.manifests[:i], state: state,
		pieces: all[in].pieces, at: at, complete: n.completeIn(all, in),
	}
}

// older returns a view from a snapshot before one, if it owned any of these stretches;
// at last one of the log from its beginning, as long as that is kept.
func (n *nodeObjects) older(v *view, holes []segment) *view {
	all := n.lives()
	for i := len(n.manifests) - 1; i >= 0; i-- {
		if n.manifests[i].Sequence >= v.manifest.Sequence {
			continue
		}
		o := n.viewOf(i, v.at, all)
		if slices.ContainsFunc(o.state.Owned, func(r ring.Range) bool { return touches(r, holes) }) {
			return o
		}
	}
	if pieces := all[lifeAt(all, v.manifest.Incarnation)].pieces; len(pieces) > 0 && pieces[0].From == 0 {
		return &view{node: n.address, store: n.store, pieces: pieces, at: v.at}
	}
	return nil
}

func touches(r ring.Range, stretches []segment) bool {
	for _, s := range spanOf(r) {
		for _, h := range stretches {
			if s.lo <= h.hi && h.lo <= s.hi {
				return true
			}
		}
	}
	return false
}
