package auth

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

// guarded is a guard that takes tokens of a key, and where it logs.
func guarded(t *testing.T) (*Guard, Key, *strings.Builder) {
	t.Helper()
	k, log := newKey(t, HS256, "k1"), &strings.Builder{}
	return NewGuard("node", NewKeys(k), slog.New(slog.NewTextHandler(log, nil))), k, log
}

func TestAGuestBeginsAsAStrangerAndIsWhatItsTokenSays(t *testing.T) {
	g, k, _ := guarded(t)
	c := g.Guest()
	at := noon.UnixMilli()
	if err := c.Authorize(at, protocol.CmdGet, request("GET", "a")); err == nil || err.Code != protocol.NOAUTH {
		t.Errorf("a stranger: %v", err)
	}
	if err := c.Login([]byte(sign(t, k, lasting(KeyScope("a", ReadAccess)))), noon, "here"); err != nil {
		t.Fatal(err)
	}
	if err := c.Authorize(at, protocol.CmdGet, request("GET", "a")); err != nil {
		t.Errorf("in scope: %v", err)
	}
	if err := c.Authorize(at, protocol.CmdGet, request("GET", "b")); err == nil || err.Code != protocol.NOPERM {
		t.Errorf("out of scope: %v", err)
	}
	c.Forget()
	if c.Who().Kind() != AnonymousKind {
		t.Error("it is still known")
	}
	c.Become(Member(RoleManager, "manager"))
	if c.Who().Role() != RoleManager {
		t.Error("it is not the manager")
	}
	if f := g.Figures(); f.Denied["noauth"] != 1 || f.Denied["noperm"] != 1 {
		t.Errorf("counted %v", f)
	}
}

// TestAStrangerIsNotToldWhatIsWrong with a request, and neither is one whose token has
// ended.
func TestAStrangerIsNotToldWhatIsWrong(t *testing.T) {
	g, k, _ := guarded(t)
	wrong := &protocol.Error{Code: protocol.ERR, Message: "wrong number of arguments"}
	c := g.Guest()
	if err := c.OrStranger(noon.UnixMilli(), wrong); err.Code != protocol.NOAUTH {
		t.Errorf("a stranger is told %v", err)
	}
	if err := c.Login([]byte(sign(t, k, lasting())), noon, "here"); err != nil {
		t.Fatal(err)
	}
	if err := c.OrStranger(noon.UnixMilli(), wrong); err != wrong {
		t.Errorf("who is known is told %v", err)
	}
	if err := c.OrStranger(noon.Add(2*time.Hour).UnixMilli(), wrong); err.Code != protocol.NOAUTH {
		t.Errorf("who has ended is told %v", err)
	}
	open := NewGuard("node", nil, slog.New(slog.DiscardHandler)).Guest()
	if err := open.OrStranger(noon.UnixMilli(), wrong); err != wrong {
		t.Errorf("without authentication: %v", err)
	}
}

