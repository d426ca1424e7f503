package migrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

const (
	sourceAddress  = "a:7401"
	managerAddress = "m:7400"
)

// world is a cluster of two nodes and a manager in one process: node A owns the
// ring, B has joined, and one range of A has to go to B.
type world struct {
	t       testing.TB
	net     *network
	bucket  *memoryBucket
	folder  bucket.Bucket  // if set, instead of bucket
	store   *cluster.Store // the test's own
	a, b    *machine
	manager *manager
	r       ring.Range // what moves
	tune    func(*Options)
	sync    wal.SyncMode
	size    uint64 // about, of the range that moves; 0: small
	wal     wal.Options
	memory  int64                       // of each node from its next start on; 0: no limit
	disk    func(address string) vfs.FS // nil: in memory
	retired []func()                    // closes what crashed, at the end
	loads   []*load
	nodes   sync.RWMutex // guards a and b against a reboot
}

// newWorld builds the cluster; nothing moves before start.
func newWorld(t testing.TB, tune func(*Options)) *world {
	return (&world{t: t, tune: tune}).build()
}

func (w *world) build() *world {
	t := w.t
	w.net, w.bucket, w.wal = newNetwork(), newMemoryBucket(), wal.Options{SegmentSize: 4 << 20, Sync: w.sync}
	w.store = cluster.NewStore(w.documents(), cluster.StoreOptions{})
	if w.size == 0 {
		w.size = 1 << 23
	}
	target, r := neighbour(sourceAddress, w.size)
	w.r = r
	w.manager = newManager(w)
	d := must(cluster.New("test"))(t)
	d = must(d.Bootstrap(cluster.Registration{ID: "id-a", Address: sourceAddress, Tokens: 1}))(t)
	must(w.store.Create(t.Context(), d))(t)
	w.a = w.boot(sourceAddress, "id-a", vfs.NewMem())
	w.b = w.boot(target, "id-b", vfs.NewMem())
	w.update(func(d cluster.Document) (cluster.Document, error) { return d.Join(target) })
	return w
}

// neighbour finds an address whose only token lies about size after that of the
// given one on the ring, so that its joining moves the range between them. Up to a
// 256th of the ring that is one move.
func neighbour(address string, size uint64) (string, ring.Range) {
	from := ring.TokensOf(address, 1)[0]
	for port := 1; ; port++ {
		other := fmt.Sprintf("b:%d", port)
		r := ring.Range{Start: from, End: ring.TokensOf(other, 1)[0]}
		if r.Size() > size-size/2 && r.Size() < size+size/2 {
			return other, r
		}
	}
}

// documents is where the document lives.
func (w *world) documents() bucket.Bucket {
	if w.folder != nil {
		return w.folder
	}
	return w.bucket
}

// must makes an error the end of the test.
func must[V any](v V, err error) func(testing.TB) V {
	return func(t testing.TB) V {
		t.Helper()
		if err != nil {
			t.Fatalf("unexpected error: %v", err)
		}
		return v
	}
}

func (w *world) update(fn func(cluster.Document) (cluster.Document, error)) cluster.Document {
	w.t.Helper()
	return must(w.store.Update(w.t.Context(), fn))(w.t)
}

func (w *world) document() cluster.Document {
	w.t.Helper()
	d, _, err := w.store.Load(w.t.Context())
	return must(d, err)(w.t)
}

// start lets the manager run the moves.
func (w *world) start() { w.manager.schedule() }

// await waits until a condition on the document holds.
func (w *world) await(what string, ok func(cluster.Document) bool) {
	w.t.Helper()
	for range 60_000 {
		if ok(w.document()) {
			return
		}
		wait(5 * time.Millisecond)
	}
	w.t.Fatalf("never: %s; document %+v\nA %v %q\nB %q", what, w.document(), w.a.mover.Progress(), w.a.said.last(), w.b.said.last())
}

