package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/quoitdb/quoit/gateway"
	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/local"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
)

// issuer makes the tokens of pages, and the file that they are verified with.
type issuer struct {
	t    testing.TB
	key  auth.Key   // that tokens are signed with
	good []auth.Key // in the file
	file string
	last int
}

// add has another key from now on, beside those before it.
func (i *issuer) add() {
	i.t.Helper()
	i.last++
	key, err := auth.NewKey(auth.EdDSA, fmt.Sprint("key-", i.last))
	if err != nil {
		i.t.Fatal(err)
	}
	i.key = key
	public, _ := key.Public()
	i.use(append(i.good, public))
}

// withdraw leaves the newest key alone.
func (i *issuer) withdraw() { i.use(i.good[len(i.good)-1:]) }

func (i *issuer) use(keys []auth.Key) {
	i.t.Helper()
	i.good = keys
	text, err := auth.FormatKeys(keys)
	if err != nil {
		i.t.Fatal(err)
	}
	if err := os.WriteFile(i.file+".new", text, 0o600); err != nil {
		i.t.Fatal(err)
	}
	if err := os.Rename(i.file+".new", i.file); err != nil {
		i.t.Fatal(err)
	}
}

func (i *issuer) token(cluster auth.ClusterAccess, prefixes ...string) string {
	i.t.Helper()
	i.last++
	c := auth.Claims{ID: fmt.Sprint("t-", i.last), Subject: "a page", Expires: time.Now().Add(time.Hour), Cluster: cluster}
	for _, p := range prefixes {
		c.Scopes = append(c.Scopes, auth.PrefixScope(p, auth.WriteAccess))
	}
	token, err := auth.Sign(i.key, c)
	if err != nil {
		i.t.Fatal(err)
	}
	return token
}

// startGuarded has nodes and a gateway that ask for tokens.
func startGuarded(t *testing.T, nodes int) (*stage, *issuer) {
	t.Helper()
	i := &issuer{t: t, file: filepath.Join(t.TempDir(), "keys.json")}
	i.add()
	n, m := node.DefaultConfig(), manager.DefaultConfig()
	if err := n.Log.Fsync.UnmarshalText([]byte("never")); err != nil {
		t.Fatal(err)
	}
	n.Tokens, n.Times.Poll, m.Poll = 16, 50*time.Millisecond, 50*time.Millisecond
	n.Auth.TokenKeysFile, n.Auth.ClusterSecret = i.file, config.NewSecret(strings.Repeat("s", auth.MinClusterSecret))
	m.Auth = n.Auth
	s := &stage{settings: []func(*gateway.Config){func(c *gateway.Config) {
		c.KeysFile, c.Token = i.file, config.NewSecret(i.token(auth.ClusterNone))
	}}}
	return s.start(t, local.Options{Nodes: nodes, Node: &n, Manager: &m}), i
}

// TestAPageMayWhatItsTokenSays, and is told what it may not.
func TestAPageMayWhatItsTokenSays(t *testing.T) {
	t.Parallel()
	s, i := startGuarded(t, 2)
	tab := s.browser().blank("/test.html")
	eval[bool](tab, `
		window.quoit = await import("/quoit.js");
		window.token = `+quoted(i.token(auth.ClusterNone, "cart:"))+`;
		window.db = await quoit.connect({ token, as: "text" });
		return true`)
	eval[bool](tab, caught)
	conversation{
		{`for (let n = 0; n < 20; n++) await db.put("cart:" + n, "v" + n); return await db.get("cart:7")`, "v7"},
		{`return await caught(db.put("user:1", "v"))`, list{"ForbiddenError", "NOPERM", "ForbiddenError", nil}},
		{`try { await db.get("user:1") } catch (e) { return [e instanceof quoit.ServerError, e.serverCode, e.message.includes("user:1"), e.message.includes(token)] }`, list{true, "NOPERM", true, false}},
		{`const seen = []; for await (const c of db.watch("cart:1", { state: true })) { if (c.type === "synced") break; seen.push(c.key) } return seen.sort().length`, 11.0},
		{`try { for await (const c of db.watch("")) return c.type } catch (e) { return e.code }`, "NOPERM"},
		{`const keys = []; for await (const e of db.scan()) keys.push(e.key); return keys.length`, 20.0},
		{`return await caught(quoit.connect())`, list{"UnauthenticatedError", "NOAUTH", "UnauthenticatedError", nil}},
		{`try { await quoit.connect() } catch (e) { return e.message.includes("authenticate first") }`, true},
		{`return (await caught(quoit.connect({ token: "a guess" })))[1]`, "NOAUTH"},
		{`return (await caught(quoit.connect({ token: 7 })))[1]`, "ARGUMENT"},
	}.hold(t, tab)
	if at := eval[string](tab, `return performance.getEntriesByType("resource").map((r) => r.name).join(" ") + location.href`); strings.Contains(at, "ey") && strings.Contains(at, eval[string](tab, "return token")) {
		t.Error("the token is in a URL")
	}
}

