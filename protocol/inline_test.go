package protocol_test

import (
	"reflect"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func TestLines(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
	}{
		{`PING`, []string{"PING"}},
		{"  PUT \t k\v v \f", []string{"PUT", "k", "v"}},
		{`PUT k "hello world"`, []string{"PUT", "k", "hello world"}},
		{`PUT k ""`, []string{"PUT", "k", ""}},
		{`PUT '' ''`, []string{"PUT", "", ""}},
		{`PUT k "a\n\r\t\b\ac"`, []string{"PUT", "k", "a\n\r\t\b\ac"}},
		{`PUT k "\x00\xfF\x1g\x"`, []string{"PUT", "k", "\x00\xffx1gx"}},
		{`PUT k "\x4"`, []string{"PUT", "k", "x4"}},
		{`PUT k "\"\\\q"`, []string{"PUT", "k", `"\q`}},
		{`PUT k 'it\'s \n "raw"'`, []string{"PUT", "k", `it's \n "raw"`}},
		{`PUT k a"b c"`, []string{"PUT", "k", "ab c"}},
		{`PUT k a\nb`, []string{"PUT", "k", `a\nb`}},
		{"PUT k \x00\x80é", []string{"PUT", "k", "\x00\x80é"}},
		{`"PUT" "k" "v"`, []string{"PUT", "k", "v"}},
	} {
		for _, end := range []string{"\n", "\r\n"} {
			got := feed(&protocol.RequestParser{}, bytewise(tt.in+end)...)
			if got.err != nil || !reflect.DeepEqual(got.requests, [][]string{tt.want}) {
				t.Errorf("%q: %q, %v; want %q", tt.in+end, got.requests, got.err, tt.want)
			}
		}
	}
}

func TestBadQuotes(t *testing.T) {
	for _, in := range []string{`"`, `'`, `"a`, `'a\'`, `"a\"`, `"a"b`, `'a'b`, `"a""b"`, `a"b"c`, `"\x4`, `"\`} {
		var p protocol.RequestParser
		if got := feed(&p, in+"\n"); got.err == nil {
			t.Errorf("%q gives %q", in, got.requests)
		}
	}
}