// settled waits until no move is left, both nodes have acted on that, and whoever sent
// has noted how it went.
func (w *world) settled() {
	w.t.Helper()
	w.await("moves end", func(d cluster.Document) bool { return len(d.Moves) == 0 })
	for _, n := range []*machine{w.a, w.b} {
		must(n.refresh(w.t.Context()))(w.t)
	}
	w.await("sources end", func(cluster.Document) bool {
		return len(w.a.theMover().Progress())+len(w.b.theMover().Progress()) == 0
	})
}

// wait lets time pass.
func wait(d time.Duration) { <-time.After(d) }

// stop ends everything, in order.
func (w *world) stop() {
	for _, l := range w.loads {
		l.halt()
	}
	w.manager.stop()
	for _, n := range []*machine{w.a, w.b} {
		n.halt()
	}
	w.net.quiet(managerAddress)
	w.net.running.Wait()
	for _, n := range []*machine{w.a, w.b} {
		n.release()
	}
	for _, release := range w.retired {
		release()
	}
}

// crash kills a node as a power failure would; what was not synced survives where
// keep says so. It may be called in the node's own goroutines; reboot follows.
func (n *machine) crash(keep func() bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead {
		return
	}
	n.dead = true
	n.survivor = n.disk.CrashClone(keep)
	n.disk.Kill()
	n.running.Go(func() { n.world.net.down(n.address) }) // before a reboot, which waits for it, is up
	close(n.died)
}

// reboot starts a crashed node again from what its disk has kept.
func (w *world) reboot(n *machine) *machine {
	<-n.died
	n.halt()
	w.retired = append(w.retired, n.release)
	return w.replace(n, w.boot(n.address, n.id, n.survivor))
}

// restart stops a node in order and starts it again.
func (w *world) restart(n *machine) *machine {
	n.halt()
	n.release()
	return w.replace(n, w.boot(n.address, n.id, n.disk))
}

func (w *world) replace(n, next *machine) *machine {
	w.nodes.Lock()
	defer w.nodes.Unlock()
	if n == w.a {
		w.a = next
	} else {
		w.b = next
	}
	return next
}

// machine is a node without its server: disk, log, engine, mover, and a follower
// and a connection loop with the order of events of the real ones.
type machine struct {
	world    *world
	t        testing.TB
	address  string
	id       cluster.NodeID
	disk     *vfs.Mem
	log      *wal.Log
	e        *engine.Engine
	mover    *Mover
	points   *failpoint.Set
	store    *cluster.Store
	self     cluster.Local
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	died     chan struct{}
	survivor *vfs.Mem
	said     story

	reading sync.Mutex // held while a document is read and acted on
	mu      sync.Mutex
	dead    bool
	doc     cluster.Document // acted on last
}

// boot starts a node: replay, register, reconcile, serve.
func (w *world) boot(address string, id cluster.NodeID, disk *vfs.Mem) *machine {
	w.t.Helper()
	n := &machine{
		world: w, t: w.t, address: address, id: id, disk: disk, points: failpoint.New(), died: make(chan struct{}),
		store: cluster.NewStore(w.documents(), cluster.StoreOptions{}),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	options := w.wal
	options.FS, options.Dir = disk, "wal"
	if w.disk != nil {
		options.FS, options.Dir = w.disk(address), filepath.Join(w.t.TempDir(), "wal")
	}
	n.log = must(wal.Open(options))(w.t)
	n.e = must(engine.Open(engine.Options{Log: n.log, MaxMemory: w.memory}))(w.t)
	o := Options{
		Address: address, Engine: n.e, Log: n.log, Manager: managerAddress,
		Dial:    func(_ context.Context, to string) (net.Conn, error) { return w.net.dial(address, to) },
		Refresh: n.refresh, Update: n.update, Points: n.points,
		Logger: slog.New(&n.said),
	}
	if w.tune != nil {
		w.tune(&o)
	}
	n.mover = must(New(o))(w.t)
	d := must(n.store.Update(w.t.Context(), func(d cluster.Document) (cluster.Document, error) {
		return d.Register(cluster.Registration{ID: id, Address: address, Tokens: 1})
	}))(w.t)
	member, _ := d.Member(address)
	n.self = cluster.Local{ID: id, Address: address, Incarnation: member.Incarnation, Counter: n.e.Recovered().Mark.Counter}
	w.net.up(address, n.serve)
	must(n.refresh(w.t.Context()))(w.t)
	n.running.Go(n.poll)
	n.running.Go(func() { n.e.Run(n.ctx) })
	return n
}

// halt stops the node's goroutines.
func (n *machine) halt() {
	n.cancel()
	n.world.net.down(n.address)
	_ = n.mover.Close()
	n.running.Wait()
}

// release frees what connections have used, when they are through: one that is cut may
// still be acting on a document.
func (n *machine) release() {
	n.world.net.quiet(n.address)
	_ = n.e.Close()
	_ = n.log.Close()
}

func (n *machine) isDead() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dead
}

