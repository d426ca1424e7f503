package gateway

import (
	"bufio"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkWatchers changes one key after another that a thousand clients watch, and
// waits each time until all have heard of it: through channels of a gateway, and beside
// that over as many plain connections straight to the node. Reported is the time from
// before the write is sent until one of them has read the change, half of them and 99 of
// 100 by then.
func BenchmarkWatchers(b *testing.B) {
	const watchers = 1000
	cluster, g := both(b, 1, options{config: func(c *Config) { c.Limits.PerAddress = 0 }})
	address := cluster.Addresses()[0]
	for _, way := range []struct {
		name string
		open func() (io.Reader, func() error)
	}{
		{"gateway", func() (io.Reader, func() error) {
			p := g.channel(address)
			p.send(request(watchAll...))
			return messages{p}, p.CloseNow
		}},
		{"straight", func() (io.Reader, func() error) {
			nc, err := net.Dial("tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.WriteString(nc, request(watchAll...)); err != nil {
				b.Fatal(err)
			}
			return nc, nc.Close
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			heard := make(chan time.Time, watchers)
			var all sync.WaitGroup
			ready := make(chan struct{}, watchers)
			defer all.Wait()
			for range watchers {
				r, end := way.open()
				defer func() { _ = end() }()
				all.Go(func() { hear(bufio.NewReader(r), ready, heard) })
			}
			for range watchers {
				<-ready
			}
			writer, err := net.Dial("tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			defer writer.Close()
			replies := bufio.NewReader(writer)
			took := make([]time.Duration, 0, watchers*64)
			n, before := 0, cpuTime(b)
			for b.Loop() {
				began := time.Now()
				if _, err := io.WriteString(writer, request("SET", "p:"+strconv.Itoa(n), strings.Repeat("x", 64))); err != nil {
					b.Fatal(err)
				}
				n++
				for range watchers {
					took = append(took, (<-heard).Sub(began))
				}
				if _, err := readReply(replies); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(len(took)), "cpu-us/change")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "changes/s")
		})
	}
}

// hear says when a watch is live, and then when it has read each change, until the
// connection ends.
func hear(r *bufio.Reader, live chan<- struct{}, changes chan<- time.Time) {
	for {
		got, err := readReply(r)
		switch {
		case err != nil:
			return
		case strings.HasPrefix(got, "[synced "):
			live <- struct{}{}
		case strings.HasPrefix(got, "[put "):
			changes <- time.Now()
		}
	}
}
