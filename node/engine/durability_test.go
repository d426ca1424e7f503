package engine

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// gate blocks or fails the disk's syncs when a test says so.
type gate struct {
	closed chan struct{} // nil: open
	err    error
}

func (g *gate) before(op vfs.Op) error {
	if op.Kind != vfs.OpSync {
		return nil
	}
	if g.closed != nil {
		<-g.closed
	}
	return g.err
}

// learn are the ways in which a session can learn of a write to "k".
var learn = map[string]func(u user){
	"get":             func(u user) { _, _ = u.lookup("k") },
	"exists":          func(u user) { _, _ = u.Exists(at("k"), []byte("k")) },
	"scan":            func(u user) { u.scanAll(10) },
	"count":           func(u user) { u.Count() },
	"refused put":     func(u user) { _, _ = u.Put(at("k"), []byte("k"), nil, PutOptions{HasIfVersion: true, IfVersion: 1}) },
	"refused insert":  func(u user) { _, _ = u.Put(at("k"), []byte("k"), nil, PutOptions{IfAbsent: true}) },
	"refused update":  func(u user) { _, _ = u.Put(at("k"), []byte("k"), nil, PutOptions{IfPresent: true}) },
	"refused number":  func(u user) { _, _ = u.Increment(at("k"), []byte("k"), 1) },
	"delete":          func(u user) { _, _ = u.Delete(at("k"), []byte("k"), nil) },
	"refused persist": func(u user) { _, _ = u.Persist(at("k"), []byte("k")) },
	"refused expire":  func(u user) { _, _ = u.Expire(at("k"), []byte("k"), 1<<40, ExpireIfSome) },
}

// A reader that saw a write which is not synced yet must not answer before it is;
// one that saw nothing new must not wait.
func TestNothingUnsyncedIsRevealed(t *testing.T) {
	for name, look := range learn {
		for _, change := range []string{"put", "delete"} {
			t.Run(name+" after "+change, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { revealed(t, look, change) })
			})
		}
	}
}

func revealed(t *testing.T, look func(user), change string) {
	g := &gate{}
	m := newMachine(t, g.before)
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	m.user().put("k", "old")
	m.user().put("other", "old")
	g.closed = make(chan struct{})

	writer, reader := make(chan error, 1), make(chan error, 1)
	go func() {
		u := m.user()
		var err error
		if change == "put" {
			_, err = u.Put(at("k"), []byte("k"), []byte("new"), PutOptions{})
		} else {
			_, err = u.Delete(at("k"), []byte("k"), nil)
		}
		writer <- errors.Join(err, u.Wait())
	}()
	synctest.Wait() // The write is in memory, and its sync hangs.
	go func() {
		u := m.user()
		look(u)
		reader <- u.Wait()
	}()
	synctest.Wait()
	select {
	case err := <-reader:
		t.Fatalf("the reader answered before the sync: %v", err)
	case err := <-writer:
		t.Fatalf("the writer was told before the sync: %v", err)
	default:
	}
	m.user().want("other", "old") // Would hang if it waited for a stranger's write.

	close(g.closed)
	must(t, <-reader)
	must(t, <-writer)
	g.closed = nil
	m.stop()
}

// A failed sync: nobody is told that the write is durable, nor shown it.
func TestAFailedSyncAcknowledgesNothing(t *testing.T) {
	g := &gate{}
	m := newMachine(t, g.before)
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	m.user().put("k", "old")
	g.err = syscall.EIO
	w, r := m.user(), m.user()
	_, err := w.Put(at("k"), []byte("k"), []byte("new"), PutOptions{})
	must(t, err)
	wantErr(t, w.Wait(), wal.ErrPoisoned)
	_, _ = r.lookup("k")
	wantErr(t, r.Wait(), wal.ErrPoisoned)
	_, err = w.Put(at("k"), []byte("k"), []byte("newer"), PutOptions{})
	wantErr(t, err, wal.ErrPoisoned)
	g.err = nil
	m.crash(lose)
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	m.user().want("k", "old")
	m.stop()
}

// On a full disk writes are refused with nothing changed, reads go on, and moving
// data away goes on; with room again, writes go on.
func TestFullDisk(t *testing.T) { synctest.Test(t, fullDisk) }

func fullDisk(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("k", "v")
	u.putWith("mortal", "v", PutOptions{ExpireAt: m.Now() + 10})
	m.disk.SetCapacity(1)
	written := map[string]string{}
	var err error
	for i := 0; err == nil; i++ {
		key := fmt.Sprint("fill:", i)
		if _, err = u.Put(at(key), []byte(key), make([]byte, 8000), PutOptions{}); err == nil {
			written[key] = string(make([]byte, 8000))
		}
	}
	wantErr(t, err, ErrReadOnly)
	must(t, u.Wait())
	count := m.Count()

	big := make([]byte, 60_000)
	_, err = u.Put(at("k"), []byte("k"), big, PutOptions{})
	wantErr(t, err, ErrReadOnly)
	_, err = u.Append(at("k"), []byte("k"), big)
	wantErr(t, err, ErrReadOnly)
	u.want("k", "v")
	m.clock.add(10)
	u.want("mortal", "")
	for key, value := range written {
		u.want(key, value)
	}
	if n := m.Count(); n > count {
		t.Fatalf("%d keys after refused writes, were %d", n, count)
	}
	m.sync(m.Seal("away", ring.Range{Start: at("k") - 1, End: at("k")}))
	m.sync(m.Drop("away"))
	_, err = u.lookup("k")
	wantErr(t, err, ErrNotOwned)

	m.makeRoom()
	_, err = u.Put(5, []byte("again"), big, PutOptions{})
	must(t, err)
	must(t, u.Wait())
}

// panics is a sink that fails in the middle of a write.
type panics struct {
	pipe
	now bool
}

func (p *panics) Add(record []byte) {
	if p.now {
		panic("a bug")
	}
	p.pipe.Add(record)
}

// A panic between log and memory is told from all others.
func TestAPanicBetweenLogAndMemoryIsKnown(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("k", "v")
	survive := func(fn func()) {
		defer func() { _ = recover() }()
		fn()
	}
	survive(func() { _ = u.Get(at("k"), []byte("k"), func(Item) { panic("a bug elsewhere") }) })
	if u.put("k", "w"); u.Torn() {
		t.Fatal("torn by a reader")
	}
	sink := &panics{}
	c, err := m.Capture("m", wholeRing, sink)
	must(t, err)
	defer c.Close()
	for done := false; !done; {
		done, err = c.CopyNext(1 << 20)
		must(t, err)
	}
	sink.now = true
	survive(func() { _, _ = u.Put(at("k"), []byte("k"), nil, PutOptions{}) })
	if !u.Torn() {
		t.Error("a torn write was not noticed")
	}
}
