package protocol_test

import (
	"math"
	"strconv"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

func TestNumbers(t *testing.T) {
	for _, in := range []string{
		"0", "1", "9", "10", "-1", "123456789", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
		"-9223372036854775809", "18446744073709551615", "18446744073709551616", "99999999999999999999", "184467440737095516150",
	} {
		want, err := strconv.ParseInt(in, 10, 64)
		if got, ok := protocol.ParseInt([]byte(in)); ok != (err == nil) || (ok && got != want) {
			t.Errorf("ParseInt %s: %d %v", in, got, ok)
		}
		wantU, err := strconv.ParseUint(in, 10, 64)
		if got, ok := protocol.ParseUint([]byte(in)); ok != (err == nil) || (ok && got != wantU) {
			t.Errorf("ParseUint %s: %d %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "-", "+1", "-0", "00", "01", "-01", " 1", "1 ", "1x", "x", "--1", "0x1", "1_0", "\xff"} {
		if n, ok := protocol.ParseInt([]byte(in)); ok {
			t.Errorf("ParseInt %q: %d", in, n)
		}
	}
}

func FuzzNumbers(f *testing.F) {
	for _, n := range []int64{0, -1, 10, math.MaxInt64, math.MinInt64} {
		f.Add(strconv.FormatInt(n, 10))
	}
	f.Fuzz(func(t *testing.T, in string) {
		n, ok := protocol.ParseInt([]byte(in))
		if ok && strconv.FormatInt(n, 10) != in {
			t.Errorf("%q is read as %d", in, n)
		}
		if want, err := strconv.ParseInt(in, 10, 64); err == nil && strconv.FormatInt(want, 10) == in && !ok {
			t.Errorf("%q is refused", in)
		}
		u, ok := protocol.ParseUint([]byte(in))
		if ok && strconv.FormatUint(u, 10) != in {
			t.Errorf("%q is read as %d", in, u)
		}
	})
}
