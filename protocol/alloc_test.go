package protocol_test

import (
	"bytes"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

// The promise of the package comment: what is done for each request and reply
// allocates nothing.
func TestNothingIsAllocated(t *testing.T) {
	value := bytes.Repeat([]byte("v"), 64)
	pipeline := protocol.AppendRequest(nil, "SET", []byte("user:000000000001"), value)
	pipeline = protocol.AppendRequest(pipeline, "get", []byte("user:000000000001"))
	pipeline = protocol.AppendRequest(pipeline, "PUT", []byte("k"), value, []byte("EX"), []byte("10"), []byte("NX"))
	line := []byte("PUT user:1 hello\r\n")
	replies := protocol.AppendBulk(protocol.AppendOK(nil), value)
	replies = protocol.AppendBulk(protocol.AppendNull(protocol.AppendArray(replies, 2)), value)

	var requests protocol.RequestParser
	var answers protocol.ReplyParser
	limits := protocol.DefaultLimits()
	scratch := make([]byte, 0, 4096)
	for name, f := range map[string]func(){
		"requests": func() { execute(t, &requests, limits, pipeline) },
		"lines":    func() { execute(t, &requests, limits, line) },
		"replies": func() {
			for buf := replies; len(buf) > 0; {
				_, n, err := answers.Next(buf)
				if n == 0 {
					t.Fatal(err)
				}
				buf = buf[n:]
			}
		},
		"append": func() {
			b := protocol.AppendRequest(scratch, "SET", value, value)
			b = protocol.AppendBulk(protocol.AppendInt(protocol.AppendSimple(b, "PONG"), -7), value)
			b = protocol.AppendErrorCode(b, protocol.TRYAGAIN, "the key is changing hands")
			protocol.StageData{Move: value, Seq: 9, Payload: value}.Append(b)
		},
		"match": func() { protocol.Match([]byte("user:*[0-9]"), value) },
	} {
		if allocs := testing.AllocsPerRun(100, f); allocs != 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

// execute does what a server does with a buffer before it touches the keys.
func execute(tb testing.TB, p *protocol.RequestParser, limits protocol.Limits, buf []byte) {
	for len(buf) > 0 {
		args, n, err := p.Next(buf)
		if n == 0 {
			tb.Fatal(err)
		}
		buf = buf[n:]
		c, ok := protocol.Lookup(args[0])
		if !ok || limits.Check(c, args) != nil {
			tb.Fatalf("%q is refused", args)
		}
		if c == protocol.CmdPut {
			if _, err := protocol.ParsePut(args); err != nil {
				tb.Fatal(err)
			}
		}
	}
}
