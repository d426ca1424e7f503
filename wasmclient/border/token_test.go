package border

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/client"
)

// TestAPageShowsItsToken to the gateway and to each node, before anything else, and is
// asked for it each time.
func TestAPageShowsItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tokens, w.good, w.purse = 7, map[string]bool{"good": true}, []tokenAnswer{{token: "good"}}
		db := w.open(true, "ws://g1/")
		if status, r := w.call(opGet, db, appendBytes(nil, "k"), nil); status != Missing {
			t.Errorf("a get: %s", text(r))
		}
		if status, r := w.call(opGet, db, appendBytes(nil, "not:1"), nil); status != Failed || !strings.HasPrefix(text(r), "NOPERM: ") {
			t.Errorf("a key that is not for it: %d", status)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.Equal(w.first, []string{"AUTH good"}) || w.asked != 2 {
			t.Errorf("the gateway first heard %q; the page was asked %d times", w.first, w.asked)
		}
	})
}

func TestAPageWithoutATokenIsToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.good = map[string]bool{"good": true}
		start := time.Now()
		_, c := w.begin(opOpen, 0, appendU32(appendU32(appendFlag(appendBytes(appendU32(nil, 1), "ws://g1/"), true), 1), 0), nil)
		a := <-c
		said := text(&reader{rest: a.payload})
		if a.status != Failed || !strings.HasPrefix(said, "NOAUTH: ") || !strings.Contains(said, "a sentence") {
			t.Errorf("%d %s", a.status, said)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// TestATokenIsRenewed when the node, or the gateway, says that it is not valid any more.
func TestATokenIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tokens, w.good, w.purse = 1, map[string]bool{"one": true}, []tokenAnswer{{token: "one"}}
		db := w.open(true, "ws://g1/")
		if status, _ := w.call(opGet, db, appendBytes(nil, "k"), nil); status != Missing {
			t.Error("the first token is not taken")
		}
		w.mu.Lock()
		w.good, w.purse = map[string]bool{"two": true}, []tokenAnswer{{token: "two"}}
		feed := w.feeds[0]
		w.mu.Unlock()
		_ = feed.Close()
		if status, r := w.call(opGet, db, appendBytes(nil, "k"), nil); status != Missing {
			t.Errorf("with the second token: %s", text(r))
		}
		<-time.After(time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.Equal(w.first, []string{"AUTH one", "AUTH two"}) {
			t.Errorf("the gateway heard %q", w.first)
		}
	})
}

// TestATokenFunctionThatFails is tried again, and in the end the call's error.
func TestATokenFunctionThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tokens, w.good = 1, map[string]bool{"good": true}
		w.purse = []tokenAnswer{{problem: "the login page is away"}, {problem: "and still"}, {token: "good"}}
		db := w.open(true, "ws://g1/")
		w.mu.Lock()
		w.good, w.purse = map[string]bool{}, []tokenAnswer{{problem: "the login page is away"}}
		w.mu.Unlock()
		status, r := w.call(opGet, db, appendBytes(nil, "k"), nil)
		if said := text(r); status != Failed || !strings.Contains(said, "token function failed: the login page is away") {
			t.Errorf("%d %s", status, said)
		}
		w.border.Answer(12345, "nobody asked", "")
	})
}

func TestWhatTheEndOfAFeedMeans(t *testing.T) {
	f := &feed{db: &database{}, gateways: []string{"ws://g1/"}}
	err := f.refusal(&CloseError{Code: closeUnauthenticated, Reason: "why"})
	if !errors.Is(err, client.ErrUnauthenticated) || !strings.Contains(err.Error(), "why") {
		t.Errorf("got %v", err)
	}
	other := &CloseError{Code: 4000}
	if got := f.refusal(other); errors.Is(got, client.ErrUnauthenticated) {
		t.Error("another end became one about tokens")
	}
}
