package ring

import (
	"crypto/md5" // Placement only, never integrity; see the package comment.
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// TestBrowsersHashAsProgramsDo, for every length around the edges of a block and for
// whatever bytes.
func TestBrowsersHashAsProgramsDo(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 0, 400)
	for len(data) < cap(data) {
		sum := md5.Sum(data)
		if got, want := portableHeadOfMD5(data), binary.BigEndian.Uint32(sum[:]); got != want {
			t.Fatalf("%d bytes: %08x, want %08x", len(data), got, want)
		}
		data = append(data, byte(dice.Uint32()))
	}
}

func FuzzBrowsersHashAsProgramsDo(f *testing.F) {
	f.Add([]byte("user:1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		sum := md5.Sum(data)
		if got, want := portableHeadOfMD5(data), binary.BigEndian.Uint32(sum[:]); got != want {
			t.Errorf("%08x, want %08x", got, want)
		}
	})
}
