package engine

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/quoitdb/quoit/ring"
)

// model is what an engine should hold: plain values, no order, no memory layout.
type model map[string]got

func (m model) clone() model { return maps.Clone(m) }

// live returns the entry unless it has expired.
func (m model) live(key string, now int64) (got, bool) {
	g, ok := m[key]
	if ok && g.expireAt != 0 && g.expireAt <= now {
		return got{}, false
	}
	return g, ok
}

// engineModel runs one session beside a model. Its writes are in one order, so
// after a crash the engine must hold what the model held after some of them: at
// least all that Wait has confirmed.
type engineModel struct {
	m     *machine
	u     user
	state model
	// since are the states from the last Wait on, oldest first; the last is state.
	since []model
	// newest is the newest version given out, acked the newest that Wait confirmed.
	newest, acked Version
}

// modelPosition puts several keys at one position.
func modelPosition(key string) ring.Position {
	if len(key) == 1 {
		return 99
	}
	return at(key)
}

func (e *engineModel) lookup(key string) (g got, err error) {
	err = e.u.Get(modelPosition(key), []byte(key), func(it Item) {
		g = got{string(it.Value), it.Version, it.ExpireAt}
	})
	return g, err
}

// wrote records a write whose version the operation did not return.
func (e *engineModel) wrote(t tester, key string, g got) {
	t.Helper()
	here, err := e.lookup(key)
	must(t, err)
	g.version = here.version
	e.record(t, key, g)
}

// record records a write, whose version must rise.
func (e *engineModel) record(t tester, key string, g got) {
	t.Helper()
	if g.version <= e.newest {
		t.Fatalf("%s has version %s after %s", key, g.version, e.newest)
	}
	e.newest = g.version
	e.state[key] = g
	e.since = append(e.since, e.state.clone())
}

func (e *engineModel) forget(key string) {
	delete(e.state, key)
	e.since = append(e.since, e.state.clone())
}

func (e *engineModel) wait(t tester) {
	t.Helper()
	must(t, e.u.Wait())
	e.since, e.acked = []model{e.state.clone()}, e.newest
}

// check compares what every kind of reading shows with the model.
func (e *engineModel) check(t tester) {
	t.Helper()
	now := e.m.Now()
	want := map[string]string{}
	for key := range e.state {
		g, ok := e.state.live(key, now)
		if ok {
			want[key] = g.value
		}
		here, err := e.lookup(key)
		if ok != (err == nil) || ok && here != g {
			t.Fatalf("%s is %+v, %v, want %+v, %v", key, here, err, g, ok)
		}
	}
	if all := e.u.scanAll(3); !maps.Equal(all, want) {
		t.Fatalf("a scan gives %v, want %v", all, want)
	}
	if n := e.m.Count(); n != len(want) { // Reading has removed the expired.
		t.Fatalf("%d keys are counted, want %d", n, len(want))
	}
}

// restarted finds the state that the engine came back with. Before is the
// engine's time before: with a wall clock that stepped back meanwhile, what
// expired in between is there again unless its removal was logged.
func (e *engineModel) restarted(t tester, before int64) {
	t.Helper()
	must(t, e.m.SetOwnership([]ring.Range{wholeRing}))
	e.u = e.m.user()
	here := model{}
	for cursor, more := uint64(0), true; more; {
		next, err := e.u.Scan(cursor, 100, func(it Item) {
			here[string(it.Key)] = got{string(it.Value), it.Version, it.ExpireAt}
		})
		must(t, err)
		cursor, more = next, next != 0
	}
	if !slices.ContainsFunc(e.since, func(m model) bool { return m.cameBackAs(here, before, e.m.Now()) }) {
		t.Fatalf("recovered %v, which is none of %v", here, e.since)
	}
	e.state, e.newest = here, e.acked
	for _, g := range here {
		e.newest = max(e.newest, g.version)
	}
	e.wait(t)
}

// cameBackAs says whether here may be what is left of m after a restart.
func (m model) cameBackAs(here model, before, after int64) bool {
	for key, g := range here {
		if known, ok := m.live(key, after); !ok || known != g {
			return false
		}
	}
	for key := range m {
		_, ok := m.live(key, max(before, after))
		if _, back := here[key]; ok && !back {
			return false
		}
	}
	return true
}

// TestModel: every operation against the model, with ticks, restarts, crashes
// that keep any part of what was not synced, and a wall clock that goes both ways.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := &engineModel{m: newMachine(t, nil), state: model{}, since: []model{{}}}
		defer func() { e.m.stop() }()
		must(t, e.m.SetOwnership([]ring.Range{wholeRing}))
		e.u = e.m.user()
		t.Repeat(map[string]func(*rapid.T){
			"":          func(t *rapid.T) { checkSegments(t, e.m) },
			"put":       e.put,
			"delete":    e.delete,
			"increment": e.increment,
			"append":    e.append,
			"expire":    e.expire,
			"persist":   e.persist,
			"check":     func(t *rapid.T) { e.check(t) },
			"wait":      func(t *rapid.T) { e.wait(t) },
			"tick":      func(t *rapid.T) { e.m.Tick(rapid.IntRange(1, 2000).Draw(t, "budget")) },
			"time":      func(t *rapid.T) { e.m.clock.add(rapid.Int64Range(-20, 30).Draw(t, "millis")) },
			"restart": func(t *rapid.T) {
				e.wait(t)
				before := e.m.Now()
				e.m.reboot()
				e.restarted(t, before)
			},
			"crash": func(t *rapid.T) {
				before := e.m.Now()
				e.m.crash(coin(rapid.Uint64().Draw(t, "seed")))
				e.restarted(t, before)
			},
		})
		e.check(t)
	})
}

