package ring

import (
	"strconv"
	"unsafe"
)

// MaxPosition is the highest position; the one after it is 0.
const MaxPosition Position = 1<<32 - 1

// Position is a place on the ring.
type Position uint32

// PositionOf returns the position of a key. It does not allocate.
func PositionOf(key []byte) Position {
	return Position(headOfMD5(key))
}

// PositionOfString is [PositionOf] for a key held as a string. It does not
// allocate either.
func PositionOfString(key string) Position {
	// A conversion would copy keys of more than 32 bytes to the heap. The hash
	// only reads the bytes and does not keep them, so lending them is safe.
	return PositionOf(unsafe.Slice(unsafe.StringData(key), len(key)))
}

// ParsePosition reads a position as [Position.String] writes it.
func ParsePosition(text string) (Position, error) {
	n, ok := parseDecimal(text, 32)
	if !ok {
		return 0, invalid("position", text, "want a decimal number from 0 to 4294967295")
	}
	return Position(n), nil
}

// String returns the position in decimal.
func (p Position) String() string { return strconv.FormatUint(uint64(p), 10) }

// Epoch counts the changes of ownership in a cluster. Of two topologies of one
// cluster the one with the higher epoch is newer.
type Epoch uint64

// ParseEpoch reads an epoch as [Epoch.String] writes it.
func ParseEpoch(text string) (Epoch, error) {
	n, ok := parseDecimal(text, 64)
	if !ok {
		return 0, invalid("epoch", text, "want a decimal number from 0 to 18446744073709551615")
	}
	return Epoch(n), nil
}

// String returns the epoch in decimal.
func (e Epoch) String() string { return strconv.FormatUint(uint64(e), 10) }

// parseDecimal reads the one spelling that String gives a number: leading zeros
// are refused, so that texts are equal exactly when their numbers are.
func parseDecimal(text string, bits int) (uint64, bool) {
	if len(text) > 1 && text[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, bits)
	return n, err == nil
}
