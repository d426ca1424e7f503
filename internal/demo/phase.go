package demo

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/oracle"
)

// phase collects what happened to the operations of one part of the demo.
type phase struct {
	name  string
	event bool // something is done to the cluster; otherwise it is left alone
	began time.Time

	mu       sync.Mutex
	ended    time.Time       // zero while it lasts; guarded by mu
	samples  []time.Duration // guarded by mu
	unknown  int             // writes whose outcome nobody could tell; guarded by mu
	failed   int             // other errors; guarded by mu
	failures []string        // the first few; guarded by mu
}

// mostFailures is how many errors of a phase are told in words.
const mostFailures = 3

func (p *phase) end(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = now
}

func (p *phase) record(d time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.samples = append(p.samples, d)
	var bad *oracle.WrongAnswer
	switch {
	case err == nil || errors.As(err, &bad): // wrong answers are counted on their own
	case errors.Is(err, client.ErrOutcomeUnknown):
		p.unknown++
	default:
		p.failed++
		if len(p.failures) < mostFailures {
			p.failures = append(p.failures, err.Error())
		}
	}
}

// count is how many operations the phase has seen.
func (p *phase) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.samples)
}

// Row is a phase as the table shows it.
type Row struct {
	Phase   string        `json:"phase"`
	Event   bool          `json:"event"` // something was done to the cluster
	Seconds float64       `json:"seconds"`
	Ops     int           `json:"ops"`
	P50     time.Duration `json:"p50_ns"`
	P99     time.Duration `json:"p99_ns"`
	Longest time.Duration `json:"longest_ns"`
	Unknown int           `json:"unknown"`
	Errors  int           `json:"errors"`
}

// row is what has been collected until now.
func (p *phase) row(now time.Time) Row {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended.IsZero() {
		now = p.ended
	}
	slices.Sort(p.samples)
	r := Row{Phase: p.name, Event: p.event, Seconds: now.Sub(p.began).Seconds(), Ops: len(p.samples), Unknown: p.unknown, Errors: p.failed}
	if n := len(p.samples); n > 0 {
		r.P50, r.P99, r.Longest = p.samples[n/2], p.samples[n*99/100], p.samples[n-1]
	}
	return r
}

// timeline is the phases, one after the other. Any number of goroutines may use it.
type timeline struct {
	mu  sync.Mutex
	all []*phase // never empty, the last is the current one; guarded by mu
}

func newTimeline(first string, now time.Time) *timeline {
	return &timeline{all: []*phase{{name: first, began: now}}}
}

// enter begins the next phase.
func (t *timeline) enter(name string, event bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all[len(t.all)-1].end(now)
	t.all = append(t.all, &phase{name: name, event: event, began: now})
}

func (t *timeline) current() *phase {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[len(t.all)-1]
}

func (t *timeline) phases() []*phase {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.all)
}

// observe records an operation in the phase in which it began; or, if something was
// done to the cluster before it ended, there: what a kill breaks off belongs to the
// kill, not to the quiet before it.
func (t *timeline) observe(began time.Time, took time.Duration, err error) {
	t.phaseOf(began, took).record(took, err)
}

func (t *timeline) phaseOf(began time.Time, took time.Duration) *phase {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := len(t.all) - 1
	for i > 0 && t.all[i].began.After(began) {
		i--
	}
	for _, p := range t.all[i:] {
		if p.event && !p.began.After(began.Add(took)) {
			return p
		}
	}
	return t.all[i]
}
