package engine

import (
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/ring"

	"pgregory.net/rapid"
)

func still() int64 { return 0 }

func (c *Clock) mustNext(t tester) Version {
	t.Helper()
	v, err := c.Next()
	must(t, err)
	return v
}

func TestClockRisesWhateverTheWallClockDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wall, mono := int64(0), int64(0)
		c := newClock(func() int64 { return wall }, func() int64 { return mono })
		var newest Version
		var latest int64
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			passed := rapid.Int64Range(0, 9).Draw(t, "passed")
			mono += passed
			wall = rapid.Int64Range(-5, 40).Draw(t, "wall")
			if rapid.Bool().Draw(t, "observe") {
				c.Observe(Version(rapid.Uint64Range(0, 40<<counterBits).Draw(t, "seen")))
			}
			now, v := c.Now(), c.mustNext(t)
			if now < latest+passed || now < wall {
				t.Fatalf("now %d after %d and %d more, wall %d", now, latest, passed, wall)
			}
			if v <= newest || v.Millis() < now {
				t.Fatalf("version %s after %s at %d", v, newest, now)
			}
			newest, latest = v, now
		}
	})
}

func TestClockFollowsWhatItObserves(t *testing.T) {
	c := newClock(func() int64 { return 1 }, still)
	c.Observe(500 << counterBits)
	if v := c.mustNext(t); v <= 500<<counterBits {
		t.Fatalf("%s is not newer than what was observed", v)
	}
	c.Observe(3)
	if now := c.Now(); now != 500 {
		t.Fatalf("now is %d after observing 500", now)
	}
}

// A wall clock that was an hour ahead for a moment stops nothing: what expires in
// ten seconds expires in ten seconds, also after a restart.
func TestOneForwardStepDoesNotStopExpiry(t *testing.T) {
	m := newOwner(t)
	u := m.user()
	m.clock.step(3_600_000)
	u.put("x", "y")
	m.clock.step(-3_600_000)
	u.putWith("session", "v", PutOptions{ExpireAt: m.Now() + 10_000})
	u.putWith("longer", "v", PutOptions{ExpireAt: m.Now() + 1_000_000})
	m.clock.add(9_999)
	u.want("session", "v")
	m.clock.add(1)
	u.want("session", "")
	m.reboot()
	if ahead := m.Recovered().Ahead; ahead < 59*time.Minute || ahead > time.Hour {
		t.Errorf("the log is %v ahead", ahead)
	}
	must(t, m.SetOwnership([]ring.Range{wholeRing}))
	m.clock.add(990_000)
	m.user().want("longer", "")
}

func TestTheLastVersionIsNotPassed(t *testing.T) {
	c := newClock(still, still)
	c.Observe(maxVersion - 1)
	if v := c.mustNext(t); v != maxVersion {
		t.Fatalf("got %s", v)
	}
	if v, err := c.Next(); !errors.Is(err, ErrVersions) {
		t.Fatalf("got %s, %v", v, err)
	}
}

// A peer whose clock is far ahead does not take this node's clock along.
func TestVersionsFromTooFarAheadAreRefused(t *testing.T) {
	for name, ahead := range map[string]int64{"a day and a bit": maxAhead.Milliseconds() + 1, "the end of time": math.MaxInt64 - startedAt} {
		p := newTestPair(t, wholeRing)
		p.begin("m")
		far := versionAt(startedAt + ahead)
		rec := appendEntry(nil, entry{kind: kindPut, pos: at("k"), version: far, key: []byte("k")})
		_, err := p.target.StageApply("m", rec)
		wantErr(t, err, ErrConflict)
		_, err2 := p.target.StageComplete("m", far, 0)
		wantErr(t, err2, ErrConflict)
		for _, err := range []error{err, err2} {
			if text := err.Error(); !strings.Contains(text, far.String()) || !strings.Contains(text, "2023-11-14T22:13:20Z") {
				t.Errorf("%s: %s", name, text)
			}
		}
		if now := p.target.Now(); now != startedAt {
			t.Errorf("%s: the clock went along to %d", name, now)
		}
	}
}

func TestVersionsAreUniqueAmongGoroutines(t *testing.T) {
	const goroutines, each = 8, 2000
	c := newClock(func() int64 { return 7 }, still)
	var all sync.Map
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range each {
				v, err := c.Next()
				if _, twice := all.LoadOrStore(v, true); twice || err != nil {
					t.Error("a version came twice", err)
				}
			}
		})
	}
	wg.Wait()
}

func TestVersionText(t *testing.T) {
	for _, v := range []Version{0, 1, 1 << 40, maxVersion} {
		back, err := ParseVersion(v.String())
		if err != nil || back != v {
			t.Errorf("%s came back as %s, %v", v, back, err)
		}
	}
	for _, bad := range []string{"", "-1", "x", "9223372036854775808"} {
		if _, err := ParseVersion(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if versionAt(math.MaxInt64) > maxVersion || versionAt(-1) != 0 {
		t.Error("a wall clock out of range gives a version out of range")
	}
}
