package protocol_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func simple(s string) protocol.Reply { return protocol.Reply{Kind: '+', Bytes: []byte(s)} }
func bulk(s string) protocol.Reply   { return protocol.Reply{Kind: '$', Bytes: []byte(s)} }
func integer(n int64) protocol.Reply { return protocol.Reply{Kind: ':', Int: n} }

func array(of ...protocol.Reply) protocol.Reply { return protocol.Reply{Kind: '*', Array: of} }

// feedReplies is feed for replies. They are copied, for the next call of Next
// ends their life.
func feedReplies(p *protocol.ReplyParser, pieces ...string) (replies []protocol.Reply, rest string, err error) {
	var buf []byte
	for _, piece := range pieces {
		buf = append(bytes.Clone(buf), piece...)
		for {
			r, n, err := p.Next(buf)
			if err != nil {
				return replies, "", err
			}
			if n == 0 {
				break
			}
			replies = append(replies, clone(r))
			buf = buf[n:]
		}
	}
	return replies, string(buf), nil
}

func clone(r protocol.Reply) protocol.Reply {
	r.Bytes = bytes.Clone(r.Bytes)
	if r.Array != nil {
		elements := make([]protocol.Reply, len(r.Array))
		for i := range r.Array {
			elements[i] = clone(r.Array[i])
		}
		r.Array = elements
	}
	return r
}

func TestReplies(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []protocol.Reply
		rest     string
	}{
		{"simple", "+OK\r\n", []protocol.Reply{simple("OK")}, ""},
		{"empty simple", "+\r\n", []protocol.Reply{simple("")}, ""},
		{"error", "-ERR no\r\n", []protocol.Reply{{Kind: '-', Bytes: []byte("ERR no")}}, ""},
		{"integers", ":0\r\n:-9223372036854775808\r\n", []protocol.Reply{integer(0), integer(-1 << 63)}, ""},
		{"bulk", "$4\r\na\r\nb\r\n$0\r\n\r\n", []protocol.Reply{bulk("a\r\nb"), bulk("")}, ""},
		{"nulls", "$-1\r\n*-1\r\n", []protocol.Reply{{Kind: '$', Null: true}, {Kind: '*', Null: true}}, ""},
		{"array", "*2\r\n$1\r\na\r\n$-1\r\n", []protocol.Reply{array(bulk("a"), protocol.Reply{Kind: '$', Null: true})}, ""},
		{"empty array", "*0\r\n", []protocol.Reply{array()}, ""},
		{"nested", "*3\r\n*0\r\n*2\r\n:1\r\n*1\r\n+x\r\n:2\r\n+y\r\n", []protocol.Reply{
			array(array(), array(integer(1), array(simple("x"))), integer(2)), simple("y"),
		}, ""},
		{"a part", "+OK\r\n*2\r\n:1\r\n", []protocol.Reply{simple("OK")}, "*2\r\n:1\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for i := range tt.want {
				tt.want[i] = clone(tt.want[i])
			}
			for _, pieces := range [][]string{{tt.in}, bytewise(tt.in)} {
				got, rest, err := feedReplies(&protocol.ReplyParser{}, pieces...)
				if err != nil || rest != tt.rest || !sameReplies(got, tt.want) {
					t.Errorf("in %d pieces: %+v, rest %q, %v", len(pieces), got, rest, err)
				}
			}
		})
	}
}

// sameReplies is DeepEqual to which an empty array is the same as none.
func sameReplies(a, b []protocol.Reply) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if x.Kind != y.Kind || x.Null != y.Null || x.Int != y.Int || !bytes.Equal(x.Bytes, y.Bytes) || !sameReplies(x.Array, y.Array) {
			return false
		}
	}
	return true
}

