package engine

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quoitdb/quoit/ring"
)

// pair is a source that owns the ring and a target that owns nothing, with a
// range that is to move.
type pair struct {
	t              tester
	source, target *machine
	r              ring.Range
	sink           *pipe
	capture        *Capture
}

func newPair(t tester, r ring.Range) *pair {
	t.Helper()
	p := &pair{t: t, source: newMachine(t, nil), target: newMachine(t, nil), r: r}
	must(t, p.source.SetOwnership([]ring.Range{wholeRing}))
	must(t, p.target.SetOwnership(nil))
	return p
}

func newTestPair(t *testing.T, r ring.Range) *pair {
	t.Helper()
	p := newPair(t, r)
	t.Cleanup(p.stop)
	return p
}

func (p *pair) stop() {
	p.source.stop()
	p.target.stop()
}

// begin stages at the target and attaches a new stream at the source, as after a
// connection was made.
func (p *pair) begin(move string) {
	p.t.Helper()
	p.target.sync(p.target.Stage(move, p.r))
	p.sink = &pipe{}
	var err error
	p.capture, err = p.source.Capture(move, p.r, p.sink)
	must(p.t, err)
}

// copy copies everything that is left to copy.
func (p *pair) copy(move string) {
	p.t.Helper()
	for done := false; !done; {
		var err error
		done, err = p.capture.CopyNext(500)
		must(p.t, err)
		p.sink.deliver(p.t, p.target, move)
	}
}

// seal seals the source and completes the target.
func (p *pair) seal(move string) {
	p.t.Helper()
	p.source.sync(p.source.Seal(move, p.r))
	p.sink.deliver(p.t, p.target, move)
	p.target.sync(p.target.StageComplete(move, p.source.Version(), p.capture.Count()))
	p.capture.Close()
}

// commit does what both ends do once the document says that the target owns.
func (p *pair) commit(move string) {
	p.t.Helper()
	p.target.sync(p.target.Activate(move))
	p.source.sync(p.source.Drop(move))
}

func (p *pair) move(move string) {
	p.t.Helper()
	p.begin(move)
	p.copy(move)
	p.seal(move)
	p.commit(move)
}

// swap turns the pair round, for the way back.
func (p *pair) swap() { p.source, p.target = p.target, p.source }

func within(all map[string]string, r ring.Range, yes bool) map[string]string {
	part := maps.Clone(all)
	maps.DeleteFunc(part, func(key, _ string) bool { return r.Contains(at(key)) != yes })
	return part
}

// ranges of every shape that matters.
var shapes = map[string]ring.Range{
	"a quarter":                     {Start: 1 << 30, End: 1 << 31},
	"over the top":                  {Start: 3 << 30, End: 1 << 30},
	"the whole ring":                wholeRing,
	"the whole ring from elsewhere": {Start: 12345, End: 12345},
	"up to the last position":       {Start: 1 << 31, End: ring.MaxPosition},
	"from position 0":               {Start: ring.MaxPosition, End: 1 << 29},
	"all but a few of a partition":  {Start: 5 << 24, End: 5<<24 - 1000},
	"one position":                  {Start: at("key:7") - 1, End: at("key:7")},
}

func TestAMoveFromBeginningToEnd(t *testing.T) {
	for name, r := range shapes {
		t.Run(name, func(t *testing.T) {
			p := newTestPair(t, r)
			all := p.source.user().fill(1000)
			moved, stay := within(all, r, true), within(all, r, false)
			p.move("m")
			if got := p.target.user().scanAll(100); !maps.Equal(got, moved) {
				t.Fatalf("%d keys at the target, want %d", len(got), len(moved))
			}
			if got := p.source.user().scanAll(100); !maps.Equal(got, stay) {
				t.Fatalf("%d keys at the source, want %d", len(got), len(stay))
			}
			if s, g := p.source.Count(), p.target.Count(); s != len(stay) || g != len(moved) {
				t.Fatalf("counts %d and %d, want %d and %d", s, g, len(stay), len(moved))
			}
			tickAll(p.source)
			if s := p.source.Stats(); s.Doomed != 0 || s.Keys != len(stay) {
				t.Fatalf("after freeing: %+v", s)
			}
			checkSegments(t, p.source)
			checkSegments(t, p.target)
		})
	}
}

