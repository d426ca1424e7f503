package browser

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/client"
)

// life is a page that reads, writes and watches, in workers that have some keys each, and
// that knows of each key what it must hold. Every call has a bound that is far above a
// restart; a write may end with nobody knowing, and then the page looks.
const life = `
	const BOUND = 110_000;
	window.life = { rounds: 0, unknown: 0, failures: [], told: 0, newest: {}, number: {}, synced: false, holds: {}, lost: [], ways: {} };
	window.begin = (name) => {
		const fail = (what) => { if (life.failures.length < 20) life.failures.push(what) };
		db.addEventListener("disconnect", (e) => life.lost.push(e.detail.node));
		db.addEventListener("route", (e) => { life.ways[e.detail.via] = (life.ways[e.detail.via] ?? 0) + 1 });
		const follow = async () => {
			for await (const c of db.watch("s:", { state: true, as: "text" })) {
				if (c.type === "synced") { life.synced = true; continue }
				life.told++;
				const before = life.newest[c.key];
				if (before && c.version <= before.version) fail("version " + c.version + " of " + c.key + " was told after " + before.version);
				life.newest[c.key] = c;
				if (c.type !== "put") continue;
				if (Number(c.value) <= (life.number[c.key] ?? 0)) fail(c.key + " is " + c.value + " after " + life.number[c.key]);
				life.number[c.key] = Number(c.value);
			}
		};
		follow().catch((e) => fail("watch: " + e.code + " " + e.message));

		// Who writes alone can tell by reading whether its write has happened.
		const look = async (key, before, after) => {
			const value = await db.get(key, { as: "text", timeout: BOUND });
			if (value !== before && value !== after) fail(key + " is " + value + " and must be " + before + " or " + after);
			return value;
		};
		const write = async (key, value) => {
			const before = life.holds[key] ?? null;
			try {
				if (value === null) await db.delete(key, { timeout: BOUND });
				else await db.put(key, value, { timeout: BOUND });
				life.holds[key] = value;
			} catch (e) {
				if (e.code !== "OUTCOME_UNKNOWN") throw e;
				life.unknown++;
				life.holds[key] = await look(key, before, value);
			}
		};
		const work = async (keys) => {
			for (let n = 1; !life.stop; n++) {
				const key = keys[n % keys.length];
				try {
					await write(key, n % 5 === 0 ? null : String(n));
					await look(key, life.holds[key], life.holds[key]);
					if (await db.get("static:" + n % 100, { as: "text", timeout: BOUND }) !== "static") fail("static:" + n % 100 + " is lost");
				} catch (e) { fail(e.code + " " + e.message) }
				life.rounds++;
				await new Promise((r) => setTimeout(r)); // others have a turn too
			}
		};
		life.ended = Promise.all(Array.from({ length: 4 }, (_, w) => work(Array.from({ length: 9 }, (_, i) => "s:" + name + ":" + w + ":" + i))));
	};
	return true`

// living is a page that does so.
type living struct {
	*tab
	name string
}

// live lets a page begin.
func (tab *tab) live(name string) living {
	tab.s.t.Helper()
	eval[bool](tab, life)
	eval[any](tab, `begin("`+name+`")`)
	return living{tab, name}
}

// more waits until a page has gone through so many rounds, and been told as many
// changes: nothing in it is stuck.
func (l living) more(n int) {
	l.s.t.Helper()
	from := eval[[]int](l.tab, `return [life.rounds, life.told]`)
	l.s.eventually(fmt.Sprintf("page %s to go on", l.name), func() bool {
		now := eval[[]int](l.tab, `return [life.rounds, life.told]`)
		return now[0] >= from[0]+n && now[1] >= from[1]+n
	})
}

// fill writes what pages read beside their own.
func fill(t *testing.T, db *client.Client) {
	t.Helper()
	pairs := make([]client.Pair, 100)
	for i := range pairs {
		pairs[i] = client.Pair{Key: "static:" + strconv.Itoa(i), Value: []byte("static")}
	}
	if _, err := db.MPut(t.Context(), pairs); err != nil {
		t.Fatal(err)
	}
}

// verdicts stops the pages and compares what they believe with what a program reads: each
// acknowledged write is there, and every watch came to the end of every key.
func verdicts(t *testing.T, db *client.Client, pages ...living) {
	t.Helper()
	truth := map[string]string{} // key to version, "" for none
	for _, l := range pages {
		held := eval[map[string]*string](l.tab, `life.stop = true; await life.ended; return life.holds`)
		for key, want := range held {
			value, version, err := db.GetVersion(t.Context(), key)
			gone := errors.Is(err, client.ErrNotFound)
			if err != nil && !gone || gone != (want == nil) || want != nil && string(value) != *want {
				t.Errorf("%s holds %q, %v; the page was told %v", key, value, err, want)
			}
			if truth[key] = ""; !gone {
				truth[key] = version.String()
			}
		}
	}
	script := `const truth = ` + jsObject(truth) + `;
		return Object.entries(truth).filter(([key, version]) => {
			const c = life.newest[key];
			return version === "" ? c?.type !== "delete" && c !== undefined : c?.type !== "put" || String(c.version) !== version;
		}).map(([key]) => key)`
	for _, l := range pages {
		var behind []string
		l.s.eventually("the watch of page "+l.name+" to come to the end", func() bool {
			behind = eval[[]string](l.tab, script)
			return len(behind) == 0
		})
		if failures := eval[[]string](l.tab, `return life.failures`); len(failures) > 0 {
			t.Errorf("page %s:\n%s", l.name, strings.Join(failures, "\n"))
		}
		t.Logf("page %s: %s", l.name, eval[string](l.tab, `return life.rounds + " rounds, " + life.told + " changes, " + life.unknown + " writes whose outcome it had to look up"`))
	}
}

// jsObject is a map as JavaScript has it.
func jsObject(m map[string]string) string {
	var b strings.Builder
	b.WriteString("{")
	for key, value := range m {
		b.WriteString(strconv.Quote(key) + ":" + strconv.Quote(value) + ",")
	}
	return b.String() + "}"
}

// TestTwoTabsWatchEachOther while a node joins: each reads and writes, and sees all that the
// other does.
func TestTwoTabsWatchEachOther(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	b, native := s.browser(), s.client()
	fill(t, native)
	one, two := b.open("/test.html").live("one"), b.open("/test.html").live("two")
	one.more(20)
	two.more(20)
	third, err := s.cluster.AddNode(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []living{one, two} {
		s.eventually("the third node to own its part, as page "+l.name+" sees it", func() bool {
			return eval[bool](l.tab, `return db.topology.held.length === 0 && db.topology.nodes.some((n) => n.address === "`+third.Address()+`" && n.share > 0.02)`)
		})
		l.more(20)
	}
	verdicts(t, native, one, two)
	if n := eval[int](one.tab, `return life.unknown`) + eval[int](two.tab, `return life.unknown`); n > 0 {
		t.Errorf("%d writes ended with nobody knowing, and nothing was broken", n)
	}
}
