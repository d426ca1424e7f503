//go:build linux

package node

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/quoitdb/quoit/node/wal"
)

// BenchmarkBatch is the server's own part of a pipelined request, without the
// network: parse, look up, log, reply, over a million keys spread in memory.
func BenchmarkBatch(b *testing.B) {
	const keys = 1_000_000
	s := startSolo(b, soloOptions{dir: b.TempDir(), config: func(c *Config) { c.Log.Fsync = Fsync(wal.SyncNever) }})
	value := make([]byte, 64)
	fill(b, s, keys, value)
	for _, op := range []string{"GET", "SET"} {
		for _, depth := range []int{1, 16, 64} {
			b.Run(op+"/"+strconv.Itoa(depth), func(b *testing.B) {
				var batches [][]byte
				for range 1 << 16 / depth {
					var batch []byte
					for range depth {
						batch, _ = appendBenchRequest(batch, op, rand.Uint64N(keys), value, 0)
					}
					batches = append(batches, batch)
				}
				end := &sink{}
				c := newConn(s.server, end, 0)
				var source bytes.Reader
				b.ReportAllocs()
				b.ResetTimer()
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				var took []float64
				for i := 0; i < b.N; {
					began, before := threadTime(), i
					for ; i < before+4096; i += depth {
						source.Reset(batches[i/depth%len(batches)])
						for source.Len() > 0 {
							_ = c.in.MakeRoom(1)
							_, _ = c.in.Fill(&source)
							c.batch()
						}
						c.flush()
					}
					took = append(took, float64(threadTime()-began)/float64(i-before))
				}
				slices.Sort(took)
				b.ReportMetric(took[len(took)/2], "cpu-ns/op")
				b.ReportMetric(took[len(took)/10], "p10-cpu-ns/op")
			})
		}
	}
}

// threadTime is the CPU time of this thread: unlike the time of day it does not
// count what else the machine does.
func threadTime() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return t.Nano()
}