func (e *engineModel) key(t *rapid.T) (string, []byte, ring.Position) {
	key := rapid.SampledFrom([]string{"", "a", "b", "c", "d", "ee", "fff"}).Draw(t, "key")
	return key, []byte(key), modelPosition(key)
}

func (e *engineModel) put(t *rapid.T) {
	key, k, pos := e.key(t)
	now := e.m.Now()
	old, here := e.state.live(key, now)
	o := PutOptions{
		IfAbsent: rapid.IntRange(0, 4).Draw(t, "nx") == 0, IfPresent: rapid.IntRange(0, 4).Draw(t, "xx") == 0,
		KeepExpiry:   rapid.IntRange(0, 4).Draw(t, "keep") == 0,
		HasIfVersion: rapid.IntRange(0, 4).Draw(t, "cas") == 0,
	}
	if rapid.Bool().Draw(t, "mortal") {
		o.ExpireAt = now + rapid.Int64Range(0, 20).Draw(t, "ttl")
	}
	if rapid.Bool().Draw(t, "right version") {
		o.IfVersion = old.version
	}
	value := rapid.SampledFrom([]string{"", "1", "word", strconv.Itoa(1 << 60), string(make([]byte, 3000))}).Draw(t, "value")
	v, err := e.u.Put(pos, k, []byte(value), o)
	var conflict *VersionError
	switch {
	case o.IfAbsent && here:
		wantErr(t, err, ErrExists)
		return
	case o.IfPresent && !here:
		wantErr(t, err, ErrNotFound)
		return
	case o.HasIfVersion && o.IfVersion != old.version:
		if !errors.As(err, &conflict) || conflict.Current != old.version {
			t.Fatalf("error is %v, the version is %s", err, old.version)
		}
		return
	}
	must(t, err)
	g := got{value, v, o.ExpireAt}
	if o.KeepExpiry {
		g.expireAt = old.expireAt
	}
	e.record(t, key, g)
}

func (e *engineModel) delete(t *rapid.T) {
	key, k, pos := e.key(t)
	old, here := e.state.live(key, e.m.Now())
	ok, err := e.u.Delete(pos, k, func(it Item) error {
		if string(it.Value) != old.value {
			t.Fatalf("deleted %q, want %q", it.Value, old.value)
		}
		return nil
	})
	if must(t, err); ok != here {
		t.Fatalf("deleted: %v, want %v", ok, here)
	}
	if here {
		e.forget(key)
	}
}

func (e *engineModel) increment(t *rapid.T) {
	key, k, pos := e.key(t)
	old, here := e.state.live(key, e.m.Now())
	delta := rapid.SampledFrom([]int64{1, -1, 7 << 60}).Draw(t, "delta")
	n, err := e.u.Increment(pos, k, delta)
	was := int64(0)
	if here {
		var bad error
		if was, bad = strconv.ParseInt(old.value, 10, 64); bad != nil {
			wantErr(t, err, ErrNotInteger)
			return
		}
	}
	if sum := was + delta; (sum < was) != (delta < 0) {
		wantErr(t, err, ErrOverflow)
		return
	}
	if must(t, err); n != was+delta {
		t.Fatalf("%d + %d = %d", was, delta, n)
	}
	e.wrote(t, key, got{value: strconv.FormatInt(n, 10), expireAt: old.expireAt})
}

func (e *engineModel) append(t *rapid.T) {
	key, k, pos := e.key(t)
	old, _ := e.state.live(key, e.m.Now())
	n, err := e.u.Append(pos, k, []byte("+"))
	if must(t, err); n != len(old.value)+1 {
		t.Fatalf("length %d after %d", n, len(old.value))
	}
	e.wrote(t, key, got{value: old.value + "+", expireAt: old.expireAt})
}

func (e *engineModel) expire(t *rapid.T) {
	key, k, pos := e.key(t)
	now := e.m.Now()
	old, here := e.state.live(key, now)
	at := now + rapid.Int64Range(-5, 20).Draw(t, "ttl")
	when := ExpireWhen(rapid.IntRange(0, 4).Draw(t, "when"))
	did, err := e.u.Expire(pos, k, at, when)
	if must(t, err); did != (here && when.holds(old.expireAt, at)) {
		t.Fatalf("expire did: %v", did)
	}
	switch {
	case !did:
	case at <= now:
		e.forget(key)
	default:
		old.expireAt = at
		e.wrote(t, key, old)
	}
}

func (e *engineModel) persist(t *rapid.T) {
	key, k, pos := e.key(t)
	old, _ := e.state.live(key, e.m.Now())
	did, err := e.u.Persist(pos, k)
	if must(t, err); did != (old.expireAt != 0) {
		t.Fatalf("persist did: %v", did)
	}
	if did {
		old.expireAt = 0
		e.wrote(t, key, old)
	}
}
