// Package restoretest makes buckets as clusters leave them: nodes with real engines and
// with logs in memory, which archive, take snapshots and hand ranges over whenever a test
// says so, without servers and without a clock of their own. It is for tests.
package restoretest

import (
	"bytes"
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// StartedAt is where clocks of tests begin, in Unix milliseconds.
const StartedAt = 1_700_000_000_000

// Cluster is the id of the cluster that nodes belong to.
const Cluster = "6f1c2d0e"

// WholeRing is all of it.
var WholeRing = ring.Range{Start: ring.MaxPosition, End: ring.MaxPosition}

// Clock is the one clock of all nodes of a test.
type Clock struct{ millis atomic.Int64 }

// NewClock returns a clock that stands at [StartedAt].
func NewClock() *Clock {
	c := &Clock{}
	c.millis.Store(StartedAt)
	return c
}

// Now returns Unix milliseconds.
func (c *Clock) Now() int64 { return c.millis.Load() }

// Add lets time pass, and returns the new one.
func (c *Clock) Add(millis int64) int64 { return c.millis.Add(millis) }

// Node is a node: its log in memory, its engine, and its objects in the bucket. It is
// for one goroutine; whatever fails ends the test.
type Node struct {
	Address  string
	Store    *snapshot.Store
	Session  *engine.Session
	Archived wal.LSN // up to where the log is in the bucket
	Bits     int     // slices of its snapshots
	Sparse   bool    // no more of the log goes to the bucket than snapshots need
	*engine.Engine

	t     testing.TB
	clock *Clock
	log   *wal.Log
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

// Boot starts a node with an empty disk. Stop it at the end.
func Boot(t testing.TB, b bucket.Bucket, clock *Clock, address string, incarnation uint64) *Node {
	t.Helper()
	return BootIn(t, b, clock, address, incarnation, Cluster)
}

// BootIn is Boot of a node of another cluster.
func BootIn(t testing.TB, b bucket.Bucket, clock *Clock, address string, incarnation uint64, cluster string) *Node {
	t.Helper()
	n := &Node{t: t, Address: address, clock: clock}
	var err error
	n.log, err = wal.Open(wal.Options{FS: vfs.NewMem(), Dir: "wal", SegmentSize: 1 << 20})
	must(t, err)
	n.Engine, err = engine.Open(engine.Options{Log: n.log, WallClock: clock.Now, Monotonic: clock.Now, MaxKey: 1 << 10, MaxValue: 16 << 10})
	must(t, err)
	n.Session = n.NewSession()
	n.Store, err = snapshot.NewStore(b, address, snapshot.StoreOptions{})
	must(t, err)
	_, err = n.Store.Claim(context.Background(), cluster, incarnation)
	must(t, err)
	return n
}

// Stop closes engine and log. What is in the bucket stays.
func (n *Node) Stop() {
	must(n.t, n.Close())
	must(n.t, n.log.Close())
}

// Put writes a key.
func (n *Node) Put(key, value string) { n.PutUntil(key, value, 0) }

// PutUntil writes a key that ends at a time in Unix milliseconds; 0 is never.
func (n *Node) PutUntil(key, value string, expireAt int64) {
	n.t.Helper()
	_, err := n.Session.Put(ring.PositionOfString(key), []byte(key), []byte(value), engine.PutOptions{ExpireAt: expireAt})
	must(n.t, err)
}

// Delete removes a key.
func (n *Node) Delete(key string) {
	n.t.Helper()
	_, err := n.Session.Delete(ring.PositionOfString(key), []byte(key), nil)
	must(n.t, err)
}

// Sync makes a step of a move durable.
func (n *Node) Sync(lsn wal.LSN, err error) {
	n.t.Helper()
	must(n.t, err)
	must(n.t, n.log.SyncTo(lsn))
}

// Archive sends the log to the bucket, as far as it goes; nothing if the node is Sparse.
func (n *Node) Archive() {
	n.t.Helper()
	if !n.Sparse {
		n.archive()
	}
}

// Vouch says in the bucket that the archive has everything as of now.
func (n *Node) Vouch() {
	n.t.Helper()
	at, to := n.Settled()
	if n.Archived < to {
		n.t.Fatalf("the archive ends at %s, the log at %s", n.Archived, to)
	}
	must(n.t, n.Store.Vouch(context.Background(), snapshot.Complete{At: at, To: uint64(to)}))
}

func (n *Node) archive() {
	n.t.Helper()
	var whole snapshot.Complete
	at, to := n.Settled()
	whole.At, whole.To = at, uint64(to)
	must(n.t, n.log.SyncTo(to))
	pieces, err := n.log.Pieces(n.Archived)
	must(n.t, err)
	for _, p := range pieces {
		var body bytes.Buffer
		must(n.t, n.log.CopyPiece(&body, p))
		piece := snapshot.LogPiece{From: uint64(p.From), To: uint64(p.To)}
		piece.FirstMS, piece.LastMS = times(n.t, p, body.Bytes())
		last := snapshot.Complete{}
		if p.To >= to {
			last = whole
		}
		_, err := n.Store.ArchiveUntil(context.Background(), piece, body.Bytes(), last)
		must(n.t, err)
		n.Archived = p.To
	}
}

// times returns the oldest and the newest version in a piece, in Unix milliseconds.
func times(t testing.TB, p wal.Piece, body []byte) (first, last int64) {
	t.Helper()
	must(t, wal.NewArchiveReader(p.From).Read("piece", bytes.NewReader(body), func(payload []byte, _ wal.LSN) error {
		for {
			rec, rest, err := wal.NextRecord(payload)
			if err != nil || rec == nil {
				return err
			}
			payload = rest
			r, err := engine.DecodeRecord(rec)
			if err != nil {
				return err
			}
			if at := r.Version.Millis(); r.Version != 0 {
				last = max(last, at)
				if first == 0 || at < first {
					first = at
				}
			}
		}
	}))
	return first, last
}

// Snapshot archives the log, or what of it the snapshot needs, and publishes a checkpoint. between, if not nil, runs before
// each partition is taken.
func (n *Node) Snapshot(between func()) snapshot.Manifest {
	n.t.Helper()
	ctx := context.Background()
	cp, err := n.BeginCheckpoint()
	must(n.t, err)
	defer cp.Close()
	parts := snapshot.Slices(n.Bits)
	entries := make([][]snapshot.Entry, len(parts))
	for i := range engine.Partitions {
		if between != nil {
			between()
		}
		_, err := cp.Partition(i, func(e engine.Entry) error {
			at := int(uint64(e.Position) * uint64(len(parts)) >> 32)
			entries[at] = append(entries[at], snapshot.Entry{
				Position: e.Position, Key: slices.Clone(e.Key), Value: slices.Clone(e.Value), Version: uint64(e.Version), ExpireAt: e.ExpireAt,
			})
			return nil
		})
		must(n.t, err)
	}
	state, err := cp.Finish()
	must(n.t, err)
	m := manifestOf(state)
	m.Created = n.clock.Now()
	for i, in := range parts {
		m.Parts = append(m.Parts, n.part(m.Snapshot, i, in, entries[i]))
	}
	if n.Sparse {
		n.Archived = max(n.Archived, state.MinCut())
	}
	n.archive()
	h, err := n.Store.Head(ctx)
	must(n.t, err)
	m.Log = h.Log
	m, err = n.Store.Publish(ctx, m)
	must(n.t, err)
	return m
}

func manifestOf(s *engine.State) snapshot.Manifest {
	m := snapshot.Manifest{
		Snapshot: snapshot.NewID(), HLC: uint64(s.HLC), State: s.Encode(), LedgerLSN: uint64(s.LSN), Owned: s.Owned,
		Document: snapshot.DocumentMark{Cluster: Cluster, Epoch: 1, Counter: 1},
	}
	for _, c := range s.Cuts {
		m.Cuts = append(m.Cuts, uint64(c))
	}
	return m
}

func (n *Node) part(id snapshot.ID, number int, in snapshot.Slice, entries []snapshot.Entry) snapshot.Part {
	n.t.Helper()
	var file bytes.Buffer
	w, err := snapshot.NewWriter(&file, snapshot.WriterOptions{Snapshot: id, Part: uint32(number)})
	must(n.t, err)
	for _, e := range entries {
		must(n.t, w.Add(e))
	}
	info, err := w.Close()
	must(n.t, err)
	key, err := n.Store.UploadPart(context.Background(), info, bytes.NewReader(file.Bytes()), nil)
	must(n.t, err)
	return snapshot.Part{Key: key, Slice: in, PartInfo: info}
}

// pipe is a sink that keeps everything.
type pipe struct{ records []byte }

func (p *pipe) Add(record []byte)     { p.records = append(p.records, record...) }
func (p *pipe) Full() <-chan struct{} { return nil }

// Handover is a move of one range, which a test takes step by step.
type Handover struct {
	ID             string
	Range          ring.Range
	Source, Target *Node

	sink    *pipe
	capture *engine.Capture
}

// deliver applies what the source has sent.
func (h *Handover) deliver() {
	h.Target.t.Helper()
	records := h.sink.records
	h.sink.records = nil
	h.Target.Sync(h.Target.StageApply(h.ID, records))
}

// Stage begins it.
func (h *Handover) Stage() {
	h.Target.Sync(h.Target.Stage(h.ID, h.Range))
	h.sink = &pipe{}
	var err error
	h.capture, err = h.Source.Capture(h.ID, h.Range, h.sink)
	must(h.Source.t, err)
}

// Copy copies everything there is.
func (h *Handover) Copy() {
	for done := false; !done; {
		var err error
		done, err = h.capture.CopyNext(400)
		must(h.Source.t, err)
		h.deliver()
	}
}

// Seal seals the source.
func (h *Handover) Seal() { h.Source.Sync(h.Source.Seal(h.ID, h.Range)) }

// Complete brings the rest; the target has everything then.
func (h *Handover) Complete() {
	h.deliver()
	h.Target.Sync(h.Target.StageComplete(h.ID, h.Source.Version(), h.capture.Count()))
	h.capture.Close()
}

// Activate has the target serve.
func (h *Handover) Activate() { h.Target.Sync(h.Target.Activate(h.ID)) }

// Drop has the source forget.
func (h *Handover) Drop() { h.Source.Sync(h.Source.Drop(h.ID)) }

// Abort undoes both ends.
func (h *Handover) Abort() {
	h.Target.Sync(h.Target.Unstage(h.ID))
	h.Source.Sync(h.Source.Unseal(h.ID))
}

// ToTheEnd does all of it.
func (h *Handover) ToTheEnd() {
	for _, step := range []func(){h.Stage, h.Copy, h.Seal, h.Complete, h.Activate, h.Drop} {
		step()
	}
}
