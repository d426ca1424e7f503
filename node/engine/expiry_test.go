package engine

import (
	"errors"
	"fmt"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

func TestAKeyExpires(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.putWith("k", "v", PutOptions{ExpireAt: m.Now() + 10})
	m.clock.add(9)
	u.want("k", "v")
	m.clock.add(1)
	u.want("k", "")
	if n := m.Count(); n != 0 {
		t.Fatalf("%d keys are left", n)
	}
	if s := m.Stats(); s.Expired != 1 {
		t.Fatalf("%d keys expired", s.Expired)
	}
}

// An expired key is absent for every operation, not only for reads.
func TestExpiredIsAbsent(t *testing.T) {
	for name, op := range map[string]func(u user, key []byte, pos ring.Position) error{
		"put if absent": func(u user, key []byte, pos ring.Position) error {
			_, err := u.Put(pos, key, []byte("new"), PutOptions{IfAbsent: true})
			return err
		},
		"put if version 0": func(u user, key []byte, pos ring.Position) error {
			_, err := u.Put(pos, key, []byte("new"), PutOptions{HasIfVersion: true})
			return err
		},
		"put if present": func(u user, key []byte, pos ring.Position) error {
			_, err := u.Put(pos, key, []byte("new"), PutOptions{IfPresent: true})
			return swap(err, ErrNotFound)
		},
		"delete": func(u user, key []byte, pos ring.Position) error {
			ok, err := u.Delete(pos, key, func(Item) error { u.t.Fatalf("an expired value was shown"); return nil })
			return wantFalse(ok, err)
		},
		"exists": func(u user, key []byte, pos ring.Position) error { return wantFalse(u.Exists(pos, key)) },
		"expire": func(u user, key []byte, pos ring.Position) error {
			return wantFalse(u.Expire(pos, key, startedAt+1_000_000, ExpireAlways))
		},
		"persist": func(u user, key []byte, pos ring.Position) error { return wantFalse(u.Persist(pos, key)) },
		"increment": func(u user, key []byte, pos ring.Position) error {
			n, err := u.Increment(pos, key, 3)
			return wantFalse(n != 3, err)
		},
		"append": func(u user, key []byte, pos ring.Position) error {
			n, err := u.Append(pos, key, []byte("x"))
			return wantFalse(n != 1, err)
		},
		"keep expiry": func(u user, key []byte, pos ring.Position) error {
			_, err := u.Put(pos, key, []byte("new"), PutOptions{KeepExpiry: true})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newOwner(t)
			u := m.user()
			u.putWith("k", "7", PutOptions{ExpireAt: m.Now() + 5})
			m.clock.add(5)
			must(t, op(u, []byte("k"), at("k")))
			if g, err := u.lookup("k"); err == nil && g.expireAt != 0 {
				t.Fatalf("the new key has the old one's expiry: %+v", g)
			}
		})
	}
}

func swap(err, want error) error {
	if errors.Is(err, want) {
		return nil
	}
	return fmt.Errorf("error is %w, want %w", err, want)
}

func wantFalse(yes bool, err error) error {
	if yes {
		return errors.Join(err, errors.New("an expired key counted as present"))
	}
	return err
}

func TestExpireConditions(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	now := m.Now()
	for name, c := range map[string]struct {
		before, at int64
		when       ExpireWhen
		want       bool
	}{
		"always, had none":   {0, now + 9, ExpireAlways, true},
		"if none, had none":  {0, now + 9, ExpireIfNone, true},
		"if none, had one":   {now + 5, now + 9, ExpireIfNone, false},
		"if some, had none":  {0, now + 9, ExpireIfSome, false},
		"if some, had one":   {now + 5, now + 9, ExpireIfSome, true},
		"if later, is":       {now + 5, now + 9, ExpireIfLater, true},
		"if later, equal":    {now + 9, now + 9, ExpireIfLater, false},
		"if later, had none": {0, now + 9, ExpireIfLater, false},
		"if sooner, is not":  {now + 5, now + 9, ExpireIfSooner, false},
		"if sooner, is":      {now + 10, now + 9, ExpireIfSooner, true},
		"if sooner, none":    {0, now + 9, ExpireIfSooner, true},
	} {
		t.Run(name, func(t *testing.T) {
			u.putWith(name, "v", PutOptions{ExpireAt: c.before})
			did, err := u.Expire(at(name), []byte(name), c.at, c.when)
			must(t, err)
			want := c.before
			if c.want {
				want = c.at
			}
			if g, _ := u.lookup(name); did != c.want || g.expireAt != want {
				t.Fatalf("did %v, expires at %d, want %v and %d", did, g.expireAt, c.want, want)
			}
		})
	}
}

func TestExpireInThePastDeletes(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("k", "v")
	did, err := u.Expire(at("k"), []byte("k"), m.Now(), ExpireAlways)
	must(t, err)
	if !did || u.get("k") != "" || m.Count() != 0 {
		t.Fatal("the key is still there")
	}
}

func TestPersist(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.putWith("k", "v", PutOptions{ExpireAt: m.Now() + 5})
	for _, want := range []bool{true, false} {
		if did, err := u.Persist(at("k"), []byte("k")); err != nil || did != want {
			t.Fatalf("persist: %v, %v", did, err)
		}
	}
	m.clock.add(100)
	u.want("k", "v")
}

