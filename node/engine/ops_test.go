package engine

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

func TestPutGetDelete(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.want("k", "")
	first := u.put("k", "one")
	second := u.put("k", "two")
	if second <= first {
		t.Fatalf("version %s after %s", second, first)
	}
	if g, err := u.lookup("k"); err != nil || g != (got{"two", second, 0}) {
		t.Fatalf("read %+v, %v", g, err)
	}
	if !u.delete("k") || u.delete("k") {
		t.Fatal("the key is there once")
	}
	if _, err := u.lookup("k"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("a deleted key: %v", err)
	}
	if third := u.put("k", "three"); third <= second {
		t.Fatalf("version %s of the new key is not newer than %s of the old", third, second)
	}
}

func TestEmptyAndBinaryKeysAndValues(t *testing.T) {
	m := newOwner(t)
	for _, key := range []string{"", "\x00", "\r\n", strings.Repeat("k", 1<<10)} {
		u := m.user()
		u.put(key, key+"\xff")
		u.want(key, key+"\xff")
		u.put(key, "")
		if ok, err := u.Exists(at(key), []byte(key)); err != nil || !ok {
			t.Fatalf("a key with an empty value: %v, %v", ok, err)
		}
	}
	m.reboot()
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	if n := m.Count(); n != 4 {
		t.Fatalf("%d keys after a restart, want 4", n)
	}
}

func TestKeysOfOnePositionAreApart(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	for _, key := range []string{"a", "b", "ab", ""} {
		_, err := u.Put(42, []byte(key), []byte("value of "+key), PutOptions{})
		must(t, err)
	}
	_, err := u.Delete(42, []byte("a"), nil)
	must(t, err)
	for key, want := range map[string]error{"a": ErrNotFound, "b": nil, "ab": nil, "": nil} {
		err := u.Get(42, []byte(key), func(it Item) {
			if string(it.Value) != "value of "+key {
				t.Errorf("%q is %q", key, it.Value)
			}
		})
		if !errors.Is(err, want) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestConditionsOfPut(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	v := u.put("here", "old")
	for name, c := range map[string]struct {
		key  string
		o    PutOptions
		want error
	}{
		"absent, and is":            {"none1", PutOptions{IfAbsent: true}, nil},
		"absent, and is not":        {"here", PutOptions{IfAbsent: true}, ErrExists},
		"present, and is not":       {"none2", PutOptions{IfPresent: true}, ErrNotFound},
		"version 0 of nothing":      {"none3", PutOptions{HasIfVersion: true}, nil},
		"version 0 of something":    {"here", PutOptions{HasIfVersion: true}, &VersionError{}},
		"another version":           {"here", PutOptions{HasIfVersion: true, IfVersion: v - 1}, &VersionError{}},
		"some version of nothing":   {"none4", PutOptions{HasIfVersion: true, IfVersion: v}, &VersionError{}},
		"too large a key":           {strings.Repeat("k", 1<<10+1), PutOptions{}, ErrTooLarge},
		"both conditions, not here": {"none5", PutOptions{IfPresent: true, HasIfVersion: true}, ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := u.Put(at(c.key), []byte(c.key), []byte("new"), c.o)
			var conflict *VersionError
			if errors.As(c.want, &conflict) {
				if conflict = nil; !errors.As(err, &conflict) {
					t.Fatalf("error is %v", err)
				}
				if here := c.key == "here"; here != (conflict.Current == v) {
					t.Fatalf("the current version is said to be %s", conflict.Current)
				}
				return
			}
			if !errors.Is(err, c.want) {
				t.Fatalf("error is %v, want %v", err, c.want)
			}
		})
	}
	u.want("here", "old")
	if v2 := u.putWith("here", "new", PutOptions{HasIfVersion: true, IfVersion: v, IfPresent: true}); v2 <= v {
		t.Fatalf("version %s after %s", v2, v)
	}
	u.want("here", "new")
}

func TestTooLargeAValue(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	_, err := u.Put(1, []byte("k"), make([]byte, 64<<10+1), PutOptions{})
	wantErr(t, err, ErrTooLarge)
	_, err = u.Put(1, []byte("k"), make([]byte, 64<<10), PutOptions{})
	must(t, err)
	_, err = u.Append(1, []byte("k"), []byte("x"))
	wantErr(t, err, ErrTooLarge)
	_, err = u.Increment(1, make([]byte, 1<<10+1), 1)
	wantErr(t, err, ErrTooLarge)
}

func TestOldValueIsShown(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("k", "one")
	var olds []string
	note := func(it Item) error { olds = append(olds, string(it.Value)); return nil }
	u.putWith("k", "two", PutOptions{Old: note})
	u.putWith("fresh", "x", PutOptions{Old: note})
	_, err := u.Put(at("k"), []byte("k"), []byte("three"), PutOptions{IfAbsent: true, Old: note})
	wantErr(t, err, ErrExists)
	_, err = u.Delete(at("k"), []byte("k"), note)
	must(t, err)
	if s := strings.Join(olds, ","); s != "one,two,two" {
		t.Fatalf("shown: %s", s)
	}
}

// Who cannot take the old value stops the write: nothing is lost, nothing logged.
func TestAnOldValueThatIsNotTakenStays(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("k", "one")
	end := m.log.Appended()
	full := errors.New("no room")
	refuse := func(Item) error { return full }
	_, err := u.Put(at("k"), []byte("k"), []byte("two"), PutOptions{Old: refuse})
	wantErr(t, err, full)
	_, err = u.Delete(at("k"), []byte("k"), refuse)
	wantErr(t, err, full)
	if m.log.Appended() != end {
		t.Error("something was logged")
	}
	u.want("k", "one")
}

// Many counters race with compare-and-set: no increment is lost.
func TestCompareAndSetLosesNothing(t *testing.T) {
	const goroutines, each = 4, 200
	m := newOwner(t)
	m.user().put("n", "0")
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			u := m.user()
			for done := 0; done < each; {
				g, err := u.lookup("n")
				must(t, err)
				n, err := strconv.Atoi(g.value)
				must(t, err)
				_, err = u.Put(at("n"), []byte("n"), []byte(strconv.Itoa(n+1)),
					PutOptions{HasIfVersion: true, IfVersion: g.version})
				if err == nil {
					done++
				}
			}
		})
	}
	wg.Wait()
	m.user().want("n", strconv.Itoa(goroutines*each))
}

