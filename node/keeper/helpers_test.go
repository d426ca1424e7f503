package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

func TestMain(m *testing.M) {
	if err := warm(); err != nil {
		panic(err)
	}
	leak.Main(m)
}

// warm uses the compressor once, whose channels would else belong to the bubble of
// the first test that has one.
func warm() error {
	var file bytes.Buffer
	w, err := snapshot.NewWriter(&file, snapshot.WriterOptions{Snapshot: snapshot.NewID()})
	if err != nil {
		return err
	}
	if err := w.Add(snapshot.Entry{Key: []byte("key"), Value: make([]byte, 64<<10), Version: 1}); err != nil {
		return err
	}
	if _, err := w.Close(); err != nil {
		return err
	}
	o := snapshot.ReaderOptions{Object: "warm", Size: int64(file.Len())}
	r, err := snapshot.OpenReader(context.Background(), snapshot.InFile(bytes.NewReader(file.Bytes())), o)
	if err != nil {
		return err
	}
	for _, err := range r.All(context.Background()) {
		if err != nil {
			return err
		}
	}
	return nil
}

const (
	testNode    = "10.0.0.1:7401"
	testCluster = "c1"
	maxTestKey  = 64
	maxTestVal  = 4 << 10
)

var wholeRing = ring.Range{Start: ring.MaxPosition, End: ring.MaxPosition}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

// write is one change of the history of a machine.
type write struct {
	key, value string
	gone       bool
}

// machine is a node's disk, bucket, log, engine and keeper, which can die at any
// operation on disk or bucket.
type machine struct {
	t      testing.TB
	disk   *vfs.Mem
	memory *buckettest.Memory

	incarnation uint64
	points      *failpoint.Set
	archive     ArchiveMode
	origin      wal.LSN
	older       bool
	patient     bool // a claim that fails is tried again
	segment     int64
	sync        wal.SyncMode
	wall        func() int64       // the clock, in Unix milliseconds; nil for the machine's
	refuse      func(vfs.Op) error // if set, what the disk says to operations; set while nothing runs

	log    *wal.Log
	engine *engine.Engine
	store  *snapshot.Store
	keeper *Keeper
	user   *engine.Session
	base   *Base // that it was booted from

	history []write
	acked   int // writes of the history that were acknowledged
	sent    int // writes of the history that the archive has

	mu     sync.Mutex
	faults func(buckettest.Op) buckettest.Fault // if set, decides about calls of the bucket; guarded by mu
	calls  int                                  // of the bucket; guarded by mu
	ops    int                                  // on disk and bucket so far; guarded by mu
	die    int                                  // at which operation; 0 never; guarded by mu
	dead   bool
}

func newMachine(t testing.TB) *machine {
	return &machine{t: t, disk: vfs.NewMem(), memory: buckettest.NewMemory()}
}

var errDead = errors.New("the process is dead")

// fail sets what becomes of calls of the bucket from now on; nil lets them through.
func (m *machine) fail(decide func(buckettest.Op) buckettest.Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = decide
}

// asked is how often the bucket was called.
func (m *machine) asked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// step counts an operation, and says whether the process is dead by now.
func (m *machine) step() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ops++; m.ops == m.die {
		m.dead = true
		m.disk.Kill()
	}
	if m.dead {
		return errDead
	}
	return nil
}

// survived says whether the process has not died, and lets it live on then. The log
// reserves segments in a goroutine of its own, which may be on its way still.
func (m *machine) survived() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dead {
		m.die = 0
	}
	return !m.dead
}

func (m *machine) disks() vfs.FS {
	return vfs.Inject(m.disk, func(op vfs.Op) error {
		switch op.Kind {
		case vfs.OpOpen, vfs.OpReadDir, vfs.OpLock, vfs.OpReadAt, vfs.OpSize, vfs.OpClose, vfs.OpMkdirAll:
			return nil
		}
		if m.refuse != nil {
			if err := m.refuse(op); err != nil {
				return err
			}
		}
		return m.step()
	})
}

// bucket is one that a dead process cannot reach. A call at which it dies may have
// been done all the same.
func (m *machine) bucket() bucket.Bucket {
	return buckettest.NewFaulty(m.memory, func(op buckettest.Op) buckettest.Fault {
		m.mu.Lock()
		m.calls++
		faults := m.faults
		m.mu.Unlock()
		if faults != nil {
			if f := faults(op); f != (buckettest.Fault{}) {
				return f
			}
		}
		if err := m.step(); err != nil {
			return buckettest.Fault{Before: err}
		}
		if err := m.step(); err != nil {
			return buckettest.Fault{After: err}
		}
		return buckettest.Fault{}
	})
}

func (m *machine) openLog(start wal.LSN) (*wal.Log, error) {
	return wal.Open(wal.Options{
		FS: m.disks(), Dir: "data/log", SegmentSize: max(m.segment, 16<<10), MaxRecord: engine.MaxRecord(maxTestKey, maxTestVal), Start: start,
		Sync: m.sync,
	})
}

