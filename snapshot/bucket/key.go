package bucket

import (
	"fmt"
	"strings"
)

// MaxKeyLength and MaxSegmentLength bound a key and each part of it between slashes.
const (
	MaxKeyLength     = 512
	MaxSegmentLength = 200
)

// ValidateKey says whether a key can name an object everywhere: parts of
// lower-case letters, digits, '-', '_' and '.', joined by '/', none of which
// begins with a dot. Lower case only, because two keys that differ in case are
// one file on some systems. A key must not continue another key as a path ("a"
// and "a/b"): a folder cannot hold both.
func ValidateKey(key string) error {
	if key == "" || len(key) > MaxKeyLength {
		return fmt.Errorf("%w %.40q: want 1 to %d characters", ErrInvalidKey, key, MaxKeyLength)
	}
	for segment := range strings.SplitSeq(key, "/") {
		if fault := segmentFault(segment); fault != "" {
			return fmt.Errorf("%w %.80q: %s", ErrInvalidKey, key, fault)
		}
	}
	return nil
}

// segmentFault returns what is wrong with one part of a key, or nothing.
func segmentFault(segment string) string {
	switch {
	case segment == "":
		return "empty part: no slash at either end, nor two in a row"
	case len(segment) > MaxSegmentLength:
		return fmt.Sprintf("part longer than %d characters", MaxSegmentLength)
	case segment[0] == '.':
		return "a part must not begin with a dot"
	}
	for _, c := range []byte(segment) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return "only lower-case letters, digits, '-', '_' and '.' can be used"
		}
	}
	return ""
}
