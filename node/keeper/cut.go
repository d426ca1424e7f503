package keeper

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/snapshot"
)

// cut takes one snapshot, from the first entry to the end of the log that it makes
// unnecessary. DESIGN.md has the order and the reasons.
func (k *Keeper) cut(ctx context.Context) (snapshot.Manifest, error) {
	defer k.progress(phaseIdle, nil)
	records := k.o.Log.Stats().Records
	if !k.changed && records == k.records {
		if k.cramped() {
			return k.base, k.truncate(k.base, k.base)
		}
		return k.base, nil
	}
	c := &cutting{Keeper: k, ctx: ctx, began: time.Now()}
	m, err := c.run()
	if err != nil {
		k.changed = true
		return m, err
	}
	k.records, k.changed = records, false
	return m, nil
}

// cutting is one snapshot on its way.
type cutting struct {
	*Keeper
	ctx     context.Context
	began   time.Time
	id      snapshot.ID
	reuse   bool            // base is the current snapshot of the bucket
	parts   []snapshot.Part // of the new snapshot; those of this one without a key at first
	numbers uint32
	cost    Cost
}

func (c *cutting) run() (snapshot.Manifest, error) {
	defer c.stall.rest()
	// The bucket is asked first: while it is away nothing is written for nothing.
	c.stall.ask(c.o.Now(), 0)
	current, err := c.current(c.ctx)
	c.stall.rest()
	if err != nil {
		return current, err
	}
	c.reuse = c.base.Sequence > 0 && current.Snapshot == c.base.Snapshot
	c.id = snapshot.NewID()
	state, err := c.write()
	if kept := c.local(); err != nil && kept != nil && current.Sequence >= kept.Sequence && noSpace(err) && c.o.Log.Full() {
		state, err = c.writeInPlace(err)
	}
	if err != nil {
		// Half a snapshot takes space for nothing.
		return current, errors.Join(err, c.folder.clean(c.local()))
	}
	c.cost.WriteMS = time.Since(c.began).Milliseconds()
	m, err := c.publish(state)
	if err != nil {
		return m, errors.Join(err, c.folder.clean(c.local()))
	}
	c.cost.MS = time.Since(c.began).Milliseconds()
	c.published(m)
	return m, c.settle(m)
}

func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// writeInPlace writes a snapshot into the room that the one before has taken. It is for a
// disk that the log has filled, on which two do not fit: nothing else makes the log
// shorter. The bucket has the one before, or a newer one, and the log all that came
// behind it.
func (c *cutting) writeInPlace(full error) (*engine.State, error) {
	c.o.Logger.Warn("the disk is full: the local copy of the snapshot before goes, to make room for a new one", "sequence", c.base.Sequence, "err", full)
	if err := c.letGo(nil); err != nil {
		return nil, err
	}
	c.id, c.reuse, c.parts, c.numbers, c.cost = snapshot.NewID(), false, nil, 0, Cost{}
	return c.write()
}

// letGo removes the local copy of the snapshot before, but for the parts of another one.
func (c *cutting) letGo(but *snapshot.Manifest) error {
	if err := errors.Join(c.folder.remove(manifestName), c.o.FS.SyncDir(c.o.Dir)); err != nil {
		return err
	}
	c.base, c.changed = snapshot.Manifest{}, true
	return c.folder.clean(but)
}

// local is the manifest whose parts the folder has to keep, nil if there is none.
func (c *cutting) local() *snapshot.Manifest {
	if c.base.Sequence == 0 {
		return nil
	}
	return &c.base
}

// write takes the checkpoint into part files.
func (c *cutting) write() (*engine.State, error) {
	c.progress(phaseWrite, nil)
	if err := c.folder.make(); err != nil {
		return nil, err
	}
	cp, err := c.o.Engine.BeginCheckpoint()
	if err != nil {
		return nil, err
	}
	defer cp.Close()
	for _, g := range groups(c.sliceBits()) {
		if err := c.group(cp, g); err != nil {
			return nil, err
		}
	}
	c.cost.add(cp.Stats())
	return cp.Finish()
}

// sliceBits is how finely the ring is cut: as for the snapshot before, as long as
// that is about right, so that its parts can be referred to again.
func (c *cutting) sliceBits() int {
	held, positions := uint64(max(0, c.o.Engine.Stats().LiveBytes)), uint64(0)
	for _, r := range c.base.Owned {
		positions += r.Size()
	}
	if positions == 0 {
		positions = 1 << 32
	}
	want := snapshot.SliceBits(held, positions)
	// A small node has some parts too, to be read side by side and referred to again.
	want = max(want, min(4, bits.Len64(held/(4<<20))))
	if len(c.base.Parts) > 0 {
		s := c.base.Parts[0].Slice
		if had := 32 - bits.TrailingZeros64(uint64(s.Last-s.First)+1); had >= want-1 && had <= want+1 {
			return had
		}
	}
	return want
}

// group is a run of the engine's partitions and the slices that are as large
// together: one of the two is one.
type group struct {
	from, to int // partitions, to excluded
	slices   []snapshot.Slice
}

