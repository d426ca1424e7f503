// Package md5lanes computes where several short keys lie on the ring at once.
// One MD5 is a chain of 64 steps that each wait for the one before, so that a
// processor is mostly idle with it; eight of them side by side in the lanes of
// vector registers take little longer than one.
package md5lanes

import (
	"encoding/binary"
	"math/bits"

	"github.com/quoitdb/quoit/ring"
)

const (
	lanes = 8
	// MaxKey is the longest key that MD5 takes as one block.
	MaxKey = 55
	// worthwhile is from how many keys on eight at once are faster.
	worthwhile = 3
)

// Positions writes the position of each key, as [ring.PositionOf] says it, into
// dst, which is as long as keys. No key may be longer than MaxKey.
func Positions(dst []ring.Position, keys [][]byte) {
	for len(keys) >= worthwhile && vectors {
		n := min(lanes, len(keys))
		eight(dst[:n], keys[:n])
		dst, keys = dst[n:], keys[n:]
	}
	for i, key := range keys {
		dst[i] = ring.PositionOf(key)
	}
}

// eight takes up to eight keys. The message of each stands in a column of words,
// padded as RFC 1321 says: a bit, zeros, and the length in bits.
func eight(dst []ring.Position, keys [][]byte) {
	var words [16][lanes]uint32
	for lane, key := range keys {
		lane &= lanes - 1
		w := 0
		for ; len(key) >= 4; key = key[4:] {
			words[w&15][lane] = binary.LittleEndian.Uint32(key)
			w++
		}
		last := uint32(0x80)
		for i := len(key) - 1; i >= 0; i-- {
			last = last<<8 | uint32(key[i])
		}
		words[w&15][lane] = last
		words[14][lane] = uint32(w*4+len(key)) * 8 // At most MaxKey bytes.
	}
	var first [lanes]uint32
	block(&first, &words)
	for lane := range dst {
		dst[lane] = ring.Position(bits.ReverseBytes32(first[lane&(lanes-1)]))
	}
}
