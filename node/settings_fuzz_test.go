package node

import (
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// FuzzGatewayURL: what a node takes for the URL of its own gateway is one that browsers
// can dial and that others can read in a topology.
func FuzzGatewayURL(f *testing.F) {
	for _, text := range []string{"wss://node-1.example.org", "ws://127.0.0.1:7481/", "wss://a/b?c", "wss://a#b", "wss://me@a", "https://a", "ws:a", "ws://", "ws://[::1]:1/v1/node/a", "wss://a b", "wss://\x00", "WSS://A", "wss://a:99999"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := Config{GatewayURL: text}
		published, err := c.gatewayURL("10.0.0.1:7401", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7481}, false)
		if err != nil {
			return
		}
		u, err := url.Parse(published)
		if err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Hostname() == "" || u.User != nil || strings.ContainsAny(published, "?# \r\n") {
			t.Fatalf("%q is published as %q: %v", text, published, err)
		}
		if err := (ring.Endpoint{Kind: ring.WebSocket, URL: published}).Validate(); err != nil {
			t.Fatalf("%q is published as %q: %v", text, published, err)
		}
	})
}

// FuzzMemory: what is taken for a share or a size means the same when it is written down
// and read again, and is never more than there is or less than nothing.
func FuzzMemory(f *testing.F) {
	for _, text := range []string{"80%", "100%", "0%", "101%", "4GiB", "0", "-1", "%", "+5%", "05%", " 80%", "9223372036854775807"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var m, again Memory
		if m.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(m.String())); err != nil || again != m {
			t.Fatalf("%q is %+v, and %+v after %s: %v", text, m, again, m, err)
		}
		const available = 1 << 33
		if of := m.of(available); of < 0 || m.Percent > 0 && of > available {
			t.Fatalf("%q of %d is %d", text, available, of)
		}
	})
}