func TestIncrement(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	maxInt, minInt := strconv.Itoa(math.MaxInt64), strconv.Itoa(math.MinInt64)
	for name, c := range map[string]struct {
		value string
		delta int64
		want  string
		err   error
	}{
		"from nothing":            {"", 5, "5", nil},
		"up":                      {"41", 1, "42", nil},
		"down through zero":       {"1", -3, "-2", nil},
		"to the top":              {maxInt, 0, maxInt, nil},
		"over the top":            {maxInt, 1, maxInt, ErrOverflow},
		"under the bottom":        {minInt, -1, minInt, ErrOverflow},
		"the whole way":           {minInt, math.MaxInt64, "-1", nil},
		"lowest number from zero": {"0", math.MinInt64, minInt, nil},
		"lowest number from -1":   {"-1", math.MinInt64, "-1", ErrOverflow},
		"a word":                  {"ten", 1, "ten", ErrNotInteger},
		"a plus sign":             {"+1", 1, "+1", ErrNotInteger},
		"a leading zero":          {"01", 1, "01", ErrNotInteger},
		"minus zero":              {"-0", 1, "-0", ErrNotInteger},
		"a space":                 {" 1", 1, " 1", ErrNotInteger},
		"more than 64 bits":       {"9223372036854775808", 1, "9223372036854775808", ErrNotInteger},
		"far too long":            {strings.Repeat("1", 100), 1, strings.Repeat("1", 100), ErrNotInteger},
	} {
		t.Run(name, func(t *testing.T) {
			if c.value != "" {
				u.put(name, c.value)
			}
			n, err := u.Increment(at(name), []byte(name), c.delta)
			if !errors.Is(err, c.err) {
				t.Fatalf("error is %v, want %v", err, c.err)
			}
			if err == nil && strconv.FormatInt(n, 10) != c.want {
				t.Fatalf("returned %d, want %s", n, c.want)
			}
			u.want(name, c.want)
		})
	}
}

func TestAppendAndIncrementKeepTheExpiry(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	when := m.Now() + 5000
	u.putWith("n", "1", PutOptions{ExpireAt: when})
	_, err := u.Increment(at("n"), []byte("n"), 1)
	must(t, err)
	length, err := u.Append(at("n"), []byte("n"), []byte("00"))
	must(t, err)
	if g, _ := u.lookup("n"); length != 3 || g.value != "200" || g.expireAt != when {
		t.Fatalf("length %d, entry %+v", length, g)
	}
	must(t, u.Wait())
	m.reboot()
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	if g, _ := m.user().lookup("n"); g.value != "200" || g.expireAt != when {
		t.Fatalf("after a restart: %+v", g)
	}
}

// Appending costs the log what was appended, not the whole value.
func TestAppendLogsOnlyTheTail(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("k", strings.Repeat("x", 50_000))
	before := m.log.Appended()
	for range 100 {
		_, err := u.Append(at("k"), []byte("k"), []byte("y"))
		must(t, err)
	}
	if grown := m.log.Appended() - before; grown > 10_000 {
		t.Fatalf("the log grew by %d bytes for 100", grown)
	}
	if v := u.get("k"); len(v) != 50_100 || v[49_999:50_001] != "xy" {
		t.Fatalf("the value has %d bytes", len(v))
	}
}

func TestAClosedEngineRefuses(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	u.put("k", "v")
	must(t, m.Close())
	must(t, m.Close())
	_, err := u.lookup("k")
	wantErr(t, err, ErrNotOwned)
	_, err = u.Put(at("k"), []byte("k"), []byte("v"), PutOptions{})
	wantErr(t, err, ErrNotOwned)
	wantErr(t, m.SetOwnership([]ring.Range{wholeRing}), ErrConflict)
	_, err = m.Stage("m", wholeRing)
	wantErr(t, err, ErrConflict)
	m.Tick(1000)
	if n := m.Count(); n != 0 {
		t.Fatalf("%d keys in a closed engine", n)
	}
}

// The hot path takes nothing from the garbage collector.
func TestHotPathDoesNotAllocate(t *testing.T) {
	m := newOwner(t)
	s := m.NewSession()
	key, value, buf := []byte("user:1234567890"), make([]byte, 64), make([]byte, 0, 64)
	pos := ring.PositionOf(key)
	sum := 0
	for name, op := range map[string]func(){
		"put": func() { _, _ = s.Put(pos, key, value, PutOptions{}) },
		"get": func() { _ = s.Get(pos, key, func(it Item) { buf = append(buf[:0], it.Value...) }) },
		"put with old": func() {
			_, _ = s.Put(pos, key, value, PutOptions{Old: func(it Item) error { sum += len(it.Value); return nil }})
		},
		"exists":    func() { _, _ = s.Exists(pos, key) },
		"delete":    func() { _, _ = s.Delete(pos, key, nil) },
		"increment": func() { _, _ = s.Increment(7, key, 1) },
		"wait":      func() { _ = s.Wait() },
	} {
		op()
		if n := testing.AllocsPerRun(200, op); n >= 1 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
