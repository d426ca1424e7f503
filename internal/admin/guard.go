package admin

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// guard decides by how a request came, not by where the listener was opened: one on
// 0.0.0.0 is reached over loopback too, by whoever is on the machine or in the pod.
type guard struct {
	hosts []string // names that the listener is reached by, beside those of everyone
}

// check lets through what reads, and no page of another site: neither one that asks
// for http://127.0.0.1 itself nor one whose name was rebound to this address. Of
// those only the Host tells. Whatever is answered is no page.
func (g *guard) check(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "the admin listener only answers GET and HEAD", http.StatusMethodNotAllowed)
		case !g.reachedBy(r.Host, overLoopback(r)):
			http.Error(w, "the admin listener is not reached by that name (Host); use its IP address, or put the name into QUOIT_ADMIN_HOSTS", http.StatusForbidden)
		case fromAnotherSite(r):
			http.Error(w, "pages of other sites may not ask the admin listener", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// reachedBy says whether a Host is none that a stranger may have given to this
// address: an IP address is nobody's name, localhost is always this machine, and a
// name without a dot is of this network. A port is not looked at: it may have been
// forwarded.
func (g *guard) reachedBy(host string, loopback bool) bool {
	name := strings.ToLower(host)
	if bare, _, err := net.SplitHostPort(host); err == nil {
		name = strings.ToLower(bare)
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	switch {
	case name == "":
		return false
	case name == "localhost", slices.Contains(g.hosts, name):
		return true
	}
	return !loopback && !strings.Contains(name, ".")
}

// onlyHere keeps what tells too much, and takes too long, to this machine.
func onlyHere(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !overLoopback(r) {
			http.Error(w, "profiles are served over loopback alone: ask on the machine itself, or forward a port to it (ssh -L, kubectl port-forward)", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

// overLoopback says whether the connection came to a loopback address. One without a
// TCP address is within the process.
func overLoopback(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return !ok || at.IP.IsLoopback()
}

// fromAnotherSite says whether a browser says that a page of somebody else asks.
func fromAnotherSite(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return true
	}
	origins := r.Header["Origin"]
	return len(origins) > 0 && !slices.Equal(origins, []string{"http://" + r.Host})
}
