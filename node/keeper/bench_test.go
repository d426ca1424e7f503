package keeper

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

const benchKeys = 1_000_000

// node is a node on a real disk, with a bucket beside it.
type benchNode struct {
	b      *testing.B
	dir    string
	log    *wal.Log
	engine *engine.Engine
	base   *Base
	keeper *Keeper
}

func newBenchNode(b *testing.B) *benchNode {
	b.Helper()
	n := &benchNode{b: b, dir: b.TempDir()}
	n.open()
	b.Cleanup(n.close)
	s := n.engine.NewSession()
	value := make([]byte, 100)
	for i := range benchKeys {
		key := []byte(fmt.Sprintf("key:%012d", i))
		copy(value, fmt.Sprintf("%x", uint64(i)*0x9e3779b97f4a7c15))
		if _, err := s.Put(ring.PositionOf(key), key, value, engine.PutOptions{}); err != nil {
			b.Fatal(err)
		}
		if i%1000 == 999 {
			must(b, s.Wait())
		}
	}
	must(b, s.Wait())
	return n
}

func (n *benchNode) open() {
	bk, err := bucket.OpenFolder(filepath.Join(n.dir, "bucket"))
	must(n.b, err)
	store, err := snapshot.NewStore(bk, testNode, snapshot.StoreOptions{})
	must(n.b, err)
	found, err := Start{
		FS: vfs.OS(), Dir: filepath.Join(n.dir, "data", "snapshot"), Store: store, Logger: quiet(),
		OpenLog: func(start wal.LSN) (*wal.Log, error) {
			return wal.Open(wal.Options{Dir: filepath.Join(n.dir, "data", "log"), Start: start})
		},
		Reach: func(ctx context.Context, _ string, try func(context.Context) error) error { return try(ctx) },
	}.Recover(context.Background())
	must(n.b, err)
	n.log, n.engine, n.base = found.Log, found.Engine, found.Base
	must(n.b, n.engine.SetOwnership([]ring.Range{wholeRing}))
	n.keeper = New(Options{
		Dir: filepath.Join(n.dir, "data", "snapshot"), Store: store, Engine: n.engine, Log: n.log, Cluster: testCluster, Incarnation: 1, Base: n.base, Logger: quiet(),
	})
	must(n.b, n.keeper.tryClaim(context.Background()))
}

func (n *benchNode) close() {
	must(n.b, n.engine.Close())
	must(n.b, n.log.Close())
}

// BenchmarkSnapshot is a snapshot of a million keys into a local folder: how many a
// second, what it takes besides, and how long anything was locked.
func BenchmarkSnapshot(b *testing.B) {
	n := newBenchNode(b)
	must(b, n.keeper.send(context.Background(), 0, 1<<62, false)) // the log, which is not what is measured
	var hold, heap int64
	for b.Loop() {
		n.keeper.changed, n.keeper.base = true, snapshot.Manifest{}
		stop := watchMemory()
		_, err := n.keeper.cut(context.Background())
		heap = max(heap, stop())
		must(b, err)
		hold = max(hold, n.keeper.Status().Last.HoldUS)
	}
	last := n.keeper.Status()
	b.ReportMetric(benchKeys*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
	b.ReportMetric(float64(hold), "hold-us")
	b.ReportMetric(float64(last.Last.HeldUS)/float64(last.Last.Holds), "mean-hold-us")
	b.ReportMetric(float64(heap)/(1<<20), "extra-MiB")
	b.ReportMetric(float64(last.Last.BufferBytes)/(1<<10), "buffer-KiB")
	b.ReportMetric(float64(last.Size)/benchKeys, "bytes/key")
	b.ReportMetric(benchKeys/(float64(last.Last.WriteMS)/1000), "written-keys/s")
}

// BenchmarkRecover is a start from the local snapshot of a million keys.
func BenchmarkRecover(b *testing.B) {
	n := newBenchNode(b)
	for range 2 { // so that the log is not in the way
		n.keeper.changed = true
		_, err := n.keeper.cut(context.Background())
		must(b, err)
	}
	for b.Loop() {
		b.StopTimer()
		n.close()
		b.StartTimer()
		n.open()
		if n.base == nil || !n.base.Local || n.engine.Recovered().Keys != benchKeys {
			b.Fatalf("it started from %+v", n.base)
		}
	}
	b.ReportMetric(benchKeys*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
}

// watchMemory returns a function that says by how much the process has grown
// meanwhile: heap, stacks and what else the system has given it.
func watchMemory() func() int64 {
	runtime.GC()
	first, most := resident(), int64(0)
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			most = max(most, resident()-first)
			select {
			case <-end:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return func() int64 {
		close(end)
		<-done
		return most
	}
}

// resident is the memory of the process that is in use, 0 where that is not known.
func resident() (bytes int64) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	if fields := strings.Fields(string(text)); len(fields) > 1 {
		_, _ = fmt.Sscan(fields[1], &bytes)
	}
	return bytes * int64(os.Getpagesize())
}
