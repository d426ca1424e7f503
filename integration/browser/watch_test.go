package browser

import (
	"reflect"
	"testing"
)

// TestAPageWatches what is there, and then every change, of others and its own; what it
// leaves ends.
func TestAPageWatches(t *testing.T) {
	t.Parallel()
	s := start(t, 3)
	tab, native := s.browser().open("/test.html"), s.client()
	put := func(key, value string) {
		t.Helper()
		if err := native.Put(t.Context(), key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	put("cart:1", "one")
	put("cart:2", "two")
	put("other", "x")
	got := eval[list](tab, `
		window.told = [];
		window.watching = (async () => {
			for await (const c of db.watch("cart:", { state: true, as: "text" })) {
				told.push(c.type === "put" || c.type === "delete" ? [c.type, c.key, c.value ?? null] : [c.type]);
				if (c.key === "cart:end") return "left";
			}
		})();
		while (!told.some(([type]) => type === "synced")) await new Promise((r) => setTimeout(r, 5));
		return told.sort()`)
	if want := (list{list{"put", "cart:1", "one"}, list{"put", "cart:2", "two"}, list{"synced"}}); !reflect.DeepEqual(got, want) {
		t.Errorf("what is there: %v", got)
	}
	eval[any](tab, `told.length = 0`)
	put("cart:1", "uno")
	if _, err := native.Delete(t.Context(), "cart:1"); err != nil {
		t.Fatal(err)
	}
	put("other", "y")
	put("cart:1", "eins")
	eval[any](tab, `while (told.length < 3) await new Promise((r) => setTimeout(r, 5))`)
	got = eval[list](tab, `await db.put("cart:end", "", { ttl: 60_000 }); return [await watching, told]`)
	want := list{"left", list{list{"put", "cart:1", "uno"}, list{"delete", "cart:1", nil}, list{"put", "cart:1", "eins"}, list{"put", "cart:end", ""}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("what changed: %v, want %v", got, want)
	}
	conversation{
		{`const { value: c } = await db.watchKey("cart:end", { state: true }).next(); return [c.type, c.expiresAt > Date.now(), typeof c.version]`, list{"put", true, "bigint"}},
		{`const c = new AbortController(), w = db.watch("", { signal: c.signal }); setTimeout(() => c.abort(), 50);
			try { for (;;) await w.next() } catch (e) { return [e.code, (await w.next()).done] }`, list{"ABORTED", true}},
		{`const w = db.watch("cart:"); await w.next(); return [(await w.return()).done, (await w.next()).done]`, list{true, true}},
	}.hold(t, tab)
	// All but that on one key, which nobody has ended.
	s.eventually("the watches to end at the gateway", func() bool { return s.metric("quoit_gateway_watching") == "1" })
	eval[any](tab, `await db.close()`)
	s.noSockets()
}

// TestTheGatewayRestarts: pages are told, connect again by themselves, and a watch goes
// on where it was.
func TestTheGatewayRestarts(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	tab, native := s.browser().open("/test.html"), s.client()
	tab.allow("WebSocket connection to")
	eval[any](tab, `
		window.events = [];
		for (const type of ["disconnect", "reconnect", "error"]) db.addEventListener(type, (e) => events.push({ type, ...e.detail }));
		await db.mput({ "w:1": "a", "x": "y" });
		window.told = [];
		window.watching = (async () => { for await (const c of db.watch("w:", { state: true, as: "text" })) told.push(c.value ?? c.type) })();
		watching.catch(() => {});
		while (!told.includes("synced")) await new Promise((r) => setTimeout(r, 5))`)
	s.stopGateway(s.gateway)
	if err := native.Put(t.Context(), "w:1", []byte("while it was away")); err != nil {
		t.Fatal(err)
	}
	s.eventually("the page to know", func() bool {
		return eval[bool](tab, `return !db.connected && events.some((e) => e.type === "disconnect" && e.node === null)`)
	})
	s.startGateway()
	s.eventually("the page to connect again", func() bool {
		return eval[bool](tab, `return db.connected && events.some((e) => e.type === "reconnect" && e.node === null && e.milliseconds > 0)`)
	})
	s.eventually("the watch to go on", func() bool { return eval[bool](tab, `return told.includes("while it was away")`) })
	conversation{
		{`await db.put("w:1", "and now"); while (!told.includes("and now")) await new Promise((r) => setTimeout(r, 5)); return await db.get("x", { as: "text" })`, "y"},
		{`return [told.filter((v) => v === "and now").length, told.filter((v) => v === "while it was away").length, events.filter((e) => e.type === "error").length]`, list{1.0, 1.0, 0.0}},
		{`const e = events.find((e) => e.type === "disconnect" && e.node === null); return [e.code, e.via]`, list{4000.0, "gateway"}},
	}.hold(t, tab)
}
