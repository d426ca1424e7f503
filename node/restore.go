package node

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/discreet"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/keeper"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// beginning is what a folder begins with that has never served.
type beginning struct {
	bases       []*keeper.Base      // from the bucket, best first
	incarnation cluster.Incarnation // if it was taken already
	restored    bool                // a lost disk comes back from the bucket
	// accepted is the document up to which somebody has accepted that ranges are
	// missing, 0 if nobody has.
	accepted uint64
}

// begin decides what a folder begins with that has never served: nothing, for a
// node that is new, or what the bucket has, for one whose disk was lost. It reads
// the document first: to start empty under an address that owns something would
// be to lose it without a word.
func (n *Node) begin(ctx context.Context) (b beginning, err error) {
	if n.identity.Cluster != "" && !n.identity.Restoring {
		return b, nil
	}
	err = n.untilReached(ctx, "the node is looking for what it held", func(ctx context.Context) error {
		b, err = n.tryBegin(ctx)
		return err
	})
	return b, err
}

// untilReached tries until nothing is out of reach any more. Only a refusal ends it.
func (n *Node) untilReached(ctx context.Context, doing string, try func(context.Context) error) error {
	last := ""
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := try(ctx)
		if err == nil || ctx.Err() != nil || !outOfReach(err) {
			return err
		}
		if why := err.Error(); why != last {
			n.log.Warn(doing, "why", why)
			last = why
		}
		n.state.publish(&view{why: doing + ": " + discreet.Text(err, bucketErrors()...)})
		if !sleep(ctx, pause, nil) {
			return ctx.Err()
		}
	}
}

// occupiedError: somebody else answers under this node's address.
type occupiedError struct {
	address string
	err     error // why it is not known who that is, nil if it is
}

func (e *occupiedError) Error() string {
	if e.err != nil {
		return "somebody answers at " + e.address + ", which is this node's address, and does not prove to be this node, and this folder is empty: " + e.err.Error()
	}
	return "another process answers at " + e.address + ", which is this node's address, and this folder is empty: stop that process, or give this node an address of its own"
}

func outOfReach(err error) bool {
	var occupied *occupiedError
	return bucket.IsRetryable(err) || errors.Is(err, bucket.ErrInDoubt) || errors.Is(err, snapshot.ErrInDoubt) || errors.As(err, &occupied)
}

func (n *Node) tryBegin(ctx context.Context) (beginning, error) {
	d, _, err := n.documents.Load(ctx)
	if errors.Is(err, cluster.ErrNoDocument) {
		return beginning{}, nil // the first nodes of a cluster
	}
	if err != nil {
		return beginning{}, fmt.Errorf("read the cluster's document: %w", err)
	}
	if c := n.identity.Cluster; c != "" && c != d.Cluster {
		return beginning{}, nil // join says why that is wrong
	}
	m, known := d.Member(n.identity.Address)
	if !known || m.ID == n.identity.ID && !n.identity.Restoring {
		return beginning{}, n.beginEmpty(ctx, "")
	}
	if err := n.alone(ctx); err != nil {
		return beginning{}, err
	}
	owns, err := holdsData(d, m.Address)
	if err != nil {
		return beginning{}, err
	}
	if !owns {
		n.log.Info("the cluster knows this node, and it owns nothing: it begins with an empty folder", "id", m.ID)
		return beginning{}, n.beginEmpty(ctx, m.ID)
	}
	return n.restore(ctx, d, m)
}

// holdsData says whether a member owns anything, so that something is missing if
// its folder is empty.
func holdsData(d cluster.Document, address string) (bool, error) {
	owned, err := d.Ownership()
	if err != nil {
		return false, err
	}
	return len(owned.ArcsOf(address)) > 0, nil
}

// alone makes sure that no other process answers under this node's address: an
// empty folder must not push aside one that is well.
func (n *Node) alone(ctx context.Context) error {
	conn, err := peer.Dial(ctx, n.trust.Dial, n.identity.Address, linkTimeout)
	if errors.Is(err, auth.ErrProof) { // it may have another secret, and the node's data
		return &occupiedError{n.identity.Address, err}
	}
	if err != nil {
		return nil // nobody there: so it is
	}
	defer func() { _ = conn.Close() }()
	reply, err := conn.DoStrings(protocol.CmdInfo.String(), "server")
	if err == nil && infoValue(reply.Bytes, "instance") == n.server.about.instance {
		return nil
	}
	return &occupiedError{address: n.identity.Address}
}

// infoValue returns the value of a line of INFO.
func infoValue(text []byte, name string) string {
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), name+":"); ok {
			return value
		}
	}
	return ""
}

