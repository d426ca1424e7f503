package sim

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// trace is what happened, as one number: of every event its virtual time, its words and
// its bytes. Two runs with the same number were the same run.
type trace struct {
	began time.Time // of the bubble

	mu     sync.Mutex
	sum    uint64           // guarded by mu
	events int              // guarded by mu
	kept   *strings.Builder // nil: none is kept; guarded by mu
	fired  map[string]int   // faults by kind, and what else is counted; guarded by mu
	end    time.Duration    // when the last event was; guarded by mu
}

// note adds an event, and counts it under its kind.
func (t *trace) note(kind, text string, payload []byte) {
	at := time.Since(t.began)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events++
	t.end = at
	t.sum = mix(t.sum^uint64(at), kind)
	t.sum = mix(t.sum, text)
	t.sum = mix(t.sum, payload)
	if t.kept != nil {
		fmt.Fprintf(t.kept, "%12s  %-18s %s", at, kind, text)
		if len(payload) > 0 {
			fmt.Fprintf(t.kept, " %q", payload[:min(len(payload), 200)])
		}
		t.kept.WriteByte('\n')
	}
}

// fault notes a fault that has really happened.
func (t *trace) fault(kind, text string) {
	t.count(kind, 1)
	t.note("FAULT "+kind, text, nil)
}

// count adds to a figure of the run.
func (t *trace) count(kind string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fired[kind] += n
}

// say adds a line that is no part of the sum.
func (t *trace) say(line string) {
	at := time.Since(t.began)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept != nil {
		fmt.Fprintf(t.kept, "%12s  %s\n", at, line)
	}
}
