package client

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// okServers are the ceiling: they parse requests and store nothing. GET gets 64
// bytes, TOPOLOGY a cluster of n nodes, everything else OK.
func okServers(tb testing.TB, n int) (seed string) {
	topology := ring.Topology{Cluster: "bench", Epoch: 1}
	var listeners []net.Listener
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		listeners = append(listeners, listener)
		topology.Nodes = append(topology.Nodes, ring.Node{Address: listener.Addr().String(), Tokens: ring.DefaultTokens})
	}
	text, err := topology.MarshalText()
	if err != nil {
		tb.Fatal(err)
	}
	var serving sync.WaitGroup
	for _, listener := range listeners {
		serving.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				serving.Go(func() { serveOK(conn, text) })
			}
		})
	}
	tb.Cleanup(func() {
		for _, listener := range listeners {
			listener.Close()
		}
		serving.Wait()
	})
	return topology.Nodes[0].Address
}

func serveOK(conn net.Conn, topology []byte) {
	defer conn.Close()
	value := bytes.Repeat([]byte("x"), 64)
	buf, held, out := make([]byte, 256<<10), 0, []byte(nil)
	parser := protocol.RequestParser{Limits: protocol.DefaultLimits()}
	for {
		n, err := conn.Read(buf[held:])
		if err != nil {
			return
		}
		held += n
		start := 0
		for {
			args, n, err := parser.Next(buf[start:held])
			if err != nil {
				return
			}
			if n == 0 {
				break
			}
			start += n
			switch {
			case len(args) == 0:
			case string(args[0]) == "GET":
				out = protocol.AppendBulk(out, value)
			case string(args[0]) == "TOPOLOGY":
				out = protocol.AppendBulk(out, topology)
			default:
				out = protocol.AppendOK(out)
			}
		}
		held = copy(buf, buf[start:held])
		if _, err := conn.Write(out); err != nil {
			return
		}
		out = out[:0]
	}
}

func BenchmarkGet(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		b.Run("nodes="+strconv.Itoa(nodes), func(b *testing.B) {
			benchmarkCallers(b, nodes, func(ctx context.Context, c *Client, key string) error {
				_, err := c.Get(ctx, key)
				return err
			})
		})
	}
}

func BenchmarkPut(b *testing.B) {
	value := bytes.Repeat([]byte("x"), 64)
	benchmarkCallers(b, 1, func(ctx context.Context, c *Client, key string) error {
		return c.Put(ctx, key, value)
	})
}

// benchmarkCallers runs op from so many goroutines.
func benchmarkCallers(b *testing.B, nodes int, op func(context.Context, *Client, string) error) {
	keys := benchKeys(1024)
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run("callers="+strconv.Itoa(callers), func(b *testing.B) {
			ctx, c := benchClient(b, nodes)
			var all sync.WaitGroup
			for g := range callers {
				all.Go(func() {
					for i := g; i < b.N; i += callers {
						if err := op(ctx, c, keys[i%len(keys)]); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}

// BenchmarkMGet counts keys, not calls.
func BenchmarkMGet(b *testing.B) {
	keys := benchKeys(1024)
	for _, size := range []int{10, 100, 1000} {
		b.Run("keys="+strconv.Itoa(size), func(b *testing.B) {
			ctx, c := benchClient(b, 3)
			for i := 0; i < b.N; i += size {
				if _, err := c.MGet(ctx, keys[:size]...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}

func benchKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = "key:" + strconv.Itoa(1_000_000+i)
	}
	return keys
}

// benchClient opens a client with a context that can end, as callers have.
func benchClient(b *testing.B, nodes int) (context.Context, *Client) {
	ctx, cancel := context.WithCancel(b.Context())
	c, err := Open(ctx, []string{okServers(b, nodes)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cancel()
		c.Close()
	})
	b.ReportAllocs()
	b.ResetTimer()
	return ctx, c
}
