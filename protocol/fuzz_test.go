package protocol_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

// pieces cuts s where the bytes of cuts say: each is the length of a piece; what
// is left at their end is cut with the last of them.
func pieces(s string, cuts []byte) []string {
	var out []string
	size := len(s)
	for s != "" {
		if len(cuts) > 0 {
			size, cuts = int(cuts[0])+1, cuts[1:]
		}
		size = min(max(size, 1), len(s))
		out = append(out, s[:size])
		s = s[size:]
	}
	return out
}

var requestSeeds = []string{
	"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
	"*3\r\n$3\r\nPUT\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n*1\r\n$4\r\nPING\r\n",
	"PUT k \"a\\x41\\n\" 'it\\'s'\r\nPING\n",
	"\r\n\n*0\r\n*-1\r\nGET k\n",
	"*1\r\n$9223372036854775807\r\n",
	"*8000000000\r\n",
	"*1\r\n$\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
	"\x16\x03\x01",
	"*2\r\n$3\r\nGET\r\n$00\r\n",
}

// smallLimits are so small that fuzzing meets them.
var smallLimits = protocol.Limits{MaxInline: 32, MaxArgs: 6, MaxKey: 8, MaxValue: 40, MaxRequest: 1500}

// It does not matter in what pieces a stream arrives: the requests, what is left
// and the error are the same.
func FuzzRequestsInPieces(f *testing.F) {
	for _, seed := range requestSeeds {
		f.Add(seed, []byte{0}, false)
		f.Add(seed, []byte{3, 1, 7}, true)
	}
	f.Fuzz(func(t *testing.T, in string, cuts []byte, small bool) {
		var limits protocol.Limits
		if small {
			limits = smallLimits
		}
		whole := feed(&protocol.RequestParser{Limits: limits}, in)
		for _, cuts := range [][]byte{cuts, {0}} {
			if got := feed(&protocol.RequestParser{Limits: limits}, pieces(in, cuts)...); !reflect.DeepEqual(got, whole) {
				t.Errorf("%q whole: %+v\nin pieces of %v: %+v", in, whole, cuts, got)
			}
		}
		for _, request := range whole.requests {
			checkRequest(t, words(request...))
		}
	})
}

// checkRequest sends a request through everything that looks at its arguments:
// none may panic, and every error is one that can be sent.
func checkRequest(t *testing.T, request [][]byte) {
	t.Helper()
	c, ok := protocol.Lookup(request[0])
	if !ok {
		return
	}
	checked := protocol.DefaultLimits().Check(c, request)
	code(t, checked)
	if checked == nil {
		for i := range c.Spec().Keys(len(request)) {
			_ = c.Spec().Key(request, i)
		}
	}
	parsed, err := parseAny(c, request)
	if code(t, err) == "" && parsed != nil && code(t, checked) == protocol.ERR {
		t.Errorf("%q is parsed, yet has the wrong number of arguments", request)
	}
}

// A parser says how much more it needs, and it is never more than is missing.
func FuzzNeed(f *testing.F) {
	for _, seed := range requestSeeds {
		f.Add(seed, 5)
	}
	f.Fuzz(func(t *testing.T, in string, cut int) {
		var whole protocol.RequestParser
		_, n, err := whole.Next([]byte(in))
		if err != nil || n == 0 {
			return
		}
		cut = int(uint(cut) % uint(n))
		var p protocol.RequestParser
		_, got, err := p.Next([]byte(in[:cut]))
		if got != 0 || err != nil || p.Need() < 1 || p.Need() > n-cut {
			t.Errorf("%q cut at %d of %d: n=%d, need %d, %v", in, cut, n, got, p.Need(), err)
		}
	})
}

// What AppendRequest writes is what the parser reads.
func FuzzRequestRoundTrip(f *testing.F) {
	f.Add("GET", []byte("k"), []byte(""))
	f.Add("PUT", []byte("\r\n"), []byte("$1\r\n\x00"))
	f.Fuzz(func(t *testing.T, name string, key, value []byte) {
		buf := protocol.AppendRequest(nil, name, key, value)
		got := feed(&protocol.RequestParser{}, string(buf))
		want := [][]string{{name, string(key), string(value)}}
		if got.err != nil || got.rest != "" || !reflect.DeepEqual(got.requests, want) {
			t.Errorf("%q: %+v", want, got)
		}
	})
}