func TestBadReplies(t *testing.T) {
	small := protocol.Limits{MaxInline: 24, MaxArgs: 4, MaxKey: 8, MaxValue: 32, MaxRequest: 100}
	for _, tt := range []struct {
		name, in string
		code     protocol.Code
		message  string
	}{
		{"length that overflows", "$9223372036854775807\r\n", "TOOLARGE", "a bulk string may have at most 1064 bytes"},
		{"bulk over the whole", "$99\r\n", "TOOLARGE", "a request or reply may have at most 100 bytes"},
		{"count over the limit", "*5\r\n", "TOOLARGE", "a reply may have at most 4 elements"},
		{"counts over the limit", "*2\r\n*3\r\n", "TOOLARGE", "a reply may have at most 4 elements"},
		{"deep", strings.Repeat("*1\r\n", 9), "ERR", "arrays nested deeper than 8"},
		{"long line", "+" + strings.Repeat("x", 26), "TOOLARGE", "a line may have at most 24 bytes"},
		{"LF alone", "+OK\n", "ERR", "a line does not end with CRLF"},
		{"only LF", "+\n", "ERR", "a line does not end with CRLF"},
		{"no integer", ":1x\r\n", "ERR", "invalid integer"},
		{"integer that overflows", ":9223372036854775808\r\n", "ERR", "invalid integer"},
		{"minus zero", ":-0\r\n", "ERR", "invalid integer"},
		{"another null", "$-2\r\n", "ERR", "invalid bulk length"},
		{"another null array", "*-11", "ERR", "invalid multibulk length"},
		{"RESP3", "%1\r\n", "ERR", "a reply cannot begin with '%'"},
		{"longer than declared", "$1\r\nab\r\n", "ERR", "a bulk string is not followed by CRLF"},
		{"in an array", "*1\r\n!", "ERR", "a reply cannot begin with '!'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			limits := small
			if strings.HasPrefix(tt.name, "deep") {
				limits.MaxArgs = 20
			}
			for _, pieces := range [][]string{{tt.in}, bytewise(tt.in)} {
				got, _, err := feedReplies(&protocol.ReplyParser{Limits: limits}, pieces...)
				want := &protocol.ProtocolError{Code: tt.code, Message: tt.message}
				if !reflect.DeepEqual(err, error(want)) {
					t.Errorf("in %d pieces: %+v, %v; want %v", len(pieces), got, err, want)
				}
			}
		})
	}
}

func TestReplyOfManyLinesIsBounded(t *testing.T) {
	limits := protocol.Limits{MaxInline: 100, MaxArgs: 100, MaxRequest: 1000}
	in := "*20\r\n" + strings.Repeat("+"+strings.Repeat("x", 90)+"\r\n", 20)
	_, _, err := feedReplies(&protocol.ReplyParser{Limits: limits}, bytewise(in)...)
	if protocol.AsError(err).Message != "Protocol error: a reply may have at most 1000 bytes" {
		t.Errorf("%v", err)
	}
}

func TestDeepestReply(t *testing.T) {
	in := strings.Repeat("*1\r\n", 8) + ":1\r\n"
	got, _, err := feedReplies(&protocol.ReplyParser{}, in)
	if err != nil || len(got) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	r := got[0]
	for r.Kind == '*' {
		r = r.Array[0]
	}
	if r.Int != 1 {
		t.Errorf("%+v", got)
	}
}

// What was only declared takes no memory.
func TestDeclaredElementsTakeNoMemory(t *testing.T) {
	var p protocol.ReplyParser
	declared := []byte("*1048576\r\n:1\r\n")
	allocs := testing.AllocsPerRun(10, func() {
		if _, n, err := p.Next(declared); n != 0 || err != nil {
			t.Fatalf("n=%d, %v", n, err)
		}
		p.Reset()
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestIncompleteReplyGoesOnWhereItStopped(t *testing.T) {
	whole := []byte("*1000\r\n" + strings.Repeat("$1\r\nx\r\n", 1000))
	var p protocol.ReplyParser
	if _, n, err := p.Next(whole[:len(whole)-3]); n != 0 || err != nil {
		t.Fatalf("n=%d, %v", n, err)
	}
	if need := p.Need(); need != 3 {
		t.Errorf("needs %d", need)
	}
	r, n, err := p.Next(whole)
	if len(r.Array) != 1000 || n != len(whole) || err != nil {
		t.Errorf("%d elements, n=%d, %v", len(r.Array), n, err)
	}
	if _, n, _ := p.Next(whole[:len(whole)-3]); n != 0 {
		t.Fatalf("n=%d", n)
	}
	p.Reset()
	if r, n, err := p.Next([]byte("*1\r\n:7\r\n")); n != 8 || err != nil || r.Array[0].Int != 7 {
		t.Errorf("after Reset: %+v, n=%d, %v", r, n, err)
	}
	if _, n, err := p.Next(nil); n != 0 || err != nil {
		t.Errorf("of nothing: n=%d, %v", n, err)
	}
}

func TestReplyErr(t *testing.T) {
	for _, tt := range []struct {
		line string
		want protocol.Error
	}{
		{"ERR no such thing", protocol.Error{Code: "ERR", Message: "no such thing"}},
		{"NOAUTH", protocol.Error{Code: "NOAUTH"}},
		{"NEWCODE from a later version", protocol.Error{Code: "NEWCODE", Message: "from a later version"}},
		{"Bad gateway", protocol.Error{Code: "ERR", Message: "Bad gateway"}},
		{"502 Bad gateway", protocol.Error{Code: "ERR", Message: "502 Bad gateway"}},
		{"", protocol.Error{Code: "ERR"}},
	} {
		r := protocol.Reply{Kind: '-', Bytes: []byte(tt.line)}
		if got := r.Err(); got == nil || *got != tt.want {
			t.Errorf("%q: %+v, want %+v", tt.line, got, tt.want)
		}
	}
	if err := simple("ERR").Err(); err != nil {
		t.Errorf("a simple string is the error %v", err)
	}
}
