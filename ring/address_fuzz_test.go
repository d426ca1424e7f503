package ring

import (
	"net"
	"strconv"
	"testing"
)

// FuzzAddress: what is taken for the address of a node can be dialled, and says its port in
// one way only.
func FuzzAddress(f *testing.F) {
	for _, text := range []string{"10.0.0.1:7401", "[::1]:1", "::1:1", "a:0", "a:65536", "a:07", ":1", "a b:1", "a#:1", "[a]:1", "[::1:1", "a:b:1", "node-1.example.org:7401", "a/b:1", "[::1%25eth0]:1", "a@b:1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if ValidateAddress(text) != nil {
			return
		}
		host, port, err := net.SplitHostPort(text)
		if err != nil || host == "" {
			t.Fatalf("%q cannot be dialled: %v", text, err)
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port {
			t.Fatalf("%q has the port %q", text, port)
		}
		if net.JoinHostPort(host, port) != text {
			t.Fatalf("%q is %q, too", text, net.JoinHostPort(host, port))
		}
	})
}
