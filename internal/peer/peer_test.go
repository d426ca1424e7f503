package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/leak"
	"github.com/quoitdb/quoit/protocol"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience bounds each wait of a connection: far above what a busy machine takes.
const patience = time.Minute

// other is the other side of a connection, played by the test.
type other struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

// pair connects a Conn to the test.
func pair(t *testing.T) (*Conn, *other) {
	near, far := net.Pipe()
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	return New(near, patience), &other{far, t, bufio.NewReader(far)}
}

// expect reads so many bytes and compares them.
func (o *other) expect(want string) {
	o.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(o.r, got); err != nil || string(got) != want {
		o.t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func (o *other) say(text string) {
	o.t.Helper()
	if _, err := io.WriteString(o.Conn, text); err != nil {
		o.t.Errorf("say: %v", err)
	}
}

func TestRequestAndReply(t *testing.T) {
	c, o := pair(t)
	go func() {
		o.expect("*2\r\n$7\r\nREFRESH\r\n$1\r\n7\r\n")
		o.say("+OK\r\n")
		o.expect("*1\r\n$4\r\nPING\r\n")
		o.say(":42\r\n")
		o.expect("*2\r\n$4\r\nECHO\r\n$5\r\na\r\n\x00b\r\n")
		o.say("$5\r\na\r\n\x00b\r\n")
	}()
	if r, err := c.DoStrings("REFRESH", "7"); err != nil || string(r.Bytes) != "OK" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.Do("PING"); err != nil || r.Int != 42 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.Do("ECHO", []byte("a\r\n\x00b")); err != nil || string(r.Bytes) != "a\r\n\x00b" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestRefusal is an answer: the connection lives on.
func TestRefusal(t *testing.T) {
	c, o := pair(t)
	go func() {
		o.expect("*1\r\n$4\r\nPING\r\n")
		o.say("-TRYAGAIN in a moment\r\n")
		o.expect("*1\r\n$4\r\nPING\r\n")
		o.say("+PONG\r\n")
	}()
	_, err := c.Do("PING")
	var e *protocol.Error
	if !Refused(err) || !errors.As(err, &e) || e.Code != protocol.TRYAGAIN {
		t.Errorf("error is %v", err)
	}
	if _, err := c.Do("PING"); err != nil {
		t.Error(err)
	}
	if Refused(nil) || Refused(io.EOF) || !Refused(fmt.Errorf("wrapped: %w", e)) {
		t.Error("Refused mixes up who said no")
	}
}

// echo answers so many ECHO requests, byte by byte.
func (o *other) echo(requests int) {
	var p protocol.RequestParser
	var buf []byte
	piece := make([]byte, 100)
	for requests > 0 {
		n, err := o.r.Read(piece)
		if err != nil {
			o.t.Error(err)
			return
		}
		buf = append(buf, piece[:n]...)
		for {
			args, used, err := p.Next(buf)
			if err != nil || used == 0 {
				break
			}
			for _, b := range protocol.AppendBulk(nil, args[1]) {
				o.say(string(b))
			}
			buf = buf[used:]
			requests--
		}
	}
}

// TestPipeline: one goroutine sends, another receives, replies come in pieces.
func TestPipeline(t *testing.T) {
	c, o := pair(t)
	const requests = 200
	go o.echo(requests)
	var sender sync.WaitGroup
	sender.Go(func() {
		for i := range requests {
			c.Queue("ECHO", []byte(strings.Repeat("x", i)))
			if i%7 == 0 || i == requests-1 {
				if err := c.Flush(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for i := range requests {
		if r, err := c.Receive(); err != nil || len(r.Bytes) != i {
			t.Fatalf("reply %d: %d bytes, %v", i, len(r.Bytes), err)
		}
	}
	sender.Wait()
}

// TestLargeReply arrives, unless it is more than is taken.
func TestLargeReply(t *testing.T) {
	large := strings.Repeat("y", 3<<20)
	c, o := pair(t)
	go func() {
		o.expect("*1\r\n$4\r\nPING\r\n")
		o.say(string(protocol.AppendBulkString(nil, large)))
	}()
	if r, err := c.Do("PING"); err != nil || string(r.Bytes) != large {
		t.Fatalf("%d bytes, %v", len(r.Bytes), err)
	}

	c, o = pair(t)
	l := protocol.DefaultLimits()
	l.MaxValue, l.MaxRequest = 1<<10, 1<<20
	c.Limit(l)
	go func() {
		o.expect("*1\r\n$4\r\nPING\r\n")
		o.say("$3145728\r\n")
	}()
	_, err := c.Do("PING")
	if err == nil || Refused(err) || cap(c.in) > 64<<10 {
		t.Errorf("error is %v, and the buffer has %d bytes", err, cap(c.in))
	}
}

// TestBrokenReplies end the connection's use; none is taken for a refusal.
func TestBrokenReplies(t *testing.T) {
	for _, reply := range []string{"HTTP/1.1 400 Bad Request\r\n", ":x\r\n", "$-7\r\n", "\x00\x00\x00", "*9999999999\r\n"} {
		c, o := pair(t)
		go func() {
			o.expect("*1\r\n$4\r\nPING\r\n")
			o.say(reply)
		}()
		if _, err := c.Do("PING"); err == nil || Refused(err) {
			t.Errorf("%q: %v", reply, err)
		}
	}
}

// TestSilence: each wait is bounded, be it for a reply, for more of one, or for the
// other side to take a request.
func TestSilence(t *testing.T) {
	for name, play := range map[string]func(o *other){
		"no reply":     func(o *other) { o.expect("*1\r\n$4\r\nPING\r\n") },
		"half a reply": func(o *other) { o.expect("*1\r\n$4\r\nPING\r\n"); o.say("$10\r\nhal") },
		"takes nothing": func(*other) {
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, o := pair(t)
				began := time.Now()
				go play(o)
				if _, err := c.Do("PING"); !errors.Is(err, os.ErrDeadlineExceeded) || Refused(err) {
					t.Errorf("error is %v", err)
				}
				if took := time.Since(began); took != patience {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestHangingUp(t *testing.T) {
	c, o := pair(t)
	go func() {
		o.expect("*1\r\n$4\r\nPING\r\n")
		o.say("$10\r\nhal")
		_ = o.Close()
	}()
	if _, err := c.Do("PING"); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "hung up") {
		t.Errorf("error is %v", err)
	}
}

// TestCloseEndsACall that is waiting, from another goroutine.
func TestCloseEndsACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o := pair(t)
		go o.expect("*1\r\n$4\r\nPING\r\n")
		ended := make(chan error, 1)
		go func() {
			_, err := c.Do("PING")
			ended <- err
		}()
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("error is %v", err)
		}
	})
}

func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		o := &other{nc, t, bufio.NewReader(nc)}
		o.expect("*1\r\n$4\r\nPING\r\n")
		o.say("+PONG\r\n")
	}()
	c, err := Dial(t.Context(), TCP, l.Addr().String(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do("PING"); err != nil {
		t.Error(err)
	}
	<-served
	defer c.Close()
	_ = l.Close()
	nobody := c.conn.LocalAddr().String() // taken by our end, so that nobody else can listen there
	if _, err := Dial(t.Context(), TCP, nobody, time.Minute); err == nil || !strings.Contains(err.Error(), nobody) {
		t.Errorf("nobody listens: %v", err)
	}
}

// TestDialIsBounded by its time and by its context.
func TestDialIsBounded(t *testing.T) {
	hangs := func(ctx context.Context, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if _, err := Dial(t.Context(), hangs, "a:1", time.Second); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Dial(ctx, hangs, "a:1", time.Second); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// FuzzReceive: whatever comes, a call ends with a reply or an error.
func FuzzReceive(f *testing.F) {
	for _, text := range []string{"+OK\r\n", "-ERR x\r\n", ":1\r\n", "$3\r\nabc\r\n", "*2\r\n:1\r\n$-1\r\n", "$99999\r\n", "\x00", "+OK\r\n:7"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c := New(&fixed{text: text}, time.Second)
		for range len(text) + 1 {
			if _, err := c.Receive(); err != nil && !Refused(err) {
				return
			}
		}
		t.Fatalf("%q holds more replies than bytes", text)
	})
}

// fixed is a connection from which a text is read, in pieces.
type fixed struct {
	net.Conn
	text []byte
}

func (f *fixed) Read(b []byte) (int, error) {
	if len(f.text) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), 3)], f.text)
	f.text = f.text[n:]
	return n, nil
}

func (f *fixed) SetReadDeadline(time.Time) error { return nil }

// TestRelease gives the connection to somebody else, unless bytes are left that he would
// take for an answer to him.
func TestRelease(t *testing.T) {
	for more, good := range map[string]bool{"": true, "+surprise\r\n": false} {
		c, o := pair(t)
		go func() {
			o.expect("*1\r\n$4\r\nPING\r\n")
			o.say("+PONG\r\n" + more)
		}()
		if _, err := c.Do("PING"); err != nil {
			t.Fatal(err)
		}
		if err := c.Release(); (err == nil) != good {
			t.Errorf("with %q behind the reply: %v", more, err)
		}
	}
}
