package browser

import (
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quoitdb/quoit/web"
)

// caught is a function for pages: what an error is.
const caught = `
	window.caught = async (promise) => {
		try { await promise; return "no error" } catch (e) {
			const c = e.cause, of = e instanceof quoit.QuoitError && e.constructor.name;
			return [of, e.code, e.name, c instanceof quoit.QuoitError ? c.code : c?.name ?? c ?? null];
		}
	};
	return true`

// TestWhatAnErrorIs: each has its class and its code, and says more where there is more
// to say.
func TestWhatAnErrorIs(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	tab := s.browser().open("/test.html")
	eval[bool](tab, caught)
	conversation{
		{`return await caught(db.put("x", "1", { ifPresent: true }))`, list{"NotFoundError", "NOT_FOUND", "NotFoundError", nil}},
		{`return await caught(db.ttl("x"))`, list{"NotFoundError", "NOT_FOUND", "NotFoundError", nil}},
		{`return await caught(db.expire("x", 5))`, list{"NotFoundError", "NOT_FOUND", "NotFoundError", nil}},
		{`await db.put("x", "word"); return await caught(db.put("x", "1", { ifAbsent: true }))`, list{"ExistsError", "EXISTS", "ExistsError", nil}},
		{`return await caught(db.compareAndPut("x", "1", 5n))`, list{"VersionConflictError", "VERSION_CONFLICT", "VersionConflictError", nil}},
		{`const { version } = await db.getVersion("x"); try { await db.compareAndPut("x", "1", 0n) } catch (e) { return e.current === version }`, true},
		{`try { await db.compareAndPut("nothing", "1", 7n) } catch (e) { return [e.current === 0n, e.message.length > 10] }`, list{true, true}},
		{
			`try { await db.increment("x") } catch (e) { return [e instanceof quoit.ServerError, e.code, typeof e.serverCode, e.node === db.ownerOf("x").owner] }`,
			list{true, "SERVER", "string", true},
		},
		{
			`await db.put("big", "9007199254740991"); try { await db.increment("big") } catch (e) { return [e.constructor.name, e.code, e.exact === 9007199254740992n] }`,
			list{"UnsafeIntegerError", "UNSAFE_INTEGER", true},
		},
		{`return await db.get("big", { as: "text" })`, "9007199254740992"},
		{`return await caught(db.info("10.0.0.1:9"))`, list{"ArgumentError", "ARGUMENT", "ArgumentError", nil}},
	}.hold(t, tab)
	for _, call := range []string{
		`db.get()`, `db.get(7)`, `db.get(null)`, `db.get("\ud800")`, `db.put("k")`, `db.put("k", 7)`, `db.put("k", {})`, `db.put("k", "\udfff")`,
		`db.put("k", "v", { ttl: 0 })`, `db.put("k", "v", { ttl: "5" })`, `db.put("k", "v", { ttl: 1, keepTTL: true })`, `db.put("k", "v", { ttl: NaN })`,
		`db.put("k", "v", { expireAt: new Date("nonsense") })`, `db.put("k", "v", { ifAbsent: true, ifPresent: true })`, `db.put("k", "v", null)`,
		`db.compareAndPut("k", "v", 5)`, `db.compareAndPut("k", "v", "0x5")`, `db.compareAndPut("k", "v", -1n)`, `db.compareAndPut("k", "v", 1n, { ifAbsent: true })`,
		`db.increment("k", 1.5)`, `db.increment("k", 2 ** 53)`, `db.increment("k", 2n ** 63n)`, `db.increment("k", "1")`,
		`db.mget("abc")`, `db.mget([1])`, `db.mput(null)`, `db.mput([["k"]])`, `db.delete(5)`, `db.get("k", { as: "json" })`, `db.get("k", { timeout: -1 })`,
		`db.get("k", { timeout: "soon" })`, `db.get("k", { signal: {} })`, `db.get("k", 5)`, `db.expire("k", -5)`,
		`db.scan({ start: -1 }).next()`, `db.scan({ prefix: 5 }).next()`, `db.scan(null).next()`, `db.watch(5).next()`,
		`quoit.connect([])`, `quoit.connect("ftp://x/")`, `quoit.connect("http://")`, `quoit.connect({ prefer: "luck" })`, `quoit.connect({ connections: 0 })`, `quoit.connect(undefined, 7)`,
	} {
		if got := eval[any](tab, `const promise = `+call+`; if (!(promise instanceof Promise)) return "no promise"; return (await caught(promise))[1]`); got != "ARGUMENT" {
			t.Errorf("%s: %v", call, got)
		}
	}
	if n := eval[float64](tab, `return db.stats().pending`); n != 0 {
		t.Errorf("%v calls are left behind", n)
	}
}