// everyOperation is each operation of a session that names a key.
var everyOperation = map[string]func(u user, key string) error{
	"get":       func(u user, key string) error { _, err := u.lookup(key); return err },
	"exists":    func(u user, key string) error { _, err := u.Exists(at(key), []byte(key)); return err },
	"put":       func(u user, key string) error { _, err := u.Put(at(key), []byte(key), nil, PutOptions{}); return err },
	"delete":    func(u user, key string) error { _, err := u.Delete(at(key), []byte(key), nil); return err },
	"expire":    func(u user, key string) error { _, err := u.Expire(at(key), []byte(key), 1, ExpireAlways); return err },
	"persist":   func(u user, key string) error { _, err := u.Persist(at(key), []byte(key)); return err },
	"increment": func(u user, key string) error { _, err := u.Increment(at(key), []byte(key), 1); return err },
	"append": func(u user, key string) error {
		_, err := u.Append(at(key), []byte(key), []byte("x"))
		return err
	},
	"scan": func(u user, key string) error {
		_, err := u.ScanOwned(uint64(at(key)), 1, func(Item) {})
		return err
	},
}

func TestStatesRefuseEveryOperation(t *testing.T) {
	r := shapes["a quarter"]
	key := keysIn(r, 1)[0]
	for state, c := range map[string]struct {
		reach func(p *pair) *machine
		want  HeldReason // 0: not owned
	}{
		"foreign": {func(p *pair) *machine { return p.target }, 0},
		"sealed": {func(p *pair) *machine {
			p.source.sync(p.source.Seal("m", r))
			return p.source
		}, HeldSealed},
		"dropped": {func(p *pair) *machine {
			p.source.sync(p.source.Seal("m", r))
			p.source.sync(p.source.Drop("m"))
			return p.source
		}, 0},
		"staging": {func(p *pair) *machine { p.begin("m"); p.copy("m"); return p.target }, 0},
		"staged":  {func(p *pair) *machine { p.begin("m"); p.copy("m"); p.seal("m"); return p.target }, HeldStaged},
		"unstaged": {func(p *pair) *machine {
			p.begin("m")
			p.copy("m")
			p.seal("m")
			p.target.sync(p.target.Unstage("m"))
			return p.target
		}, 0},
	} {
		for name, op := range everyOperation {
			t.Run(state+" "+name, func(t *testing.T) {
				p := newTestPair(t, r)
				p.source.user().put(key, "v")
				m := c.reach(p)
				before := m.log.Appended()
				err := op(m.user(), key)
				var held *HeldError
				switch {
				case c.want == 0:
					wantErr(t, err, ErrNotOwned)
				case !errors.As(err, &held) || held.Reason != c.want || held.Move != "m":
					t.Fatalf("error is %v", err)
				}
				if m.log.Appended() != before {
					t.Fatal("a refused operation was logged")
				}
			})
		}
	}
}

func TestStagedIsInvisibleUntilActivated(t *testing.T) {
	r := shapes["over the top"]
	p := newTestPair(t, r)
	p.source.user().fill(300)
	p.begin("m")
	p.copy("m")
	invisible := func() {
		t.Helper()
		if n := p.target.Count(); n != 0 {
			t.Fatalf("%d staged keys are counted", n)
		}
		if n := p.target.user().Count(); n != 0 {
			t.Fatalf("%d staged keys are counted", n)
		}
		if s := p.target.Stats(); s.Staged == 0 || s.Keys != 0 {
			t.Fatalf("stats %+v", s)
		}
	}
	invisible()
	if n := len(p.target.user().scanAll(10)); n != 0 {
		t.Fatalf("a scan gives %d staged keys", n)
	}
	_, err := p.target.Activate("m")
	wantErr(t, err, ErrConflict)
	p.seal("m")
	invisible()
	_, held := p.target.Held()
	if len(held) != 1 || !held[0].Complete || held[0].Range != r {
		t.Fatalf("held: %+v", held)
	}
	var refused *HeldError
	_, err = p.target.user().lookup(keysIn(r, 1)[0])
	if !errors.As(err, &refused) {
		t.Fatalf("error is %v", err)
	}
	p.target.sync(p.target.Activate("m"))
	<-refused.Resolved
	if n := p.target.Count(); n == 0 {
		t.Fatal("nothing is there after the activation")
	}
}

