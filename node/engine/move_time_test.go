package engine

import (
	"maps"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// Versions rise over a change of owner, however far the clocks are apart.
func TestVersionsRiseAcrossOwners(t *testing.T) {
	p := newTestPair(t, wholeRing)
	p.target.clock.add(-600_000)
	first := p.source.user().put("k", "one")
	p.move("m")
	g, err := p.target.user().lookup("k")
	if must(t, err); g.version != first {
		t.Fatalf("the version changed from %s to %s", first, g.version)
	}
	second := p.target.user().put("k", "two")
	deletedAt := p.target.user()
	deletedAt.delete("k")
	p.target.crash(lose)
	must(t, p.target.SetOwnership([]ring.Range{wholeRing}))
	third := p.target.user().put("k", "three")
	if !(first < second && second < third) {
		t.Fatalf("versions %s, %s, %s", first, second, third)
	}
}

// Versions of keys deleted at the source count too: the seal carries the clock,
// also over a restart of the target.
func TestVersionsRiseAfterADeleteAtTheSource(t *testing.T) {
	for name, pause := range map[string]func(*machine){
		"at once": func(*machine) {}, "after a crash": func(m *machine) { m.crash(lose) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newTestPair(t, wholeRing)
			p.target.clock.add(-600_000)
			u := p.source.user()
			first := u.put("k", "one")
			u.delete("k")
			p.begin("m")
			p.copy("m")
			p.seal("m")
			pause(p.target)
			p.commit("m")
			if second := p.target.user().put("k", "two"); second <= first {
				t.Fatalf("version %s after %s", second, first)
			}
		})
	}
}

// Even if the seal's clock were wrong, no write here is older than what was sent.
func TestVersionsRiseAboveWhatWasSent(t *testing.T) {
	p := newTestPair(t, wholeRing)
	p.begin("m")
	sent := versionAt(startedAt + 3_600_000)
	rec := appendEntry(nil, entry{kind: kindPut, pos: at("k"), version: sent, key: []byte("k")})
	p.target.sync(p.target.StageApply("m", rec))
	p.target.sync(p.target.StageComplete("m", 1, 1))
	p.target.sync(p.target.Activate("m"))
	if v := p.target.user().put("k", "two"); v <= sent {
		t.Fatalf("version %s after %s", v, sent)
	}
}

// A key expires while its range is being copied: found by a reader, found by the
// sweeper, or found by nobody. The count matches and the target shows nothing.
func TestExpiryMidCopy(t *testing.T) {
	for name, notice := range map[string]func(p *pair){
		"read":   func(p *pair) { p.source.user().want("mortal", "") },
		"swept":  func(p *pair) { tickAll(p.source) },
		"nobody": func(*pair) {},
	} {
		for _, when := range []string{"before the copy", "during the copy", "after the copy"} {
			t.Run(name+" "+when, func(t *testing.T) {
				p := newTestPair(t, wholeRing)
				u := p.source.user()
				all := u.fill(50)
				u.putWith("mortal", "v", PutOptions{ExpireAt: startedAt + 10})
				die := func() {
					p.source.clock.add(10)
					p.target.clock.add(10)
					notice(p)
				}
				p.begin("m")
				if when == "before the copy" {
					die()
				}
				_, err := p.capture.CopyNext(500)
				must(t, err)
				if when == "during the copy" {
					die()
				}
				p.copy("m")
				if when == "after the copy" {
					die()
				}
				p.seal("m")
				p.commit("m")
				if got := p.target.user().scanAll(64); !maps.Equal(got, all) {
					t.Fatalf("%d keys, want %d", len(got), len(all))
				}
			})
		}
	}
}
