package browser

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/gateway"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/ring"
)

// console opens the console and waits until it is connected and has been told how the
// cluster does.
func (s *site) console(w *chrome) *tab {
	s.t.Helper()
	p := w.blank("/")
	p.says("#connection", "Connected")
	p.until("all nodes in the table", fmt.Sprintf(`document.querySelectorAll(".nodes tbody tr").length === %d`, len(s.cluster.Addresses())))
	return p
}

func TestTheConsoleShowsTheCluster(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	const keys = 120
	for i := range keys {
		s.put(fmt.Sprintf("user:%d", i), fmt.Sprintf(`{"name":"Ada","visits":%d}`, i))
	}
	w := s.browser()
	p := s.console(w)
	p.says("#connection", "Connected")
	p.until("each node's arcs in a colour of its own", `new Set(Array.from(document.querySelectorAll(".owned path"), (path) => getComputedStyle(path).stroke)).size === 3`)
	p.until("the number of keys in the middle", fmt.Sprintf(`document.querySelector(".big").textContent === "%d"`, keys))
	p.until("all nodes to serve", `Array.from(document.querySelectorAll(".nodes .condition"), (c) => c.textContent).every((word) => word === "serving")`)
	p.says("#moves", "Nothing moves")
	p.says("#data-note", "the first 50 keys")
	p.until("keys and values", `document.querySelectorAll(".key-row").length === 50 && document.querySelector(".key-row .value").textContent.includes("Ada")`)
	shown := value[[]string](p, `Array.from(document.querySelectorAll(".nodes .address"), (a) => a.textContent)`)
	if want := s.cluster.Addresses(); !slices.Equal(sorted(shown), sorted(want)) {
		t.Errorf("nodes %v, want %v", shown, want)
	}
	if arcs := value[int](p, `document.querySelectorAll(".owned path")[0].getAttribute("d").split("M").length - 1`); arcs < 3 {
		t.Errorf("the first node has %d arcs", arcs)
	}
	// Each page of the list, and then it is complete and in ring order.
	p.click("#data-list > button")
	p.until("the second page", `document.querySelectorAll(".key-row").length === 100`)
	p.click("#data-list > button")
	p.says("#data-note", "120 keys in ring order")
	listed := value[[]string](p, `Array.from(document.querySelectorAll(".key-row .key"), (k) => k.textContent)`)
	if !slices.IsSortedFunc(listed, func(a, b string) int {
		return int(int64(ring.PositionOfString(a)) - int64(ring.PositionOfString(b)))
	}) {
		t.Error("the keys are not in ring order")
	}
	p.fill("#data-prefix", "user:11")
	p.click("#data-scan button")
	p.says("#data-note", "11 keys in ring order") // user:11 and user:110 to 119
	p.fill("#data-prefix", "nobody:")
	p.click("#data-scan button")
	p.says("#data-list", "No key begins with “nobody:”.")
}

func sorted(words []string) []string {
	words = slices.Clone(words)
	slices.Sort(words)
	return words
}

func TestATypedKeyLandsOnItsOwner(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	p := s.console(s.browser())
	m, err := s.db.Topology().Map()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"user:1", "a", "größe", "東京", "with spaces and \"quotes\"", strings.Repeat("long", 200)} {
		p.fill("#find-key", key)
		position := ring.PositionOfString(key)
		owner := m.Owner(position)
		p.says("#find-answer", fmt.Sprintf("Position 0x%08x, owned by node", uint32(position)))
		p.says("#find-answer", owner)
		p.says(".big", "node "+value[string](p, fmt.Sprintf(`document.querySelector('tr[data-node="%s"] .badge').textContent`, owner)))
		if lit := value[[]string](p, `Array.from(document.querySelectorAll(".owned .one"), (path) => path.dataset.node)`); !slices.Equal(lit, []string{owner}) {
			t.Errorf("%q: the arcs of %v are lit, the owner is %s", key, lit, owner)
		}
		// The peg stands where the position is, clockwise from the top.
		turn := value[float64](p, `parseFloat(document.querySelector(".peg").style.transform.slice("rotate(".length))`)
		want := float64(position) / (1 << 32) * 360
		if off := turn - want; off-360*float64(int(off/360)) > 0.01 && 360-(off-360*float64(int(off/360))) > 0.01 {
			t.Errorf("%q: the peg stands at %v degrees, want %v", key, turn, want)
		}
	}
	// Half a character is no key: it lies nowhere, and the page goes on.
	value[any](p, `(() => { const field = document.querySelector("#find-key"); field.value = "\ud800"; field.dispatchEvent(new Event("input", { bubbles: true })); })()`)
	p.until("no key to lie anywhere", `document.querySelector(".peg").getAttribute("visibility") === "hidden"`)
	p.fill("#find-key", "a")
	p.says("#find-answer", "Position ")
	p.fill("#find-key", "")
	p.until("the peg to be taken away", `document.querySelector(".peg").getAttribute("visibility") === "hidden" && document.querySelectorAll(".owned .one").length === 0`)
}

