package containers

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	quoit "github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/oracle"
)

// load is a checked load over a cluster, with keys that do not change beside it.
type load struct {
	t      *testing.T
	db     *quoit.Client
	work   *oracle.Workload
	done   atomic.Int64 // operations that succeeded
	static int
}

// startLoad fills the cluster with keys that stay and starts the workers.
func startLoad(c *cluster) *load {
	c.t.Helper()
	l := &load{t: c.t, db: c.client(), static: 2000}
	pairs := make([]quoit.Pair, l.static)
	for i := range pairs {
		pairs[i] = quoit.Pair{Key: staticKey(i), Value: []byte(staticValue(i))}
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	if _, err := l.db.MPut(ctx, pairs); err != nil {
		c.t.Fatal(err)
	}
	l.work = oracle.New(l.db, oracle.Options{
		Prefix: "r:", Workers: 6, Registers: 40, Rate: 400, Timeout: 60 * time.Second,
		Observe: func(_ time.Time, _ time.Duration, err error) {
			if err == nil {
				l.done.Add(1)
			}
		},
	})
	l.work.Start(context.WithoutCancel(c.t.Context()))
	c.t.Cleanup(l.work.Halt) // before the containers go; a second time is nothing
	return l
}

func staticKey(i int) string { return fmt.Sprintf("static:%05d", i) }

func staticValue(i int) string { return staticKey(i) + " " + strings.Repeat("v", 80) }

// pause stops the workers; what is under way is over when it returns.
func (l *load) pause() { l.work.Halt() }

// goOn lets the workers go on after pause.
func (l *load) goOn() { l.work.Start(context.WithoutCancel(l.t.Context())) }

// goesOn waits until n more operations have succeeded.
func (l *load) goesOn(c *cluster, n int64) {
	c.t.Helper()
	goal := l.done.Load() + n
	c.wait(func() bool { return l.done.Load() >= goal },
		func() string { return fmt.Sprintf("for %d more operations", goal-l.done.Load()) })
}

// audit stops the load and checks every key: none lost, none wrong, none twice.
func (l *load) audit() {
	l.t.Helper()
	l.work.Halt()
	if wrong, faults := l.work.Wrong(); wrong > 0 {
		l.t.Errorf("%d wrong answers: %v", wrong, faults)
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), 2*patience)
	defer cancel()
	checked, lost, err := l.work.Audit(ctx)
	if err != nil || len(lost) > 0 || checked == 0 {
		l.t.Errorf("audit of %d keys: %v, lost %v", checked, err, lost)
	}
	keys := make([]string, l.static)
	for i := range keys {
		keys[i] = staticKey(i)
	}
	results, err := l.db.MGet(ctx, keys...)
	if err != nil {
		l.t.Errorf("read the keys that stay: %v", err)
	}
	for i, r := range results {
		if !strings.HasPrefix(string(r.Value), keys[i]+" ") {
			l.t.Errorf("%s holds %q", keys[i], r.Value)
		}
	}
	least, most := l.work.Present()
	n, err := l.db.Count(ctx)
	if err != nil || n < int64(l.static+least) || n > int64(l.static+most) {
		l.t.Errorf("the nodes count %d keys (%v), want %d to %d: a key is in two places, or in none", n, err, l.static+least, l.static+most)
	}
}
