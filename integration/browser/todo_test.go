package browser

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/client"
)

// items are what a list shows, with a mark where something is done.
func items(p *tab) []string {
	return value[[]string](p, `Array.from(document.querySelectorAll("#list li"), (li) => li.querySelector("span").textContent + (li.querySelector("input").checked ? " x" : ""))`)
}

// TestTwoTabsStayInStepWhileANodeJoins: both write, each sees what the other does, and
// meanwhile a third of the ring changes hands.
func TestTwoTabsStayInStepWhileANodeJoins(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	for i := range 300 { // so that moves take a moment
		s.put(fmt.Sprintf("other:%d", i), strings.Repeat("x", 1000))
	}
	w := s.browser()
	ada, grace := w.blank("/todo/"), w.blank("/todo/")
	for _, p := range []*tab{ada, grace} {
		p.says("#state", "Kept by 3 nodes.")
	}
	add := func(p *tab, text string) {
		t.Helper()
		p.fill("#text", text)
		p.click("#add button")
		p.until(text+" in the tab that wrote it", fmt.Sprintf(`Array.from(document.querySelectorAll("#list span")).some((s) => s.textContent === %s)`, quoted(text)))
		p.until("the field to be empty", `document.querySelector("#text").value === ""`)
	}
	add(ada, "before")
	if _, err := s.cluster.AddNode(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	want := []string{"before"}
	for i := range 20 {
		p := []*tab{ada, grace}[i%2]
		text := fmt.Sprintf("item %02d", i)
		add(p, text)
		want = append(want, text)
	}
	for i, p := range []*tab{ada, grace} {
		p.says("#state", "Kept by 4 nodes.")
		p.until(fmt.Sprintf("everything in tab %d", i), fmt.Sprintf(`document.querySelectorAll("#list li").length === %d`, len(want)))
		if got := items(p); !slices.Equal(got, want) {
			t.Errorf("tab %d shows %q", i, got)
		}
	}
	// One ticks, the other sees it; one removes, the other sees that too.
	ada.click("#list li:first-child input")
	grace.until("the tick", `document.querySelector("#list li").classList.contains("done")`)
	grace.click("#list li:first-child button")
	for i, p := range []*tab{ada, grace} {
		p.until(fmt.Sprintf("one less in tab %d", i), fmt.Sprintf(`document.querySelectorAll("#list li").length === %d`, len(want)-1))
		if got := items(p); !slices.Equal(got, want[1:]) {
			t.Errorf("tab %d shows %q", i, got)
		}
	}
	n := 0
	for _, err := range s.db.Scan(t.Context(), client.ScanOptions{Prefix: "todo:"}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != len(want)-1 {
		t.Errorf("the cluster has %d items, the tabs show %d", n, len(want)-1)
	}
}

// TestWhatIsNoItemEndsNoList: a value under such a key that another program has written is
// left out. One of them ended the list in every tab.
func TestWhatIsNoItemEndsNoList(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	for key, value := range map[string]string{"todo:1": "no JSON", "todo:2": "null", "todo:3": `{"text":"an item","done":true}`} {
		s.put(key, value)
	}
	p := s.browser().blank("/todo/")
	p.until("the item", `document.querySelectorAll("#list li").length === 1`)
	s.put("todo:4", "7")
	s.put("todo:5", `{"text":"another","done":false}`)
	p.until("the other item", `document.querySelectorAll("#list span").length > 1`)
	if got := items(p); !slices.Contains(got, "an item x") || !slices.Contains(got, "another") {
		t.Errorf("the list shows %q", got)
	}
	p.says("#state", "Kept by 1 node.")
}
