package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/gateway"
)

// site is a stage with another client of the same cluster, for what a person does not do
// through the page.
type site struct {
	*stage
	db *client.Client
}

func newSite(t *testing.T, nodes int, settings ...func(*gateway.Config)) *site {
	t.Helper()
	s := start(t, nodes, settings...)
	return &site{s, s.client()}
}

func (s *site) put(key, value string) {
	s.t.Helper()
	if err := s.db.Put(s.t.Context(), key, []byte(value)); err != nil {
		s.t.Fatal(err)
	}
}

// get reads; "" if there is no such key.
func (s *site) get(key string) string {
	s.t.Helper()
	value, err := s.db.Get(s.t.Context(), key)
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		s.t.Fatal(err)
	}
	return string(value)
}

// value is what an expression is in the page.
func value[T any](p *tab, expression string) T {
	p.s.t.Helper()
	return eval[T](p, "return "+expression)
}

// until waits until an expression holds in the page. If it never does, there is a
// picture of what the page shows instead.
func (tab *tab) until(what, expression string) {
	t := tab.s.t
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !tab.holds(expression) {
		select {
		case <-tick.C:
		case <-deadline:
			tab.screenshot("failed-" + strings.ReplaceAll(t.Name(), "/", "-"))
			t.Fatalf("waited %v for %s; the page shows\n%s", patience, what, value[string](tab, "document.body.innerText"))
		}
	}
}

// holds says whether an expression is true in the page. It is not where the page was left
// before it could answer, as when it is loaded anew.
func (tab *tab) holds(expression string) bool {
	tab.s.t.Helper()
	yes, err := tryEval[bool](tab, "return Boolean("+expression+")")
	if err == nil || strings.Contains(err.Error(), "Inspected target navigated") || strings.Contains(err.Error(), "Execution context was destroyed") {
		return yes && err == nil
	}
	tab.s.t.Fatalf("%v\nin: %s", err, expression)
	return false
}

// TestAPageThatIsLoadedAnewIsAskedAgain is about until: a question that the page takes
// with it is no failure.
func TestAPageThatIsLoadedAnewIsAskedAgain(t *testing.T) {
	t.Parallel()
	tab := start(t, 1).browser().blank("/test.html")
	tab.until("the page to be loaded anew", `await (async () => {
		if (sessionStorage.getItem("anew")) return true;
		sessionStorage.setItem("anew", "yes");
		location.reload();
		return new Promise(() => {});
	})()`)
}

// quoted is a text in JavaScript.
func quoted(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string always can be
	}
	return string(b)
}

func one(selector string) string { return "document.querySelector(" + quoted(selector) + ")" }

// says waits until an element is seen and has a text in it.
func (tab *tab) says(selector, text string) {
	tab.s.t.Helper()
	tab.until(selector+" to say "+text, one(selector)+"?.checkVisibility() && "+one(selector)+".textContent.includes("+quoted(text)+")")
}

// click clicks on an element once it is seen and can be used.
func (tab *tab) click(selector string) {
	tab.s.t.Helper()
	tab.until(selector+" to be there", one(selector)+"?.checkVisibility() && !"+one(selector)+".disabled")
	eval[any](tab, one(selector)+".click()")
}

// fill puts a text in a field, with the events that typing has.
func (tab *tab) fill(selector, text string) {
	tab.s.t.Helper()
	tab.until(selector+" to be there", one(selector)+"?.checkVisibility()")
	eval[any](tab, fmt.Sprintf(`const field = %s; field.value = %s;
		for (const type of ["input", "change"]) field.dispatchEvent(new Event(type, { bubbles: true }))`, one(selector), quoted(text)))
}

// size makes the window so large, in pixels.
func (tab *tab) size(width, height int64) {
	tab.s.t.Helper()
	tab.do(chromedp.EmulateViewport(width, height))
}

// scheme is what the person's system asks for: light or dark.
func (tab *tab) scheme(name string) {
	tab.s.t.Helper()
	tab.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return err
	}))
}
