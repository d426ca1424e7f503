package restore

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/quoitdb/quoit/internal/restoretest"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

const benchKeys = 1_000_000

// fill makes a folder bucket of three nodes: a million keys of 16 bytes with values of
// 100 that do not pack, and a twentieth of them written again behind the snapshots.
func fill(b *testing.B, dir string) {
	folder, err := bucket.OpenFolder(dir)
	must(b, err)
	defer folder.Close()
	clock := restoretest.NewClock()
	var nodes []*restoretest.Node
	const third = ring.MaxPosition / 3
	for i := range 3 {
		n := restoretest.Boot(b, folder, clock, fmt.Sprintf("10.0.0.%d:7401", i+1), uint64(i+1))
		defer n.Stop()
		n.Bits = 3
		owned := ring.Range{Start: third*ring.Position(i) - 1, End: third*ring.Position(i+1) - 1}
		if i == 2 {
			owned.End = ring.MaxPosition
		}
		must(b, n.SetOwnership([]ring.Range{owned}))
		nodes = append(nodes, n)
	}
	random := rand.New(rand.NewPCG(1, 2))
	write := func(i int) {
		key := fmt.Sprintf("key:%012d", i)
		value := make([]byte, 100)
		for j := range value {
			value[j] = byte(random.Uint32())
		}
		nodes[min(ring.PositionOfString(key)/third, 2)].Put(key, string(value))
	}
	for i := range benchKeys {
		write(i)
	}
	for _, n := range nodes {
		clock.Add(10)
		n.Snapshot(nil)
	}
	for i := 0; i < benchKeys; i += 20 {
		write(i)
	}
	for _, n := range nodes {
		n.Archive()
	}
}

func BenchmarkRead(b *testing.B) {
	dir := b.TempDir() + "/bucket"
	fill(b, dir)
	for _, workers := range []int{1, 2, 4} {
		b.Run(fmt.Sprint("workers ", workers), func(b *testing.B) {
			folder, err := bucket.OpenFolder(dir)
			must(b, err)
			defer folder.Close()
			b.ReportAllocs()
			for b.Loop() {
				m, err := Open(b.Context(), folder, Options{})
				must(b, err)
				counts := make([]int, workers)
				must(b, m.Scan(b.Context(), workers, func(w int, _ snapshot.Entry) error {
					counts[w]++
					return nil
				}))
				total := 0
				for _, n := range counts {
					total += n
				}
				if total != benchKeys || !m.Exact() {
					b.Fatalf("%d keys, %v", total, m.Gaps())
				}
			}
			b.ReportMetric(float64(benchKeys*b.N)/b.Elapsed().Seconds(), "keys/s")
		})
	}
}

// BenchmarkRestore writes the same into a cluster of three nodes in this process.
func BenchmarkRestore(b *testing.B) {
	dir := b.TempDir() + "/bucket"
	fill(b, dir)
	for _, workers := range []int{2, 8} {
		b.Run(fmt.Sprint("workers ", workers), func(b *testing.B) {
			folder, err := bucket.OpenFolder(dir)
			must(b, err)
			defer folder.Close()
			for b.Loop() {
				b.StopTimer()
				db := startCluster(b, 3)
				b.StartTimer()
				m, err := Open(b.Context(), folder, Options{})
				must(b, err)
				r, err := Fill(b.Context(), m, db, FillOptions{Workers: workers})
				must(b, err)
				if r.Keys != benchKeys {
					b.Fatalf("%+v", r)
				}
			}
			b.ReportMetric(float64(benchKeys*b.N)/b.Elapsed().Seconds(), "keys/s")
		})
	}
}
