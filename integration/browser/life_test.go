package browser

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// noSockets waits until no page has one.
func (s *stage) noSockets() {
	s.t.Helper()
	s.eventually("the pages' sockets to go", func() bool {
		return s.metric(`quoit_gateway_clients{door="node"}`) == "0" && s.metric(`quoit_gateway_clients{door="cluster"}`) == "0"
	})
}

// TestNothingIsLeftBehind by databases that were closed, tabs that were left, and calls
// that were made.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	s := start(t, 3)
	tab := s.browser().open("/test.html")
	left := eval[list](tab, `
		for (let i = 0; i < 5; i++) {
			const own = await quoit.connect();
			await Promise.all(Array.from({ length: 30 }, (_, j) => own.put("k" + j, "v")));
			const walk = own.scan({ prefix: "k" }), watch = own.watch("k", { state: true });
			await walk.next();
			await watch.next();
			await own.close();
			if (own.stats().sockets !== 0) return ["sockets", own.stats()];
		}
		const stats = db.stats();
		await db.close();
		return [stats.pending, stats.sockets]`)
	if !reflect.DeepEqual(left, list{0.0, 0.0}) {
		t.Errorf("pending and sockets: %v", left)
	}
	s.noSockets()
	again := s.browser().open("/test.html")
	eval[any](again, `await db.put("k", "v")`)
	again.do(chromedp.Navigate(s.url("/test.svg")))
	s.noSockets()
	_, _ = tryEval[any](again, `history.back()`) // whose answer the navigation may overtake
	s.eventually("the page that was brought back to work", func() bool {
		got, err := tryEval[string](again, `if (!document.querySelector("p")) return "not back"; return window.db ? await db.get("k", { as: "text" }) : "loaded anew"`)
		return err == nil && (got == "v" || got == "loaded anew")
	})
}

// TestARouteIsTold for each request while somebody listens: who answered, how long that
// took, and by how many detours.
func TestARouteIsTold(t *testing.T) {
	t.Parallel()
	s := start(t, 3)
	tab := s.browser().open("/test.html")
	conversation{
		{
			`window.routes = []; window.listen = (e) => routes.push(e.detail);
			await db.put("a", "1"); db.addEventListener("route", listen); await db.put("a", "2"); await db.get("a"); await db.get("nothing");
			try { await db.compareAndPut("a", "3", 1n) } catch {}
			await db.mget(["a", "b"]);
			await new Promise((r) => setTimeout(r));
			return routes.map((r) => [r.op, r.key, r.node === db.ownerOf(r.key).owner, r.position === db.ownerOf(r.key).position, r.via, r.microseconds > 0, r.redirects, r.error?.code ?? null])`,
			list{
				list{"PUT", "a", true, true, "gateway", true, 0.0, nil},
				list{"GET", "a", true, true, "gateway", true, 0.0, nil},
				list{"GET", "nothing", true, true, "gateway", true, 0.0, nil},
				list{"PUT", "a", true, true, "gateway", true, 0.0, "VERSION_CONFLICT"},
				list{"GET", "a", true, true, "gateway", true, 0.0, nil},
				list{"GET", "b", true, true, "gateway", true, 0.0, nil},
			},
		},
		{`routes.length = 0; db.removeEventListener("route", listen); await db.get("a"); await db.get("a"); await new Promise((r) => setTimeout(r)); return routes.length`, 0.0},
	}.hold(t, tab)
}

// TestATopologyIsPushed to pages when a node joins: the page hears of it, and reads and
// writes on, and finds everything.
func TestATopologyIsPushed(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	tab := s.browser().open("/test.html")
	eval[any](tab, `
		window.epochs = [];
		db.addEventListener("topology", (e) => { if (e.detail === db.topology) epochs.push(e.detail.epoch) });
		await db.mput(Object.fromEntries(Array.from({ length: 300 }, (_, i) => ["k" + i, String(i)])));
		window.stop = false;
		window.failures = [];
		window.load = (async () => {
			let n = 0;
			for (; !stop; n++) {
				const i = n % 300;
				try {
					if (await db.get("k" + i, { as: "text", timeout: 60_000 }) !== String(i)) failures.push("wrong " + i);
					await db.put("k" + i, String(i), { timeout: 60_000 });
				} catch (e) { failures.push(e.code + " " + e.message) }
			}
			return n;
		})()`)
	third, err := s.cluster.AddNode(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.eventually("the third node to own its part, as the page sees it", func() bool {
		return eval[bool](tab, `return db.topology.held.length === 0 && db.topology.nodes.some((n) => n.address === "`+third.Address()+`" && n.share > 0.02)`)
	})
	rounds := eval[int](tab, `stop = true; return await load`)
	if failures := eval[[]string](tab, `return failures`); len(failures) > 0 || rounds == 0 {
		t.Errorf("%d rounds, failures: %s", rounds, strings.Join(failures, "\n"))
	}
	conversation{
		{`return epochs.length > 0 && epochs.every((e, i) => i === 0 || e >= epochs[i - 1])`, true},
		{`const values = await db.mget(Array.from({ length: 300 }, (_, i) => "k" + i), { as: "text" }); return values.filter((v, i) => v !== String(i)).length`, 0.0},
		{`const t = db.topology; let at = 0; return [t.arcs.reduce((n, a) => n + ((a.end - a.start + 2 ** 32) % 2 ** 32 || 2 ** 32), 0) === 2 ** 32,
			t.arcs.every((a) => t.nodes.some((n) => n.address === a.owner))]`, list{true, true}},
	}.hold(t, tab)
}

// TestAScreenshotIsKept where those who look at them are told to.
func TestAScreenshotIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kept")
	t.Setenv("QUOIT_TEST_ARTIFACTS", dir)
	start(t, 1).browser().blank("/test.html").screenshot("page")
	if png, err := os.ReadFile(filepath.Join(dir, "page.png")); err != nil || !bytes.HasPrefix(png, []byte("\x89PNG")) {
		t.Errorf("%v, %d bytes", err, len(png))
	}
}
