package admin

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// FuzzHost: over loopback, where pages of this machine's browser ask, the admin listener is
// reached by addresses, localhost and the names that were set; by no other name.
func FuzzHost(f *testing.F) {
	for _, host := range []string{
		"127.0.0.1:7501", "localhost", "LOCALHOST:1", "[::1]:7501", "::1", "evil.example", "evil.example:7501", "node-1.example.org", "NODE-1.example.org:80", "node-1", "", ":80", "127.0.0.1.evil.example",
		"[evil.example]", "127.0.0.1@evil.example", "localhost.", "[::1%evil.example]:1", "0x7f.1", "a:b:c",
	} {
		f.Add(host)
	}
	g := &guard{hosts: []string{"node-1.example.org"}}
	f.Fuzz(func(t *testing.T, host string) {
		if !g.reachedBy(host, true) {
			return
		}
		bare := host
		if name, _, err := net.SplitHostPort(host); err == nil {
			bare = name
		}
		name := strings.ToLower(bare)
		if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err != nil && name != "localhost" && name != "node-1.example.org" {
			t.Fatalf("the admin listener is reached by %q", host)
		}
		if !g.reachedBy(host, false) {
			t.Fatalf("it is reached by %q over loopback, and not from elsewhere", host)
		}
	})
}
