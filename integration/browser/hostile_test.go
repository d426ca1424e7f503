package browser

import (
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/manager"
)

// serveAt serves what is not the gateway's, until closed is called.
func serveAt(t testing.TB, addr string, files http.Handler) (closed func()) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: files, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	closed = func() {
		_ = server.Close()
		<-done
	}
	t.Cleanup(closed)
	return closed
}

// paused says whether the manager has been told to pause moves.
func (s *stage) paused() bool {
	s.t.Helper()
	m, err := manager.Dial(s.t.Context(), s.cluster.Manager(), patience)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	status, err := m.Status()
	if err != nil {
		s.t.Fatal(err)
	}
	return status.Paused
}

// attacks are functions for pages: what came of trying something.
const attacks = `
	window.dial = (url) => new Promise((resolve) => {
		let opened = false;
		const ws = new WebSocket(url, "quoit.v1");
		ws.onopen = () => { opened = true; ws.close() };
		ws.onclose = () => resolve(opened ? "opened" : "refused");
	});
	window.ask = async (url, options) => {
		try {
			const r = await fetch(url, options), body = await r.text();
			return r.type + " " + r.status + (body === "" ? "" : body.includes('"cluster"') ? ", readable" : ", a refusal");
		} catch (e) { return e.name }
	};
	window.post = (type, more) => ({ method: "POST", body: "{}", headers: { "Content-Type": type }, ...more });
	window.include = (tag, attribute, url) => new Promise((resolve) => {
		const element = Object.assign(document.createElement(tag), { [attribute]: url, onload: () => resolve("loaded"), onerror: () => resolve("refused") });
		document.body.append(element);
	});
	return true`

// TestAPageOfAnotherSite opens no WebSocket, reads nothing and changes nothing, by any
// of the ways that browsers leave open between sites; and the gateway's own page can do
// all of it.
func TestAPageOfAnotherSite(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	b := s.browser()
	elsewhere, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	serveAt(t, elsewhere, http.FileServerFS(testPages())) // without any policy
	own, foreign := b.open("/test.html"), b.blank("/test.html")
	for _, part := range []string{"WebSocket connection to", "CORS policy", "Failed to load resource", "MIME type", "frame-ancestors"} {
		foreign.allow(part)
	}
	foreign.do(chromedp.Navigate("http://" + elsewhere + "/test.html"))
	node := s.cluster.Addresses()[0]
	for _, tab := range []*tab{own, foreign} {
		eval[bool](tab, `window.gateway = "http://`+s.addr+`"; window.ws = "ws://`+s.addr+`"; window.node = "`+node+`";`+attacks)
	}
	conversation{
		{`return [await dial(ws + "/v1/cluster"), await dial(ws + "/v1/node/" + node)]`, list{"refused", "refused"}},
		{`return [await ask(gateway + "/v1/status"), await ask(gateway + "/v1/status", { mode: "no-cors" })]`, list{"TypeError", "TypeError"}},
		{`return [await ask(gateway + "/v1/moves/pause", post("application/json")), await ask(gateway + "/v1/moves/pause", post("text/plain"))]`, list{"TypeError", "TypeError"}},
		{`return [await ask(gateway + "/v1/moves/pause", post("application/json", { mode: "no-cors" })), await ask(gateway + "/v1/moves/pause", post("text/plain", { mode: "no-cors" }))]`, list{"TypeError", "TypeError"}},
		{`return navigator.sendBeacon(gateway + "/v1/moves/pause", new Blob(["{}"], { type: "text/plain" }))`, true},
		{`return [await include("script", "src", gateway + "/v1/status"), await ask(gateway + "/quoit.js"), await import(gateway + "/quoit.js").catch((e) => e.name)]`, list{"refused", "TypeError", "TypeError"}},
		{`const name = "target", frame = Object.assign(document.createElement("iframe"), { name }), form = Object.assign(document.createElement("form"),
				{ method: "POST", action: gateway + "/v1/moves/pause", enctype: "text/plain", target: name });
			document.body.append(frame, form);
			const answered = new Promise((r) => { frame.onload = r });
			form.submit();
			await answered;
			try { return frame.contentDocument?.body.textContent || "nothing to read" } catch (e) { return e.name }`, "nothing to read"},
	}.hold(t, foreign)
	if s.paused() {
		t.Fatal("a page of another site has paused moves")
	}
	if n := s.metric(`quoit_gateway_requests_refused_total{why="origin"}`); n == "" || n == "0" {
		t.Errorf("the gateway counts %q wrong origins", n)
	}
	conversation{
		{`return [await dial(ws + "/v1/cluster"), await dial(ws + "/v1/node/" + node)]`, list{"opened", "opened"}},
		{`return [await ask(gateway + "/v1/status"), await ask("/v1/moves/pause", post("application/json"))]`, list{"basic 200, readable", "basic 200, readable"}},
	}.hold(t, own)
	if !s.paused() {
		t.Error("the gateway's own page cannot pause moves")
	}
}

