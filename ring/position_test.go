package ring_test

import (
	"strings"
	"testing"

	"github.com/quoitdb/quoit/ring"
	"pgregory.net/rapid"
)

func TestPositionOfIsTheHeadOfMD5(t *testing.T) {
	// The digests are the ones printed in RFC 1321, appendix A.5.
	for key, want := range map[string]ring.Position{
		"":                           0xd41d8cd9,
		"a":                          0x0cc175b9,
		"abc":                        0x90015098,
		"message digest":             0xf96b697d,
		"abcdefghijklmnopqrstuvwxyz": 0xc3fcd3d7,
	} {
		if got := ring.PositionOf([]byte(key)); got != want {
			t.Errorf("PositionOf(%q) = %v, want %v", key, got, want)
		}
		if got := ring.PositionOfString(key); got != want {
			t.Errorf("PositionOfString(%q) = %v, want %v", key, got, want)
		}
	}
}

func TestPositionOfNilIsThatOfTheEmptyKey(t *testing.T) {
	if got, want := ring.PositionOf(nil), ring.PositionOfString(""); got != want {
		t.Errorf("PositionOf(nil) = %v, want %v", got, want)
	}
}

func TestPositionOfDoesNotAllocate(t *testing.T) {
	for _, size := range []int{0, 16, 33, 64 << 10} {
		text := strings.Repeat("k", size)
		key := []byte(text)
		var sink ring.Position
		allocs := testing.AllocsPerRun(10, func() {
			sink += ring.PositionOf(key) + ring.PositionOfString(text)
		})
		if allocs != 0 {
			t.Errorf("%v allocations for a key of %d bytes, want none", allocs, size)
		}
	}
}

func TestParsePositionAndEpoch(t *testing.T) {
	for _, text := range []string{"0", "7", "1000", "4294967295"} {
		p, err := ring.ParsePosition(text)
		if err != nil || p.String() != text {
			t.Errorf("ParsePosition(%q) = %v, %v", text, p, err)
		}
	}
	for _, text := range []string{"0", "18446744073709551615"} {
		e, err := ring.ParseEpoch(text)
		if err != nil || e.String() != text {
			t.Errorf("ParseEpoch(%q) = %v, %v", text, e, err)
		}
	}
}

func TestParsePositionAndEpochRefuse(t *testing.T) {
	for _, text := range []string{"", " ", "-1", "+1", "01", "00", "1 ", "1_0", "0x1", "1.0", "99999999999999999999", "๑"} {
		_, err := ring.ParsePosition(text)
		wantInvalid(t, err, "position")
		_, err = ring.ParseEpoch(text)
		wantInvalid(t, err, "epoch")
	}
	_, err := ring.ParsePosition("4294967296")
	wantInvalid(t, err, "position")
}

func TestErrorsStayOnOneShortLine(t *testing.T) {
	_, err := ring.ParsePosition("1\r\n+OK" + strings.Repeat("9", 10000))
	message := err.Error()
	if strings.ContainsAny(message, "\r\n") || len(message) > 250 {
		t.Errorf("message of %d bytes: %.300q", len(message), message)
	}
}

func TestPositionRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := genPosition().Draw(t, "position")
		if back, err := ring.ParsePosition(p.String()); err != nil || back != p {
			t.Fatalf("%v came back as %v, %v", p, back, err)
		}
	})
}
