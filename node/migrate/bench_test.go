package migrate

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// BenchmarkMove moves one range of 200,000 keys with 100 B values over loopback
// TCP, with logs on the real disk that sync always.
func BenchmarkMove(b *testing.B) {
	for _, batch := range []int{64 << 10, 128 << 10} {
		b.Run(fmt.Sprintf("batch=%dK", batch>>10), func(b *testing.B) { benchmarkMove(b, 200_000, batch) })
	}
}

func benchmarkMove(b *testing.B, keys, batch int) {
	var total time.Duration
	for b.Loop() {
		b.StopTimer()
		w := (&world{t: b, disk: func(string) vfs.FS { return vfs.OS() }, tune: func(o *Options) {
			o.BatchBytes = batch
		}}).build()
		w.net.tcp = true
		s, value := w.a.e.NewSession(), make([]byte, 100)
		for i := range keys {
			pos, key := w.key(i)
			if _, err := s.Put(pos, key, value, engine.PutOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		must(0, s.Wait())(b)
		b.StartTimer()
		began := time.Now()
		w.start()
		w.settled()
		took := time.Since(began)
		total += took
		b.StopTimer()
		w.mustOwn(w.b)
		if n := w.b.e.Count(); n != keys {
			b.Fatalf("%d keys arrived, want %d", n, keys)
		}
		w.stop()
		b.StartTimer()
		b.Logf("took %v, pause %v", took, w.a.pauses())
	}
	b.ReportMetric(float64(keys*b.N)/total.Seconds(), "keys/s")
}

// BenchmarkQuarter moves a quarter of the ring, 250,000 keys in 64 ranges, four at a
// time, with a document of that many moves in a folder.
func BenchmarkQuarter(b *testing.B) {
	const keys = 250_000
	var total time.Duration
	for b.Loop() {
		b.StopTimer()
		folder := must(bucket.OpenFolder(b.TempDir()))(b)
		w := (&world{t: b, size: 1 << 30, folder: folder, disk: func(string) vfs.FS { return vfs.OS() }}).build()
		w.net.tcp, w.manager.most = true, 4
		s, value := w.a.e.NewSession(), make([]byte, 100)
		for i := range keys {
			pos := w.r.Start + 1 + ring.Position(uint64(i)*(w.r.Size()/keys))
			if _, err := s.Put(pos, fmt.Appendf(nil, "key-%09d", i), value, engine.PutOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		must(0, s.Wait())(b)
		moves := len(w.document().Moves)
		b.StartTimer()
		began := time.Now()
		w.start()
		w.settled()
		took := time.Since(began)
		total += took
		b.StopTimer()
		if n := w.b.e.Count(); n != keys {
			b.Fatalf("%d keys arrived, want %d", n, keys)
		}
		w.stop()
		b.StartTimer()
		p := w.a.pauses()
		slices.Sort(p)
		b.Logf("%d moves took %v, held for %v at the median, %v at most", moves, took, p[len(p)/2], p[len(p)-1])
	}
	b.ReportMetric(float64(keys*b.N)/total.Seconds(), "keys/s")
}

// loopback returns two ends of a TCP connection.
func loopback() (net.Conn, net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	b, err := l.Accept()
	return a, b, err
}