// TestLimitsBelongToATokenNotToAConnection, also where two issuers have had the same idea
// for its name.
func TestLimitsBelongToATokenNotToAConnection(t *testing.T) {
	k, other := newKey(t, HS256, "k1"), newKey(t, HS256, "k2")
	g := NewGuard("node", NewKeys(k, other), slog.New(slog.DiscardHandler))
	claims := lasting(PrefixScope("", ReadAccess))
	claims.Connections, claims.Rate = 2, 3
	token := []byte(sign(t, k, claims))
	a, b, c, d := g.Guest(), g.Guest(), g.Guest(), g.Guest()
	for _, guest := range []*Guest{&a, &b} {
		if err := guest.Login(token, noon, "here"); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Login(token, noon, "here"); err == nil || err.Code != protocol.OVERLOADED || c.Who().Kind() != AnonymousKind {
		t.Errorf("a third connection: %v", err)
	}
	if err := d.Login([]byte(sign(t, other, claims)), noon, "here"); err != nil {
		t.Errorf("a token of another issuer: %v", err)
	}
	get := func(c *Guest, after time.Duration) bool {
		return c.Authorize(noon.Add(after).UnixMilli(), protocol.CmdGet, request("GET", "a")) == nil
	}
	if !get(&a, 0) || !get(&b, 0) || !get(&a, 0) || get(&b, 0) || get(&a, 0) {
		t.Error("three requests a second are not three")
	}
	if !get(&d, 0) {
		t.Error("the rate of one issuer's token holds for another's")
	}
	if !get(&b, time.Second) {
		t.Error("a second later there is no room")
	}
	for _, guest := range []*Guest{&a, &b, &c, &d} {
		guest.Forget()
		guest.Forget() // a second time changes nothing
	}
	if n := g.Figures().Tokens; n != 0 {
		t.Errorf("%d tokens are still remembered", n)
	}
}

// TestWhoComesAgainHasNoNewRate: neither who connects anew, nor who shows the same token
// once more. A token is remembered until its rate has nothing to remember, and no longer.
func TestWhoComesAgainHasNoNewRate(t *testing.T) {
	g, k, _ := guarded(t)
	claims := lasting(PrefixScope("", ReadAccess))
	claims.Rate = 3
	token := []byte(sign(t, k, claims))
	requests := func(at time.Time) (taken int) {
		for range 5 { // connections
			c := g.Guest()
			for range 5 {
				if err := c.Login(token, at, "here"); err != nil {
					t.Fatal(err)
				}
				if c.Authorize(at.UnixMilli(), protocol.CmdGet, request("GET", "a")) == nil {
					taken++
				}
			}
			c.Forget()
		}
		return taken
	}
	for second := range 3 {
		if n := requests(noon.Add(time.Duration(second) * time.Second)); n != claims.Rate {
			t.Errorf("second %d: %d requests were taken, want %d", second, n, claims.Rate)
		}
	}
	if n := g.Figures().Tokens; n != 0 {
		t.Errorf("%d tokens are said to have a connection", n)
	}
	other := lasting()
	other.ID, other.Rate = "another", 1
	c := g.Guest()
	if err := c.Login([]byte(sign(t, k, other)), noon.Add(4*time.Second), "here"); err != nil {
		t.Fatal(err)
	}
	if n := len(g.shares.by) + len(g.shares.left); n != 1 {
		t.Errorf("%d are remembered, want the one that is here", n)
	}
}

// TestAWrongRequestCountsForTheRate, too.
func TestAWrongRequestCountsForTheRate(t *testing.T) {
	g, k, _ := guarded(t)
	claims := lasting()
	claims.Rate = 2
	c := g.Guest()
	if err := c.Login([]byte(sign(t, k, claims)), noon, "here"); err != nil {
		t.Fatal(err)
	}
	wrong := protocol.UnknownCommand([]byte("NONSENSE"))
	for n, want := range []protocol.Code{protocol.ERR, protocol.ERR, protocol.OVERLOADED} {
		if err := c.OrStranger(noon.UnixMilli(), wrong); err.Code != want {
			t.Errorf("request %d: %v, want %s", n, err, want)
		}
	}
	if n := g.Figures().Denied["rate"]; n != 1 {
		t.Errorf("%d counted", n)
	}
}

// TestTheNewestTokenWithANameSetsTheRate for all of its name.
func TestTheNewestTokenWithANameSetsTheRate(t *testing.T) {
	g, k, _ := guarded(t)
	slow, fast := lasting(PrefixScope("", ReadAccess)), lasting(PrefixScope("", ReadAccess))
	slow.Rate, fast.Rate = 1, 100
	a, b := g.Guest(), g.Guest()
	if err := a.Login([]byte(sign(t, k, slow)), noon, "here"); err != nil {
		t.Fatal(err)
	}
	if err := b.Login([]byte(sign(t, k, fast)), noon, "here"); err != nil {
		t.Fatal(err)
	}
	at, n := noon.Add(time.Second).UnixMilli(), 0
	for range 200 {
		if a.Authorize(at, protocol.CmdGet, request("GET", "a")) == nil {
			n++
		}
	}
	if n < 90 || n > 110 {
		t.Errorf("%d requests in a second, want about 100", n)
	}
}

// TestTokensThatAreNotTakenAreCountedAndTheLogIsNotFilled, nor does a token stand in it.
func TestTokensThatAreNotTakenAreCountedAndTheLogIsNotFilled(t *testing.T) {
	g, k, log := guarded(t)
	c := g.Guest()
	expired := sign(t, k, lasting())
	for range 100 {
		if err := c.Login([]byte("nonsense.of.somebody"), noon, "192.0.2.1:4711"); err == nil || err.Code != protocol.NOAUTH {
			t.Fatalf("got %v", err)
		}
		_ = c.Login([]byte(expired), noon.Add(2*time.Hour), "192.0.2.2:4711")
	}
	if f := g.Figures(); f.NotTaken["invalid"] != 100 || f.NotTaken["expired"] != 100 {
		t.Errorf("counted %v", f.NotTaken)
	}
	text := log.String()
	if lines := strings.Count(text, "\n"); lines != 2 {
		t.Errorf("%d lines in the log, want one a second:\n%s", lines, text)
	}
	if strings.Contains(text, "nonsense") || strings.Contains(text, expired) || !strings.Contains(text, "192.0.2.1:4711") {
		t.Errorf("the log says %s", text)
	}
	var metrics strings.Builder
	g.WriteMetrics(&metrics)
	for _, want := range []string{`quoit_auth_failures_total{reason="expired"} 100`, `quoit_denied_total{reason="noauth"} 0`, "quoit_auth_keys 1"} {
		if !strings.Contains(metrics.String(), want) {
			t.Errorf("the metrics lack %s:\n%s", want, metrics.String())
		}
	}
}