// snapshots returns the store of this node's snapshots.
func (n *Node) snapshots() (*snapshot.Store, error) {
	if n.snapshotStore != nil {
		return n.snapshotStore, nil
	}
	s, err := snapshot.NewStore(n.bucket, n.identity.Address, snapshot.StoreOptions{Limiter: n.config.Snapshot.limiter()})
	n.snapshotStore = s
	return s, err
}

// beginEmpty notes where the log of an empty folder begins, and who the folder is
// to be if not somebody new.
func (n *Node) beginEmpty(ctx context.Context, id cluster.NodeID) error {
	s, err := n.snapshots()
	if err != nil {
		return err
	}
	origin, err := keeper.Beginning(ctx, s)
	if err != nil {
		return fmt.Errorf("what this address had in the bucket before: %w", err)
	}
	next := n.identity
	next.Origin = origin
	if id != "" {
		next.ID = id
	}
	return n.become(next)
}

// become makes the folder's identity durable, if it is another one.
func (n *Node) become(next identity) error {
	if next == n.identity {
		return nil
	}
	if err := n.seams.Points.Hit(pointIdentity); err != nil {
		return err
	}
	if err := n.folder.save(next); err != nil {
		return err
	}
	n.identity = next
	return n.seams.Points.Hit(pointIdentified)
}

// restore takes the place of a member whose disk is lost. The order matters: the
// new incarnation ends the old process's part in the cluster, the claim its part in
// the bucket, and only then is it certain what there is to read.
func (n *Node) restore(ctx context.Context, d cluster.Document, m cluster.Member) (b beginning, err error) {
	s, err := n.snapshots()
	if err != nil {
		return b, err
	}
	if err := n.mayRestore(ctx, s, d); err != nil {
		return b, err
	}
	next := n.identity
	next.Cluster, next.ID, next.Restoring = d.Cluster, m.ID, true
	if err := n.become(next); err != nil {
		return b, err
	}
	n.log.Warn("the disk of this node is lost; it comes back from the bucket", "id", m.ID, "cluster", d.Cluster)
	if b.incarnation, err = n.join(ctx); err != nil {
		return b, err
	}
	n.state.publish(&view{why: "the node waits until whoever ran under its name must have noticed"})
	if !sleep(ctx, n.config.Times.Poll, nil) {
		return b, ctx.Err()
	}
	if _, err = s.Claim(ctx, d.Cluster, uint64(b.incarnation)); err != nil {
		return b, fmt.Errorf("claim the node's snapshots: %w", err)
	}
	b.restored = true
	return b, n.choose(ctx, s, &b)
}

// mayRestore refuses, before anything is changed, where there is nothing to restore,
// or where it is another cluster's.
func (n *Node) mayRestore(ctx context.Context, s *snapshot.Store, d cluster.Document) error {
	h, err := s.Head(ctx)
	switch {
	case errors.Is(err, snapshot.ErrNoSnapshot) && n.config.AllowEmpty:
		return nil
	case errors.Is(err, snapshot.ErrNoSnapshot), err == nil && len(h.Snapshots) == 0 && len(h.Log) == 0 && !n.config.AllowEmpty:
		return &keeper.RefusedError{
			Reason: "this folder is empty, the cluster's document says that " + n.identity.Address + " owns ranges, and the bucket has no snapshot of it",
			Hint:   "give the node its data folder (QUOIT_NODE_DATA); or set QUOIT_ALLOW_EMPTY=true to go on without what it held",
		}
	case err != nil:
		return fmt.Errorf("the snapshots of this node: %w", err)
	case h.Cluster != d.Cluster:
		return &keeper.RefusedError{
			Reason: "the snapshots of " + n.identity.Address + " in the bucket are of cluster " + h.Cluster + ", and the document is of cluster " + d.Cluster,
			Hint:   "use the bucket of the right cluster (QUOIT_BUCKET)",
		}
	}
	return nil
}

// choose finds out what to restore.
func (n *Node) choose(ctx context.Context, s *snapshot.Store, b *beginning) error {
	var err error
	b.bases, err = keeper.Find(ctx, keeper.Search{
		Store: s, Older: n.config.AllowOlder, Snapshots: n.config.Snapshot.Archive == keeper.ArchiveOff,
	})
	var refused *keeper.RefusedError
	if errors.As(err, &refused) && n.config.AllowEmpty {
		n.log.Error("the node goes on without what it held (QUOIT_ALLOW_EMPTY)", "why", err)
		err = n.beginEmpty(ctx, n.identity.ID)
	}
	if err != nil || !n.config.AllowOlder && !n.config.AllowEmpty {
		return err
	}
	d, _, err := n.documents.Load(ctx)
	b.accepted = d.Counter
	return err
}

