package engine

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// exhaust fills the disk and what the log keeps in reserve for range records, so
// that the log takes nothing any more.
func (m *machine) exhaust() {
	m.t.Helper()
	m.disk.SetCapacity(1)
	for _, appendTo := range []func([]byte) (wal.LSN, error){m.log.Append, m.log.AppendUrgent} {
		for size := 4096; size > 0; {
			rec := appendEvent(nil, event{kind: kindMark, name: strings.Repeat("c", min(size, maxName))})
			if _, err := appendTo(rec); err == nil {
				continue
			} else if !errors.Is(err, wal.ErrDiskFull) {
				m.t.Fatalf("filling the log: %v", err)
			}
			size /= 2
		}
	}
}

// makeRoom empties the disk and waits until the log looks again. In a bubble.
func (m *machine) makeRoom() {
	m.disk.SetCapacity(0)
	<-time.After(time.Second)
}

// The log takes nothing at all. What needs a record is refused and changes
// nothing; what the document has decided happens all the same.
func TestNothingLeftInReserve(t *testing.T) {
	r := shapes["a quarter"]
	key := keysIn(r, 1)[0]
	sealedSource := func(p *pair) *machine { p.source.sync(p.source.Seal("m", r)); return p.source }
	stagedTarget := func(p *pair) *machine { p.begin("m"); p.copy("m"); p.seal("m"); return p.target }
	for name, c := range map[string]struct {
		reach func(p *pair) *machine
		step  func(m *machine) (wal.LSN, error)
		err   error
		after func(t *testing.T, m *machine)
	}{
		"seal": {
			func(p *pair) *machine { return p.source },
			func(m *machine) (wal.LSN, error) { return m.Seal("m", r) },
			ErrReadOnly,
			func(_ *testing.T, m *machine) { m.user().want(key, "v") },
		},
		"unseal": {
			sealedSource,
			func(m *machine) (wal.LSN, error) { return m.Unseal("m") },
			nil,
			func(_ *testing.T, m *machine) { m.user().want(key, "v") },
		},
		"drop": {
			sealedSource,
			func(m *machine) (wal.LSN, error) { return m.Drop("m") },
			ErrReadOnly,
			func(t *testing.T, m *machine) {
				_, err := m.user().lookup(key)
				wantErr(t, err, ErrNotOwned)
				if sealed, _ := m.Held(); len(sealed) != 0 {
					t.Fatalf("still held: %v", sealed)
				}
				wantErr(t, m.SetOwnership([]ring.Range{wholeRing}), ErrConflict)
				_, err = m.user().lookup(key)
				wantErr(t, err, ErrNotOwned)
				m.makeRoom()
				m.sync(m.WipeForeign())
				must(t, m.SetOwnership([]ring.Range{wholeRing}))
				m.user().want(key, "")
			},
		},
		"wipe": {
			func(p *pair) *machine { must(p.t, p.source.SetOwnership(nil)); return p.source },
			func(m *machine) (wal.LSN, error) { return m.WipeForeign() },
			ErrReadOnly,
			func(t *testing.T, m *machine) {
				if s := m.Stats(); s.Doomed == 0 {
					t.Fatal("wiped without a record")
				}
			},
		},
		"stage": {
			func(p *pair) *machine { return p.target },
			func(m *machine) (wal.LSN, error) { return m.Stage("m", r) },
			ErrReadOnly,
			func(t *testing.T, m *machine) { _, err := m.StageApply("m", nil); wantErr(t, err, ErrUnknownMove) },
		},
		"apply": {
			func(p *pair) *machine { p.begin("m"); return p.target },
			func(m *machine) (wal.LSN, error) {
				return m.StageApply("m", appendEntry(nil, entry{kind: kindPut, pos: at(key), version: 1, key: []byte(key)}))
			},
			ErrReadOnly,
			func(t *testing.T, m *machine) {
				if s := m.Stats(); s.Staged != 0 {
					t.Fatal("applied without a record")
				}
			},
		},
		"complete": {
			func(p *pair) *machine { p.begin("m"); return p.target },
			func(m *machine) (wal.LSN, error) { return m.StageComplete("m", 1, 0) },
			ErrReadOnly,
			func(t *testing.T, m *machine) {
				if _, staged := m.Held(); len(staged) != 1 || staged[0].Complete {
					t.Fatalf("held: %+v", staged)
				}
			},
		},
		"activate": {
			stagedTarget,
			func(m *machine) (wal.LSN, error) { return m.Activate("m") },
			nil,
			func(_ *testing.T, m *machine) { m.user().want(key, "v") },
		},
		"unstage": {
			stagedTarget,
			func(m *machine) (wal.LSN, error) { return m.Unstage("m") },
			ErrReadOnly,
			func(t *testing.T, m *machine) { _, err := m.user().lookup(key); wantErr(t, err, ErrNotOwned) },
		},
		"mark": {
			func(p *pair) *machine { return p.source },
			func(m *machine) (wal.LSN, error) { return m.SetMark(Mark{Cluster: "c"}) },
			ErrReadOnly,
			func(*testing.T, *machine) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newTestPair(t, r)
				p.source.user().put(key, "v")
				m := c.reach(p)
				m.exhaust()
				_, err := c.step(m)
				if !errors.Is(err, c.err) {
					t.Fatalf("error is %v, want %v", err, c.err)
				}
				c.after(t, m)
				checkSegments(t, m)
			})
		})
	}
}

