package gateway

import (
	"net"
	"net/http"
	"slices"
	"strings"
)

// guard keeps pages of other sites out. A browser sends the page's Origin with
// every WebSocket handshake, whoever wrote the page, and lets it through without
// asking the server: the server is the only one who can refuse. And a page whose
// name was rebound to this machine's address passes every check of origins, for
// it is of the same origin; only the Host tells.
type guard struct {
	hosts, origins []string
	stats          *stats
}

// newGuard fills in what the settings leave open: the loopback names with the
// port that the gateway listens on, and for each host the origin of its pages, which is
// https where the gateway speaks TLS.
func newGuard(c *Config, at net.Addr, s *stats) *guard {
	g := &guard{hosts: c.Hosts, origins: c.Origins, stats: s}
	if len(g.hosts) == 0 {
		g.hosts = loopbackHosts(at, c.Public.Enabled())
	}
	if len(g.origins) > 0 {
		return g
	}
	g.origins = originsOf(g.hosts, len(c.Hosts) > 0)
	if c.Public.Enabled() {
		g.origins = slices.DeleteFunc(originsOf(g.hosts, true), func(o string) bool { return strings.HasPrefix(o, "http:") })
	}
	return g
}

// check refuses with 403 and says what would have to be set.
func (g *guard) check(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !slices.Contains(g.hosts, strings.ToLower(r.Host)):
			g.stats.wrongHost.Add(1)
			http.Error(w, "this gateway is not reached by that name (Host); the names that it has are in QUOIT_GATEWAY_HOSTS", http.StatusForbidden)
		case !g.fromHere(r.Header["Origin"]):
			g.stats.wrongOrigin.Add(1)
			http.Error(w, "pages of that origin may not use this gateway; the origins that may are in QUOIT_GATEWAY_ORIGINS", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// fromHere says whether a request comes from a page that may, or from no page: a
// program says nothing about its origin, and needs no browser to do harm.
func (g *guard) fromHere(origins []string) bool {
	switch len(origins) {
	case 0:
		return true
	case 1:
		return slices.Contains(g.origins, origins[0])
	}
	return false
}
