package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/internal/bench"
	"github.com/quoitdb/quoit/internal/demo"
)

func TestTheTableOfTheDemo(t *testing.T) {
	r := demo.Result{
		Rows: []demo.Row{
			{Phase: "before", Seconds: 5, Ops: 10000, P50: 310 * time.Microsecond, P99: 2 * time.Millisecond, Longest: 4100 * time.Microsecond},
			{Phase: "a node is killed", Event: true, Seconds: 1.2, Ops: 49, P50: 5 * time.Millisecond, P99: 1900 * time.Millisecond, Longest: 1900 * time.Millisecond, Unknown: 2},
		},
		Joins:   []demo.JoinFigures{{What: "a node joins", Moved: 2500, Total: 10000, Share: 0.252, Ideal: 0.25}},
		Checked: 12196,
	}
	var out bytes.Buffer
	printDemo(&out, &r)
	want := `
PHASE               SECONDS     OPS    P50    P99  LONGEST  UNKNOWN  ERRORS
before                  5.0  10,000  310µs  2.0ms    4.1ms        0       0
► a node is killed      1.2      49  5.0ms   1.9s     1.9s        2       0

UNKNOWN: a node was killed before it answered a write; either outcome is right.

a node joins:              2,500 of 10,000 keys moved, 25.0%; the node's share of the ring is 25.2%, 1/N is 25.0%
longest pause:             1.9s (a node is killed)
audited:                   12,196 acknowledged keys   lost: 0   wrong answers: 0   nothing was lost
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}

	out.Reset()
	r.Wrong, r.Lost, r.Faults = 1, []string{`"a" is gone`}, []string{"before: no"}
	for range 30 {
		r.Faults = append(r.Faults, "more")
	}
	printDemo(&out, &r)
	mustSay(t, out.String(), "lost: 1   wrong answers: 1   FAILED\n  \"a\" is gone\n  before: no\n", "  ... and 12 more\n")
}

func TestTheOptionsOfTheDemo(t *testing.T) {
	source := t.TempDir()
	for name, c := range map[string]struct {
		args   []string
		steady time.Duration
		limit  int64
	}{
		"by default": {nil, 5 * time.Second, 0},
		"quick":      {[]string{"--quick"}, 2 * time.Second, 20 << 20},
		"both":       {[]string{"--quick", "--steady", "7s"}, 7 * time.Second, 20 << 20},
	} {
		var o demoFlags
		command := &cobra.Command{}
		command.Flags().BoolVar(&o.quick, "quick", false, "")
		command.Flags().DurationVar(&o.Steady, "steady", 5*time.Second, "")
		if err := command.ParseFlags(c.args); err != nil {
			t.Fatal(err)
		}
		o.Rate, o.Workers, o.Source = 1, 1, source
		if err := o.complete(command); err != nil {
			t.Fatal(err)
		}
		if o.Steady != c.steady || o.Limit != c.limit || o.Binary == "" {
			t.Errorf("%s: %+v", name, o.Options)
		}
	}
}

func TestTheSourceTreeOfGoIsFound(t *testing.T) {
	source, err := goSource()
	if err != nil {
		t.Fatal(err) // these tests run with a go command
	}
	if _, err := os.Stat(filepath.Join(source, "fmt", "print.go")); err != nil {
		t.Error(err)
	}
	t.Setenv("PATH", t.TempDir())
	if source, err := goSource(); err != nil {
		mustSay(t, err.Error(), "--source")
	} else if !strings.HasSuffix(source, "/src") {
		t.Errorf("without a go command it takes %s", source)
	}
}

func TestTheFiguresOfAMove(t *testing.T) {
	f := bench.Figures{OpsPerSec: 4000, P50: 300 * time.Microsecond, P99: 2 * time.Millisecond, P999: 3 * time.Millisecond, Max: 5 * time.Millisecond}
	r := demo.MoveResult{Keys: 1000000, Moved: 250000, Seconds: 1.25, Rate: 200000, Before: f, During: f}
	r.During.P99 = 3 * time.Millisecond
	var out bytes.Buffer
	printMove(&out, &r)
	want := `moved 250,000 of 1,000,000 keys in 1.25s: 200,000 keys/s
before: 4,000 ops/s   p50 300µs   p99 2.0ms   p99.9 3.0ms   longest 5.0ms   errors 0
during: 4,000 ops/s   p50 300µs   p99 3.0ms   p99.9 3.0ms   longest 5.0ms   errors 0
p99 during / before: 1.50   wrong: 0   lost: 0
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	printMove(&out, &demo.MoveResult{})
	mustSay(t, out.String(), "p99 during / before: ?")
}