// The sweeper leaves an expired key where the log refuses its removal, hidden,
// and removes it later.
func TestSweeperWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newOwner(t)
		u := m.user()
		u.putWith("k", "v", PutOptions{ExpireAt: m.Now() + 1})
		m.exhaust()
		m.clock.add(1)
		tickAll(m)
		if s := m.Stats(); s.Keys != 1 || s.Expired != 0 {
			t.Fatalf("stats %+v", s)
		}
		u.want("k", "")
		m.makeRoom()
		m.clock.add(restMillis)
		tickAll(m)
		if n := m.Count(); n != 0 {
			t.Fatal("the key is still there")
		}
	})
}

// With a poisoned log no step of a move is taken, whatever the document says: the
// process is about to end.
func TestAPoisonedLogTakesNoStep(t *testing.T) {
	g := &gate{}
	m := newMachine(t, g.before)
	must(t, m.SetOwnership([]ring.Range{{Start: 0, End: 1 << 31}}))
	m.sync(m.Seal("out", ring.Range{Start: 0, End: 1 << 30}))
	m.sync(m.Stage("in", ring.Range{Start: 1 << 31, End: 0}))
	m.sync(m.StageComplete("in", 1, 0))
	g.err = syscall.EIO
	u := m.user()
	_, err := u.Put(1<<31, []byte("k"), nil, PutOptions{})
	must(t, err)
	if u.Seen() == 0 {
		t.Fatal("a write leaves nothing to wait for")
	}
	wantErr(t, u.Wait(), wal.ErrPoisoned)
	for name, step := range map[string]func() (wal.LSN, error){
		"unseal":   func() (wal.LSN, error) { return m.Unseal("out") },
		"activate": func() (wal.LSN, error) { return m.Activate("in") },
		"seal":     func() (wal.LSN, error) { return m.Seal("more", ring.Range{Start: 1 << 30, End: 1 << 31}) },
		"mark":     func() (wal.LSN, error) { return m.SetMark(Mark{Counter: 1}) },
	} {
		if _, err := step(); !errors.Is(err, wal.ErrPoisoned) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if sealed, staged := m.Held(); len(sealed) != 1 || len(staged) != 1 {
		t.Errorf("held: %v and %v", sealed, staged)
	}
	must(t, m.Close())
	_ = m.log.Close() // Fails: poisoned.
}

// A log that cannot be read to its end opens no engine.
func TestAnUnreadableLogOpensNoEngine(t *testing.T) {
	disk := vfs.NewMem()
	fail := false
	fs := vfs.Inject(disk, func(op vfs.Op) error {
		if fail && op.Kind == vfs.OpReadAt {
			return syscall.EIO
		}
		return nil
	})
	open := func() *wal.Log {
		log, err := wal.Open(wal.Options{FS: fs, Dir: "wal", SegmentSize: 64 << 10})
		must(t, err)
		return log
	}
	log := open()
	e, err := Open(Options{Log: log})
	must(t, err)
	must(t, e.SetOwnership([]ring.Range{wholeRing}))
	user{t, e.NewSession()}.fill(100)
	must(t, e.Close())
	must(t, log.Close())
	log = open()
	fail = true
	_, err = Open(Options{Log: log})
	wantErr(t, err, syscall.EIO)
	_ = log.Close()
}

func TestErrorTexts(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&VersionError{Current: 7}, "version is 7"},
		{&HeldError{Move: "m7"}, "held by move m7"},
	} {
		if !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%q does not say %q", c.err, c.want)
		}
	}
}
