package node

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// TestLookingAheadChangesNoReply sends the same requests in one piece and one by
// one, to nodes of their own, and wants the same bytes.
func TestLookingAheadChangesNoReply(t *testing.T) {
	many := "MSET" + strings.Repeat(" k v", 40) + "\r\n"
	var mixed strings.Builder
	for i := range 50 {
		fmt.Fprintf(&mixed, "SET k%d %d\r\n\r\nINCR k%d\r\nGET k%d\r\nECHO k%d\r\nDEL k%d k%d\r\n", i%7, i, i%7, (i+1)%7, i, i%5, i%3)
	}
	for name, requests := range map[string]string{
		"mixed":              mixed.String(),
		"many arguments":     "GET k\r\n" + many + "GET k\r\n" + many + many + "MGET k k l k\r\nSET k w\r\nGET k\r\n",
		"one key over again": strings.Repeat("INCR k\r\nGET k\r\nAPPEND k 1\r\nDEL k\r\n", 20),
		"quoted":             strings.Repeat(`SET "a\x41" 'b c'`+"\r\nGET aA\r\n", 12),
		"quit in the middle": "SET k v\r\nGET k\r\nQUIT\r\nGET k\r\nSET k w\r\n",
		"long keys":          strings.Repeat("SET "+strings.Repeat("k", 300)+" v\r\nGET "+strings.Repeat("k", 300)+"\r\nGET "+strings.Repeat("k", 55)+"\r\n", 9),
		"empty key":          strings.Repeat("SET \"\" v\r\nGET \"\"\r\nSTRLEN \"\"\r\n", 9),
	} {
		t.Run(name, func(t *testing.T) {
			whole, single := repliesTo(t, requests), repliesTo(t, strings.SplitAfter(requests, "\r\n")...)
			if !bytes.Equal(whole, single) {
				t.Errorf("in one piece:\n%q\none by one:\n%q", whole, single)
			}
		})
	}
}

// TestRequestsBeforeABrokenOneAreAnswered: that they are parsed together does not
// take them along.
func TestRequestsBeforeABrokenOneAreAnswered(t *testing.T) {
	got := repliesTo(t, "SET k v\r\nGET k\r\n*1\r\n$x\r\nGET k\r\n")
	if want := "+OK\r\n$1\r\nv\r\n-ERR Protocol error"; !bytes.HasPrefix(got, []byte(want)) || bytes.Count(got, []byte("\r\n")) != 4 {
		t.Errorf("%q, want %q...", got, want)
	}
}

// repliesTo gives each of the pieces to a new node as if each were one read.
func repliesTo(t *testing.T, pieces ...string) []byte {
	t.Helper()
	end := &recorder{}
	c := newConn(startSolo(t, soloOptions{}).server, end, 0)
	if !c.attach() {
		t.Fatal("the node does not serve")
	}
	for _, piece := range pieces {
		for source := strings.NewReader(piece); source.Len() > 0; {
			if err := c.in.MakeRoom(source.Len()); err != nil {
				t.Fatal(err)
			}
			if _, err := c.in.Fill(source); err != nil {
				t.Fatal(err)
			}
		}
		c.batch()
		if !c.flush() {
			t.Fatal("the replies did not leave")
		}
		if c.closing {
			break
		}
		if c.in.Pending() {
			t.Fatalf("%q was left of %q", c.in.Bytes(), piece)
		}
	}
	return end.Bytes()
}

// sink is a connection that takes everything.
type sink struct{ net.Conn }

func (*sink) Write(b []byte) (int, error)     { return len(b), nil }
func (*sink) Close() error                    { return nil }
func (*sink) RemoteAddr() net.Addr            { return &net.TCPAddr{} }
func (*sink) SetReadDeadline(time.Time) error { return nil }

// recorder is a connection that keeps what is written to it.
type recorder struct {
	sink
	bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error) { return r.Buffer.Write(b) }
