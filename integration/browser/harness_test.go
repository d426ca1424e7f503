package browser

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/gateway"
	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/internal/local"
	"github.com/quoitdb/quoit/internal/need"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
	"github.com/quoitdb/quoit/web"
)

// parallel is how many stories run at once: they wait for pages, and for what a cluster
// does in its own time.
const parallel = "4"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err)
	}
	leak.Main(m, endChromium)
}

// patience is how long a test waits for what must happen, on a machine that does much
// else.
const patience = 2 * time.Minute

// stage is a cluster, a gateway before it, and the files that it serves.
type stage struct {
	t        testing.TB
	cluster  *local.Cluster
	gateway  *gateway.Gateway
	files    fs.FS
	faults   *faults // between the gateway and the nodes
	addr     string  // of the gateway; the same one after a restart
	admin    string
	settings []func(*gateway.Config)
}

// start needs Chromium, and skips the test before it begins where there is none. The
// functions change the gateway's settings.
func start(t testing.TB, nodes int, settings ...func(*gateway.Config)) *stage {
	t.Helper()
	return (&stage{settings: settings}).start(t, local.Options{Nodes: nodes})
}

// startDirect has nodes with gateways of their own, which pages may take.
func startDirect(t testing.TB, nodes int) *stage {
	t.Helper()
	s := &stage{}
	return s.start(t, local.Options{Nodes: nodes, Gateway: func(ctx context.Context, h node.GatewayHost) (node.Gateway, error) {
		own := gateway.Own{Address: h.Address, Dial: h.Dial, URL: h.URL, At: h.Listener.Addr()}
		c := s.config()
		g, err := gateway.Start(ctx, c.ForNode(own), gateway.Seams{Listener: h.Listener, Logger: h.Logger, Version: "test"})
		if err != nil {
			return nil, err
		}
		return g, nil
	}})
}

func (s *stage) start(t testing.TB, o local.Options) *stage {
	t.Helper()
	need.Program(t, "chromium")
	s.t, s.faults = t, newFaults()
	var err error
	for _, at := range []*string{&s.addr, &s.admin} {
		if *at, err = freeport.Address(); err != nil {
			t.Fatal(err)
		}
	}
	o.Dir, o.Port = t.TempDir(), -1
	if o.Node == nil {
		n, m := node.DefaultConfig(), manager.DefaultConfig()
		if err := n.Log.Fsync.UnmarshalText([]byte("never")); err != nil {
			t.Fatal(err)
		}
		n.Tokens, n.Times.Poll, m.Poll = 16, 50*time.Millisecond, 50*time.Millisecond
		o.Node, o.Manager = &n, &m
	}
	c, err := local.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	s.cluster, s.files = c, s.site()
	s.startGateway()
	return s
}

// built is the client for browsers, built once for all tests.
var built = sync.OnceValue(web.FromSource)

// site is what a gateway serves, with the pages of tests. A page does not have to wait
// for the client to be built.
func (s *stage) site() *pages {
	s.t.Helper()
	s.eventually("the client to be built", func() bool {
		_, err := fs.Stat(built(), "quoit.wasm")
		var not *web.UnavailableError
		if err != nil && (!errors.As(err, &not) || !not.Soon) {
			s.t.Fatal(err)
		}
		return err == nil
	})
	return &pages{Site: built(), own: testPages()}
}

