package ring_test

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// BenchmarkOwner looks up positions that no branch predictor knows.
func BenchmarkOwner(b *testing.B) {
	for _, n := range []int{1, 3, 10, 100} {
		b.Run(strconv.Itoa(n)+"-nodes", func(b *testing.B) {
			m := mustMap(b, nodes(n)...)
			random := rand.New(rand.NewPCG(1, 2))
			positions := make([]ring.Position, 1<<16)
			for i := range positions {
				positions[i] = ring.Position(random.Uint32())
			}
			b.ReportAllocs()
			i, length := 0, 0
			for b.Loop() {
				length += len(m.Owner(positions[i&(len(positions)-1)]))
				i++
			}
			if length == 0 {
				b.Fatal("nobody owns anything")
			}
		})
	}
}

func BenchmarkPositionOf(b *testing.B) {
	for _, size := range []int{16, 64, 1024} {
		b.Run(strconv.Itoa(size)+"-bytes", func(b *testing.B) {
			key := []byte(strings.Repeat("k", size))
			b.ReportAllocs()
			for b.Loop() {
				ring.PositionOf(key)
			}
		})
	}
}

func BenchmarkNewMap(b *testing.B) {
	for _, n := range []int{10, 100} {
		b.Run(strconv.Itoa(n)+"-nodes", func(b *testing.B) {
			all := nodes(n)
			b.ReportAllocs()
			for b.Loop() {
				mustMap(b, all...)
			}
		})
	}
}

func BenchmarkPlan(b *testing.B) {
	from, to := mustMap(b, nodes(10)...), mustMap(b, nodes(11)...)
	b.ReportAllocs()
	for b.Loop() {
		ring.Plan(from, to)
	}
}

func BenchmarkParseTopology(b *testing.B) {
	text, err := ring.Topology{Cluster: "c", Nodes: nodes(100)}.MarshalText()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ring.ParseTopology(text); err != nil {
			b.Fatal(err)
		}
	}
}
