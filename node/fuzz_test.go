package node

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
)

// FuzzConnection sends whatever comes, in pieces of one size, and looks at the
// replies: nothing panics, and what leaves is the protocol.
func FuzzConnection(f *testing.F) {
	scripts, err := filepath.Glob("testdata/conversations/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range scripts {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.ReplaceAll(text, []byte("> "), nil), 7)
	}
	f.Add([]byte("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\nabc\r\n*2\r\n$4\r\nSCAN\r\n$1\r\n0\r\n"), 4096)
	s := startSolo(f, soloOptions{config: func(c *Config) {
		c.Log.Fsync, c.Limits.Value, c.Limits.InFlight = Fsync(wal.SyncNever), 1<<16, 1<<22
	}})
	f.Fuzz(func(t *testing.T, stream []byte, piece int) {
		p := newPump(s)
		defer func() { p.in.Release(); p.chargeOut(0) }()
		kept := &keptConn{}
		p.nc = kept
		source := bytes.NewReader(stream)
		for !p.closing {
			if err := p.in.MakeRoom(p.parser.Need()); err != nil {
				t.Fatal(err)
			}
			if _, err := p.in.Fill(io.LimitReader(source, int64(max(piece, 1)))); errors.Is(err, io.EOF) {
				break
			}
			p.batch()
			if !p.flush() {
				t.Fatal("the log failed")
			}
		}
		checkReplies(t, kept.sent)
	})
}

// keptConn remembers what is written to it.
type keptConn struct {
	deafConn
	sent []byte
}

func (k *keptConn) Write(p []byte) (int, error) {
	k.sent = append(k.sent, p...)
	return len(p), nil
}

func checkReplies(t *testing.T, sent []byte) {
	parser := protocol.ReplyParser{Limits: protocol.DefaultLimits()}
	for len(sent) > 0 {
		_, n, err := parser.Next(sent)
		if err != nil || n == 0 {
			t.Fatalf("the replies end in %.100q (%v)", sent, err)
		}
		sent = sent[n:]
	}
}
