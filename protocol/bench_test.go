package protocol_test

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func BenchmarkRequest(b *testing.B) {
	key, value := []byte("user:0000000001"), bytes.Repeat([]byte("v"), 64)
	large := bytes.Repeat([]byte("v"), 64<<10)
	for _, bb := range []struct {
		name string
		buf  []byte
	}{
		{"SET64", protocol.AppendRequest(nil, "SET", key, value)},
		{"SET64K", protocol.AppendRequest(nil, "SET", key, large)},
		{"GET", protocol.AppendRequest(nil, "GET", key)},
		{"line", []byte("GET user:0000000001\r\n")},
	} {
		b.Run(bb.name, func(b *testing.B) {
			var p protocol.RequestParser
			b.ReportAllocs()
			for b.Loop() {
				if _, n, _ := p.Next(bb.buf); n != len(bb.buf) {
					b.Fatal(n)
				}
			}
		})
	}
}

// BenchmarkExecute is all that this package does for a SET: parse, look up, check, options.
func BenchmarkExecute(b *testing.B) {
	buf := protocol.AppendRequest(nil, "SET", []byte("user:0000000001"), bytes.Repeat([]byte("v"), 64))
	var p protocol.RequestParser
	limits := protocol.DefaultLimits()
	b.ReportAllocs()
	for b.Loop() {
		execute(b, &p, limits, buf)
	}
}

// BenchmarkArrivingInPieces is one large request in reads of 64 KiB; the time
// for each byte must not grow with the size.
func BenchmarkArrivingInPieces(b *testing.B) {
	for _, args := range []int{10_000, 100_000, 1_000_000} {
		buf := protocol.AppendCommandHeader(nil, args)
		for range args {
			buf = protocol.AppendBulkString(buf, "member:0001")
		}
		b.Run(strconv.Itoa(args), func(b *testing.B) {
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				var p protocol.RequestParser
				for end := 0; end < len(buf); {
					end = min(end+64<<10, len(buf))
					p.Next(buf[:end])
				}
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, name := range []string{"GET", "set", "PExpireTime", "FLUSHALL"} {
		b.Run(name, func(b *testing.B) {
			word := []byte(name)
			for b.Loop() {
				protocol.Lookup(word)
			}
		})
	}
}

func BenchmarkReply(b *testing.B) {
	value := bytes.Repeat([]byte("v"), 64)
	list := protocol.AppendArray(nil, 100)
	for range 100 {
		list = protocol.AppendBulk(list, value)
	}
	for _, bb := range []struct {
		name string
		buf  []byte
	}{
		{"ok", protocol.AppendOK(nil)},
		{"bulk64", protocol.AppendBulk(nil, value)},
		{"array100", list},
	} {
		b.Run(bb.name, func(b *testing.B) {
			var p protocol.ReplyParser
			b.ReportAllocs()
			for b.Loop() {
				if _, n, _ := p.Next(bb.buf); n != len(bb.buf) {
					b.Fatal(n)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	key, value := []byte("user:0000000001"), bytes.Repeat([]byte("v"), 64)
	buf := make([]byte, 0, 256)
	b.Run("request", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			protocol.AppendRequest(buf, "SET", key, value)
		}
	})
	b.Run("bulk64", func(b *testing.B) {
		for b.Loop() {
			protocol.AppendBulk(buf, value)
		}
	})
}
