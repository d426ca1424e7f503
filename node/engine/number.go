package engine

import (
	"bytes"
	"math"
	"strconv"

	"github.com/quoitdb/quoit/ring"
)

// maxDigits is the length of the longest 64-bit integer, sign included.
const maxDigits = 20

// Increment adds to the decimal integer at the key (0 when absent), keeps its
// expiry, and returns the sum.
func (s *Session) Increment(pos ring.Position, key []byte, delta int64) (int64, error) {
	if len(key) > s.e.maxKey {
		return 0, ErrTooLarge
	}
	p := s.e.part(pos)
	p.mu.Lock()
	defer p.mu.Unlock()
	seg, err := p.admitWrite(pos)
	if err != nil {
		return 0, err
	}
	entry, ok := s.find(p, seg, pos, key)
	sum := delta
	if ok {
		n, isInteger := parseInteger(entry.Value)
		if !isInteger {
			return 0, ErrNotInteger
		}
		if sum, ok = add(n, delta); !ok {
			return 0, ErrOverflow
		}
	}
	s.value = strconv.AppendInt(s.value[:0], sum, 10)
	_, err = s.put(p, seg, pos, key, s.value, entry.ExpireAt)
	return sum, err
}

// parseInteger reads a decimal integer in the one spelling that formatting gives:
// no plus, no leading zeros, no spaces. Otherwise reading and writing back would
// change the value.
func parseInteger(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > maxDigits {
		return 0, false
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	var again [maxDigits]byte
	return n, err == nil && bytes.Equal(b, strconv.AppendInt(again[:0], n, 10))
}

func add(a, b int64) (int64, bool) {
	if b > 0 && a > math.MaxInt64-b || b < 0 && a < math.MinInt64-b {
		return 0, false
	}
	return a + b, true
}