var replySeeds = []string{
	"+OK\r\n-ERR no\r\n:42\r\n$5\r\nhello\r\n$-1\r\n*-1\r\n",
	"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
	"*3\r\n*0\r\n*2\r\n:1\r\n*1\r\n+x\r\n:2\r\n+y\r\n",
	"$9223372036854775807\r\n",
	"*8000000000\r\n",
	"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
	"+a\rb\r\n",
}

// Replies too may arrive in any pieces, and a reply that was read is written
// back as the very same bytes: nothing has two spellings.
func FuzzReplies(f *testing.F) {
	for _, seed := range replySeeds {
		f.Add(seed, []byte{0}, false)
		f.Add(seed, []byte{2, 9}, true)
	}
	f.Fuzz(func(t *testing.T, in string, cuts []byte, small bool) {
		var limits protocol.Limits
		if small {
			limits = smallLimits
		}
		whole, rest, err := feedReplies(&protocol.ReplyParser{Limits: limits}, in)
		for _, cuts := range [][]byte{cuts, {0}} {
			got, gotRest, gotErr := feedReplies(&protocol.ReplyParser{Limits: limits}, pieces(in, cuts)...)
			if !sameReplies(got, whole) || gotRest != rest || !reflect.DeepEqual(gotErr, err) {
				t.Errorf("%q whole: %+v, %q, %v\nin pieces of %v: %+v, %q, %v", in, whole, rest, err, cuts, got, gotRest, gotErr)
			}
		}
		var again []byte
		for _, r := range whole {
			again = appendReply(again, r)
			_ = r.Err()
		}
		if !bytes.HasPrefix([]byte(in), again) || (err == nil && string(again)+rest != in) {
			t.Errorf("%q was read as what is written %q", in, again)
		}
	})
}

// appendReply writes a reply as it was read.
func appendReply(b []byte, r protocol.Reply) []byte {
	switch {
	case r.Kind == '$' && r.Null:
		return protocol.AppendNull(b)
	case r.Kind == '*' && r.Null:
		return protocol.AppendNullArray(b)
	case r.Kind == '$':
		return protocol.AppendBulk(b, r.Bytes)
	case r.Kind == ':':
		return protocol.AppendInt(b, r.Int)
	case r.Kind == '*':
		b = protocol.AppendArray(b, len(r.Array))
		for _, element := range r.Array {
			b = appendReply(b, element)
		}
		return b
	default: // by hand, for AppendSimple takes a CR out of the text
		b = append(append(b, r.Kind), r.Bytes...)
		return append(b, '\r', '\n')
	}
}

// An error message, whatever is in it, is one reply and comes back as it was sent.
func FuzzErrorRoundTrip(f *testing.F) {
	f.Add("no\r\n+OK")
	f.Add("")
	f.Fuzz(func(t *testing.T, message string) {
		buf := protocol.AppendErrorCode(nil, protocol.READONLY, message)
		got, rest, err := feedReplies(&protocol.ReplyParser{Limits: protocol.Limits{MaxInline: 1 << 20}}, string(buf))
		if err != nil || rest != "" || len(got) != 1 {
			t.Fatalf("%q: %+v, %q, %v", message, got, rest, err)
		}
		if e := got[0].Err(); e.Code != protocol.READONLY || len(e.Message) != len(message) {
			t.Errorf("%q came back as %+v", message, e)
		}
	})
}

// The options of every command: no arguments make a parser panic.
func FuzzOptions(f *testing.F) {
	for _, line := range []string{
		"PUT k v EX 1 NX GET", "PUT k v IFVERSION 5", "SETEX k 1 v", "EXPIRE k 1 XX GT", "INCRBY k -5", "SCAN 0 MATCH a* COUNT 5",
		"HELLO 2 AUTH u p SETNAME n", "CLIENT SETINFO LIB-NAME x", "CONFIG GET *", "COMMAND DOCS get", "MSET a b",
		"REFRESH 7", "MIGRATE_RANGE 1 2 a:1 m", "STAGE_SEAL m 1 2 3", "MOVE_DONE m active",
		"WATCH 1 KEY k STATE 1 2 3", "WATCH 2 PREFIX p: 0 0 0 5 6 7", "UNWATCH 1",
		"CHALLENGE node a:1 " + hexOf(0xab), "PROVE " + hexOf(0x01),
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		request := bytes.Split([]byte(line), []byte(" "))
		checkRequest(t, request)
		for _, c := range protocol.Commands() {
			_, err := parseAny(c, request)
			code(t, err)
		}
	})
}