func TestAKeyIsWrittenReadAndDeleted(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	p := s.console(s.browser())
	p.says("#data-list", "There is no key yet.")

	p.click("#data-new")
	p.fill("#new-key", "greeting")
	p.fill("#value", "hello\nworld")
	p.fill("#expiry", "after")
	p.fill("#amount", "2")
	p.fill("#unit", "hours")
	p.click("#data-editor .primary")
	p.says("#data-editor .message", "Saved.")
	if got := s.get("greeting"); got != "hello\nworld" {
		t.Errorf("it wrote %q", got)
	}
	if left, err := s.db.TTL(t.Context(), "greeting"); err != nil || left <= time.Hour || left > 2*time.Hour {
		t.Errorf("it disappears in %v, %v", left, err)
	}
	p.says(".facts", "disappears in 2 h")
	p.says("#data-list", `hello\nworld`)
	p.says("#routes", "greeting")

	// A save says nothing about the expiry, so it stays.
	p.fill("#value", "hello again")
	p.click("#data-editor .primary")
	s.eventually("the second save", func() bool { return s.get("greeting") == "hello again" })
	if left, err := s.db.TTL(t.Context(), "greeting"); err != nil || left <= time.Hour {
		t.Errorf("after another save it disappears in %v, %v", left, err)
	}

	p.click("#data-editor .danger")
	p.says("#confirm", "greeting")
	p.click(`#confirm [value="no"]`)
	if got := s.get("greeting"); got != "hello again" {
		t.Errorf("whoever keeps it finds %q", got)
	}
	p.click("#data-editor .danger")
	p.click(`#confirm [value="yes"]`)
	p.says("#data-editor", "Deleted greeting.")
	if got := s.get("greeting"); got != "" {
		t.Errorf("deleted, it is still %q", got)
	}
	p.says("#data-list", "There is no key yet.")
}

func TestAChangeFromElsewhereIsShownAndNotOverwritten(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	s.put("shared", "first")
	p := s.console(s.browser())
	p.until("the key", `document.querySelectorAll(".key-row").length === 1`)
	p.click(".key-row")
	p.until("its value", `document.querySelector("#value").value === "first"`)

	// The watch shows a change in the list and, as nothing was edited, in the editor.
	s.put("shared", "second")
	p.until("the change", `document.querySelector(".key-row .value").textContent === "second" && document.querySelector("#value").value === "second"`)
	p.until("the row to be lit", `document.querySelector(".rows .changed")`)
	s.put("another", "key")
	p.until("the new key", `document.querySelectorAll(".key-row").length === 2`)

	// What is being edited stays, and a save does not win unseen.
	p.fill("#value", "mine")
	s.put("shared", "third")
	p.says("#data-editor .message", "Somebody has just changed it.")
	if got := value[string](p, `document.querySelector("#value").value`); got != "mine" {
		t.Errorf("what was being written has become %q", got)
	}
	p.click("#data-editor .primary")
	p.says("#data-editor .message", "Not saved: somebody else has changed it since you read it.")
	if got := s.get("shared"); got != "third" {
		t.Errorf("it was overwritten: %q", got)
	}
	p.click("#data-editor .message button:last-child") // overwrite
	p.says("#data-editor .message", "Saved.")
	if got := s.get("shared"); got != "mine" {
		t.Errorf("overwritten on purpose it is %q", got)
	}

	if _, err := s.db.Delete(t.Context(), "shared"); err != nil {
		t.Fatal(err)
	}
	p.until("the key to go", `document.querySelectorAll(".key-row").length === 1`)
	p.says("#data-editor .message", "It was just deleted")

	// A key that is there already is not taken for a new one.
	p.click("#data-new")
	p.fill("#new-key", "another")
	p.fill("#value", "lost")
	p.click("#data-editor .primary")
	p.says("#data-editor .message", "Not saved: there is such a key already.")
	if got := s.get("another"); got != "key" {
		t.Errorf("it is %q", got)
	}
}

