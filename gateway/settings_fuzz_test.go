package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzNames: the names and origins that a gateway is told are taken only if they are such as
// browsers send, and then each lets in itself and nothing that looks like it.
func FuzzNames(f *testing.F) {
	for _, text := range []string{
		"localhost:7480", "app.example.org", "App.example.org", "*.example.org", "a/b", "a@b", "[::1]:7480", "a b", "a?b", "a#b", "http://a", "https://a:8443", "https://a/", "ftp://a", "null", "", "http://", "a:b:c", "a:99999", "http://a@b", "\x00", "xn--a", "a.",
	} {
		f.Add(text, "evil.example")
	}
	f.Fuzz(func(t *testing.T, text, other string) {
		if isHost(text) && (strings.ContainsAny(text, "/?#@*, \t\r\n\x00") || text != strings.ToLower(text)) {
			t.Fatalf("%q is taken for a host", text)
		}
		if u, err := url.Parse(text); isOrigin(text) && (err != nil || !isHost(u.Host) || text != u.Scheme+"://"+u.Host) {
			t.Fatalf("%q is taken for an origin", text)
		}
		g := &guard{hosts: List{text}, origins: List{text}, stats: &stats{}}
		if g.fromHere([]string{other}) != (other == text) || g.fromHere([]string{text, text}) {
			t.Fatalf("%q lets pages of %q in", text, other)
		}
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = other
		g.check(http.NotFoundHandler()).ServeHTTP(w, r)
		if in := w.Code == http.StatusNotFound; in != (strings.ToLower(other) == text) {
			t.Fatalf("%q is reached by %q: %d", text, other, w.Code)
		}
		if accepts(text, "br") && !strings.Contains(strings.ToLower(text), "br") {
			t.Fatalf("%q is sent br", text)
		}
	})
}