// openLog opens the log; start is where it begins if it does not exist.
func (n *Node) openLog(start wal.LSN) (*wal.Log, error) {
	log, err := wal.Open(wal.Options{
		FS: n.folder.fs, Dir: n.folder.logDir(), SegmentSize: cmp.Or(n.seams.Segment, int64(n.config.Log.Segment)),
		Sync: wal.SyncMode(n.config.Log.Fsync), Interval: n.config.Log.FsyncInterval,
		MaxRecord: engine.MaxRecord(engine.DefaultMaxKey, int(n.config.Limits.Value)),
		OnPoison:  func(err error) { n.fail(fmt.Errorf("the log can no longer be trusted: %w", err)) },
		Points:    n.seams.Points,
		Start:     start,
	})
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	if n.identity.Cluster != "" && !n.identity.Restoring && log.Stats().Recovery.Fresh {
		return nil, errors.Join(&FolderError{
			n.folder.dir, "this node has been in cluster " + n.identity.Cluster + " and its log is gone",
			"restore " + n.folder.logDir() + "; or start with an empty folder, and the node comes back from the bucket as far as that goes",
		}, log.Close())
	}
	return log, nil
}

// recover reads base and log into memory.
func (n *Node) recover(ctx context.Context, b *beginning) error {
	n.state.publish(&view{why: "the node is reading its log"})
	s, err := n.snapshots()
	if err != nil {
		return err
	}
	began := time.Now()
	found, err := keeper.Start{
		FS: n.folder.fs, Dir: n.folder.snapshotDir(), Origin: n.identity.Origin, Bases: b.bases, Store: s, Older: n.config.AllowOlder,
		OpenLog: n.openLog, Reach: n.untilReached, Logger: n.log,
		Engine: n.engineOptions(),
	}.Recover(ctx)
	if err != nil {
		return err
	}
	n.took(found.Engine, found.Log, found.Base, began)
	return nil
}

// took notes what the node has started from.
func (n *Node) took(e *engine.Engine, log *wal.Log, base *keeper.Base, began time.Time) {
	n.store, n.base = &store{engine: e, log: log}, base
	n.state.store.Store(n.store)
	if ahead := e.Recovered().Ahead; ahead > time.Minute {
		n.log.Warn("the log was written with a clock ahead of this machine's: one of them is wrong; keys expire by the log's", "ahead", ahead.String())
	}
	from := "its log"
	switch {
	case base == nil:
	case base.Local:
		from = fmt.Sprintf("snapshot %d of its own folder and its log", base.Manifest.Sequence)
	case base.Manifest.Sequence > 0:
		from = fmt.Sprintf("snapshot %d of the bucket", base.Manifest.Sequence)
	}
	if base != nil && base.Missing != "" {
		n.log.Error("the node goes on from an older state (QUOIT_ALLOW_OLDER_SNAPSHOT)", "missing", base.Missing)
	}
	n.log.Info("read "+from, "keys", e.Recovered().Keys, "took", time.Since(began).String())
}

// restored notes that the folder has everything: a restart needs no bucket for it.
func (n *Node) restored() error {
	if !n.identity.Restoring {
		return nil
	}
	if err := n.seams.Points.Hit(pointRestored); err != nil {
		return err
	}
	next := n.identity
	next.Restoring = false
	return n.become(next)
}

// keep starts keeping snapshots, once the node serves.
func (n *Node) keep(ctx context.Context, incarnation cluster.Incarnation) error {
	s, err := n.snapshots()
	if err != nil {
		return err
	}
	c := n.config.Snapshot
	k := keeper.New(keeper.Options{
		FS: n.folder.fs, Dir: filepath.Clean(n.folder.snapshotDir()), Store: s, Engine: n.store.engine, Log: n.store.log,
		Cluster: n.identity.Cluster, Incarnation: uint64(incarnation), Base: n.base,
		LogBytes: int64(c.LogBytes), Interval: c.Interval, Keep: c.Keep, KeepFor: c.KeepFor,
		Archive: c.Archive, ArchiveEvery: c.ArchiveEvery,
		Lost:   func(error) { n.hint() }, // the document says the same, and ends this node
		Points: n.seams.Points, Logger: n.log, Now: n.seams.Now,
	})
	n.life.mu.Lock()
	n.keeper = k
	n.life.mu.Unlock()
	n.life.work.Go(func() { k.Run(ctx) })
	return nil
}

// keeping is the keeper, nil until the node serves.
func (n *Node) keeping() *keeper.Keeper {
	n.life.mu.Lock()
	defer n.life.mu.Unlock()
	return n.keeper
}
