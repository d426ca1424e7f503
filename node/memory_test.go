package node

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/config"
)

func TestMemoryReadsWhatItPrints(t *testing.T) {
	for text, want := range map[string]Memory{
		"80%": {Percent: 80}, "1%": {Percent: 1}, "100%": {Percent: 100}, "0": {}, "4GiB": {Bytes: 4 << 30},
	} {
		var m Memory
		if err := m.UnmarshalText([]byte(text)); err != nil || m != want || m.String() != text {
			t.Errorf("%s: %+v, %q, %v", text, m, m.String(), err)
		}
	}
	for _, text := range []string{"", "%", "0%", "101%", "-1%", "half", "8 %"} {
		if err := new(Memory).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// TestWhatIsInFlightAndTheDataShareTheMemory: neither can take the other's part, so
// the sum is bounded.
func TestWhatIsInFlightAndTheDataShareTheMemory(t *testing.T) {
	const gi, mi = 1 << 30, 1 << 20
	for _, c := range []struct {
		memory            Memory
		value             config.Bytes
		available         int64
		process, inFlight int64
	}{
		{Memory{Percent: 50}, 64 * mi, 16 * gi, 16 * gi / 100 * 50, gi},
		{Memory{Bytes: 2 * gi}, 64 * mi, 16 * gi, 2 * gi, gi / 2},
		{Memory{Bytes: 256 * mi}, 64 * mi, 0, 256 * mi, 128 * mi}, // two of the largest values
		{Memory{Bytes: 64 * mi}, 64 * mi, 0, 64 * mi, 32 * mi},    // but no more than half
		{Memory{}, 64 * mi, 16 * gi, 0, gi},
		{Memory{Percent: 80}, 64 * mi, 0, 0, gi}, // nobody knows what there is
	} {
		l := LimitConfig{InFlight: gi, Value: c.value, Memory: c.memory}
		want := memory{process: c.process, inFlight: c.inFlight}
		if c.process > 0 {
			want.data = c.process - c.inFlight
		}
		if got := l.divide(c.available); got != want {
			t.Errorf("%s of %d: %+v, want %+v", c.memory, c.available, got, want)
		}
	}
	if availableMemory() <= 0 {
		t.Error("the machine has no memory")
	}
	m := memory{process: 800}
	for mapped, want := range map[int64]int64{0: 750, 300: 450, 790: 100, 2000: 100} {
		if got := m.heap(mapped); got != want {
			t.Errorf("the heap beside %d: %d, want %d", mapped, got, want)
		}
	}
}

// TestAFullNodeSaysWhatGoesOn: a write that needs memory is refused with a word and a
// sentence, reads and deletions go on, and then writes do again.
func TestAFullNodeSaysWhatGoesOn(t *testing.T) {
	s := startSolo(t, soloOptions{dir: t.TempDir(), config: func(c *Config) {
		c.Limits.Memory, c.Limits.Value = Memory{Bytes: 64 << 20}, 1<<20
	}})
	c := s.dial()
	value := strings.Repeat("v", 30_000)
	n := 0
	for ; ; n++ {
		c.send(fmt.Sprintf("SET key:%d %s\r\n", n, value))
		got := c.reply()
		if strings.HasPrefix(got, "-OOM ") && strings.Contains(got, "QUOIT_NODE_MAX_MEMORY") {
			break
		}
		if got != "+OK" || n > 3000 {
			t.Fatalf("after %d keys: %s", n, got)
		}
	}
	for _, r := range []struct{ request, want string }{
		{"MSET another a other b", "-OOM "},
		{"INCR counter", "-OOM "},
		{"APPEND key:0 x", "-OOM "},
		{"STRLEN key:1", ":30000"},
		{"EXPIRE key:1 100", ":1"},
		{"SET key:2 short", "+OK"},
	} {
		if got := c.do(r.request); !strings.HasPrefix(got, r.want) {
			t.Errorf("%s: %s, want %s", r.request, got, r.want)
		}
	}
	if full := s.stats.memoryFull.Load(); full != 4 {
		t.Errorf("counted %d refusals", full)
	}
	for i := range n / 2 {
		c.do("DEL key:" + strconv.Itoa(i))
	}
	waitFor(t, "room after half of the keys were deleted", func() bool {
		return c.do("SET new "+value) == "+OK"
	})
}
