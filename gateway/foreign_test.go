package gateway

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestTheDoorClosesClientsOfOtherProtocols at their first line, without an answer to
// what may have come from a page.
func TestTheDoorClosesClientsOfOtherProtocols(t *testing.T) {
	_, g := both(t, 1, options{})
	for what, c := range map[string]struct{ send, want string }{
		"a form in a page": {"POST / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		"a header alone":   {"Host: x\r\n", ""},
		"an image":         {"GET /x HTTP/1.1\r\n", ""},
		"SSH":              {"SSH-2.0-OpenSSH_9.6\r\n", ""},
		"TLS":              {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "-ERR Protocol error: "},
	} {
		nc, err := net.Dial("tcp", g.RedisAddr())
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(nc, c.send+"SET canary 1\r\n"); err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(nc)
		if !strings.HasPrefix(string(got), c.want) || c.want == "" && len(got) > 0 || strings.Count(string(got), "\r\n") > 1 {
			t.Errorf("%s: %q, want %q and the end", what, got, c.want)
		}
		nc.Close()
	}
	if got := g.redis().do("GET", "canary"); got == "1" {
		t.Errorf("what came behind was done: %s", got)
	}
}

// TestNamesThatLookLikeOursAreRefused: whatever a page's name was rebound from, its Host
// is not one of the gateway's.
func TestNamesThatLookLikeOursAreRefused(t *testing.T) {
	g := start(t, "127.0.0.1:1", options{seams: func(s *Seams) { s.Assets = files() }})
	_, port, _ := net.SplitHostPort(g.Addr())
	for host, want := range map[string]int{
		"localhost:" + port:              200,
		"127.0.0.1:" + port:              200,
		"LOCALHOST:" + port:              200,
		"":                               403,
		":" + port:                       403,
		"localhost":                      403,
		"localhost:1":                    403,
		"localhost.evil.tld:" + port:     403,
		"127.0.0.1.evil.tld:" + port:     403,
		"evil.tld:" + port:               403,
		"localhost.:" + port:             403,
		"127.0.0.1.:" + port:             403,
		"127.1:" + port:                  403,
		"2130706433:" + port:             403,
		"0.0.0.0:" + port:                403,
		"[::ffff:127.0.0.1]:" + port:     403,
		"169.254.169.254:" + port:        403,
		"localhost:" + port + "@evil":    403,
		"localhost:" + port + ",evil":    403,
		"xn--localhost-evil.tld:" + port: 403,
	} {
		for _, path := range []string{"/", "/v1/status"} {
			if status, _, _ := g.get("GET " + path + " HTTP/1.1\nHost: " + host + "\n\n"); want == 403 && status != 403 && status != 400 || want == 200 && path == "/" && status != 200 {
				t.Errorf("Host %q, %s: %d, want %d", host, path, status, want)
			}
		}
	}
	for what, text := range map[string]string{
		"two":  "GET / HTTP/1.1\nHost: " + g.Addr() + "\nHost: evil.tld\n\n",
		"none": "GET / HTTP/1.1\n\n",
		"old":  "GET / HTTP/1.0\n\n",
	} {
		if status, _, _ := g.get(text); status != 400 && status != 403 {
			t.Errorf("%s Host: %d", what, status)
		}
	}
}

// TestCompressionIsNeverAgreedOn: a message takes as much of the budget as it has bytes.
func TestCompressionIsNeverAgreedOn(t *testing.T) {
	_, g := both(t, 1, options{})
	for _, offer := range []string{"permessage-deflate", "permessage-deflate; client_max_window_bits, permessage-deflate", "x-webkit-deflate-frame"} {
		status, h, _ := g.get(g.handshake("/v1/cluster", "+", "Sec-WebSocket-Extensions: "+offer))
		if status != 101 || h.Get("Sec-WebSocket-Extensions") != "" {
			t.Errorf("%s: %d, agreed on %q", offer, status, h.Get("Sec-WebSocket-Extensions"))
		}
	}
}
