package table

import "encoding/binary"

// A block is one entry in a chunk. All numbers are little-endian; a block starts
// and ends on a multiple of four bytes, and that is all the alignment it has.
//
//	offset  bytes  field
//	0       8      version
//	8       4      sizes, from the lowest bit:
//	                 14  length of the key
//	                 14  length of the value
//	                  1  an expiry follows
//	                  3  slack: units at the end beyond what the entry needs
//	12      0 | 8  expiry, Unix milliseconds
//	...            key, value, 0..3 bytes of rounding, slack
//
// A free block that waits for reuse holds in its first four bytes the [ref] of
// the next free block of the same size; its length is the list it is in.
const (
	unit       = 4 // bytes; blocks are addressed and sized in units
	headerSize = 12
	expirySize = 8

	lengthBits = 14
	lengthMask = 1<<lengthBits - 1
	expiryBit  = 1 << (2 * lengthBits)
	slackShift = 2*lengthBits + 1
	maxSlack   = 7

	// maxBlock bounds a block. Larger entries live on the heap, see bigs: four
	// of these fill a chunk, so that at most a fifth of it is lost at its end.
	maxBlock      = 16 << 10
	maxBlockUnits = maxBlock / unit
)

// blockUnits returns how many units an entry needs, or false if it is too large
// for a block.
func blockUnits(key, value int, expiry bool) (units uint32, ok bool) {
	n := uint64(headerSize) + uint64(key) + uint64(value) // Lengths are not negative.
	if expiry {
		n += expirySize
	}
	return uint32((n + unit - 1) / unit), n < maxBlock && key <= lengthMask && value <= lengthMask
}

// slackAllowed returns how many units more than an entry needs its block may
// have: an eighth, and one for the smallest.
func slackAllowed(units uint32) uint32 { return min(maxSlack, 1+units/8) }

// writeBlock fills a block of units+slack units at the start of b.
func writeBlock(b []byte, key, value []byte, version uint64, expireAt int64, slack uint32) {
	sizes := uint32(len(key)) | uint32(len(value))<<lengthBits | slack<<slackShift
	binary.LittleEndian.PutUint64(b, version)
	at := headerSize
	if expireAt != 0 {
		sizes |= expiryBit
		binary.LittleEndian.PutUint64(b[at:], uint64(expireAt)) // Bits, not a quantity.
		at += expirySize
	}
	binary.LittleEndian.PutUint32(b[8:], sizes)
	at += copy(b[at:], key)
	copy(b[at:], value)
}

// setBlockMeta changes what stands before the key. It reports false if the block
// has no place for an expiry, or would have an idle one.
func setBlockMeta(b []byte, version uint64, expireAt int64) bool {
	if (blockSizes(b)&expiryBit != 0) != (expireAt != 0) {
		return false
	}
	binary.LittleEndian.PutUint64(b, version)
	if expireAt != 0 {
		binary.LittleEndian.PutUint64(b[headerSize:], uint64(expireAt)) // Bits, not a quantity.
	}
	return true
}

func blockSizes(b []byte) uint32 { return binary.LittleEndian.Uint32(b[8:]) }

// keyStart returns where the key begins in a block with these sizes.
func keyStart(sizes uint32) uint32 {
	return headerSize + sizes&expiryBit>>(2*lengthBits-3)
}

// unitsOf returns what an entry with these sizes needs, and the slack its block
// has beyond that.
func unitsOf(sizes uint32) (units, slack uint32) {
	n := keyStart(sizes) + sizes&lengthMask + sizes>>lengthBits&lengthMask
	return (n + unit - 1) / unit, sizes >> slackShift
}

// setBlockSlack notes that the block is slack units longer than it must be.
func setBlockSlack(b []byte, slack uint32) {
	sizes := blockSizes(b)&(1<<slackShift-1) | slack<<slackShift
	binary.LittleEndian.PutUint32(b[8:], sizes)
}

// blockHasKey reports whether the block at the start of b is the entry of key. It
// takes where to compare and how much from branches and from key, not from the
// sizes, which may be a long way off in memory: the processor guesses the
// branches and asks for the line of the key beside that of the sizes.
func blockHasKey(b, key []byte) bool {
	sizes := blockSizes(b)
	if sizes&lengthMask != uint32(len(key)) { // A longer key fails below.
		return false
	}
	if sizes&expiryBit == 0 {
		return string(b[headerSize:][:len(key)]) == string(key)
	}
	return string(b[headerSize+expirySize:][:len(key)]) == string(key)
}

// blockEntry returns a view of the entry in the block at the start of b.
func blockEntry(b []byte) Entry {
	sizes := blockSizes(b)
	at := keyStart(sizes)
	k := at + sizes&lengthMask
	v := k + sizes>>lengthBits&lengthMask
	e := Entry{Key: b[at:k:k], Value: b[k:v:v], Version: binary.LittleEndian.Uint64(b)}
	if sizes&expiryBit != 0 {
		e.ExpireAt = int64(binary.LittleEndian.Uint64(b[headerSize:])) // Bits, not a quantity.
	}
	return e
}
