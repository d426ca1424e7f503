package config

import (
	"net"
	"slices"
	"strings"
	"testing"
)

// FuzzSettings: what is taken for a size, a list, an address or a host name is that, and
// means the same when it is written down and read again.
func FuzzSettings(f *testing.F) {
	for _, text := range []string{
		"64MiB", "4096", "1TB", "-1", "9223372036854775807", "9999999999999999999TiB", " 1 KiB ", "0x1", "+5", "a,b", " a ,, b", ",", "127.0.0.1:7401", "[::1]:0", ":80", "localhost:65536", "::1:1",
		"node-1.example.org", "Node", "a.example:80", "a/b", "user@a", "*.example", "a?b", "a#b", "", "[::1]", "localhost:1", "127.1:1", "[::ffff:127.0.0.1]:1", "localhost.:1",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var size, again Bytes
		if size.UnmarshalText([]byte(text)) == nil {
			if err := again.UnmarshalText([]byte(size.String())); err != nil || again != size || size < 0 {
				t.Fatalf("%q is %d, and %d after %s: %v", text, size, again, size, err)
			}
		}
		var list, same List
		if err := list.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := same.UnmarshalText([]byte(list.String())); err != nil || !slices.Equal(list, same) {
			t.Fatalf("%q is %q, and %q after that: %v", text, list, same, err)
		}
		for _, word := range list {
			if word == "" || strings.TrimSpace(word) != word || strings.Contains(word, ",") {
				t.Fatalf("%q has the word %q", text, word)
			}
		}
		if n, ok := Port(text); ok != Listenable(text) || ok && (n < 0 || n > maxPort) {
			t.Fatalf("%q has the port %d, %v", text, n, ok)
		}
		if Loopback(text) {
			host, _, _ := net.SplitHostPort(text)
			if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
				t.Fatalf("%q is taken for this machine", text)
			}
		}
		if HostName(text) && (text == "" || strings.ContainsAny(text, "/?#@*: \t\r\n\x00") || text != strings.ToLower(text)) {
			t.Fatalf("%q is taken for a host name", text)
		}
	})
}