// TestWaitsThatEnd by a signal, by time, by close and by a connection that breaks: who
// has asked for something to be changed learns that it may have been.
func TestWaitsThatEnd(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	tab := s.browser().open("/test.html")
	eval[bool](tab, caught)
	node := eval[string](tab, `await db.mput(Object.fromEntries(Array.from({ length: 40 }, (_, i) => ["k" + i, "v"]))); return db.ownerOf("k0").owner`)
	release := s.faults.hold(node)
	conversation{
		{`return await caught(db.get("k0", { timeout: 50 }))`, list{"TimeoutError", "TIMEOUT", "TimeoutError", nil}},
		{`return await caught(db.put("k0", "w", { timeout: 2_000 }))`, list{"OutcomeUnknownError", "OUTCOME_UNKNOWN", "OutcomeUnknownError", "TIMEOUT"}},
		{`const c = new AbortController(), p = caught(db.get("k0", { signal: c.signal })); c.abort("enough"); return await p`, list{"AbortedError", "ABORTED", "AbortError", "enough"}},
		{`return await caught(db.get("k0", { signal: AbortSignal.abort() }))`, list{"AbortedError", "ABORTED", "AbortError", "AbortError"}},
		{`return await caught(db.get("k0", { signal: AbortSignal.timeout(50) }))`, list{"AbortedError", "ABORTED", "AbortError", "TimeoutError"}},
		{`const c = new AbortController(), p = caught(db.increment("i0", 1, { signal: c.signal, timeout: 60_000 })); p.then(() => {});
			const mine = db.ownerOf("i0").owner; c.abort(); return (await p).length`, 4.0},
		{`const keys = Array.from({ length: 40 }, (_, i) => "k" + i);
			try { await db.mget(keys, { as: "text", timeout: 10_000 }) } catch (e) {
				const held = keys.filter((k) => db.ownerOf(k).owner === db.ownerOf("k0").owner);
				const failed = e.outcomes.filter((o) => o.error);
				return [e.constructor.name, e.code, failed.length === held.length, failed.every((o) => o.error.code === "TIMEOUT" && held.includes(o.error.key)),
					e.outcomes.filter((o) => o.value === "v").length === 40 - held.length];
			}`, list{"PartialError", "PARTIAL", true, true, true}},
		{`try { await db.mput({ k0: "a", k1: "b" }, { timeout: 2_000 }) } catch (e) { return [e.code, e.outcomes[0].error.code] }`, list{"PARTIAL", "OUTCOME_UNKNOWN"}},
		{`try { await db.delete("k0", { timeout: 2_000 }) } catch (e) { return [e.code, e.key] }`, list{"OUTCOME_UNKNOWN", "k0"}},
		{`const c = new AbortController(); setTimeout(() => c.abort(), 50);
			try { for await (const e of db.scan({ prefix: "k", signal: c.signal })); } catch (e) { return e.code }`, "ABORTED"},
		{`try { for await (const e of db.scan({ prefix: "k", timeout: 50 })); } catch (e) { return e.code }`, "TIMEOUT"},
	}.hold(t, tab)

	// A connection that breaks. The key was deleted above, and whether the node has come
	// to the write nobody knows.
	sent := func() string { return s.metric(`quoit_gateway_commands_total{command="PUT"}`) }
	before := sent()
	eval[any](tab, `window.broken = caught(db.put("k0", "w")); window.read = db.get("k0", { as: "text" })`)
	s.eventually("the write to be sent", func() bool { return sent() != before })
	s.faults.cut(node)
	release()
	conversation{
		{`return await broken`, list{"OutcomeUnknownError", "OUTCOME_UNKNOWN", "OutcomeUnknownError", "UNAVAILABLE"}},
		{`return ["w", null].includes(await read)`, true},
	}.hold(t, tab)

	// Close, when all of them have been sent.
	eval[any](tab, `window.own = await quoit.connect(); await own.get("k0")`)
	release = s.faults.hold(node)
	defer release()
	before = sent()
	eval[any](tab, `window.get = caught(own.get("k0")); window.walk = caught((async () => { for await (const e of own.scan({ prefix: "k" })); })());
		window.put = caught(own.put("k0", "w"))`)
	s.eventually("the write to be sent", func() bool { return sent() != before })
	conversation{
		{
			`await own.close(); await own.close();
			return [(await get)[1], (await put)[1], (await walk)[1], (await caught(own.get("k0")))[1], (await caught(own.scan().next()))[1], own.stats().sockets, own.connected]`,
			list{"CLOSED", "OUTCOME_UNKNOWN", "CLOSED", "CLOSED", "CLOSED", 0.0, false},
		},
	}.hold(t, tab)
}

// TestAnswersThatAreNone are an error of their own.
func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	tab := s.browser().open("/test.html")
	eval[bool](tab, caught)
	eval[any](tab, `await db.get("k")`)
	s.faults.lie([]byte(":5\r\n"))
	defer s.faults.lie(nil)
	if got := eval[list](tab, `return await caught(db.get("k"))`); got[0] != "ProtocolError" || got[1] != "PROTOCOL" {
		t.Errorf("an answer of another kind: %v", got)
	}
}