func TestUnsealServesAgain(t *testing.T) {
	p := newTestPair(t, wholeRing)
	u := p.source.user()
	u.put("k", "v")
	p.source.sync(p.source.Seal("m", wholeRing))
	var held *HeldError
	if _, err := u.lookup("k"); !errors.As(err, &held) {
		t.Fatalf("error is %v", err)
	}
	p.source.sync(p.source.Unseal("m"))
	<-held.Resolved
	u.want("k", "v")
	u.put("k", "w")
	for _, step := range []func(string) error{
		func(m string) error { _, err := p.source.Unseal(m); return err },
		func(m string) error { _, err := p.source.Drop(m); return err },
		func(m string) error { _, err := p.source.Activate(m); return err },
		func(m string) error { _, err := p.source.Unstage(m); return err },
		func(m string) error { _, err := p.source.StageApply(m, nil); return err },
		func(m string) error { _, err := p.source.StageComplete(m, 1, 0); return err },
	} {
		wantErr(t, step("m"), ErrUnknownMove)
	}
}

func TestStepsAreIdempotentOrRefused(t *testing.T) {
	r := shapes["a quarter"]
	p := newTestPair(t, r)
	p.source.user().fill(100)
	p.begin("m")
	p.copy("m")
	_, err := p.target.Activate("m")
	wantErr(t, err, ErrConflict) // It may lack something, whatever a document says.
	p.seal("m")
	lsn, err := p.source.Seal("m", r)
	if must(t, err); lsn == 0 {
		t.Fatal("sealing again does not say where the seal is")
	}
	_, err = p.source.Seal("m", wholeRing)
	wantErr(t, err, ErrConflict)
	_, err = p.source.Seal("other", r)
	wantErr(t, err, ErrConflict)
	_, err = p.source.Seal("", r)
	wantErr(t, err, ErrConflict)
	_, err = p.source.Seal(strings.Repeat("m", 256), r)
	wantErr(t, err, ErrConflict)
	_, err = p.source.Capture("other", r, p.sink)
	wantErr(t, err, ErrConflict)
	_, err = p.source.Stage("other", r)
	wantErr(t, err, ErrConflict)

	_, held := p.target.Held()
	again, err := p.target.StageComplete("m", held[0].HLC, held[0].Count)
	if must(t, err); again == 0 {
		t.Fatal("completing again does not say where it is")
	}
	_, err = p.target.StageComplete("m", held[0].HLC, held[0].Count+1)
	wantErr(t, err, ErrConflict)
	_, err = p.target.Stage("m", r)
	wantErr(t, err, ErrComplete)
	_, err = p.target.Stage("m", wholeRing)
	wantErr(t, err, ErrConflict)
	_, err = p.target.Stage("other", r)
	wantErr(t, err, ErrConflict)
	_, err = p.target.StageApply("m", nil)
	wantErr(t, err, ErrConflict)
	if n := p.target.count(r); n != held[0].Count {
		t.Fatalf("%d keys are left of %d", n, held[0].Count)
	}
}

func TestAWrongCountIsRefusedAndTheMoveGoesOn(t *testing.T) {
	p := newTestPair(t, wholeRing)
	p.source.user().fill(10)
	p.begin("m")
	p.copy("m")
	_, err := p.target.StageComplete("m", 1, 11)
	wantErr(t, err, ErrCount)
	p.source.user().put("late", "v")
	p.seal("m")
	p.commit("m")
	if n := p.target.Count(); n != 11 {
		t.Fatalf("%d keys", n)
	}
}

