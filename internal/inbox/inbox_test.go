package inbox

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"pgregory.net/rapid"

	"github.com/quoitdb/quoit/protocol"
)

// streamBuffer is how far these tests let a stream grow.
const streamBuffer = 256 << 10

// least is what the buffers of these tests begin with.
const least = 512

// TestABufferGivesWhatCame: whatever the sizes of reads and requests are, the bytes
// come out in order, the buffer never holds more than it must, and the budget's
// account is right.
func TestABufferGivesWhatCame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 300), rapid.IntRange(1, 3*streamBuffer)), 1, 20).Draw(t, "sizes")
		var stream []byte
		for _, n := range sizes {
			stream = append(stream, protocol.AppendRequest(nil, "ECHO", bytes.Repeat([]byte{byte(n)}, n))...)
		}
		source := &choppy{rest: stream, next: func(room int) int {
			return rapid.OneOf(rapid.Just(room), rapid.IntRange(1, room)).Draw(t, "read")
		}}
		b := &Budget{Limit: 1 << 30}
		in := NewBuffer(b, least, streamBuffer)
		parser := protocol.RequestParser{Limits: protocol.DefaultLimits()}
		for len(sizes) > 0 {
			if err := in.MakeRoom(parser.Need()); err != nil {
				t.Fatal(err)
			}
			if in.w == len(in.buf) {
				t.Fatal("no room was made")
			}
			if _, err := in.Fill(source); err != nil {
				t.Fatal(err)
			}
			sizes = takeAll(t, &in, &parser, sizes)
			if most := max(keepStreams*streamBuffer, 2*(in.w-in.r)+streamBuffer); len(in.buf) > 4*most {
				t.Fatalf("%d bytes for %d pending", len(in.buf), in.w-in.r)
			}
			if used := b.Used(); used != 0 && used != int64(len(in.buf)) || used == 0 && len(in.buf) > First {
				t.Fatalf("%d bytes counted, %d held", used, len(in.buf))
			}
		}
		in.Release()
		if b.Used() != 0 {
			t.Fatalf("%d bytes counted after the end", b.Used())
		}
	})
}

func takeAll(t *rapid.T, in *Buffer, p *protocol.RequestParser, sizes []int) []int {
	for {
		args, n, err := p.Next(in.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return sizes
		}
		if len(args) != 2 || !bytes.Equal(args[1], bytes.Repeat([]byte{byte(sizes[0])}, sizes[0])) {
			t.Fatalf("not the request that was sent: %d args", len(args))
		}
		in.Consume(n)
		sizes = sizes[1:]
	}
}

// choppy gives its bytes in pieces.
type choppy struct {
	rest []byte
	next func(room int) int
}

func (c *choppy) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:c.next(len(p))], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// TestAnnouncedBytesAreNotAllocated: a length is a promise, and memory follows
// only what has come.
func TestAnnouncedBytesAreNotAllocated(t *testing.T) {
	in := NewBuffer(&Budget{Limit: 1 << 30}, least, streamBuffer)
	parser := protocol.RequestParser{Limits: protocol.DefaultLimits()}
	source := bytes.NewReader([]byte("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$60000000\r\nxxx"))
	if err := in.MakeRoom(1); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Fill(source); err != nil {
		t.Fatal(err)
	}
	if _, n, err := parser.Next(in.Bytes()); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if err := in.MakeRoom(parser.Need()); err != nil || len(in.buf) > First {
		t.Errorf("%d bytes held for 60 million announced (%v)", len(in.buf), err)
	}
}

// TestAStreamGrowsTheBufferAndQuietShrinksIt follows one connection through a
// burst and what comes after.
func TestAStreamGrowsTheBufferAndQuietShrinksIt(t *testing.T) {
	in := NewBuffer(&Budget{Limit: 1 << 30}, least, streamBuffer)
	read := func(n int) {
		t.Helper()
		if err := in.MakeRoom(1); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Fill(bytes.NewReader(make([]byte, n))); err != nil {
			t.Fatal(err)
		}
		in.Consume(in.w - in.r)
	}
	for range 20 {
		read(1 << 20)
	}
	if len(in.buf) != streamBuffer {
		t.Errorf("a full stream has a buffer of %d", len(in.buf))
	}
	for range 10 * shrinkAfter {
		read(100)
	}
	if len(in.buf) != least || in.part.of.Used() != 0 {
		t.Errorf("after a quiet time it has %d, counted %d", len(in.buf), in.part.of.Used())
	}
}

func TestWithoutBudgetAStreamGoesOnInASmallBuffer(t *testing.T) {
	in := NewBuffer(&Budget{Limit: First}, least, streamBuffer)
	for range 10 {
		if err := in.MakeRoom(1); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Fill(bytes.NewReader(make([]byte, 1<<20))); err != nil {
			t.Fatal(err)
		}
		in.Consume(in.w - in.r - 1) // a piece of a request stays
		in.Consume(1)
	}
	if len(in.buf) != First {
		t.Errorf("it has %d", len(in.buf))
	}
	for in.w < len(in.buf) || in.r > 0 {
		if err := in.MakeRoom(1); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Fill(bytes.NewReader(make([]byte, 1<<20))); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.MakeRoom(1); !errors.Is(err, ErrBudget) {
		t.Errorf("a request that does not fit: %v", err)
	}
}

func TestTheBudgetOfBuffers(t *testing.T) {
	b := &Budget{Limit: 100 << 10}
	one, two := NewAccount(b), NewAccount(b)
	for i, step := range []struct {
		of   *Account
		size int
		ok   bool
		used int64
	}{
		{&one, First, true, 0},
		{&one, 60 << 10, true, 60 << 10},
		{&two, 50 << 10, false, 60 << 10},
		{&two, 40 << 10, true, 100 << 10},
		{&one, 50 << 10, true, 90 << 10},
		{&one, 0, true, 40 << 10},
		{&two, 0, true, 0},
	} {
		if ok := step.of.Set(step.size); ok != step.ok || b.Used() != step.used {
			t.Errorf("step %d: %v with %d used, want %v with %d", i, ok, b.Used(), step.ok, step.used)
		}
	}
}
