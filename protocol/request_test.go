package protocol_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

// TestAHugeRequestLeavesNothingBehind: while it comes it says what it needs, and nothing of
// that stays with a connection that is idle.
func TestAHugeRequestLeavesNothingBehind(t *testing.T) {
	const many = 100_000
	var p protocol.RequestParser
	request := []byte("*100000\r\n" + strings.Repeat("$0\r\n\r\n", many))
	if _, n, err := p.Next(request[:len(request)-1]); n != 0 || err != nil || p.Held() < 40*(many-1) {
		t.Errorf("half of it: %d bytes, %v, %d held", n, err, p.Held())
	}
	if args, n, err := p.Next(request); n != len(request) || err != nil || len(args) != many {
		t.Fatalf("all of it: %d bytes, %d arguments, %v", n, len(args), err)
	}
	if _, n, err := p.Next(nil); n != 0 || err != nil || p.Held() != 0 {
		t.Errorf("behind it: %d bytes, %v, %d held", n, err, p.Held())
	}
	if args, n, err := p.Next([]byte("PING\r\n")); n != 6 || err != nil || len(args) != 1 || p.Held() != 0 {
		t.Errorf("the next one: %d bytes, %v, %d held", n, err, p.Held())
	}
}

func TestRequests(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   string
		want [][]string
		rest string
	}{
		{"array", "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", [][]string{{"GET", "k"}}, ""},
		{"pipelined", "*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nQUIT\r\n", [][]string{{"PING"}, {"QUIT"}}, ""},
		{"any bytes", "*2\r\n$4\r\n\x00\r\n\xff\r\n$0\r\n\r\n", [][]string{{"\x00\r\n\xff", ""}}, ""},
		{"empty array", "*0\r\n*-1\r\nPING\n", [][]string{{"PING"}}, ""},
		{"both forms", "PING\r\n*1\r\n$4\r\nPING\r\nPING\n", [][]string{{"PING"}, {"PING"}, {"PING"}}, ""},
		{"empty lines", "\r\n\n  \t \r\nPING\r\n\r\n", [][]string{{"PING"}}, ""},
		{"a request and a part", "PING\r\n*2\r\n$3\r\nGET\r\n$1", [][]string{{"PING"}}, "*2\r\n$3\r\nGET\r\n$1"},
		{"a part of a line", "PUT k \"v", nil, "PUT k \"v"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, pieces := range [][]string{{tt.in}, bytewise(tt.in)} {
				got := feed(&protocol.RequestParser{}, pieces...)
				if got.err != nil || !reflect.DeepEqual(got.requests, tt.want) || got.rest != tt.rest {
					t.Errorf("in %d pieces: %q, rest %q, %v; want %q, rest %q", len(pieces), got.requests, got.rest, got.err, tt.want, tt.rest)
				}
			}
		})
	}
}

