package node

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"pgregory.net/rapid"

	"github.com/quoitdb/quoit/protocol"
)

// TestInboxGivesWhatCame: whatever the sizes of reads and requests are, the bytes
// come out in order, the buffer never holds more than it must, and the budget's
// account is right.
func TestInboxGivesWhatCame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 300), rapid.IntRange(1, 3*streamBuffer)), 1, 20).Draw(t, "sizes")
		var stream []byte
		for _, n := range sizes {
			stream = append(stream, protocol.AppendRequest(nil, "ECHO", bytes.Repeat([]byte{byte(n)}, n))...)
		}
		source := &choppy{rest: stream, next: func(room int) int {
			return rapid.OneOf(rapid.Just(room), rapid.IntRange(1, room)).Draw(t, "read")
		}}
		b := &budget{limit: 1 << 30}
		in := inbox{budget: b}
		parser := protocol.RequestParser{Limits: protocol.DefaultLimits()}
		for len(sizes) > 0 {
			if err := in.makeRoom(parser.Need()); err != nil {
				t.Fatal(err)
			}
			if in.w == len(in.buf) {
				t.Fatal("no room was made")
			}
			if _, err := in.readFrom(source); err != nil {
				t.Fatal(err)
			}
			sizes = takeAll(t, &in, &parser, sizes)
			if most := max(keepBuffer, 2*(in.w-in.r)+streamBuffer); len(in.buf) > 4*most {
				t.Fatalf("%d bytes for %d pending", len(in.buf), in.w-in.r)
			}
			if used := b.used.Load(); used != 0 && used != int64(len(in.buf)) || used == 0 && len(in.buf) > firstBuffer {
				t.Fatalf("%d bytes counted, %d held", used, len(in.buf))
			}
		}
		in.release()
		if b.used.Load() != 0 {
			t.Fatalf("%d bytes counted after the end", b.used.Load())
		}
	})
}

func takeAll(t *rapid.T, in *inbox, p *protocol.RequestParser, sizes []int) []int {
	for {
		args, n, err := p.Next(in.bytes())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return sizes
		}
		if len(args) != 2 || !bytes.Equal(args[1], bytes.Repeat([]byte{byte(sizes[0])}, sizes[0])) {
			t.Fatalf("not the request that was sent: %d args", len(args))
		}
		in.consume(n)
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
	in := inbox{budget: &budget{limit: 1 << 30}}
	parser := protocol.RequestParser{Limits: protocol.DefaultLimits()}
	source := bytes.NewReader([]byte("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$60000000\r\nxxx"))
	if err := in.makeRoom(1); err != nil {
		t.Fatal(err)
	}
	if _, err := in.readFrom(source); err != nil {
		t.Fatal(err)
	}
	if _, n, err := parser.Next(in.bytes()); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if err := in.makeRoom(parser.Need()); err != nil || len(in.buf) != firstBuffer {
		t.Errorf("%d bytes held for 60 million announced (%v)", len(in.buf), err)
	}
}

// TestAStreamGrowsTheBufferAndQuietShrinksIt follows one connection through a
// burst and what comes after.
func TestAStreamGrowsTheBufferAndQuietShrinksIt(t *testing.T) {
	in := inbox{budget: &budget{limit: 1 << 30}}
	read := func(n int) {
		t.Helper()
		if err := in.makeRoom(1); err != nil {
			t.Fatal(err)
		}
		if _, err := in.readFrom(bytes.NewReader(make([]byte, n))); err != nil {
			t.Fatal(err)
		}
		in.consume(in.w - in.r)
	}
	for range 20 {
		read(1 << 20)
	}
	if len(in.buf) != streamBuffer {
		t.Errorf("a full stream has a buffer of %d", len(in.buf))
	}
	for range 7 * shrinkAfter {
		read(100)
	}
	if len(in.buf) != firstBuffer || in.budget.used.Load() != 0 {
		t.Errorf("after a quiet time it has %d, counted %d", len(in.buf), in.budget.used.Load())
	}
}

func TestWithoutBudgetAStreamGoesOnInASmallBuffer(t *testing.T) {
	in := inbox{budget: &budget{limit: firstBuffer}}
	for range 10 {
		if err := in.makeRoom(1); err != nil {
			t.Fatal(err)
		}
		if _, err := in.readFrom(bytes.NewReader(make([]byte, 1<<20))); err != nil {
			t.Fatal(err)
		}
		in.consume(in.w - in.r - 1) // a piece of a request stays
		in.consume(1)
	}
	if len(in.buf) != firstBuffer {
		t.Errorf("it has %d", len(in.buf))
	}
	for in.w < len(in.buf) || in.r > 0 {
		if err := in.makeRoom(1); err != nil {
			t.Fatal(err)
		}
		if _, err := in.readFrom(bytes.NewReader(make([]byte, 1<<20))); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.makeRoom(1); !errors.Is(err, errBudget) {
		t.Errorf("a request that does not fit: %v", err)
	}
}
