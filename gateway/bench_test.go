package gateway

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// BenchmarkMessages sends requests one after another, and in messages of many, over a
// channel to a real node, and beside it as much to a bare echo of the same library.
func BenchmarkMessages(b *testing.B) {
	cluster, g := both(b, 1, options{})
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		for {
			kind, message, err := ws.Read(context.Background())
			if err != nil || ws.Write(context.Background(), kind, message) != nil {
				return
			}
		}
	}))
	defer echo.Close()
	for _, depth := range []struct {
		name string
		n    int
	}{{"1", 1}, {"64", 64}} {
		one := request("ECHO", strings.Repeat("x", 64))
		message := []byte(strings.Repeat(one, depth.n))
		replies := depth.n * len("$64\r\n"+strings.Repeat("x", 64)+"\r\n")
		b.Run("channel/requests="+depth.name, func(b *testing.B) {
			p := g.channel(cluster.Addresses()[0])
			exchange(b, p.Conn, message, replies)
		})
		b.Run("echo/requests="+depth.name, func(b *testing.B) {
			ws, _, err := websocket.Dial(b.Context(), "ws"+strings.TrimPrefix(echo.URL, "http"), nil) //nolint:bodyclose // the library does
			if err != nil {
				b.Fatal(err)
			}
			defer ws.CloseNow()
			exchange(b, ws, message, len(message))
		})
	}
}

// exchange sends a message and reads so many bytes of answer, again and again.
func exchange(b *testing.B, ws *websocket.Conn, message []byte, answer int) {
	ws.SetReadLimit(-1)
	ctx := context.Background()
	before := cpuTime(b)
	for b.Loop() {
		if err := ws.Write(ctx, websocket.MessageBinary, message); err != nil {
			b.Fatal(err)
		}
		for left := answer; left > 0; {
			_, got, err := ws.Read(ctx)
			if err != nil {
				b.Fatal(err)
			}
			left -= len(got)
		}
	}
	b.ReportMetric(float64(b.N)/(cpuTime(b)-before).Seconds(), "messages/cpu-s")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// cpuTime is what this process has used of all cores: client, gateway and node. On a
// machine that does other work too it tells more than the time on the wall.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIdle holds channels over which nothing is said and shows what the process
// keeps for each: the gateway's side, with the node's in the same process, beside a
// bare echo of the same library. The client's side is a raw connection.
func BenchmarkIdle(b *testing.B) {
	const channels = 500
	var reading atomic.Int64
	cluster, g := both(b, 1, options{})
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{Subprotocol}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer ws.CloseNow()
		reading.Add(1)
		defer reading.Add(-1)
		_, _, _ = ws.Read(context.Background())
	}))
	defer echo.Close()
	hold := func(b *testing.B, open func() net.Conn, running func() int64) {
		var before, after runtime.MemStats
		for b.Loop() {
			runtime.GC()
			runtime.ReadMemStats(&before)
			held := make([]net.Conn, channels)
			for i := range held {
				held[i] = open()
			}
			waitFor(b, "all of them", func() bool { return running() == channels })
			runtime.GC()
			runtime.ReadMemStats(&after)
			for _, nc := range held {
				_ = nc.Close()
			}
			waitFor(b, "all to be gone", func() bool { return running() == 0 })
		}
		b.ReportMetric((float64(after.HeapInuse+after.StackInuse)-float64(before.HeapInuse+before.StackInuse))/channels, "bytes/channel")
	}
	b.Run("channel", func(b *testing.B) {
		hold(b, func() net.Conn { return g.raw("/v1/node/" + cluster.Addresses()[0]) }, g.stats.channels.Load)
	})
	b.Run("echo", func(b *testing.B) {
		at := *g
		at.Gateway = &Gateway{lobby: &entrance{Listener: echo.Listener}}
		hold(b, func() net.Conn { return at.raw("/") }, reading.Load)
	})
}