func TestBadRequests(t *testing.T) {
	small := protocol.Limits{MaxInline: 16, MaxArgs: 4, MaxKey: 8, MaxValue: 32, MaxRequest: 2000}
	for _, tt := range []struct {
		name, in string
		code     protocol.Code // "" for ErrCrossProtocol
		message  string
	}{
		{"length that overflows", "*1\r\n$9223372036854775807\r\n", "TOOLARGE", "a bulk string may have at most 1064 bytes"},
		{"count that burns time", "*8000000000\r\n", "TOOLARGE", "a request may have at most 4 elements"},
		{"count over the limit", "*5\r\n", "TOOLARGE", "a request may have at most 4 elements"},
		{"empty length", "*1\r\n$\r\n", "ERR", "invalid bulk length"},
		{"empty count", "*\r\n", "ERR", "invalid multibulk length"},
		{"null argument", "*1\r\n$-1\r\n", "ERR", "invalid bulk length"},
		{"negative count", "*-2\r\n", "ERR", "invalid multibulk length"},
		{"plus sign", "*1\r\n$+1\r\n", "ERR", "invalid bulk length"},
		{"zeros without end", "*1\r\n$00", "ERR", "invalid bulk length"},
		{"leading zero", "*01\r\n", "ERR", "invalid multibulk length"},
		{"CR without LF", "*1\rx", "ERR", "invalid multibulk length"},
		{"LF alone in an array", "*1\n", "ERR", "invalid multibulk length"},
		{"no bulk string", "*1\r\n:1\r\n", "ERR", "expected '$', got ':'"},
		{"longer than declared", "*1\r\n$3\r\nPINGx", "ERR", "a bulk string is not followed by CRLF"},
		{"sum over the limit", "*4\r\n$1000\r\n" + strings.Repeat("x", 1000) + "\r\n$1000\r\n", "TOOLARGE", "a request or reply may have at most 2000 bytes"},
		{"line without end", strings.Repeat("x", 17), "TOOLARGE", "a line may have at most 16 bytes; longer requests are sent as arrays"},
		{"long line", strings.Repeat("x", 17) + "\n", "TOOLARGE", "a line may have at most 16 bytes; longer requests are sent as arrays"},
		{"many words", "a b c d e\n", "TOOLARGE", "a request may have at most 4 elements"},
		{"open quote", "GET \"k\n", "ERR", "unbalanced quotes in request"},
		{"quote in a word", "GET \"k\"x\n", "ERR", "unbalanced quotes in request"},
		{"TLS", "\x16\x03\x01", "ERR", "a request begins with a word or '*', not with byte 0x16 (is the client speaking TLS to a plain port?)"},
		{"binary", "\xff", "ERR", "a request begins with a word or '*', not with byte 0xff (is the client speaking TLS to a plain port?)"},
		{"HTTP POST", "POST / \r\n", "", ""},
		{"HTTP header", "hOsT: x\r\n", "", ""},
		{"HTTP header alone", "Host:\n", "", ""},
		{"HTTP GET", "GET / HTTP/1.1\r\n", "", ""},
		{"HTTP PUT", " PUT k HTTP/1.0\n", "", ""},
		{"HTTP/2", "PRI * HTTP/2.0\r\n", "", ""},
		{"SSH", "SSH-2.0-Go\r\n", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, pieces := range [][]string{{tt.in}, bytewise(tt.in)} {
				got := feed(&protocol.RequestParser{Limits: small}, pieces...)
				if tt.code == "" {
					if !errors.Is(got.err, protocol.ErrCrossProtocol) {
						t.Errorf("%v, want ErrCrossProtocol", got.err)
					}
					continue
				}
				want := &protocol.ProtocolError{Code: tt.code, Message: tt.message}
				if !reflect.DeepEqual(got.err, error(want)) || got.requests != nil {
					t.Errorf("in %d pieces: %q, %v; want %v", len(pieces), got.requests, got.err, want)
				}
			}
		})
	}
}

// What looks like HTTP is only what an HTTP client sends, and in quotes anything goes.
func TestNotHTTP(t *testing.T) {
	for _, in := range []string{
		"POSTER x\n", "GET Host:\n", "GET post\n", "PUT k 'HTTP/1.1'\n", "HTTP/1.1\n",
		"*1\r\n$4\r\nPOST\r\n", "*3\r\n$3\r\nPUT\r\n$1\r\nk\r\n$8\r\nHTTP/1.1\r\n",
	} {
		if got := feed(&protocol.RequestParser{}, in); got.err != nil || len(got.requests) != 1 {
			t.Errorf("%q: %q, %v", in, got.requests, got.err)
		}
	}
}

func TestLimitsAreInclusive(t *testing.T) {
	limits := protocol.Limits{MaxInline: 16, MaxArgs: 2, MaxKey: 1, MaxValue: 1, MaxRequest: 1100}
	bulk := strings.Repeat("v", 1+1+1024) // value, key and the slack of a record
	for _, in := range []string{
		strings.Repeat("x", 16) + "\n",
		"*1\r\n$1026\r\n" + bulk + "\r\n",
		"*2\r\n$1026\r\n" + bulk + "\r\n$54\r\n" + strings.Repeat("x", 54) + "\r\n", // 1100 bytes
	} {
		if got := feed(&protocol.RequestParser{Limits: limits}, in); got.err != nil || len(got.requests) != 1 {
			t.Errorf("%.20q...: %d requests, %v", in, len(got.requests), got.err)
		}
	}
}

// A limit that was left out has its default, and none is without bound.
func TestLimitsAreNeverAbsent(t *testing.T) {
	p := protocol.RequestParser{Limits: protocol.Limits{MaxArgs: 3, MaxValue: math.MaxInt, MaxKey: -1}}
	feed(&p, "PING\r\n")
	want := protocol.DefaultLimits()
	want.MaxArgs, want.MaxValue = 3, 1<<30
	if p.Limits != want {
		t.Errorf("limits %+v, want %+v", p.Limits, want)
	}
	if got := feed(&p, "*1\r\n$1073741825\r\n"); protocol.AsError(got.err).Code != protocol.TOOLARGE {
		t.Errorf("a bulk string over 1 GiB: %v", got.err)
	}
}