// TestANameThatIsRebound: a page of evil.example has the gateway's address and port, for
// the name leads there now. Its origin is the same as the request's, so that browsers
// let it read everything; only the name tells.
func TestANameThatIsRebound(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	b := s.ownBrowser(chromedp.Flag("host-resolver-rules", "MAP evil.example 127.0.0.1"))
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	s.stopGateway(s.gateway)
	closed := serveAt(t, s.addr, http.FileServerFS(testPages()))
	tab := b.blank("/test.svg")
	tab.allow("WebSocket connection to")
	tab.allow("status of 403")
	tab.allow("/test.svg") // its icon, which nobody serves any more
	tab.do(chromedp.Navigate("http://evil.example:" + port + "/test.html"))
	eval[bool](tab, attacks)
	closed()
	s.startGateway()
	conversation{
		{`return location.hostname`, "evil.example"},
		{
			`return [await ask("/v1/status"), await ask("/v1/moves/pause", post("application/json")), await ask("/quoit.js")]`,
			list{"basic 403, a refusal", "basic 403, a refusal", "basic 403, a refusal"},
		},
		{`const ws = "ws://" + location.host; return [await dial(ws + "/v1/cluster"), await dial(ws + "/v1/node/` + s.cluster.Addresses()[0] + `")]`, list{"refused", "refused"}},
	}.hold(t, tab)
	if s.paused() {
		t.Error("the page has paused moves")
	}
}

// TestAPageThatSpeaksForItself, over a WebSocket that it may open: what is not for
// clients is refused in its place among the replies, and where it would leave the cluster
// there is no way.
func TestAPageThatSpeaksForItself(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	tab := s.browser().open("/test.html")
	tab.allow("WebSocket connection to")
	node := s.cluster.Addresses()[0]
	eval[bool](tab, `window.node = "`+node+`"; window.ws = "ws://" + location.host;
		window.speak = (...commands) => new Promise((resolve) => {
			const socket = new WebSocket(ws + "/v1/node/" + node, "quoit.v1");
			let answer = "";
			socket.binaryType = "arraybuffer";
			socket.onopen = () => socket.send(new TextEncoder().encode(commands.map((words) => "*" + words.length + "\r\n" + words.map((w) => "$" + w.length + "\r\n" + w + "\r\n").join("")).join("")));
			socket.onmessage = (e) => { answer += new TextDecoder().decode(e.data); if (answer.endsWith("$4\r\nlast\r\n")) socket.close() };
			socket.onclose = () => resolve(answer.replace(/^(-\w+ \w+).*\r$/gm, "$1\r").split("\r\n"));
		});`+attacks)
	conversation{
		{
			`return await speak(["SET", "k", "v"], ["MIGRATE_RANGE", "0", "1", "127.0.0.1:1", "m"], ["CLUSTER", "STATUS"], ["CLUSTER", "PAUSE"],
				["GET", "k"], ["STAGE_RANGE", "m"], ["REFRESH", "9"], ["ECHO", "last"])`,
			list{"+OK", "-NOPERM MIGRATE_RANGE", "-NOPERM CLUSTER", "-NOPERM CLUSTER", "$1", "v", "-NOPERM STAGE_RANGE", "-NOPERM REFRESH", "$4", "last", ""},
		},
		{
			`return [await dial(ws + "/v1/node/` + s.cluster.Manager() + `"), await dial(ws + "/v1/node/` + s.admin + `"), await dial(ws + "/v1/node/169.254.169.254:80"), await dial(ws + "/v1/node/" + node)]`,
			list{"refused", "refused", "refused", "opened"},
		},
		{`return await db.get("k", { as: "text" })`, "v"},
	}.hold(t, tab)
	if s.paused() {
		t.Error("the page has paused moves")
	}
}

// TestACommandInAValue is a value: what a key and a value hold is never read as a
// request.
func TestACommandInAValue(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	tab, native := s.browser().open("/test.html"), s.client()
	smuggled := "x\r\n*3\r\n$3\r\nSET\r\n$6\r\nstolen\r\n$1\r\n1\r\nSET stolen 1\r\n*2\r\n$7\r\nCLUSTER\r\n$5\r\nPAUSE\r\n"
	eval[any](tab, `window.smuggled = `+strconv.Quote(smuggled)+`;
		await db.put("value", smuggled);
		await db.put(smuggled, "key");
		await db.mput({ one: smuggled, two: smuggled });
		await db.append("log", smuggled)`)
	for _, key := range []string{"value", "one", "two", "log"} {
		if got, err := native.Get(t.Context(), key); err != nil || string(got) != smuggled {
			t.Errorf("%s is %q, %v", key, got, err)
		}
	}
	conversation{
		{`return [await db.get(smuggled, { as: "text" }), await db.exists("stolen"), await db.get("value", { as: "text" }) === smuggled]`, list{"key", false, true}},
		{`const found = []; for await (const e of db.scan()) found.push(e.key); return found.sort()`, list{"log", "one", "two", "value", smuggled}},
	}.hold(t, tab)
	if s.paused() {
		t.Error("the value has paused moves")
	}
}
