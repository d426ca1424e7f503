package client

import (
	"bytes"
	"net"
	"strconv"
	"testing"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// BenchmarkWatch is what one watch takes when a node, which only writes what was
// prepared, tells as fast as it can: puts of 64 bytes, of a thousand keys.
func BenchmarkWatch(b *testing.B) {
	for _, state := range []bool{false, true} {
		b.Run("state="+strconv.FormatBool(state), func(b *testing.B) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			address := listener.Addr().String()
			topology, err := ring.Topology{Cluster: "bench", Epoch: 1, Nodes: []ring.Node{{Address: address, Tokens: 128}}}.MarshalText()
			if err != nil {
				b.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					go serveChanges(conn, topology, b.N)
				}
			}()
			defer func() { <-done }()
			defer listener.Close()
			c, err := Open(b.Context(), []string{address})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			b.ReportAllocs()
			b.ResetTimer()
			n := 0
			for change, err := range c.Watch(b.Context(), "key:", WatchOptions{State: state}) {
				if err != nil {
					b.Fatal(err)
				}
				if change.Kind == ChangePut {
					n++
				}
				if n == b.N {
					break
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
		})
	}
}

// serveChanges tells of n changes, and before that what a client wants to know.
func serveChanges(conn net.Conn, topology []byte, n int) {
	defer conn.Close()
	buf, held := make([]byte, 64<<10), 0
	parser := protocol.RequestParser{Limits: protocol.DefaultLimits()}
	for {
		got, err := conn.Read(buf[held:])
		if err != nil {
			return
		}
		held += got
		for {
			args, took, err := parser.Next(buf[:held])
			if err != nil || took == 0 {
				break
			}
			switch string(args[0]) {
			case "TOPOLOGY":
				_, err = conn.Write(protocol.AppendBulk(nil, topology))
			case "WATCH":
				err = tellChanges(conn, n)
			default:
				_, err = conn.Write(protocol.AppendOK(nil))
			}
			if err != nil {
				return
			}
			held = copy(buf, buf[took:held])
		}
	}
}

func tellChanges(conn net.Conn, n int) error {
	const batch = 500
	value := bytes.Repeat([]byte("x"), 64)
	keys := benchKeys(1000)
	all := protocol.Push{Kind: protocol.PushSynced, ID: watchID, Start: 1, End: 1, Version: 1}
	out := all.Append(nil)
	for i := range n {
		p := protocol.Push{Kind: protocol.PushPut, ID: watchID, Key: []byte(keys[i%len(keys)]), Version: uint64(2 + i), Value: value}
		out = p.Append(out)
		if i%50000 == 0 {
			p = protocol.Push{Kind: protocol.PushProgress, ID: watchID, Version: uint64(2 + i)}
			out = p.Append(out)
		}
		if i%batch == batch-1 || i == n-1 {
			if _, err := conn.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
	return nil
}