func TestValuesThatAreNoText(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	s.put("binary", "\x00\xff\x10")
	s.put("windows", "one\r\ntwo")
	s.put("large", strings.Repeat("x", 100_000))
	p := s.console(s.browser())
	p.until("the keys", `document.querySelectorAll(".key-row").length === 3`)
	choose := func(key string) {
		t.Helper()
		value[bool](p, fmt.Sprintf(`(Array.from(document.querySelectorAll(".key-row")).find((row) => row.querySelector(".key").textContent === %s).click(), true)`, quoted(key)))
		p.until(key+" in the editor", fmt.Sprintf(`document.querySelector("#data-editor h3").textContent === %s && !document.querySelector("#data-editor form").hasAttribute("aria-busy")`, quoted(key)))
	}
	choose("binary")
	p.until("hexadecimal", `document.querySelector("#value").value === "00 ff 10" && document.querySelector("#format").value === "hex"`)
	p.fill("#value", "00 ff 1")
	p.click("#data-editor .primary")
	p.says("#data-editor .message", "Not saved: a byte has two hexadecimal digits")
	p.fill("#value", "00fe41")
	p.click("#data-editor .primary")
	p.says("#data-editor .message", "Saved.")
	if got := s.get("binary"); got != "\x00\xfeA" {
		t.Errorf("it is %q", got)
	}
	choose("windows") // a text field would make another text of it
	p.until("hexadecimal", `document.querySelector("#format").value === "hex"`)
	choose("large")
	p.says("#data-editor", "so large a value is not edited here")
	if !value[bool](p, `document.querySelector("#value").readOnly && document.querySelector("#value").value.length === 65536 && document.querySelector("#data-editor .primary").disabled`) {
		t.Error("half a value could be saved in the place of the whole")
	}
}

// TestHostileKeysAreText: whoever writes keys and values cannot make this page do
// anything, nor look like another key.
func TestHostileKeysAreText(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	attacks := []string{
		`<img src=x onerror="window.hacked=1">`, `<script>window.hacked=1</script>`, `"><svg onload=window.hacked=1>`,
		"javascript:window.hacked=1", "'; window.hacked=1; //", "{{constructor.constructor('window.hacked=1')()}}", "__proto__", "constructor",
		"abc\u202edef", "nul\x00byte", "\xff\xfe", "line\nbreak", "zero\u200bwidth", "<!--", "]]>", strings.Repeat("<b>", 300),
	}
	for _, text := range attacks {
		s.put(text, text)
		if utf8.ValidString(text) { // what is no text is not of this application
			s.put("todo:"+text, fmt.Sprintf(`{"text":%s,"done":false}`, quoted(text)))
		}
	}
	w := s.browser()
	p := s.console(w)
	p.until("all keys", fmt.Sprintf(`document.querySelectorAll(".key-row").length === %d`, 2*len(attacks)-1))
	for i := range 2*len(attacks) - 1 {
		key := value[string](p, fmt.Sprintf(`(() => { const row = document.querySelectorAll(".key-row")[%d]; row.click(); return row.querySelector(".key").textContent; })()`, i))
		p.until("key "+key, `!document.querySelector("#data-editor form").hasAttribute("aria-busy")`)
	}
	for _, text := range attacks[:8] {
		p.fill("#find-key", text)
		p.says("#find-answer", "Position 0x")
	}
	keys := value[[]string](p, `Array.from(document.querySelectorAll(".key-row .key"), (k) => k.textContent)`)
	for _, want := range []string{attacks[0], attacks[1], `abc\u{202e}def`, `nul\x00byte`, `\xff\xfe`, `line\nbreak`, `zero\u{200b}width`} {
		if !slices.Contains(keys, want) {
			t.Errorf("no key is shown as %q: %q", want, keys)
		}
	}
	todo := w.blank("/todo/")
	todo.until("all items", fmt.Sprintf(`document.querySelectorAll("#list li").length === %d`, len(attacks)-1))
	for name, page := range map[string]*tab{"console": p, "todo": todo} {
		if value[bool](page, `"hacked" in window || document.querySelector("img, script:not([src]), iframe, b, [onload], [onerror], [style*=url]") !== null`) {
			t.Errorf("%s: a key was taken for markup", name)
		}
	}
}

