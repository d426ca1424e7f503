package browser

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"github.com/quoitdb/quoit/client"
)

// measured switches TestMeasure on: `task bench:browser`.
var measured = flag.Bool("measure", false, "print figures of a page in Chromium; asserts nothing")

// TestMeasure prints what docs/performance.md has of pages. Nothing is asserted: it is a
// program that needs this package's harness.
func TestMeasure(t *testing.T) {
	if !*measured {
		t.Skip("figures: go test -run TestMeasure ./integration/browser -measure")
	}
	t.Run("load", measureLoad)
	t.Run("through the gateway", func(t *testing.T) { measureCalls(t, start(t, 3)) })
	t.Run("straight to nodes", func(t *testing.T) { measureCalls(t, startDirect(t, 3)) })
	t.Run("watchers", measureWatchers)
}

// measureWatchers has a tab watch beside 999 programs. A change's value is when it was
// written, on the clock that the tab has too.
func measureWatchers(t *testing.T) {
	const others, changes = 999, 500
	s := start(t, 3)
	tab, native := s.browser().open("/test.html"), s.client()
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	synced := make(chan struct{}, others)
	for range others {
		watching.Go(func() {
			for change, err := range native.Watch(ctx, "m:", client.WatchOptions{}) {
				if err == nil && change.Kind == client.ChangeSynced {
					synced <- struct{}{}
				}
			}
		})
	}
	defer watching.Wait()
	defer cancel()
	for range others {
		<-synced
	}
	eval[any](tab, `window.late = []; window.watching = (async () => {
			for await (const c of db.watch("m:", { as: "text" })) {
				if (c.type === "synced") window.ready = true;
				else if (c.value === "end") return;
				else late.push(performance.timeOrigin + performance.now() - Number(c.value));
			}
		})();
		while (!window.ready) await new Promise((r) => setTimeout(r, 5))`)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := range changes {
		<-tick.C
		now := strconv.FormatFloat(float64(time.Now().UnixMicro())/1000, 'f', 3, 64)
		if err := native.Put(ctx, "m:"+strconv.Itoa(i), []byte(now)); err != nil {
			t.Fatal(err)
		}
	}
	s.eventually("the tab to hear of all", func() bool { return eval[int](tab, `return late.length`) == changes })
	late := eval[[]float64](tab, `return late.sort((a, b) => a - b)`)
	if err := native.Put(ctx, "m:end", []byte("end")); err != nil {
		t.Fatal(err)
	}
	eval[any](tab, `await watching`)
	t.Logf("%d watchers of one prefix, %d changes at 50 a second, from the write to the tab: p50 %.1f ms, p99 %.1f ms, most %.1f ms",
		others+1, changes, late[changes/2], late[changes*99/100], late[changes-1])
}

// measureLoad has empty caches each time, and the compiler's too: a browser of its own.
func measureLoad(t *testing.T) {
	s := start(t, 3)
	s.ownBrowser().open("/test.html") // so that quoit.wasm is built
	var all []float64
	for range 5 {
		tab := s.ownBrowser().blank("/test.html")
		all = append(all, eval[float64](tab, `
			const began = performance.now(), { connect } = await import("/quoit.js"), db = await connect();
			await db.get("k");
			return performance.now() - began`))
	}
	slices.Sort(all)
	bytes := eval[float64](s.ownBrowser().open("/test.html"), `return performance.getEntriesByName(new URL("/quoit.wasm", location.href).href)[0].encodedBodySize`)
	t.Logf("first load to the first answered get: median %.0f ms, of %.0f to %.0f; quoit.wasm was %.0f bytes on the wire", all[2], all[0], all[4], bytes)
}

// latencies is a function for pages: percentiles of n calls one after the other, in
// microseconds.
const latencies = `
	window.latencies = async (n, call) => {
		for (let i = 0; i < 200; i++) await call(i);
		const all = new Float64Array(n);
		for (let i = 0; i < n; i++) { const began = performance.now(); await call(i); all[i] = 1000 * (performance.now() - began); }
		all.sort();
		return [all[n >> 1], all[Math.floor(n * 0.99)]];
	};
	return true`

func measureCalls(t *testing.T, s *stage) {
	tab := s.browser().blank("/test.svg")
	ctx := tab.ctx
	if _, err := chromedp.Call(ctx, page.SetBypassCSP, page.SetBypassCSPParams{Enabled: true}); err != nil {
		t.Fatal(err) // the echo server is another origin
	}
	tab.do(chromedp.Navigate(s.url("/test.html")))
	eval[bool](tab, `window.quoit = await import("/quoit.js"); window.db = await quoit.connect();`+latencies)
	eval[any](tab, `window.keys = Array.from({ length: 1000 }, (_, i) => "key:" + i); await db.mput(keys.map((k) => [k, "v".repeat(100)]))`)
	echo := eval[[]float64](tab, fmt.Sprintf(`
		const ws = new WebSocket(%q), message = new Uint8Array(140);
		ws.binaryType = "arraybuffer";
		await new Promise((r) => { ws.onopen = r });
		const result = await latencies(3000, () => new Promise((r) => { ws.onmessage = r; ws.send(message) }));
		ws.close();
		return result`, echoServer(t)))
	get := eval[[]float64](tab, `return await latencies(3000, (i) => db.get(keys[i % 1000]))`)
	put := eval[[]float64](tab, `return await latencies(3000, (i) => db.put(keys[i % 1000], "w".repeat(100)))`)
	piped := eval[[]float64](tab, `
		const rate = async (n, width) => {
			let next = 0;
			const began = performance.now();
			await Promise.all(Array.from({ length: width }, async () => { while (next < n) await db.get(keys[next++ % 1000]) }));
			return 1000 * n / (performance.now() - began);
		};
		await rate(10_000, 256);
		const result = [await rate(40_000, 64), await rate(40_000, 256), await rate(40_000, 1024)];
		const began = performance.now();
		for (let i = 0; i < 40; i++) await db.mget(keys);
		return [...result, 1000 * 40_000 / (performance.now() - began)]`)
	t.Logf("one after the other, microseconds p50/p99: echo %.0f/%.0f, get %.0f/%.0f (%.2f x the echo), put without fsync %.0f/%.0f",
		echo[0], echo[1], get[0], get[1], get[0]/echo[0], put[0], put[1])
	t.Logf("gets a second: 64 at once %.0f, 256 at once %.0f, 1024 at once %.0f; mget of 1000 keys %.0f", piped[0], piped[1], piped[2], piped[3])
}

// echoServer answers each message with itself: what any WebSocket costs here.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer func() { _ = ws.CloseNow() }()
		for {
			kind, message, err := ws.Read(r.Context())
			if err != nil || ws.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return "ws://" + l.Addr().String() + "/"
}