// boot starts the node from its folder, or from bases.
func (m *machine) boot(bases ...*Base) error {
	m.incarnation++
	var err error
	o := snapshot.StoreOptions{Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}
	if m.store, err = snapshot.NewStore(m.bucket(), testNode, o); err != nil {
		return err
	}
	found, err := Start{
		FS: m.disks(), Dir: "data/snapshot", Origin: m.origin, Bases: bases, Store: m.store, Older: m.older, OpenLog: m.openLog,
		Reach:  func(ctx context.Context, _ string, try func(context.Context) error) error { return try(ctx) },
		Engine: engine.Options{MaxKey: maxTestKey, MaxValue: maxTestVal, Workers: 2, WallClock: m.wall}, Logger: quiet(),
	}.Recover(context.Background())
	if err != nil {
		return err
	}
	m.log, m.engine, m.base = found.Log, found.Engine, found.Base
	m.user = m.engine.NewSession()
	if err := m.engine.SetOwnership([]ring.Range{wholeRing}); err != nil {
		return err
	}
	m.keeper = New(m.options())
	for err = m.keeper.tryClaim(context.Background()); err != nil && m.patient; {
		err = m.keeper.tryClaim(context.Background())
	}
	return err
}

func (m *machine) options() Options {
	return Options{
		FS: m.disks(), Dir: "data/snapshot", Store: m.store, Engine: m.engine, Log: m.log, Cluster: testCluster, Incarnation: m.incarnation,
		Base: m.base, Archive: m.archive, Points: m.points, Logger: quiet(), Pace: time.Millisecond, Retry: time.Millisecond,
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// stop ends the process in order.
func (m *machine) stop() {
	m.t.Helper()
	must(m.t, m.engine.Close())
	must(m.t, m.log.Close())
}

// bury frees what a dead process has left in memory.
func (m *machine) bury() {
	if m.engine != nil {
		_ = m.engine.Close()
		_ = m.log.Close()
	}
	m.engine, m.log = nil, nil
}

// crash takes the power away; what was not synced survives where keep says so.
func (m *machine) crash(keep func() bool) {
	m.mu.Lock()
	m.dead = true
	m.mu.Unlock()
	after := m.disk.CrashClone(keep)
	m.disk.Kill()
	m.bury()
	m.disk, m.dead, m.die = after, false, 0
	m.forget(m.acked)
}

// forget notes that writes of the history may be gone from here on.
func (m *machine) forget(from int) { m.sent = min(m.sent, from) }

func lose() bool { return false }
func kept() bool { return true }
func some() bool { return rand.IntN(2) == 0 }

// put writes keys and waits for the log.
func (m *machine) put(from, to int, value string) error {
	for i := from; i < to; i++ {
		m.history = append(m.history, write{key: fmt.Sprint("key:", i), value: value + strings.Repeat(".", 200)})
		w := m.history[len(m.history)-1]
		if _, err := m.user.Put(ring.PositionOfString(w.key), []byte(w.key), []byte(w.value), engine.PutOptions{}); err != nil {
			return err
		}
	}
	return m.wait()
}

func (m *machine) remove(from, to int) error {
	for i := from; i < to; i++ {
		m.history = append(m.history, write{key: fmt.Sprint("key:", i), gone: true})
		w := m.history[len(m.history)-1]
		if _, err := m.user.Delete(ring.PositionOfString(w.key), []byte(w.key), nil); err != nil {
			return err
		}
	}
	return m.wait()
}

func (m *machine) wait() error {
	if err := m.user.Wait(); err != nil {
		return err
	}
	m.acked = len(m.history)
	return nil
}

func (m *machine) cut() error {
	was := m.acked
	_, err := m.keeper.cut(context.Background())
	if err == nil {
		m.sent = max(m.sent, was)
	}
	return err
}

func (m *machine) send() error {
	was := m.acked
	err := m.keeper.send(context.Background(), 0, 1<<62, false)
	if err == nil {
		m.sent = max(m.sent, was)
	}
	return err
}

// contents is everything in memory.
func (m *machine) contents() map[string]string {
	all := map[string]string{}
	for _, w := range m.history {
		err := m.user.Get(ring.PositionOfString(w.key), []byte(w.key), func(i engine.Item) { all[w.key] = string(i.Value) })
		if err != nil && !errors.Is(err, engine.ErrNotFound) {
			m.t.Fatalf("get %s: %v", w.key, err)
		}
	}
	return all
}

// check wants memory to be what the history was at some moment, not before the
// given one, and lets the history end there.
func (m *machine) check(least int) {
	m.t.Helper()
	got, state := m.contents(), map[string]string{}
	for i := 0; ; i++ {
		if i >= least && maps.Equal(got, state) {
			m.history, m.acked, m.sent = m.history[:i:i], i, min(m.sent, i)
			return
		}
		if i == len(m.history) {
			break
		}
		if w := m.history[i]; w.gone {
			delete(state, w.key)
		} else {
			state[w.key] = w.value
		}
	}
	m.t.Fatalf("memory holds %d keys, which is no moment at or after write %d of %d", len(got), least, len(m.history))
}

// loseDisk puts an empty disk in the place of the old one, and finds what the
// bucket has.
func (m *machine) loseDisk(s Search) ([]*Base, error) {
	m.bury()
	m.mu.Lock()
	m.disk.Kill()
	m.disk, m.dead, m.die = vfs.NewMem(), false, 0
	m.mu.Unlock()
	store, err := snapshot.NewStore(m.bucket(), testNode, snapshot.StoreOptions{Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }})
	if err != nil {
		return nil, err
	}
	if _, err := store.Claim(context.Background(), testCluster, m.incarnation+1); err != nil {
		return nil, err
	}
	m.incarnation++
	s.Store = store
	return Find(context.Background(), s)
}