func TestStageApplyChecksBeforeItApplies(t *testing.T) {
	r := ring.Range{Start: 100, End: 200}
	p := newTestPair(t, r)
	p.begin("m")
	good := appendEntry(nil, entry{kind: kindPut, pos: 150, version: 5, key: []byte("k"), value: []byte("v")})
	for name, bad := range map[string][]byte{
		"outside":      appendEntry(nil, entry{kind: kindPut, pos: 201, version: 5, key: []byte("k")}),
		"cut short":    good[:len(good)-1],
		"an event":     appendEvent(nil, event{kind: kindWipe, r: wholeRing}),
		"of version 0": appendEntry(nil, entry{kind: kindPut, pos: 150}),
	} {
		before := p.target.log.Appended()
		_, err := p.target.StageApply("m", append(append([]byte{}, good...), bad...))
		if !errors.Is(err, ErrRecord) || p.target.log.Appended() != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := p.target.StageApply("m", appendEntry(nil, entry{kind: kindTouch, pos: 150, version: 9, key: []byte("none")}))
	wantErr(t, err, ErrConflict)
}

// A batch that comes twice, together with all that followed it, changes nothing.
func TestApplyingTwiceIsApplyingOnce(t *testing.T) {
	p := newTestPair(t, wholeRing)
	u := p.source.user()
	u.fill(50)
	p.begin("m")
	for done := false; !done; {
		done, _ = p.capture.CopyNext(1 << 20)
	}
	u.put("key:1", "new")
	u.delete("key:2")
	u.put("key:2", "born again")
	u.delete("key:3")
	_, err := u.Append(at("key:4"), []byte("key:4"), []byte("+"))
	must(t, err)
	_, err = u.Expire(at("key:5"), []byte("key:5"), startedAt+5000, ExpireAlways)
	must(t, err)
	stream := p.sink.take()
	for range 2 {
		_, err := p.target.StageApply("m", stream)
		must(t, err)
	}
	p.seal("m")
	p.commit("m")
	got := p.target.user()
	got.want("key:1", "new")
	got.want("key:2", "born again")
	got.want("key:3", "")
	got.want("key:4", "value 4+")
	if g, _ := got.lookup("key:5"); g.expireAt != startedAt+5000 {
		t.Fatalf("key:5 expires at %d", g.expireAt)
	}
}

// A batch that comes late does not take a key back to an older value.
func TestALateBatchDoesNotTurnBackTime(t *testing.T) {
	p := newTestPair(t, wholeRing)
	u := p.source.user()
	u.fill(20)
	p.begin("m")
	for done := false; !done; {
		done, _ = p.capture.CopyNext(1 << 20)
	}
	early := p.sink.take()
	_, err := p.target.StageApply("m", early)
	must(t, err)
	u.put("key:1", "new")
	p.sink.deliver(t, p.target, "m")
	_, err = p.target.StageApply("m", early)
	must(t, err)
	p.seal("m")
	p.commit("m")
	p.target.user().want("key:1", "new")
}

// The link breaks, keys are deleted meanwhile, and the copy begins again: what
// the first copy brought must not survive.
func TestDeleteLinkBreakCopyAgain(t *testing.T) {
	for name, between := range map[string]func(p *pair){
		"target goes on":      func(*pair) {},
		"target crashes":      func(p *pair) { p.target.crash(lose); must(p.t, p.target.SetOwnership(nil)) },
		"target forgets":      func(p *pair) { p.target.sync(p.target.Unstage("m")) },
		"source crashes":      func(p *pair) { p.source.crash(lose); must(p.t, p.source.SetOwnership([]ring.Range{wholeRing})) },
		"target forgets late": func(p *pair) { p.target.sync(p.target.Unstage("m")); p.target.reboot() },
	} {
		t.Run(name, func(t *testing.T) {
			p := newTestPair(t, shapes["a quarter"])
			u := p.source.user()
			all := u.fill(400)
			p.begin("m")
			p.copy("m")
			for key := range all {
				if len(key)%2 == 0 {
					u.delete(key)
					delete(all, key)
				}
			}
			p.sink.take() // Lost with the link.
			between(p)
			p.begin("m")
			p.copy("m")
			p.seal("m")
			p.commit("m")
			for range 2 {
				if got, want := p.target.user().scanAll(64), within(all, p.r, true); !maps.Equal(got, want) {
					t.Fatalf("%d keys at the target, want %d", len(got), len(want))
				}
				p.target.crash(lose)
				must(t, p.target.SetOwnership([]ring.Range{p.r}))
			}
		})
	}
}

// There and back, with deletes and changes while away: what stayed behind at the
// first owner must not come back, also not from its log.
func TestThereAndBackAgain(t *testing.T) {
	for name, pause := range map[string]func(p *pair){
		"at once":                    func(*pair) {},
		"after freeing":              func(p *pair) { tickAll(p.source) },
		"after a crash of the first": func(p *pair) { p.source.crash(lose); must(p.t, p.source.SetOwnership(nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newTestPair(t, wholeRing)
			all := p.source.user().fill(300)
			p.move("m1")
			u := p.target.user()
			for key := range all {
				switch len(key) {
				case 5:
					u.delete(key)
					delete(all, key)
				case 6:
					u.put(key, "changed")
					all[key] = "changed"
				}
			}
			pause(p)
			p.swap()
			p.move("m2")
			for range 2 {
				if got := p.target.user().scanAll(64); !maps.Equal(got, all) {
					t.Fatalf("%d keys came back, want %d", len(got), len(all))
				}
				p.target.crash(lose)
				must(t, p.target.SetOwnership([]ring.Range{wholeRing}))
			}
		})
	}
}

// A range that was moved away does not come back from the old owner's log.
func TestAMovedRangeStaysAwayAfterRestart(t *testing.T) {
	p := newTestPair(t, shapes["a quarter"])
	all := p.source.user().fill(500)
	p.move("m")
	p.source.crash(lose)
	if r := p.source.Recovered(); r.Keys != len(within(all, p.r, false)) || len(r.Sealed) != 0 {
		t.Fatalf("recovered %+v", r)
	}
	// Even if someone asks for the whole ring by mistake, there is nothing to serve.
	must(t, p.source.SetOwnership([]ring.Range{wholeRing}))
	if got := p.source.user().scanAll(64); !maps.Equal(got, within(all, p.r, false)) {
		t.Fatalf("%d keys are served", len(got))
	}
}

// A complete range is as complete after a restart: requests wait for the document.
func TestACompleteRangeIsHeldAfterARestart(t *testing.T) {
	p := newTestPair(t, wholeRing)
	p.source.user().put("k", "v")
	p.begin("m")
	p.copy("m")
	p.seal("m")
	p.target.crash(lose)
	must(t, p.target.SetOwnership(nil))
	var held *HeldError
	if _, err := p.target.user().lookup("k"); !errors.As(err, &held) || held.Reason != HeldStaged {
		t.Fatalf("error is %v", err)
	}
	_, err := p.target.Stage("m", wholeRing)
	wantErr(t, err, ErrComplete)
	p.commit("m")
	<-held.Resolved
	p.target.user().want("k", "v")
}

// Any interleaving of writes, copy steps, deliveries, crashes and broken links
// ends with the target holding exactly what the source held.
func TestMoveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPair(t, ring.Range{
			Start: ring.Position(rapid.Uint32().Draw(t, "start")), End: ring.Position(rapid.Uint32().Draw(t, "end")),
		})
		defer p.stop()
		key := rapid.Custom(func(t *rapid.T) string { return rapid.StringMatching(`[a-d][0-9]`).Draw(t, "key") })
		own := func() { must(t, p.source.SetOwnership([]ring.Range{wholeRing})) }
		u := p.source.user()
		p.begin("m")
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				o := PutOptions{}
				if rapid.Bool().Draw(t, "mortal") {
					o.ExpireAt = p.source.Now() + rapid.Int64Range(0, 3).Draw(t, "ttl")
				}
				u.putWith(key.Draw(t, "k"), rapid.String().Draw(t, "value"), o)
			},
			"delete": func(t *rapid.T) { u.delete(key.Draw(t, "k")) },
			"append": func(t *rapid.T) {
				k := key.Draw(t, "k")
				_, err := u.Append(at(k), []byte(k), []byte("+"))
				must(t, err)
			},
			"expire": func(t *rapid.T) {
				k := key.Draw(t, "k")
				_, err := u.Expire(at(k), []byte(k), p.source.Now()+rapid.Int64Range(-1, 3).Draw(t, "ttl"), ExpireAlways)
				must(t, err)
			},
			"time": func(*rapid.T) { p.source.clock.add(1); p.target.clock.add(1) },
			"tick": func(*rapid.T) { p.source.Tick(100); p.target.Tick(100) },
			"copy": func(t *rapid.T) {
				_, err := p.capture.CopyNext(rapid.IntRange(1, 200).Draw(t, "bytes"))
				must(t, err)
			},
			"deliver":    func(t *rapid.T) { p.sink.deliver(t, p.target, "m") },
			"link break": func(*rapid.T) { p.capture.Close(); p.begin("m") },
			"source crash": func(t *rapid.T) {
				p.source.crash(coin(rapid.Uint64().Draw(t, "seed")))
				own()
				u = p.source.user()
				p.begin("m")
			},
			"target crash": func(t *rapid.T) {
				p.target.crash(coin(rapid.Uint64().Draw(t, "seed")))
				must(t, p.target.SetOwnership(nil))
				p.begin("m")
			},
		})
		p.copy("m")
		want := within(u.scanAll(10), p.r, true)
		p.seal("m")
		p.commit("m")
		if got := p.target.user().scanAll(10); !maps.Equal(got, want) {
			t.Fatalf("the target has %v, want %v", got, want)
		}
		checkSegments(t, p.source)
		checkSegments(t, p.target)
	})
}