func TestMovesArePausedAndResumed(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	paused := func() bool {
		t.Helper()
		m, err := manager.Dial(t.Context(), s.cluster.Manager(), patience)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		status, err := m.Status()
		if err != nil {
			t.Fatal(err)
		}
		return status.Paused
	}
	p := s.console(s.browser())
	p.click("#moves-pause")
	p.says("#moves-pause", "Resume moves")
	p.says("#moves", "nothing will until moves are resumed")
	if !paused() {
		t.Error("the page says that moves are paused, and they are not")
	}
	for i := range 200 {
		s.put(fmt.Sprintf("k%d", i), "v")
	}
	if _, err := s.cluster.AddNode(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.says("#moves", "held back by the pause")
	p.until("the ranges that are to move, on the ring", `document.querySelector(".moving path")`)
	p.until("the new node", `document.querySelectorAll(".nodes tbody tr").length === 3`)
	p.click("#moves-pause")
	p.says("#moves-pause", "Pause moves")
	if paused() {
		t.Error("the page says that moves are resumed, and they are not")
	}
	p.says("#moves", "Nothing moves: every range is where it belongs.")
	p.until("three colours on the ring", `document.querySelectorAll(".owned path").length === 3 && !document.querySelector(".moving path")`)
}

// TestTheRouteLogTellsTheWay that a request took: through the gateway, or straight to a
// node that has one of its own.
func TestTheRouteLogTellsTheWay(t *testing.T) {
	t.Parallel()
	for way, stage := range map[string]*stage{"direct": startDirect(t, 1), "gateway": start(t, 1)} {
		s := &site{stage, stage.client()}
		s.put("a", "b")
		p := s.console(s.browser())
		p.until("the key", `document.querySelectorAll(".key-row").length === 1`)
		p.click(".key-row")
		p.says(".routes", "PTTL a")
		if straight := value[bool](p, `document.querySelector(".routes .direct") !== null`); straight != (way == "direct") {
			t.Errorf("%s: straight to the node: %v", way, straight)
		}
		if wraps := value[bool](p, `Array.from(document.querySelectorAll(".routes tbody tr")).some((row) => row.offsetHeight > 40)`); wraps {
			t.Errorf("%s: a short request takes two lines", way)
		}
	}
}

func TestAPageThatMayOnlyLook(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, func(c *gateway.Config) { c.Console = gateway.ConsoleRead })
	p := s.console(s.browser())
	p.says("#moves-why", "This gateway only shows the cluster.")
	if !value[bool](p, `document.querySelector("#moves-pause").disabled && !document.querySelector("#data-live").checked`) {
		t.Error("moves can be paused, or changes are followed unasked")
	}
}

// TestTheConsoleWithoutAManager: keys are read and written, and what is not known is said.
func TestTheConsoleWithoutAManager(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	s.stopGateway(s.gateway)
	s.settings = append(s.settings, func(c *gateway.Config) { c.ManagerAddr, c.Seeds = "127.0.0.1:1", s.cluster.Addresses() })
	s.startGateway()
	p := s.browser().blank("/")
	p.says("#banner", "The manager at 127.0.0.1:1 does not answer")
	p.until("the nodes by the topology", `document.querySelectorAll(".nodes tbody tr").length === 2`)
	p.says("#moves-why", "not known")
	p.click("#data-new")
	p.fill("#new-key", "still")
	p.fill("#value", "works")
	p.click("#data-editor .primary")
	p.says("#data-editor .message", "Saved.")
	if got := s.get("still"); got != "works" {
		t.Errorf("it is %q", got)
	}
	p.allow("503")
}

func TestTheConsoleConnectsAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	s.put("before", "1")
	p := s.console(s.browser())
	p.until("the key", `document.querySelectorAll(".key-row").length === 1`)
	s.stopGateway(s.gateway)
	p.says("#banner", "The connection to the gateway is lost")
	p.says("#connection", "Reconnecting")
	p.screenshot("console-reconnecting")
	s.put("meanwhile", "2")
	s.startGateway()
	p.says("#connection", "Connected")
	p.until("no banner", `document.querySelector("#banner").hidden`)
	p.until("what was written meanwhile", `document.querySelectorAll(".key-row").length === 2`)
	p.allow("WebSocket connection to")
	p.allow("Failed to load resource")
}

// TestTheConsoleByKeyboard writes, finds and deletes a key without a mouse, and sees at
// each step where it is.
func TestTheConsoleByKeyboard(t *testing.T) {
	s := newSite(t, 1)
	p := s.console(s.browser())
	p.says("#data-list", "There is no key yet.")
	press := func(keys string, options ...chromedp.KeyOption) {
		t.Helper()
		p.do(chromedp.KeyEvent(keys, options...))
	}
	focused := `(document.activeElement.id || document.activeElement.textContent.trim())`
	// tabTo walks until the focus is there, and fails where it cannot be seen.
	tabTo := func(want string) {
		t.Helper()
		var seen []string
		for range 40 {
			press(kb.Tab)
			at := value[string](p, focused)
			if !value[bool](p, `(() => { const style = getComputedStyle(document.activeElement); return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2; })()`) {
				t.Errorf("%s has the focus, and nobody sees it", at)
			}
			if at == want {
				return
			}
			seen = append(seen, at)
		}
		t.Fatalf("no way by Tab to %s, only to %q", want, seen)
	}
	tabTo("Skip to the data")
	press(kb.Enter)
	tabTo("data-new")
	press(kb.Enter)
	p.until("the field for the key", focused+` === "new-key"`)
	press("typed")
	tabTo("value")
	press("by hand")
	tabTo("Save")
	press(kb.Enter)
	p.says("#data-editor .message", "Saved.")
	if got := s.get("typed"); got != "by hand" {
		t.Errorf("it wrote %q", got)
	}
	tabTo("Delete …")
	press(kb.Enter)
	p.until("the question, with the harmless answer first", `document.querySelector("#confirm").open && document.activeElement.value === "no"`)
	press(kb.Escape)
	p.until("the question to be gone, and the focus back", `!document.querySelector("#confirm").open && document.activeElement.textContent === "Delete …"`)
	press(kb.Enter)
	p.until("the question again", `document.querySelector("#confirm").open`)
	tabTo("Delete")
	press(kb.Enter)
	p.says("#data-editor", "Deleted typed.")
	if _, err := s.db.Get(t.Context(), "typed"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("it is still there: %v", err)
	}
}

// TestThePagesAreForEverybody: what a screen reader needs to make sense of them.
func TestThePagesAreForEverybody(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	s.put("a", "b")
	s.put("todo:1", `{"text":"write","done":false}`)
	w := s.browser()
	p := s.console(w)
	p.click(".key-row")
	p.until("the editor", `document.querySelector("#value").checkVisibility()`)
	todo := w.blank("/todo/")
	todo.until("the item", `document.querySelector("#list li")`)
	for name, page := range map[string]*tab{"console": p, "todo": todo} {
		nameless := value[[]string](page, `Array.from(document.querySelectorAll("button, input, select, textarea, progress, section, table, svg[role=img]"))
			.filter((e) => e.checkVisibility())
			.filter((e) => !(e.labels?.length || e.textContent.trim() || e.getAttribute("aria-label") || document.getElementById(e.getAttribute("aria-labelledby")?.split(" ")[0])))
			.map((e) => e.outerHTML.slice(0, 100))`)
		if len(nameless) > 0 {
			t.Errorf("%s: without a name: %q", name, nameless)
		}
		if twice := value[[]string](page, `Array.from(document.querySelectorAll("[id]"), (e) => e.id).filter((id, i, all) => all.indexOf(id) !== i)`); len(twice) > 0 {
			t.Errorf("%s: ids that two have: %q", name, twice)
		}
		if n := value[int](page, `document.querySelectorAll("main").length + 10 * document.querySelectorAll("h1").length`); n != 11 {
			t.Errorf("%s: it has not one main part and one title", name)
		}
		if lang := value[string](page, `document.documentElement.lang`); lang != "en" {
			t.Errorf("%s: its language is %q", name, lang)
		}
	}
}

