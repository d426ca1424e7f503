package protocol

import "math"

// ParseInt reads a decimal number as commands take them: an optional "-",
// digits, nothing else, within an int64. "-0" and leading zeros are refused, so
// that a number has one spelling and can be written back as it was read.
func ParseInt(b []byte) (n int64, ok bool) {
	if len(b) == 0 || b[0] != '-' {
		u, ok := ParseUint(b)
		return int64(u), ok && u <= math.MaxInt64
	}
	u, ok := ParseUint(b[1:])
	return -int64(u), ok && u >= 1 && u <= -math.MinInt64
}

// ParseUint reads a decimal number of digits alone, within a uint64.
func ParseUint(b []byte) (n uint64, ok bool) {
	const maxDigits = 20 // of a uint64
	if len(b) == 0 || len(b) > maxDigits || (b[0] == '0' && len(b) > 1) {
		return 0, false
	}
	for _, c := range b {
		digit := uint64(c - '0')
		if digit > 9 || n > (math.MaxUint64-digit)/10 {
			return 0, false
		}
		n = n*10 + digit
	}
	return n, true
}
