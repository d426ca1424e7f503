package table

import (
	"math"
	"testing"
)

func TestBlockRoundTrip(t *testing.T) {
	cases := []struct {
		name       string
		key, value int
		version    uint64
		expireAt   int64
		slack      uint32
		units      uint32
	}{
		{"nothing at all", 0, 0, 0, 0, 0, 3},
		{"only an expiry", 0, 0, math.MaxUint64, math.MinInt64, 0, 5},
		{"usual", 16, 64, 1 << 60, 0, 0, 23},
		{"rounded up", 16, 65, 1, 0, 0, 24},
		{"with expiry and slack", 16, 64, 7, 1_700_000_000_000, 7, 25},
		{"longest key", maxBlock - headerSize - 1, 0, 1, 0, 0, maxBlockUnits},
		{"longest value", 0, maxBlock - headerSize - 1, 1, 0, 3, maxBlockUnits},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			key, value := filler(c.key, 1), filler(c.value, 2)
			units, ok := blockUnits(c.key, c.value, c.expireAt != 0)
			if !ok || units != c.units {
				t.Fatalf("needs %d units (%v), want %d", units, ok, c.units)
			}
			b := filler(maxBlock+chunkSize, 3) // A reused block holds anything.
			want := b[(units+c.slack)*unit]
			writeBlock(b, key, value, c.version, c.expireAt, c.slack)
			if got := blockEntry(b); !same(got, Entry{key, value, c.version, c.expireAt}) {
				t.Errorf("read back %s", describe(got))
			}
			if !blockHasKey(b, key) || blockHasKey(b, append(key, 0)) || len(key) > 0 && blockHasKey(b, key[1:]) {
				t.Error("key differs")
			}
			if u, s := unitsOf(blockSizes(b)); u != units || s != c.slack {
				t.Errorf("sizes say %d+%d units", u, s)
			}
			if b[(units+c.slack)*unit] != want {
				t.Error("wrote past the block")
			}
		})
	}
}

func TestBlockLimits(t *testing.T) {
	for _, c := range []struct {
		key, value int
		expiry, ok bool
	}{
		{0, maxBlock - headerSize - 1, false, true},
		{0, maxBlock - headerSize, false, false},
		{0, maxBlock - headerSize - 1, true, false},
		{0, maxBlock - headerSize - expirySize - 1, true, true},
		{maxBlock, 0, false, false},
		{64 << 10, 64 << 20, true, false},
		{math.MaxInt32, math.MaxInt32, true, false},
	} {
		if units, ok := blockUnits(c.key, c.value, c.expiry); ok != c.ok || ok && units > maxBlockUnits {
			t.Errorf("%+v: %d units, %v", c, units, ok)
		}
	}
}

func TestBlockMetaInPlace(t *testing.T) {
	b := make([]byte, 200)
	for _, c := range []struct {
		before, after int64
		ok            bool
	}{{0, 0, true}, {5, 9, true}, {0, 9, false}, {5, 0, false}} {
		writeBlock(b, []byte("key"), []byte("value"), 1, c.before, 2)
		if ok := setBlockMeta(b, 2, c.after); ok != c.ok {
			t.Errorf("%+v: %v", c, ok)
			continue
		}
		want := Entry{[]byte("key"), []byte("value"), 2, c.after}
		if !c.ok {
			want.Version, want.ExpireAt = 1, c.before // As it was.
		}
		if got := blockEntry(b); !same(got, want) {
			t.Errorf("%+v: %s", c, describe(got))
		}
	}
}

func TestBlockSlack(t *testing.T) {
	b := make([]byte, 200)
	writeBlock(b, []byte("key"), []byte("value"), 1, 6, 7)
	for slack := range uint32(maxSlack + 1) {
		setBlockSlack(b, slack)
		if u, s := unitsOf(blockSizes(b)); u != 7 || s != slack {
			t.Errorf("%d+%d units, want 7+%d", u, s, slack)
		}
	}
	if !same(blockEntry(b), Entry{[]byte("key"), []byte("value"), 1, 6}) {
		t.Error("setting the slack changed the entry")
	}
	for units := range uint32(maxBlockUnits) {
		if n := slackAllowed(units); n < 1 || n > maxSlack || n > 1+units/8 {
			t.Fatalf("%d units may have %d of slack", units, n)
		}
	}
}