func TestLightDarkAndSmall(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	for i := range 60 {
		s.put(fmt.Sprintf("user:%d", i), fmt.Sprintf(`{"name":"Grace","visits":%d}`, i))
	}
	s.put(strings.Repeat("averylongkeywithoutanyspace", 20), strings.Repeat("y", 3000))
	s.put("todo:1", `{"text":"`+strings.Repeat("longword", 40)+`","done":true}`)
	w := s.browser()
	p := s.console(w)
	p.until("the keys", `document.querySelectorAll(".key-row").length === 50`)
	p.click(".key-row")
	p.until("the editor", `document.querySelector("#value").checkVisibility()`)
	p.fill("#find-key", "user:1")
	// luminance is how bright the page is, 0 to 1.
	luminance := `(() => { const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/[\d.]+/g).map(Number); return (r + g + b) / 765; })()`
	for _, theme := range []string{"light", "dark"} {
		p.scheme(theme)
		p.size(1400, 1000)
		if bright := value[float64](p, luminance) > 0.5; bright != (theme == "light") {
			t.Errorf("%s: the page is bright: %v", theme, bright)
		}
		// The text that matters against what is behind it: 4.5 to 1 is what people with
		// weak eyes need.
		if faint := value[[]string](p, contrastBelow(4.5)); len(faint) > 0 {
			t.Errorf("%s: too faint: %q", theme, faint)
		}
		p.screenshot("console-" + theme)
	}
	p.click("#theme") // automatic, light, dark
	if value[float64](p, luminance) < 0.5 {
		t.Error("light was asked for, and it is dark")
	}
	p.do(chromedp.Reload())
	p.says("#theme", "Theme: light")
	p.says("#connection", "Connected")
	p.until("the keys", `document.querySelectorAll(".key-row").length === 50`)
	p.click(".key-row")
	todo := w.blank("/todo/")
	todo.until("the item", `document.querySelector("#list li")`)
	for _, width := range []int64{320, 375, 768, 1024} {
		for name, page := range map[string]*tab{"console": p, "todo": todo} {
			page.size(width, 700)
			if wide := value[int64](page, `document.documentElement.scrollWidth`); wide > width {
				t.Errorf("%s: %d pixels wide on a screen of %d", name, wide, width)
			}
			if width == 320 {
				page.screenshot(name + "-phone")
			}
		}
	}
}

// contrastBelow lists the texts whose contrast is below a ratio, as WCAG computes it.
func contrastBelow(ratio float64) string {
	return fmt.Sprintf(`(() => {
		const light = (color) => { const [r, g, b] = color.match(/[\d.]+/g).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
		const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (/^rgb\(/.test(c)) return c; } return "rgb(255, 255, 255)"; };
		const faint = [];
		for (const e of document.querySelectorAll("h1, h2, h3, p, label, button:not(:disabled), th, td, .badge, .quiet, .key, .value, .condition, a")) {
			if (!e.checkVisibility() || !e.textContent.trim() || e.closest("[hidden], .changed")) continue;
			const color = getComputedStyle(e).color;
			if (!/^rgb\(/.test(color)) continue;
			const [a, b] = [light(color), light(behind(e))].sort((x, y) => y - x);
			if ((a + 0.05) / (b + 0.05) < %g) faint.push(e.className + " " + e.textContent.trim().slice(0, 30) + " " + color + " on " + behind(e));
		}
		return faint;
	})()`, ratio)
}
