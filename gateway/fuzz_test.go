package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

// all sends a stream and returns what comes back until the other side closes, which
// it must do, for nothing follows.
func all(t *testing.T, nc net.Conn, stream []byte) []byte {
	t.Helper()
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = nc.Write(stream) // cut short where the other side has had enough
		_ = nc.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(nc)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Fatalf("%q: the connection was still open after %v", stream, patience)
	}
	_ = nc.Close()
	<-written
	return got
}

func connect(t *testing.T, address string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	return nc
}

// FuzzDoor sends whatever comes to the door for Redis clients: nothing panics, what
// leaves is the protocol, and the connection ends.
func FuzzDoor(f *testing.F) {
	for _, seed := range []string{
		"PING\r\nSET a b\r\nGET a\r\nQUIT\r\n", "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n*2\r\n$4\r\nSCAN\r\n$1\r\n0\r\n",
		"MSET a 1 b 2\r\nMGET a b c\r\nDEL a b\r\n", "*9999999999\r\n", "HELLO 2\r\nCLIENT ID\r\nINFO\r\n", "WATCH 1 KEY a\r\n", "GET \"a\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x00\xa5\x01", "*1\r\n$-1\r\n", "MIGRATE_RANGE 0 1 2 3\r\nTOPOLOGY\r\nDBSIZE\r\n",
	} {
		f.Add([]byte(seed))
	}
	_, g := both(f, 1, options{})
	f.Fuzz(func(t *testing.T, stream []byte) {
		got := all(t, connect(t, g.RedisAddr()), stream)
		for parser := (protocol.ReplyParser{Limits: protocol.DefaultLimits()}); len(got) > 0; {
			_, n, err := parser.Next(got)
			if err != nil {
				t.Fatalf("%q: %q is no reply: %v", stream, got, err)
			}
			if n == 0 {
				t.Fatalf("%q: %q is half a reply", stream, got)
			}
			got = got[n:]
		}
		if g.stats.panics.Load() > 0 {
			t.Fatalf("%q: a connection panicked", stream)
		}
	})
}

// FuzzFrames sends whatever comes to an open channel, below WebSocket's frames or, if
// whole is set, as one message of them.
func FuzzFrames(f *testing.F) {
	ping := []byte(request("PING"))
	for _, seed := range [][]byte{
		frame(true, binaryFrame, len(ping), ping), frame(true, text, len(ping), ping), frame(false, binaryFrame, 5, ping[:5]),
		frame(true, more, 0, nil), frame(true, 9, 3, []byte("abc")), frame(true, closeFrame, 2, []byte{3, 232}),
		{0x82, 1, 'x'},
		{0xff, 0xff},
		frame(true, binaryFrame, 1<<40, ping),
	} {
		f.Add(seed, false)
	}
	f.Add(ping, true)
	f.Add([]byte(request("WATCH", "1", "PREFIX", "a", "0", "0", "0")+request("SET", "a1", "x")), true)
	f.Add([]byte("*1\r\n$4\r\nQUIT\r\n"), true)
	cluster, g := both(f, 1, options{})
	hello := strings.ReplaceAll(g.handshake("/v1/node/"+cluster.Addresses()[0]), "\n", "\r\n")
	f.Fuzz(func(t *testing.T, stream []byte, whole bool) {
		if whole {
			stream = append(frame(true, binaryFrame, len(stream), stream), frame(true, closeFrame, 0, nil)...)
		}
		nc := connect(t, g.Addr())
		if _, err := io.WriteString(nc, hello); err != nil {
			t.Fatal(err)
		}
		switched := bufio.NewReaderSize(nc, 1) // what it takes too much is not looked at
		for line := ""; line != "\r\n"; {
			var err error
			if line, err = switched.ReadString('\n'); err != nil || strings.HasPrefix(line, "HTTP/") && !strings.HasPrefix(line, "HTTP/1.1 101 ") {
				t.Fatalf("the handshake was answered %q, %v", line, err)
			}
		}
		all(t, nc, stream)
		if g.stats.panics.Load() > 0 {
			t.Fatalf("%q: a channel panicked", stream)
		}
	})
}