// Once a reader was told that a key has expired, it stays so: over a wall clock
// that steps back, and over a crash with the clock stepping back meanwhile. Each way
// of telling is alone: the removal of another key would have moved the clock on.
func TestClockSteppingBackDoesNotReviveAKey(t *testing.T) {
	for name, tell := range map[string]func(u user){
		"a read": func(u user) { u.want("k", "") },
		"a scan": func(u user) {
			if all := u.scanAll(10); len(all) != 0 {
				u.t.Fatalf("a scan shows %v", all)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newOwner(t)
			u := m.user()
			u.putWith("k", "v", PutOptions{ExpireAt: m.Now() + 10})
			m.clock.add(10)
			tell(u)
			must(t, u.Wait())
			m.clock.add(-1000)
			u.want("k", "")
			m.crash(lose)
			must(t, m.SetOwnership([]ring.Range{wholeRing}))
			m.user().want("k", "")
		})
	}
}

// A key that was not seen expired before the clock stepped back is simply not
// expired yet, and versions rise all the same.
func TestClockSteppingBackKeepsVersionsRising(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	first := u.put("k", "one")
	m.clock.add(-60_000)
	second := u.put("k", "two")
	m.crash(lose)
	m.clock.add(-60_000)
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	third := m.user().put("k", "three")
	if !(first < second && second < third) {
		t.Fatalf("versions %s, %s, %s", first, second, third)
	}
}

func tickAll(m *machine) {
	for i := 0; m.Tick(1<<20) && i < 10_000; i++ {
	}
}

func TestSweeperRemovesWhatNobodyReads(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	now := m.Now()
	for i := range 3000 {
		o := PutOptions{}
		switch i % 3 {
		case 0:
			o.ExpireAt = now + 10
		case 1:
			o.ExpireAt = now + 1_000_000
		}
		key := fmt.Sprint("k", i)
		_, err := u.Put(at(key), []byte(key), []byte("v"), o)
		must(t, err)
	}
	must(t, u.Wait())
	tickAll(m)
	if n := m.Count(); n != 3000 {
		t.Fatalf("%d keys before their time, want 3000", n)
	}
	m.clock.add(10)
	tickAll(m)
	if n := m.Count(); n != 2000 {
		t.Fatalf("%d keys after the sweep, want 2000", n)
	}
	// What expires later is found by a later pass.
	m.clock.add(2_000_000)
	tickAll(m)
	if n := m.Count(); n != 1000 {
		t.Fatalf("%d keys at last, want 1000", n)
	}
	u.put("late", "v")
	m.crash(lose)
	if r := m.Recovered(); r.Keys != 1001 {
		t.Fatalf("%d keys in the log: removals were not logged", r.Keys)
	}
}

// What begins to be mortal behind the sweeper's back, while a pass is under way,
// is found by the next one.
func TestSweeperComesBackForWhatItHadPassed(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	for i := range 20 {
		_, err := u.Put(ring.Position(100+i), []byte("k"), nil, PutOptions{ExpireAt: m.Now() + 5})
		must(t, err)
	}
	m.clock.add(5)
	p := m.part(0)
	if _, soon := m.upkeep.s.keep(p, m.Now(), 10); !soon || !p.sweep.running {
		t.Fatal("the pass is over too soon")
	}
	_, err := u.Put(1, []byte("behind"), nil, PutOptions{ExpireAt: m.Now() + 5})
	must(t, err)
	m.clock.add(5)
	for range 5 {
		m.upkeep.s.keep(p, m.Now(), 10)
	}
	if n := m.Count(); n != 0 {
		t.Fatalf("%d keys are left", n)
	}
}

func TestSweeperLeavesHeldRangesAlone(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.putWith("k", "v", PutOptions{ExpireAt: m.Now() + 1})
	m.sync(m.Seal("m", wholeRing))
	m.clock.add(10_000)
	for range 20 {
		m.Tick(1000)
		m.clock.add(1000)
	}
	if n := m.Count(); n != 1 {
		t.Fatal("a sealed range was changed")
	}
	m.sync(m.Unseal("m"))
	tickAll(m)
	if n := m.Count(); n != 0 {
		t.Fatal("an expired key is left after the range was unsealed")
	}
}

// On a disk too full for writes a reader who was told "expired" is not contradicted
// after a restart with a clock that was set back, and keys can be deleted.
func TestExpiryIsLoggedOnAFullDisk(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	for _, key := range []string{"read", "scanned"} {
		u.putWith(key, "v", PutOptions{ExpireAt: m.Now() + 10_000})
	}
	u.put("gone", "v")
	m.disk.SetCapacity(1)
	for size := 60_000; size >= 0; {
		if _, err := u.Put(at("x"), []byte("x"), make([]byte, size), PutOptions{}); errors.Is(err, ErrReadOnly) {
			size = size/2 - 1
		}
	}
	must(t, u.Wait())
	m.clock.add(20_000)
	u.want("read", "")
	u.scanAll(100)
	if !u.delete("gone") {
		t.Error("not deleted")
	}
	must(t, u.Wait())
	m.clock.add(-20_000)
	m.disk.SetCapacity(0)
	m.crash(lose)
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	for _, key := range []string{"read", "scanned", "gone"} {
		m.user().want(key, "")
	}
}