var errDead = errors.New("the node is dead")

// poll reads the document now and then, as every node does.
func (n *machine) poll() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(5 * time.Second):
			_, _ = n.refresh(n.ctx)
		}
	}
}

// refresh reads the document and acts on it, one reading after the other.
func (n *machine) refresh(ctx context.Context) (cluster.Document, error) {
	n.reading.Lock()
	defer n.reading.Unlock()
	if n.isDead() {
		return cluster.Document{}, errDead
	}
	d, _, err := n.store.Load(ctx)
	if err == nil && !n.isDead() {
		err = n.act(d)
	}
	return d, err
}

func (n *machine) update(ctx context.Context, fn func(cluster.Document) (cluster.Document, error)) (cluster.Document, error) {
	if n.isDead() {
		return cluster.Document{}, errDead
	}
	if _, err := n.store.Update(ctx, fn); err != nil {
		return cluster.Document{}, err
	}
	return n.refresh(ctx)
}

func (n *machine) reconcile(d cluster.Document) (cluster.Decision, error) {
	local := n.self
	sealed, staged := n.e.Held()
	local.Sealed, local.Staged = held(sealed), held(staged)
	local.HasData = n.e.Count() > 0
	decision, err := cluster.Reconcile(local, d)
	if err != nil {
		n.t.Errorf("%s must not follow document %d: %v", n.address, d.Counter, err)
	}
	return decision, err
}

// act follows a document as package node does.
func (n *machine) act(d cluster.Document) error {
	decision, err := n.reconcile(d)
	if err != nil {
		return err
	}
	n.mover.Follow(d, decision)
	// Until Follow returned, a move could still seal or stage its range.
	if decision, err = n.reconcile(d); err != nil {
		return err
	}
	last, err := n.e.SetMark(engine.Mark{Cluster: d.Cluster, Epoch: d.Epoch, Counter: d.Counter})
	if err != nil {
		return err
	}
	steps := map[cluster.ActionKind]func(string) (wal.LSN, error){
		cluster.Unseal: n.e.Unseal, cluster.Drop: n.e.Drop, cluster.Activate: n.e.Activate, cluster.Unstage: n.e.Unstage,
	}
	for _, a := range decision.Actions {
		if do := steps[a.Kind]; do != nil {
			lsn, err := do(string(a.Move))
			if err != nil {
				return err
			}
			last = max(last, lsn)
		}
	}
	if err := n.e.SetOwnership(decision.Own); err != nil {
		n.t.Errorf("%s cannot own what document %d says: %v", n.address, d.Counter, err)
	}
	lsn, err := n.e.WipeForeign()
	if err != nil {
		return err
	}
	if err := n.log.SyncTo(max(last, lsn)); err != nil {
		return err
	}
	n.self.Counter = d.Counter
	n.mu.Lock()
	n.doc = d
	n.mu.Unlock()
	n.report(decision)
	return nil
}

