package protocol_test

import (
	"fmt"

	"github.com/quoitdb/quoit/protocol"
)

// A server parses what is in its buffer and appends the replies to another.
func ExampleRequestParser() {
	buf := []byte("PING\r\n*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n*2\r\n$4\r\nEC")
	var p protocol.RequestParser
	var out []byte
	for {
		args, n, err := p.Next(buf)
		if err != nil {
			out = protocol.AppendError(out, protocol.AsError(err)) // and close
			break
		}
		if n == 0 {
			break // read more
		}
		buf = buf[n:]
		if len(args) == 0 {
			continue // an empty line
		}
		c, ok := protocol.Lookup(args[0])
		if !ok {
			out = protocol.AppendError(out, protocol.UnknownCommand(args[0]))
			continue
		}
		if err := p.Check(c, args); err != nil {
			out = protocol.AppendError(out, protocol.AsError(err))
			continue
		}
		switch c {
		case protocol.CmdPing:
			out = protocol.AppendSimple(out, "PONG")
		case protocol.CmdEcho:
			out = protocol.AppendBulk(out, args[1])
		}
	}
	fmt.Printf("%q, at least %d more\n", out, p.Need())
	// Output: "+PONG\r\n$5\r\nhello\r\n", at least 4 more
}

// A client appends requests to a buffer and parses what comes back.
func ExampleReplyParser() {
	request := protocol.AppendRequest(nil, "GET", []byte("user:1"))
	fmt.Printf("%q\n", request)

	var p protocol.ReplyParser
	r, _, _ := p.Next([]byte("-MOVED 7 10.0.0.2:7402\r\n"))
	epoch, addr, ok := protocol.ParseMoved(r.Err())
	fmt.Println(epoch, addr, ok)
	// Output:
	// "*2\r\n$3\r\nGET\r\n$6\r\nuser:1\r\n"
	// 7 10.0.0.2:7402 true
}

func ExampleMatch() {
	fmt.Println(protocol.Match([]byte("user:*:[a-f]?"), []byte("user:17:b9")))
	// Output: true
}