func groups(sliceBits int) []group {
	all := snapshot.Slices(sliceBits)
	n := min(len(all), engine.Partitions)
	list := make([]group, n)
	for i := range list {
		list[i] = group{
			i * engine.Partitions / n, (i + 1) * engine.Partitions / n,
			all[i*len(all)/n : (i+1)*len(all)/n],
		}
	}
	return list
}

// group writes the parts of a group, or refers to those there are.
func (c *cutting) group(cp *engine.Checkpoint, g group) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if old, ok, err := c.unchanged(cp, g); ok || err != nil {
		c.parts = append(c.parts, old...)
		c.cost.Reused += len(old)
		return err
	}
	w := partWriter{cutting: c, slices: g.slices}
	for i := g.from; i < g.to; i++ {
		cut, err := cp.Partition(i, w.add)
		if err != nil {
			return errors.Join(err, w.abandon())
		}
		c.cost.Keys += int64(cut.Keys)
	}
	return w.finish()
}

// unchanged says whether the parts of the snapshot before still hold for all
// partitions of a group, and which they are.
func (c *cutting) unchanged(cp *engine.Checkpoint, g group) ([]snapshot.Part, bool, error) {
	if !c.reuse || len(c.base.Cuts) != engine.Partitions {
		return nil, false, nil
	}
	first, last := g.slices[0].First, g.slices[len(g.slices)-1].Last
	var parts []snapshot.Part
	for _, p := range c.base.Parts {
		switch {
		case p.Slice.Last < first || p.Slice.First > last:
		case !slices.Contains(g.slices, p.Slice):
			return nil, false, nil // the ring is cut otherwise now
		default:
			parts = append(parts, p)
		}
	}
	for i := g.from; i < g.to; i++ {
		if _, same, err := cp.Unchanged(i, wal.LSN(c.base.Cuts[i])); err != nil || !same {
			return nil, false, err
		}
	}
	return parts, true, nil
}

// partWriter writes the entries of a group into a part for each slice that has any.
type partWriter struct {
	*cutting
	slices []snapshot.Slice // the first is the one at hand
	file   *outFile
	writer *snapshot.Writer
	seen   int
}

func (w *partWriter) add(e engine.Entry) error {
	if w.seen++; w.seen%1024 == 0 {
		if err := w.ctx.Err(); err != nil {
			return err
		}
	}
	for e.Position > w.slices[0].Last {
		if err := w.finish(); err != nil {
			return err
		}
		w.slices = w.slices[1:]
	}
	if w.writer == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	return w.writer.Add(snapshot.Entry{
		Position: e.Position, Key: e.Key, Value: e.Value, Version: uint64(e.Version), ExpireAt: e.ExpireAt,
	})
}

func (w *partWriter) begin() (err error) {
	if err := w.o.Points.Hit(pointWrite); err != nil {
		return err
	}
	o := snapshot.WriterOptions{Snapshot: w.id, Part: w.numbers, Workers: packers(runtime.GOMAXPROCS(0))}
	w.numbers++
	if w.file, err = w.folder.create(partName(snapshot.PartInfo{Snapshot: o.Snapshot, Number: o.Part})); err != nil {
		return err
	}
	w.writer, err = snapshot.NewWriter(w.file, o)
	return err
}

// packers is how many goroutines pack what another one copies. One processor is left
// to traffic: where all of them work, nobody asks the network for requests.
func packers(processors int) int {
	if processors > 2 {
		return 1
	}
	return 0
}

// finish ends the part at hand, if there is one.
func (w *partWriter) finish() error {
	if w.writer == nil {
		return nil
	}
	info, err := w.writer.Close()
	w.writer = nil
	if err = errors.Join(err, w.file.close()); err != nil {
		return err
	}
	w.parts = append(w.parts, snapshot.Part{Slice: w.slices[0], PartInfo: info})
	w.cost.Written += info.Size
	return w.o.Points.Hit(pointWritten)
}

// abandon ends the part at hand when nothing is to come of it.
func (w *partWriter) abandon() error {
	var err error
	if w.writer != nil {
		_, _ = w.writer.Close() // the file is worth nothing
		err = w.file.file.Close()
		w.writer = nil
	}
	return err
}

// publish sends parts and log to the bucket, and swaps the manifest in.
func (c *cutting) publish(state *engine.State) (snapshot.Manifest, error) {
	c.progress(phaseUpload, func(s *Status) {
		s.Done, s.Total = 0, c.cost.Written
	})
	for i := range c.parts {
		if c.parts[i].Key != "" {
			continue
		}
		if err := c.upload(&c.parts[i]); err != nil {
			return snapshot.Manifest{}, err
		}
	}
	c.stall.rest() // the archive has its own
	log, err := c.cover(c.ctx, state.MinCut(), state.LSN)
	if err != nil {
		return snapshot.Manifest{}, err
	}
	m := snapshot.Manifest{
		Snapshot: c.id, Created: c.o.Now().UnixMilli(), HLC: uint64(state.HLC),
		Cuts: cutsOf(state), LedgerLSN: uint64(state.LSN), State: state.Encode(),
		Document: snapshot.DocumentMark{Cluster: state.Mark.Cluster, Epoch: uint64(state.Mark.Epoch), Counter: state.Mark.Counter},
		Owned:    state.Owned, Parts: c.parts, Log: log,
	}
	c.progress(phasePublish, nil)
	if err := c.o.Points.Hit(pointPublish); err != nil {
		return m, err
	}
	c.stall.ask(c.o.Now(), int64(len(c.parts))*slowest/10) // each is looked at
	m, err = c.o.Store.Publish(c.ctx, m)
	c.stall.rest()
	if err != nil {
		return m, err
	}
	return m, c.o.Points.Hit(pointPublished)
}