// testPages are pages that exist for tests alone. Their scripts are what eval runs.
func testPages() fs.FS {
	return fstest.MapFS{
		"test.html":   {Data: []byte("<!doctype html>\n<html lang=\"en\"><title>test</title>\n<link rel=\"icon\" href=\"/test.svg\">\n<p>A page for tests.</p>\n")},
		"test.svg":    {Data: []byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`)},
		"favicon.ico": {Data: []byte{}},
	}
}

// pages are the site with those on top.
type pages struct {
	*web.Site
	own fs.FS
}

func (p *pages) Open(name string) (fs.File, error) {
	f, err := p.own.Open(name)
	if err == nil {
		return f, nil
	}
	return p.Site.Open(name)
}

// config is the gateway's, but for the manager's address.
func (s *stage) config() gateway.Config {
	c := gateway.DefaultConfig()
	c.Addr, c.RedisAddr, c.AdminAddr = s.addr, "off", s.admin
	c.Times.Poll, c.Times.Drain = 100*time.Millisecond, 5*time.Second
	return c
}

// startGateway starts the gateway, at the address that it had before.
func (s *stage) startGateway() {
	s.t.Helper()
	c := s.config()
	c.ManagerAddr = s.cluster.Manager()
	for _, set := range s.settings {
		set(&c)
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	g, err := gateway.Start(s.t.Context(), c, gateway.Seams{Logger: slog.New(slog.DiscardHandler), Version: "test", Assets: s.files, Listener: l, Dial: s.faults.dial})
	if err != nil {
		s.t.Fatal(err)
	}
	s.gateway = g
	s.t.Cleanup(func() { s.stopGateway(g) })
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := g.WaitReady(ctx); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) stopGateway(g *gateway.Gateway) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := g.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.t.Error(err)
	}
}

// url is a page's.
func (s *stage) url(path string) string { return "http://" + s.addr + path }

// client is one in this process, to see what pages did, and do what they see.
func (s *stage) client() *client.Client {
	s.t.Helper()
	db, err := client.Open(s.t.Context(), s.cluster.Addresses())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = db.Close() })
	return db
}

// metric is one of the gateway's, "" if it has none of that name.
func (s *stage) metric(name string) string {
	s.t.Helper()
	r, err := http.Get("http://" + s.admin + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// chrome is a Chromium as somebody finds it who has never used it.
type chrome struct {
	s       *stage
	ctx     context.Context
	profile []chromedp.ContextOption // whose a page is, if not that of the first start
}

// chromium is the one that stories share, each with a profile of its own: to start one
// takes more than most of them do in it.
var chromium struct {
	sync.Mutex
	ctx context.Context // nil until somebody needs it
	end func()
}

// endChromium is for when all stories are over.
func endChromium() {
	if chromium.end != nil {
		chromium.end()
	}
}

// browser is an empty profile, which the test's end forgets.
func (s *stage) browser() *chrome {
	s.t.Helper()
	chromium.Lock()
	defer chromium.Unlock()
	if chromium.ctx == nil {
		chromium.ctx, chromium.end = s.startChromium()
	}
	ctx := chromium.ctx
	made, err := inBrowser(ctx, target.CreateBrowserContext, target.CreateBrowserContextParams{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if _, err := inBrowser(ctx, target.DisposeBrowserContext, target.DisposeBrowserContextParams(made)); err != nil {
			s.t.Error(err)
		}
	})
	return &chrome{s: s, ctx: ctx, profile: []chromedp.ContextOption{chromedp.WithExistingBrowserContext(made.BrowserContextID)}}
}

// inBrowser gives a command to all of Chromium.
func inBrowser[P, R any](ctx context.Context, command cdp.Command[P, R], params P) (R, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return chromedp.CallBrowser(ctx, command, params)
}

// ownBrowser is a Chromium that no other test has, for what no profile keeps apart.
func (s *stage) ownBrowser(more ...chromedp.ExecAllocatorOption) *chrome {
	s.t.Helper()
	ctx, end := s.startChromium(more...)
	s.t.Cleanup(end)
	return &chrome{s: s, ctx: ctx}
}

func (s *stage) startChromium(more ...chromedp.ExecAllocatorOption) (ctx context.Context, end func()) {
	s.t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.ExecPath(need.Program(s.t, "chromium")), chromedp.WindowSize(1280, 900))
	options = append(options, more...)
	parent, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(parent)
	end = func() {
		cancel()
		stop()
	}
	if err := chromedp.Do(ctx); err != nil { // without a bound: it would be the browser's
		end()
		s.t.Fatalf("Chromium does not start: %v", err)
	}
	return ctx, end
}

// tab is a page. Its methods fail the test; use them from its goroutine.
type tab struct {
	s   *stage
	ctx context.Context

	mu      sync.Mutex
	allowed []string // parts of console errors that the test expects
	errors  []string
	marks   chan struct{} // gets one for each mark on the console; of capacity 1
}

// networkChanged is what Chromium says when a network came or went while it was loading
// something, be it from loopback: it gives up. Tests with containers, beside this one,
// make networks.
const networkChanged = "ERR_NETWORK_CHANGED"

// mark is written to a page's console when all that came before has to be read.
const mark = "everything before this has been noted"

// open opens a page, and a database in it.
func (b *chrome) open(path string) *tab {
	b.s.t.Helper()
	tab := b.blank(path)
	eval[bool](tab, `
		window.quoit = await import("/quoit.js");
		window.db = await quoit.connect();
		return true`)
	return tab
}

// blank opens a page, and nothing in it.
func (b *chrome) blank(path string) *tab {
	t := b.s.t
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx, b.profile...)
	tab := &tab{s: b.s, ctx: ctx, marks: make(chan struct{}, 1), allowed: []string{networkChanged}}
	console := chromedp.Console(ctx)
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		for m, err := range console {
			if err != nil {
				return
			}
			tab.note(m)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-listening
		tab.verdict()
	})
	tab.do(chromedp.Navigate(b.s.url(path)))
	for tab.gaveUp() {
		tab.do(chromedp.Reload())
	}
	return tab
}

// gaveUp says whether something of a page that has been loaded is missing because a
// network changed. It forgets that then.
func (tab *tab) gaveUp() bool {
	tab.s.t.Helper()
	eval[any](tab, `console.debug("`+mark+`")`)
	select {
	case <-tab.marks:
	case <-time.After(patience):
		tab.s.t.Fatal("the page's console is not heard")
	}
	tab.mu.Lock()
	defer tab.mu.Unlock()
	before := len(tab.errors)
	tab.errors = slices.DeleteFunc(tab.errors, func(text string) bool { return strings.Contains(text, networkChanged) })
	return len(tab.errors) < before
}

// note keeps what a page must not say.
func (tab *tab) note(m chromedp.ConsoleMessage) {
	if m.Text == mark {
		tab.marks <- struct{}{}
	}
	if m.Type != "error" && m.Type != chromedp.ConsoleException && m.Type != "assert" {
		return
	}
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.errors = append(tab.errors, fmt.Sprintf("%s: %s (%s)", m.Type, m.Text, m.URL))
}

// allow says that errors with this text in them are expected on the console, also those
// that have come already.
func (tab *tab) allow(part string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.allowed = append(tab.allowed, part)
}

// verdict fails the test for what the page's console should not have had.
func (tab *tab) verdict() {
	tab.mu.Lock()
	defer tab.mu.Unlock()
next:
	for _, text := range tab.errors {
		for _, part := range tab.allowed {
			if strings.Contains(text, part) {
				continue next
			}
		}
		tab.s.t.Errorf("the page's console: %s", text)
	}
}

// do runs actions of chromedp.
func (tab *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	tab.s.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		tab.s.t.Fatal(err)
	}
}

// eval runs the body of an async function in the page, and returns what it returns.
func eval[T any](tab *tab, body string) T {
	tab.s.t.Helper()
	value, err := tryEval[T](tab, body)
	if err != nil {
		tab.s.t.Fatalf("%v\nin:%s", err, body)
	}
	return value
}

// tryEval is eval, with the error that the page throws.
func tryEval[T any](tab *tab, body string) (value T, err error) {
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	// As text and back: what chromedp makes of undefined is of no help.
	wrapped := "(async () => { const result = await (async () => {" + body + "\n})(); return JSON.stringify(result === undefined ? null : result, " +
		"(_, v) => typeof v === 'bigint' ? String(v) : v instanceof Uint8Array ? [...v] : v) })()"
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](wrapped, chromedp.EvalAwaitPromise))
	if err != nil {
		return value, err
	}
	return value, json.Unmarshal([]byte(text), &value)
}

// eventually looks again and again until something holds.
func (s *stage) eventually(what string, holds func() bool) {
	s.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// screenshot keeps how the page looks, as NAME.png in the folder that QUOIT_TEST_ARTIFACTS
// names; bin/screenshots without one.
func (tab *tab) screenshot(name string) {
	t := tab.s.t
	t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv("QUOIT_TEST_ARTIFACTS")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin", "screenshots")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}
