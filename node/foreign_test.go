package node

import (
	"io"
	"strings"
	"testing"
	"time"
)

// TestClientsOfOtherProtocolsAreClosedAtTheirFirstLine: nothing behind it is read as a
// command, and nobody fills the log with them.
func TestClientsOfOtherProtocolsAreClosedAtTheirFirstLine(t *testing.T) {
	s := startSolo(t, soloOptions{})
	for what, c := range map[string]struct{ send, want string }{
		"a form in a page": {"POST / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		"a header alone":   {"Host: 127.0.0.1:7401\r\n", ""},
		"an image":         {"GET /x HTTP/1.1\r\n", ""},
		"HTTP/2":           {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""},
		"SSH":              {"SSH-2.0-OpenSSH_9.6\r\n", ""},
		"TLS":              {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "-ERR Protocol error: "},
	} {
		for range 20 {
			nc := s.dial()
			_ = nc.SetDeadline(time.Now().Add(time.Minute))
			nc.send(c.send + "SET canary 1\r\nSET canary 2\r\n")
			got, _ := io.ReadAll(nc.Conn)
			if !strings.HasPrefix(string(got), c.want) || c.want == "" && len(got) > 0 || strings.Count(string(got), "\r\n") > 1 {
				t.Fatalf("%s: %q, want %q and the end", what, got, c.want)
			}
		}
	}
	if got := s.dial().do("GET canary"); got != "(nil)" {
		t.Errorf("what came behind was done: %s", got)
	}
	if n := strings.Count(s.logs.String(), "speaks another protocol"); n < 1 || n >= 100 {
		t.Errorf("%d lines in the log for 100 connections", n)
	}
	if n := s.stats.crossProtocol.Load(); n != 100 {
		t.Errorf("counted %d", n)
	}
}