func TestNeed(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int
	}{
		{"", 1},
		{"*", 1},
		{"*2\r\n$3\r\nGE", 3},
		{"*2\r\n$3\r\nGET\r\n", 1},
		{"*2\r\n$3\r\nGET\r\n$1000\r\n", 1002},
		{"*2\r\n$3\r\nGET\r\n$1000\r\n" + strings.Repeat("x", 1000), 2},
		{"*2\r\n$3\r\nGET\r\n$1000\r\n" + strings.Repeat("x", 1000) + "\r", 1},
		{"PING", 1},
	} {
		var p protocol.RequestParser
		if _, n, err := p.Next([]byte(tt.in)); n != 0 || err != nil || p.Need() != tt.want {
			t.Errorf("%.30q: n=%d, need %d, %v; want %d", tt.in, n, p.Need(), err, tt.want)
		}
	}
	if n := new(protocol.RequestParser).Need(); n != 1 {
		t.Errorf("a new parser needs %d", n)
	}
}

// An incomplete request is not parsed again from its start: what has been
// parsed may even be overwritten.
func TestIncompleteRequestGoesOnWhereItStopped(t *testing.T) {
	whole := []byte("*1000\r\n" + strings.Repeat("$1\r\nx\r\n", 1000))
	cut := len(whole) - 3
	var p protocol.RequestParser
	if _, n, err := p.Next(whole[:cut]); n != 0 || err != nil {
		t.Fatalf("n=%d, %v", n, err)
	}
	garbled := []byte(strings.Repeat("!", 5000) + string(whole[5000:]))
	garbled[0] = '*'
	args, n, err := p.Next(garbled)
	if len(args) != 1000 || n != len(whole) || err != nil {
		t.Errorf("%d args, n=%d, %v", len(args), n, err)
	}

	p.Reset()
	line := []byte("PUT k " + strings.Repeat("v", 100))
	if _, n, err := p.Next(line); n != 0 || err != nil {
		t.Fatalf("n=%d, %v", n, err)
	}
	line[10] = '\n' // already searched
	if args, n, err := p.Next(append(line, '\n')); len(args) == 0 || n != len(line)+1 || err != nil {
		t.Errorf("%q, n=%d, %v", args, n, err)
	}
}

func TestIncompleteRequestIsNotTouched(t *testing.T) {
	for _, in := range []string{`PUT k "a\tb\x41`, `PUT k "a\tb\x41"`, "*2\r\n$3\r\nGET\r\n$5\r\na\\tb"} {
		buf := []byte(in)
		var p protocol.RequestParser
		if _, n, err := p.Next(buf); n != 0 || err != nil || string(buf) != in {
			t.Errorf("%q became %q (n=%d, %v)", in, buf, n, err)
		}
	}
}

// Appending to an argument must not write over the request behind it.
func TestArgumentsHaveNoRoomToGrow(t *testing.T) {
	for _, in := range []string{"*1\r\n$4\r\nPING\r\nQUIT\r\n", "PING\r\nQUIT\r\n", "'PING'\r\nQUIT\r\n"} {
		var p protocol.RequestParser
		buf := []byte(in)
		args, n, _ := p.Next(buf)
		_ = append(args[0], "------"...)
		if next, _, err := p.Next(buf[n:]); err != nil || string(next[0]) != "QUIT" {
			t.Errorf("%q: %q, %v", in, next, err)
		}
	}
}

func TestResetForgets(t *testing.T) {
	var p protocol.RequestParser
	feed(&p, "*3\r\n$3\r\nPUT\r\n$1")
	p.Reset()
	if got := feed(&p, "PING\r\n"); !reflect.DeepEqual(got.requests, [][]string{{"PING"}}) {
		t.Errorf("%q, %v", got.requests, got.err)
	}
}

// One request of many arguments does not make a connection expensive for ever.
func TestLargeRequestIsForgotten(t *testing.T) {
	const many = 100_000
	big := fmt.Sprintf("*%d\r\n", many) + strings.Repeat("$0\r\n\r\n", many)
	var p protocol.RequestParser
	if got := feed(&p, big); len(got.requests) != 1 || len(got.requests[0]) != many {
		t.Fatalf("%d requests, %v", len(got.requests), got.err)
	}
	args, _, err := p.Next([]byte("PING\r\n"))
	if err != nil || cap(args) > 1024 {
		t.Errorf("room for %d arguments is kept, %v", cap(args), err)
	}
}