// report tells the manager what is durably done, until it is in the document.
func (n *machine) report(decision cluster.Decision) {
	if len(decision.Dropped)+len(decision.Active) == 0 {
		return
	}
	n.running.Go(func() {
		_, _ = n.world.manager.store.Update(n.ctx, func(d cluster.Document) (cluster.Document, error) {
			d, err := d.MarkDropped(decision.Dropped...)
			if err != nil {
				return d, err
			}
			return d.MarkActive(decision.Active...)
		})
	})
}

func held(ranges []engine.HeldRange) []cluster.Held {
	out := make([]cluster.Held, len(ranges))
	for i, h := range ranges {
		out[i] = cluster.Held{Move: cluster.MoveID(h.Move), Range: h.Range, Complete: h.Complete}
	}
	return out
}

// serve is a connection as package node runs it: everything that has arrived is
// executed, the log is waited for once, and then the replies leave.
func (n *machine) serve(c net.Conn) {
	defer c.Close()
	var link any
	defer func() { n.theMover().Closed(link) }()
	in, out := make([]byte, 0, 4<<10), []byte(nil)
	var parser protocol.RequestParser
	for {
		if len(in) == cap(in) {
			in = append(in, 0)[:len(in)]
		}
		k, err := c.Read(in[len(in):cap(in)])
		if err != nil || n.isDead() {
			return
		}
		in = in[:len(in)+k]
		rest, replies, durable, open := n.batch(&parser, &link, in, out[:0])
		if err := n.log.Wait(durable); err != nil || n.isDead() {
			return
		}
		if _, err := c.Write(replies); err != nil || !open {
			return
		}
		in, out = in[:copy(in, rest)], replies
		parser.Reset()
	}
}

// theMover is the one that connections speak to.
func (n *machine) theMover() *Mover {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mover
}

// batch executes the requests of a buffer.
func (n *machine) batch(parser *protocol.RequestParser, link *any, in, out []byte) (rest, replies []byte, durable wal.LSN, open bool) {
	for {
		args, size, err := parser.Next(in)
		if err != nil {
			return nil, out, durable, false
		}
		if size == 0 {
			return in, out, durable, true
		}
		in = in[size:]
		cmd, _ := protocol.Lookup(args[0])
		if cmd == protocol.CmdRefresh {
			msg, _ := protocol.ParseRefresh(args)
			n.hint(msg.Counter)
			out = protocol.AppendOK(out)
			continue
		}
		next, lsn, err := n.theMover().Command(n.ctx, link, cmd, args, out)
		if n.isDead() {
			return nil, out, 0, false
		}
		if err != nil {
			return nil, protocol.AppendError(out, protocol.AsError(err)), durable, cmd == protocol.CmdMigrateRange
		}
		out, durable = next, max(durable, lsn)
	}
}

// hint reads the document if it is newer than what was acted on.
func (n *machine) hint(counter uint64) {
	n.mu.Lock()
	newer := counter > n.doc.Counter
	n.mu.Unlock()
	if newer {
		n.running.Go(func() { _, _ = n.refresh(n.ctx) })
	}
}

// story keeps what a mover has logged.
type story struct {
	slog.Handler
	mu      sync.Mutex
	pauses  []time.Duration
	records []string // for a person with a debugger
}

func (s *story) Enabled(context.Context, slog.Level) bool { return true }
func (s *story) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *story) WithGroup(string) slog.Handler            { return s }

func (s *story) Handle(_ context.Context, r slog.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := r.Time.Format("05.000000 ") + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		if a.Key == "pause" {
			s.pauses = append(s.pauses, a.Value.Duration())
		}
		return true
	})
	s.records = append(s.records, line)
	return nil
}

// last returns the end of the story.
func (s *story) last() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records[max(0, len(s.records)-5):]
}

// pauses returns how long each sealed range of a node was held.
func (n *machine) pauses() []time.Duration {
	n.said.mu.Lock()
	defer n.said.mu.Unlock()
	return slices.Clone(n.said.pauses)
}
