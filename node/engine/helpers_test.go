package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

var wholeRing = ring.Range{Start: ring.MaxPosition, End: ring.MaxPosition}

// tester is what the helpers need of *testing.T, *rapid.T and *testing.B.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

func must(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func wantErr(t tester, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

// wallClock is a clock that a test sets, and the monotonic one beside it.
type wallClock struct{ millis, passed atomic.Int64 }

func (c *wallClock) now() int64  { return c.millis.Load() }
func (c *wallClock) mono() int64 { return c.passed.Load() }

// add lets time go by; a negative one is a wall clock that is set back.
func (c *wallClock) add(millis int64) {
	c.millis.Add(millis)
	c.passed.Add(max(millis, 0))
}

// step sets the wall clock to another time, without time going by.
func (c *wallClock) step(millis int64) { c.millis.Add(millis) }

// machine is a node's disk, clock, log and engine, which can crash.
type machine struct {
	t      tester
	disk   *vfs.Mem
	before func(vfs.Op) error // if set, sees every disk operation
	clock  *wallClock
	base   *Base
	memory int64 // see Options.MaxMemory
	log    *wal.Log
	*Engine
}

// startedAt is the wall clock of a new machine.
const startedAt = 1_700_000_000_000

// newMachine boots an empty machine that owns nothing.
func newMachine(t tester, before func(vfs.Op) error) *machine {
	t.Helper()
	m := &machine{t: t, disk: vfs.NewMem(), before: before, clock: &wallClock{}}
	m.clock.millis.Store(startedAt)
	m.boot()
	return m
}

// newOwner boots an empty machine that owns the whole ring, and stops it at the
// end of the test.
func newOwner(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t, nil)
	t.Cleanup(m.stop)
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	return m
}

func (m *machine) boot() {
	m.t.Helper()
	var fs vfs.FS = m.disk
	if m.before != nil {
		fs = vfs.Inject(m.disk, m.before)
	}
	log, err := wal.Open(wal.Options{FS: fs, Dir: "wal", SegmentSize: 256 << 10})
	must(m.t, err)
	e, err := Open(Options{
		Log: log, Base: m.base, WallClock: m.clock.now, Monotonic: m.clock.mono, MaxKey: 1 << 10, MaxValue: 64 << 10,
		MaxMemory: m.memory,
	})
	must(m.t, err)
	m.log, m.Engine = log, e
}

// stop ends the machine in order. It can be called again.
func (m *machine) stop() {
	m.t.Helper()
	must(m.t, m.Close())
	must(m.t, m.log.Close())
}

// reboot stops the machine in order and boots it again.
func (m *machine) reboot() {
	m.t.Helper()
	m.stop()
	m.boot()
}

// crash takes the power away: what was not synced survives where keep says so.
func (m *machine) crash(keep func() bool) {
	m.t.Helper()
	after := m.disk.CrashClone(keep)
	m.disk.Kill()
	_ = m.Close()
	_ = m.log.Close() // Fails: the disk is gone.
	m.disk = after
	m.boot()
}

func lose() bool { return false }

// coin keeps an unsynced block in half of the cases.
func coin(seed uint64) func() bool {
	r := rand.New(rand.NewPCG(seed, 1))
	return func() bool { return r.IntN(2) == 0 }
}

// user is a session with the comforts of a test: keys are strings, positions
// their hashes, and every failure is the end.
type user struct {
	t tester
	*Session
}

func (m *machine) user() user { return user{m.t, m.NewSession()} }

func at(key string) ring.Position { return ring.PositionOfString(key) }

func (u user) put(key, value string) Version { return u.putWith(key, value, PutOptions{}) }

func (u user) putWith(key, value string, o PutOptions) Version {
	u.t.Helper()
	v, err := u.Put(at(key), []byte(key), []byte(value), o)
	must(u.t, err)
	must(u.t, u.Wait())
	return v
}

func (u user) delete(key string) bool {
	u.t.Helper()
	ok, err := u.Delete(at(key), []byte(key), nil)
	must(u.t, err)
	must(u.t, u.Wait())
	return ok
}

// got is an owned copy of an Item.
type got struct {
	value    string
	version  Version
	expireAt int64
}

func (u user) lookup(key string) (g got, err error) {
	err = u.Get(at(key), []byte(key), func(it Item) { g = got{string(it.Value), it.Version, it.ExpireAt} })
	return g, err
}

// get returns the value, "" for none.
func (u user) get(key string) string {
	u.t.Helper()
	g, err := u.lookup(key)
	if !errors.Is(err, ErrNotFound) {
		must(u.t, err)
	}
	must(u.t, u.Wait())
	return g.value
}

func (u user) want(key, value string) {
	u.t.Helper()
	if v := u.get(key); v != value {
		u.t.Fatalf("%s is %q, want %q", key, v, value)
	}
}

// scanAll walks the ring in pages and returns every key with its value.
func (u user) scanAll(page int) map[string]string {
	u.t.Helper()
	all := map[string]string{}
	for cursor := uint64(0); ; {
		next, err := u.Scan(cursor, page, func(it Item) { all[string(it.Key)] = string(it.Value) })
		must(u.t, err)
		if next == 0 {
			return all
		}
		if next <= cursor {
			u.t.Fatalf("cursor went from %d to %d", cursor, next)
		}
		cursor = next
	}
}

// fill writes n keys and returns them with their values.
func (u user) fill(n int) map[string]string {
	u.t.Helper()
	all := map[string]string{}
	for i := range n {
		key, value := "key:"+strconv.Itoa(i), "value "+strconv.Itoa(i)
		_, err := u.Put(at(key), []byte(key), []byte(value), PutOptions{})
		must(u.t, err)
		all[key] = value
	}
	must(u.t, u.Wait())
	return all
}

// keysIn returns n keys whose positions lie in the range.
func keysIn(r ring.Range, n int) []string {
	var keys []string
	for i := 0; len(keys) < n; i++ {
		if key := fmt.Sprintf("in:%d", i); r.Contains(at(key)) {
			keys = append(keys, key)
		}
	}
	return keys
}

// pipe is a sink that keeps everything, up to a limit if it has one.
type pipe struct {
	mu      sync.Mutex
	records []byte
	limit   int
	room    chan struct{}
}

func (p *pipe) Add(record []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.records = append(p.records, record...)
}

func (p *pipe) Full() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit == 0 || len(p.records) < p.limit {
		return nil
	}
	if p.room == nil {
		p.room = make(chan struct{})
	}
	return p.room
}

// take empties the pipe.
func (p *pipe) take() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	records := p.records
	p.records = nil
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
	return records
}

// deliver applies what the pipe holds at the target.
func (p *pipe) deliver(t tester, target *machine, move string) {
	t.Helper()
	lsn, err := target.StageApply(move, p.take())
	must(t, err)
	must(t, target.log.SyncTo(lsn))
}

// sync makes a step of a move durable.
func (m *machine) sync(lsn wal.LSN, err error) {
	m.t.Helper()
	must(m.t, err)
	must(m.t, m.log.SyncTo(lsn))
}