// TestATokenIsRenewedByItsFunction: calls and a watch go on when the one they began with
// counts no more.
func TestATokenIsRenewedByItsFunction(t *testing.T) {
	t.Parallel()
	s, i := startGuarded(t, 2)
	tab := s.browser().blank("/test.html")
	eval[bool](tab, `
		window.quoit = await import("/quoit.js");
		window.current = `+quoted(i.token(auth.ClusterNone, "cart:"))+`;
		window.asked = 0;
		window.db = await quoit.connect({ as: "text", token: async () => { asked++; await new Promise((r) => setTimeout(r, 10)); return current } });
		window.seen = [];
		(async () => { for await (const c of db.watch("cart:")) seen.push(c.type === "put" ? c.key + "=" + c.value : c.type) })().catch((e) => seen.push(e.code));
		return true`)
	tab.until("the watch", `window.seen.includes("synced")`)
	eval[any](tab, `await db.put("cart:1", "one")`)
	tab.until("the first change", `window.seen.includes("cart:1=one")`)
	i.add()
	eval[any](tab, `window.current = `+quoted(i.token(auth.ClusterNone, "cart:")))
	tab.until("the new token to be known everywhere", `await (async () => {
		const other = await quoit.connect({ token: current });
		try { for (let n = 0; n < 40; n++) await other.get("cart:" + n) } finally { await other.close() }
		return true;
	})().catch(() => false)`)
	eval[any](tab, `window.before = asked`)
	i.withdraw()
	tab.until("the page to have given the new token for each of its connections", `await db.put("cart:2", "two").then(() => asked >= before + 2)`)
	eval[any](tab, `await db.put("cart:3", "three")`)
	tab.until("the watch to go on", `window.seen.includes("cart:3=three")`)
	// A range that changes hands just then may make it tell resync.
	if told := eval[string](tab, `return seen.filter((word) => word !== "cart:2=two" && word !== "resync").join(" ")`); told != "synced cart:1=one cart:3=three" {
		t.Errorf("the watch told %q", told)
	}
}

// TestTheConsoleAsksForAToken, keeps it for its tab, and says what it does not allow.
func TestTheConsoleAsksForAToken(t *testing.T) {
	t.Parallel()
	s, i := startGuarded(t, 2)
	p := s.browser().blank("/")
	p.allow("401") // of /v1/status, which the browser tells of by itself
	p.allow("403")
	p.says("#token", "This cluster asks for a token")
	p.says("#token-why", "authenticate first")
	p.says("#moves-why", "not for this token to see")
	if claimed := value[string](p, `document.querySelector("#moves").innerText`); strings.Contains(claimed, "Nothing moves") {
		t.Errorf("the page claims to know what moves: %s", claimed)
	}
	p.screenshot("console-asks-for-a-token")
	p.fill("#token-text", "a guess")
	p.click("#token-form button")
	p.says("#token-why", "not valid")
	p.fill("#token-text", i.token(auth.ClusterNone, "cart:"))
	p.click("#token-form button")
	p.says("#connection", "Connected")
	p.says("#banner", "access to the cluster")
	p.until("the nodes by the topology", `document.querySelectorAll(".nodes tbody tr").length === 2`)
	p.click("#data-new")
	p.fill("#new-key", "user:1")
	p.fill("#value", "v")
	p.click("#data-editor .primary")
	p.says("#data-editor .message", "NOPERM")
	p.screenshot("console-with-a-narrow-token")

	p.click("#token-forget")
	p.says("#token", "This cluster asks for a token")
	p.fill("#token-text", i.token(auth.ClusterOperate, ""))
	p.click("#token-form button")
	p.says("#connection", "Connected")
	p.until("no banner", `document.querySelector("#banner").hidden`)
	p.click("#moves-pause")
	p.says("#moves-pause", "Resume moves")
	if kept := value[bool](p, `location.href.includes("ey") || document.cookie !== "" || localStorage.getItem("quoit.token") !== null`); kept {
		t.Error("the token is kept where it must not be")
	}
	p.screenshot("console-with-a-token")
}

// TestTheListTakesTheTokenOfItsTab: without one it says where to give one, and sends no form
// away; with one that was given to the console in the same tab it works, and says what that
// one does not open.
func TestTheListTakesTheTokenOfItsTab(t *testing.T) {
	s, i := startGuarded(t, 2)
	p := s.browser().blank("/todo/")
	p.allow("401") // of the console's /v1/status, which the browser tells of by itself
	p.allow("403")
	giveToken := func(token string) {
		t.Helper()
		p.do(chromedp.Navigate(s.url("/")))
		p.fill("#token-text", token)
		p.click("#token-form button")
		p.says("#connection", "Connected")
		p.do(chromedp.Navigate(s.url("/todo/")))
	}
	p.says("#state", "This cluster asks for a token.")
	p.says("#ask", "Give one in the console")
	if to := value[string](p, `document.querySelector("#ask a").href`); to != s.url("/") {
		t.Errorf("the console is said to be at %s", to)
	}
	if !value[bool](p, `document.querySelector("#add button").disabled`) {
		t.Error("a list that cannot be changed takes an item")
	}

	giveToken(i.token(auth.ClusterNone, "todo:"))
	p.says("#state", "Kept by 2 nodes.")
	p.fill("#text", "an item")
	p.click("#add button")
	p.until("the item", `document.querySelector("#list span")?.textContent === "an item"`)
	if value[bool](p, `document.querySelector("#ask").checkVisibility()`) {
		t.Error("it asks for a token that it has")
	}

	eval[any](p, `sessionStorage.clear()`)
	giveToken(i.token(auth.ClusterNone, "cart:"))
	p.says("#state", "The list has ended: ")
	p.says("#state", "may not read every key with the prefix \"todo:\"")
}
