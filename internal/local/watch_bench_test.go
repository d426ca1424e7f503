package local

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
)

// BenchmarkWatch writes through one real node, as fast as so many callers can, and
// has every write told to so many watches of its prefix, all in this process. What
// is reported: writes, changes told to all of them together, and how long after
// its write began a change was told. A write waits until the slowest watch is not
// too far behind, so that the figures are not those of one that catches up; with
// one caller until everybody has been told of the one before.
func BenchmarkWatch(b *testing.B) {
	for _, c := range []struct{ watches, callers int }{{0, 64}, {1, 1}, {1, 64}, {1000, 1}, {1000, 64}} {
		b.Run(fmt.Sprintf("watches=%d/callers=%d", c.watches, c.callers), func(b *testing.B) {
			benchmarkWatches(b, c.watches, c.callers)
		})
	}
}

func benchmarkWatches(b *testing.B, watches, callers int) {
	db := benchCluster(b)
	ctx, cancel := context.WithCancel(context.Background())
	var live, watching sync.WaitGroup
	latencies := make([][]time.Duration, watches)
	started := time.Now()
	const most = 4096
	room := make(chan struct{}, most) // writes that the last watch has not been told
	if callers == 1 {
		room = make(chan struct{}, 1)
	}
	told := make([]atomic.Int64, b.N)
	for i := range watches {
		live.Add(1)
		watching.Go(func() {
			for change, err := range db.Watch(ctx, "w:", client.WatchOptions{}) {
				switch {
				case err != nil:
					return
				case change.Kind == client.ChangeSynced:
					live.Done()
				case change.Kind == client.ChangePut:
					at := time.Duration(binary.BigEndian.Uint64(change.Value))
					latencies[i] = append(latencies[i], time.Since(started)-at)
					if n := binary.BigEndian.Uint64(change.Value[8:]); told[n].Add(1) == int64(watches) {
						<-room
					}
				}
			}
		})
	}
	live.Wait()
	b.ResetTimer()
	var writing sync.WaitGroup
	var next atomic.Int64
	for range callers {
		writing.Go(func() {
			value := make([]byte, 64)
			for n := next.Add(1) - 1; n < int64(b.N); n = next.Add(1) - 1 {
				if watches > 0 {
					room <- struct{}{}
				}
				binary.BigEndian.PutUint64(value, uint64(time.Since(started)))
				binary.BigEndian.PutUint64(value[8:], uint64(n))
				if err := db.Put(ctx, fmt.Sprintf("w:%d", n), value); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	for n := 0; watches > 0 && n < cap(room); n++ { // all places are free when everybody has been told of everything
		room <- struct{}{}
	}
	b.StopTimer()
	cancel()
	watching.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
	if all := slices.Concat(latencies...); len(all) > 0 {
		slices.Sort(all)
		b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "changes/s")
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
	}
}

// benchCluster is one node that does not wait for its disk.
func benchCluster(b *testing.B) *client.Client {
	b.Helper()
	config, err := node.LoadConfig(map[string]string{"QUOIT_FSYNC": "never", "QUOIT_NODE_TOKENS": "8", "QUOIT_NODE_DATA": "-", "QUOIT_BUCKET": "-"})
	if err != nil {
		b.Fatal(err)
	}
	m, err := manager.LoadConfig(map[string]string{"QUOIT_BUCKET": "-", "QUOIT_MANAGER_NODE_TIMEOUT": "5m"})
	if err != nil {
		b.Fatal(err)
	}
	c, err := Start(context.Background(), Options{Dir: b.TempDir(), Nodes: 1, Port: -1, Node: &config, Manager: &m})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	db, err := client.Open(context.Background(), c.Addresses(), client.WithHealthInterval(5*time.Minute))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	return db
}
