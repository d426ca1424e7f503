package gateway

import (
	"net/url"
	"strings"

	"github.com/quoitdb/quoit/ring"
)

// The Content-Security-Policy of every answer: scripts, styles and connections of
// this site and nothing inline; WebAssembly may be compiled, which is less than
// eval. Pages may also connect to the nodes that publish an endpoint, and to nothing
// else.
const (
	policyBegin = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'"
	policyEnd   = "; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// policyBytes bounds the sources in a policy: browsers and proxies take headers of a
// few times this. A page reaches nodes beyond it through its gateway.
const policyBytes = 16 << 10

// policyFor is the policy while a topology holds.
func policyFor(nodes []ring.Node) string {
	var b strings.Builder
	b.WriteString(policyBegin)
	seen := make(map[string]bool)
	for _, n := range nodes {
		for _, e := range n.Endpoints {
			source := sourceOf(e)
			if source == "" || seen[source] || b.Len()+len(source) > len(policyBegin)+policyBytes {
				continue
			}
			seen[source] = true
			b.WriteString(" " + source)
		}
	}
	b.WriteString(policyEnd)
	return b.String()
}

// sourceOf is an endpoint as a source expression, "" for one that a page cannot dial
// or that has no such form: an IPv6 host, say. A member wrote it, so it is put
// together anew of what was understood: a semicolon in it would begin a rule of its
// own.
func sourceOf(e ring.Endpoint) string {
	u, err := url.Parse(e.URL)
	if e.Kind != ring.WebSocket || err != nil || u.Scheme != "ws" && u.Scheme != "wss" || !made(u.Host, ".-:") || u.Hostname() == "" {
		return ""
	}
	path := u.EscapedPath()
	if !made(path, "./-:_~%") {
		path = ""
	}
	return u.Scheme + "://" + u.Host + path
}

// made says whether text is made of letters, digits and some other characters.
func made(text, others string) bool {
	for _, c := range []byte(text) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}
