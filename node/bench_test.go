package node

import (
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
)

// BenchmarkPipeline measures requests over loopback, client and server in one
// process: ns/op is for one request, and allocs/op should round to none.
func BenchmarkPipeline(b *testing.B) {
	for _, op := range []string{"GET", "SET", "PING"} {
		for _, depth := range []int{1, 16, 64} {
			b.Run(op+"/"+strconv.Itoa(depth), func(b *testing.B) { benchmarkPipeline(b, op, depth) })
		}
	}
}

func benchmarkPipeline(b *testing.B, op string, depth int) {
	const keys = 100_000
	s := startSolo(b, soloOptions{dir: b.TempDir(), config: func(c *Config) { c.Log.Fsync = Fsync(wal.SyncNever) }})
	value := make([]byte, 64)
	fill(b, s, keys, value)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c := s.dial()
		_ = c.SetDeadline(time.Time{})
		out := make([]byte, 0, depth*128)
		in := make([]byte, 64<<10)
		for seed := uint64(1); ; {
			n, want := 0, 0
			out = out[:0]
			for n < depth && pb.Next() {
				seed = seed*6364136223846793005 + 1442695040888963407
				out, want = appendBenchRequest(out, op, seed%keys, value, want)
				n++
			}
			if n == 0 {
				return
			}
			if _, err := c.Write(out); err != nil {
				b.Error(err)
				return
			}
			if _, err := io.ReadFull(c.Conn, in[:want]); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// appendBenchRequest appends a request and adds the length of its reply to want.
func appendBenchRequest(b []byte, op string, key uint64, value []byte, want int) ([]byte, int) {
	k := [16]byte{'k', 'e', 'y', ':'}
	for i := len(k) - 1; i > 3; i-- {
		k[i] = byte('0' + key%10)
		key /= 10
	}
	switch op {
	case "GET":
		b = protocol.AppendCommandHeader(b, 2)
		b = protocol.AppendBulkString(b, "GET")
		return protocol.AppendBulk(b, k[:]), want + len("$64\r\n") + len(value) + 2
	case "SET":
		b = protocol.AppendCommandHeader(b, 3)
		b = protocol.AppendBulkString(b, "SET")
		b = protocol.AppendBulk(b, k[:])
		return protocol.AppendBulk(b, value), want + len("+OK\r\n")
	}
	b = protocol.AppendCommandHeader(b, 1)
	return protocol.AppendBulkString(b, "PING"), want + len("+PONG\r\n")
}

func fill(b *testing.B, s *solo, keys int, value []byte) {
	b.Helper()
	c := s.dial()
	done := make(chan error, 1)
	go func() { done <- readOKs(c.Conn, keys) }()
	var out []byte
	for i := range keys {
		if out, _ = appendBenchRequest(out, "SET", uint64(i), value, 0); len(out) > 60<<10 || i == keys-1 {
			if _, err := c.Write(out); err != nil {
				b.Fatal(err)
			}
			out = out[:0]
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func readOKs(c net.Conn, n int) error {
	_, err := io.CopyN(io.Discard, c, int64(n*len("+OK\r\n")))
	return err
}