func (c *cutting) upload(p *snapshot.Part) error {
	if err := c.o.Points.Hit(pointUpload); err != nil {
		return err
	}
	file, err := c.o.FS.Open(c.folder.path(partName(p.PartInfo)))
	if err != nil {
		return err
	}
	sent, most := int64(0), int64(0)
	c.stall.ask(c.o.Now(), 0)
	p.Key, err = c.o.Store.UploadPart(c.ctx, p.PartInfo, file, func(n int64) {
		c.progress(phaseUpload, func(s *Status) { s.Done += n })
		if sent += n; sent > most { // what is sent once more is no progress
			most = sent
			c.stall.ask(c.o.Now(), 0)
		}
	})
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	c.cost.Uploaded += p.Size
	return c.o.Points.Hit(pointUploaded)
}

// published notes the newest snapshot.
func (c *cutting) published(m snapshot.Manifest) {
	c.archive.taken()
	c.o.Logger.Info("snapshot published", "sequence", m.Sequence, "entries", m.Entries(), "bytes", m.Size(),
		"uploaded", c.cost.Uploaded, "parts", len(m.Parts), "reused", c.cost.Reused, "took", time.Since(c.began).String())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.newest = newest{m, true}
	c.status.Published++
	c.status.Last = c.cost
	c.status.fail("", nil, time.Time{})
}

// settle makes a published snapshot the local one, and lets go of what that makes
// unnecessary: of the log only what lies before the snapshot before it, so that this
// one may turn out to be damaged.
func (c *cutting) settle(m snapshot.Manifest) error {
	before := c.base
	if err := c.o.Points.Hit(pointAdopt); err != nil {
		return err
	}
	if err := c.adopt(m); err != nil {
		err = fmt.Errorf("snapshot %d is published, and cannot be kept on the disk of this node: %w", m.Sequence, err)
		return errors.Join(err, c.folder.clean(c.local()))
	}
	c.base = m
	if err := c.o.Points.Hit(pointAdopted); err != nil {
		return err
	}
	if err := c.truncate(before, m); err != nil {
		return err
	}
	if err := c.folder.clean(&m); err != nil {
		c.o.Logger.Warn("old parts of snapshots cannot be removed", "dir", c.o.Dir, "err", err)
	}
	return c.prune()
}

// adopt makes the snapshot the local one. Where the log has left no room even for its
// manifest, the log makes room first: the bucket has the snapshot, so that a start
// between the two finds it there. That makes the copy of the one before worthless, and
// its room is what counts: the log keeps what it lets go of for its next segments.
func (c *cutting) adopt(m snapshot.Manifest) error {
	err := c.folder.adopt(m)
	if err == nil || !noSpace(err) || !c.cramped() {
		return err
	}
	if err := c.truncate(m, m); err != nil {
		return err
	}
	if err := c.letGo(&m); err != nil {
		return err
	}
	return c.folder.adopt(m)
}

// truncate lets go of the log before the snapshot before the newest one, so that this one
// may turn out to be damaged; and of that before the newest one itself where the log has
// filled the disk, since then the node takes no writes.
func (k *Keeper) truncate(before, newest snapshot.Manifest) error {
	if k.cramped() {
		before = newest
	}
	if before.Sequence == 0 {
		return nil
	}
	if err := k.o.Points.Hit(pointTruncate); err != nil {
		return err
	}
	if err := k.o.Log.Truncate(wal.LSN(slices.Min(before.Cuts))); err != nil {
		return fmt.Errorf("let the beginning of the log go: %w", err)
	}
	return k.o.Points.Hit(pointTruncated)
}

// prune lets old snapshots in the bucket go. Failing costs space and nothing else.
func (c *cutting) prune() error {
	c.stall.ask(c.o.Now(), pruneTime*slowest) // objects go one after the other
	o := snapshot.PruneOptions{Keep: c.o.Keep, KeepFor: c.o.KeepFor, Now: c.o.Now(), Grace: pruneGrace}
	if _, err := c.o.Store.Prune(c.ctx, o); err != nil {
		var fenced *snapshot.FencedError
		if errors.As(err, &fenced) {
			return err
		}
		c.o.Logger.Warn("old snapshots in the bucket cannot be removed", "err", err)
	}
	return nil
}

// pruneTime is how many seconds pruning may take before the bucket counts as silent.
const pruneTime = 60

// pruneGrace is for readers under way: restores, verifications, copies of the bucket.
// What they have begun to read goes a day after it has left the head.
const pruneGrace = 24 * time.Hour