// TestNobodyThere: a page tries for as long as it was told to.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	tab := s.browser().open("/test.html")
	tab.allow("WebSocket connection to")
	eval[bool](tab, caught)
	eval[any](tab, `await db.put("k", "v")`)
	s.stopGateway(s.gateway)
	conversation{
		{`return await caught(db.get("k", { timeout: 300 }))`, list{"TimeoutError", "TIMEOUT", "TimeoutError", nil}},
		{`return await caught(db.put("k", "v", { timeout: 300 }))`, list{"TimeoutError", "TIMEOUT", "TimeoutError", nil}},
		{`return (await caught(db.get("k")))[1]`, "UNAVAILABLE"},
		{`return await caught(quoit.connect({ timeout: 300 }))`, list{"TimeoutError", "TIMEOUT", "TimeoutError", nil}},
		{`return (await caught(quoit.connect({ signal: AbortSignal.timeout(300) })))[1]`, "ABORTED"},
	}.hold(t, tab)
	s.startGateway()
	if got := eval[string](tab, `return await db.get("k", { as: "text" })`); got != "v" {
		t.Errorf("after the gateway's restart: %q", got)
	}
}

// TestAClientThatCannotBeLoaded says which file is missing, and can be loaded later.
func TestAClientThatCannotBeLoaded(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	tab := s.browser().blank("/test.html")
	tab.allow("404")
	tab.allow("MIME type")
	eval[bool](tab, `window.quoit = await import("/quoit.js");`+caught)
	conversation{
		{`return (await caught(quoit.connect(undefined, { assets: "/nowhere/" }))).slice(0, 2)`, list{"LoadError", "LOAD"}},
		{`const db = await quoit.connect(); const value = await db.get("nothing"); await db.close(); return value`, nil},
	}.hold(t, tab)
}

// unbuilt is a site whose client is being built.
type unbuilt struct {
	fs.FS
	ready atomic.Bool
	asked atomic.Int64 // in vain
}

func (u *unbuilt) Open(name string) (fs.File, error) {
	if !u.ready.Load() && (strings.HasPrefix(name, "quoit.wasm") || name == "wasm_exec.js") {
		u.asked.Add(1)
		return nil, &fs.PathError{Op: "open", Path: name, Err: &web.UnavailableError{Reason: "being built", Soon: true}}
	}
	return u.FS.Open(name)
}

// TestConnectWaitsForTheClientToBeBuilt, for as long as the gateway says that it is being
// built. (Of the two files only one was asked for again, and not the one that came first.)
func TestConnectWaitsForTheClientToBeBuilt(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	files := &unbuilt{FS: s.files}
	s.files = files
	s.stopGateway(s.gateway)
	s.startGateway()
	tab := s.browser().blank("/test.html")
	tab.allow("status of 503")
	eval[any](tab, `window.quoit = await import("/quoit.js");
		window.connected = quoit.connect({ timeout: 100_000 });
		connected.catch(() => {})`)
	s.eventually("the page to ask", func() bool { return files.asked.Load() > 0 })
	files.ready.Store(true)
	if got := eval[any](tab, `const db = await connected; await db.put("k", "v"); return await db.get("k", { as: "text" })`); got != "v" {
		t.Errorf("the page reads %v", got)
	}
}

// TestAClientThatEnds, as it would after a fault that nobody caught: whoever waits is
// told, and the next connect starts another.
func TestAClientThatEnds(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	tab := s.browser().blank("/test.html")
	tab.allow("Go program has already exited") // its timers, and the events of its sockets
	eval[bool](tab, `window.quoit = await import("/quoit.js");
		await import("/wasm_exec.js");
		const run = Go.prototype.run;
		Go.prototype.run = function (instance) { window.go = this; return run.call(this, instance); };
		window.db = await quoit.connect();`+caught)
	node := eval[string](tab, `await db.put("k", "v"); return db.ownerOf("k").owner`)
	release := s.faults.hold(node)
	defer release()
	conversation{
		{
			`window.events = []; db.addEventListener("error", (e) => events.push(e.detail.code));
			const waiting = caught(db.get("k"));
			go.exited = true; go._resolveExitPromise();
			return [(await waiting).slice(0, 2), events, (await caught(db.get("k")))[1], db.connected]`,
			list{list{"CrashedError", "CRASHED"}, list{"CRASHED"}, "CLOSED", false},
		},
	}.hold(t, tab)
	release()
	if got := eval[string](tab, `window.db = await quoit.connect(); return await db.get("k", { as: "text" })`); got != "v" {
		t.Errorf("the next one reads %q", got)
	}
}
