package browser

import "testing"

// TestWhatTheConsoleWrites: numbers, times, keys and values as people read them.
func TestWhatTheConsoleWrites(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	tab := s.browser().blank("/test.html")
	eval[any](tab, `window.f = await import("/console/format.js"); window.ring = await import("/console/ring.js"); window.nodes = await import("/console/nodes.js");
		window.shown = (data) => f.parts(typeof data === "string" ? f.toBytes(data) : Uint8Array.from(data)).map((p) => p.escape ? "<" + p.text + ">" : p.text).join("");
		window.wrong = (do_) => { try { do_(); return "no error"; } catch (e) { return e.message; } }`)
	conversation{
		{`return [0, 999, 1000, 1234, 99_950, 123_456, 5e9].map(f.bytes)`, list{"0 B", "999 B", "1 kB", "1.2 kB", "100 kB", "123 kB", "5 GB"}},
		{`return [0.2, 3.24, 12, 999, 1500, 60_000, 100_000, 7_199_999, 1e9].map(f.span)`, list{"200 µs", "3.2 ms", "12 ms", "999 ms", "2 s", "60 s", "2 min", "2 h", "12 days"}},
		{`return [f.percent(0.2573), f.plural(1, "key"), f.plural(1234, "key"), f.position(0xff)]`, list{"25.7 %", "1 key", "1,234 keys", "0x000000ff"}},
		{`return [f.hex(Uint8Array.from([0, 255, 16])), f.hex(new Uint8Array(17)).split("\n").length, f.unhex("00 fF\n10")]`, list{"00 ff 10", 2.0, list{0.0, 255.0, 16.0}}},
		{`return [wrong(() => f.unhex("0")), wrong(() => f.unhex("0x"))]`, list{"a byte has two hexadecimal digits, and the last one has one", `"x" is no hexadecimal digit`}},
		// What a text field gives back unchanged is shown as text.
		{`return ["a\tb\nc", "größe ☃ \ufeff", "a\rb", "a\x00", "\x7f"].map((t) => f.asText(f.toBytes(t)) === t)`, list{true, true, false, false, false}},
		{`return f.asText(Uint8Array.from([255]))`, nil},
		{
			`return [shown("größe ☃"), shown("a\nb\tc"), shown([0, 255, 65]), shown("abc\u202edef"), shown("\u2028"), shown("")]`,
			list{"größe ☃", `a<\n>b<\t>c`, `<\x00\xff>A`, `abc<\u{202e}>def`, `<\u{2028}>`, ""},
		},
		{`return f.line(f.toBytes("x".repeat(300)), 10)`, "xxxxxxxxxx…"},
		// Arcs of the ring: one that goes past the top, one of more than half, all of it.
		{
			`return [ring.pathOf([{ start: 0, end: 2 ** 30 }], 100), ring.pathOf([{ start: 3 * 2 ** 30, end: 2 ** 30 }], 100), ring.pathOf([{ start: 0, end: 0 }], 100)]`,
			list{"M0.00 -100.00A100 100 0 0 1 100.00 -0.00", "M-100.00 0.00A100 100 0 0 1 100.00 -0.00", "M0.00 -100.00A100 100 0 0 1 0.00 100.00A100 100 0 0 1 0.00 -100.00"},
		},
		{
			`return [{}, { up: false, silent_ms: -1 }, { up: false, silent_ms: 12_000 }, { up: true, state: "known" }, { up: true, state: "leaving", serving: true },
				{ up: true, state: "active", serving: false, condition: "reading the log" }, { up: true, state: "active", serving: true, share: 0, goal_share: 0.3 },
				{ up: true, state: "active", serving: true, condition: "disk full", share: 0.3 }, { up: true, state: "active", serving: true, condition: "serving", share: 0.3, goal_share: 0.3 },
			].map((n) => nodes.stateOf(n).word)`,
			list{"in the ring", "never heard of", "silent for 12 s", "waiting to join", "leaving", "reading the log", "joining", "disk full", "serving"},
		},
	}.hold(t, tab)
}

// TestNodesKeepTheirColours over reloads and while others come and go.
func TestNodesKeepTheirColours(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	tab := s.browser().blank("/test.html")
	again := `const p = await import("/console/palette.js?" + crypto.randomUUID());` // as after a reload
	conversation{
		{again + `p.assign("c", ["h:10", "h:9"]); return ["h:9", "h:10", "h:11"].map((a) => p.numberOf(a) + p.colour(a))`, list{"1n0", "2n1", "?n-none"}},
		{again + `p.assign("c", ["h:1", "h:10", "h:9"]); return ["h:9", "h:10", "h:1"].map(p.numberOf)`, list{"1", "2", "3"}},
		{again + `p.assign("c", ["h:1", "h:5", "h:9"]); return ["h:9", "h:5", "h:1"].map(p.numberOf)`, list{"1", "2", "3"}}, // h:10 has left
		{again + `p.assign("other", ["h:1", "h:5"]); return ["h:1", "h:5", "h:9"].map(p.numberOf)`, list{"1", "2", "?"}},
		{`localStorage.setItem("quoit.nodes.c", "nonsense"); ` + again + `p.assign("c", ["h:5"]); return p.numberOf("h:5")`, "1"},
		{again + `p.assign("many", Array.from({ length: 23 }, (_, i) => "h:" + i)); return ["h:9", "h:10", "h:22"].map((a) => p.numberOf(a) + p.colour(a))`, list{"10n9", "11n0", "23n2"}},
	}.hold(t, tab)
}

// TestASaveThatComesLate: another key was chosen meanwhile. That one stays, with its own
// value, and a failure says which key it is about.
func TestASaveThatComesLate(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	tab := s.browser().blank("/test.html")
	eval[any](tab, `window.f = await import("/console/format.js"); const { newEditor } = await import("/console/editor.js");
		window.into = document.body.appendChild(document.createElement("div"));
		window.editor = newEditor(into, { wrote() {}, deleted() {}, shown() {} });
		editor.use({
			ownerOf: () => ({ position: 0, owner: "h:1" }), ttl: async () => null, getVersion: async (key) => ({ value: key, version: 5n }),
			compareAndPut: () => new Promise((resolve, reject) => { window.answer = { resolve, reject }; }),
		});
		window.late = async (end) => {
			await editor.open(f.toBytes("a"));
			into.querySelector("form").requestSubmit();
			await editor.open(f.toBytes("b"));
			end(answer);
			await new Promise((resolve) => { setTimeout(resolve, 10); }); // all that follows from it
			return [into.querySelector("h3").textContent, into.querySelector("textarea").value, into.querySelector(".message").textContent];
		}`)
	conversation{
		{`return await late(({ resolve }) => resolve(6n))`, list{"b", "b", ""}},
		{`return await late(({ reject }) => reject(new Error("nobody answers")))`, list{"b", "b", "a was not saved, or nobody knows: nobody answers"}},
	}.hold(t, tab)
}
