package md5lanes

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

func check(t *testing.T, keys [][]byte) {
	t.Helper()
	got := make([]ring.Position, len(keys))
	Positions(got, keys)
	for i, key := range keys {
		if want := ring.PositionOf(key); got[i] != want {
			t.Errorf("key %d of %d, %q: %v, want %v", i, len(keys), key, got[i], want)
		}
	}
}

func TestPositionsAreThoseOfTheRing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 20 {
		for size := range MaxKey + 1 {
			keys := make([][]byte, n)
			for i := range keys {
				keys[i] = make([]byte, (size+i*7)%(MaxKey+1))
				for j := range keys[i] {
					keys[i][j] = byte(rng.Uint32())
				}
			}
			check(t, keys)
		}
	}
}

func FuzzPositions(f *testing.F) {
	f.Add([]byte("a,bb,,cccc,key:000000000001,f,g,h,i,j"))
	f.Add(bytes.Repeat([]byte{0xff, ',', 0x80}, 30))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys := bytes.Split(data, []byte(","))
		for i := range keys {
			keys[i] = keys[i][:min(len(keys[i]), MaxKey)]
		}
		check(t, keys)
	})
}

func BenchmarkPositions(b *testing.B) {
	for _, n := range []int{1, 2, 3, 4, 8, 16} {
		keys := make([][]byte, n)
		for i := range keys {
			keys[i] = []byte("key:000000123456")
		}
		dst := make([]ring.Position, n)
		b.Run(string(rune('0'+n/10))+string(rune('0'+n%10)), func(b *testing.B) {
			for i := 0; i < b.N; i += n {
				Positions(dst, keys)
			}
		})
	}
}
