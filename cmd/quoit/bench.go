package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/bench"
	"github.com/quoitdb/quoit/internal/demo"
	"github.com/quoitdb/quoit/internal/transfer"
)

// benchFlags are what quoit bench can be told.
type benchFlags struct {
	connection
	bench.Options
	fill        bool
	connections int
}

func newBench() *cobra.Command {
	var o benchFlags
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure a running cluster with the Go client",
		Long: `Reads and writes keys of the form key:000000000000 from many callers at once and
prints operations a second and latencies. It writes into the cluster that it measures.
To compare a single node with Redis, point redis-benchmark at both.`,
		Example: "  quoit bench --callers 64 --reads 0.9\n  quoit bench move    # how fast a share of the ring moves",
		Args:    arguments(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			db, err := o.open(c.Context(), client.WithConnections(o.connections))
			if err != nil {
				return err
			}
			defer func() { _ = db.Close() }()
			return o.run(c, db)
		},
	}
	o.addTo(c)
	c.Flags().IntVarP(&o.Callers, "callers", "c", 64, "callers, each waiting for its answer")
	c.Flags().DurationVarP(&o.Duration, "duration", "d", 5*time.Second, "how long to measure")
	c.Flags().IntVar(&o.Keys, "keys", 100_000, "size of the keyspace")
	c.Flags().IntVar(&o.Size, "size", 64, "bytes in a value")
	c.Flags().Float64Var(&o.Reads, "reads", 0.5, "share of operations that read")
	c.Flags().BoolVar(&o.fill, "fill", true, "write every key first, so that reads hit")
	c.Flags().IntVar(&o.connections, "connections", 2, "connections to each node")
	c.AddCommand(newBenchMove())
	return c
}

func (o *benchFlags) check() error {
	for _, f := range []struct {
		wrong bool
		want  string
	}{
		{o.Callers < 1 || o.Callers > 100_000, "--callers takes 1 to 100000"},
		{o.Keys < 1, "--keys takes 1 or more"},
		{o.Size < 0 || o.Size > transfer.MaxValue, "--size takes 0 to 67108864"},
		{!(o.Reads >= 0 && o.Reads <= 1), "--reads takes 0 to 1"}, // as it is no NaN then
		{o.Duration <= 0, "--duration takes more than 0s"},
		{o.connections < 1 || o.connections > 64, "--connections takes 1 to 64"},
	} {
		if f.wrong {
			return usageError("%s", f.want)
		}
	}
	return nil
}

// run measures, and shows how it goes to a person who watches.
func (o *benchFlags) run(c *cobra.Command, db *client.Client) error {
	options := o.Options
	if o.fill {
		bar := newBar(c, int64(o.Keys), "filling")
		err := bench.Fill(c.Context(), db, options, func(n int) { bar.set(int64(n)) })
		bar.finish()
		if err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	if w := c.ErrOrStderr(); isTerminal(w) {
		options.Report = func(f bench.Figures) {
			fmt.Fprintf(w, "\r\x1b[K%3.0fs  %s ops/s  p50 %s  p99 %s", f.Seconds, count(int64(f.OpsPerSec)), span(f.P50), span(f.P99))
		}
	}
	f := bench.Run(c.Context(), db, options)
	if options.Report != nil {
		fmt.Fprint(c.ErrOrStderr(), "\r\x1b[K")
	}
	if o.json {
		if err := printJSON(c.OutOrStdout(), f); err != nil {
			return err
		}
	} else {
		printFigures(c.OutOrStdout(), options, f)
	}
	if f.Errors > 0 {
		return fmt.Errorf("%d operations failed; the first: %s", f.Errors, f.FirstErr)
	}
	return nil
}

func printFigures(w io.Writer, o bench.Options, f bench.Figures) {
	fmt.Fprintf(w, "%s, %s of %d B values, %.0f%% reads, %.1fs\n", plural(o.Callers, "caller"), plural(o.Keys, "key"), o.Size, 100*o.Reads, f.Seconds)
	fmt.Fprintf(w, "%s ops/s   p50 %s   p99 %s   p99.9 %s   longest %s   misses %s   errors %s\n",
		count(int64(f.OpsPerSec)), span(f.P50), span(f.P99), span(f.P999), span(f.Max), count(f.Misses), count(f.Errors))
}

func newBenchMove() *cobra.Command {
	o := demo.MoveOptions{}
	asJSON := false
	c := &cobra.Command{
		Use:   "move",
		Short: "Measure how fast a share of a cluster moves to a new node under checked load",
		Long: `Starts three nodes on free ports, fills them, runs a checked load, lets a fourth node
in, and prints how long its share took and what the load saw before and during.
It needs no cluster: it starts its own, and takes it away afterwards.`,
		Args: arguments(0, 0),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if o.Keys < 1 || o.Rate < 1 || o.Workers < 1 || o.Size < 0 || o.Steady <= 0 {
				return usageError("--keys, --rate, --workers and --steady take more than 0, --size 0 or more")
			}
			if o.Binary, err = os.Executable(); err != nil {
				return err
			}
			o.Out = c.ErrOrStderr()
			r, err := demo.MeasureMove(c.Context(), o)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(c.OutOrStdout(), r)
			} else {
				printMove(c.OutOrStdout(), r)
			}
			if err == nil && (r.Wrong > 0 || len(r.Lost) > 0) {
				return fmt.Errorf("%d wrong answers, lost: %v", r.Wrong, r.Lost)
			}
			return err
		},
	}
	c.Flags().IntVar(&o.Keys, "keys", 1_000_000, "keys to load first")
	c.Flags().IntVar(&o.Size, "size", 100, "bytes in a value")
	c.Flags().IntVar(&o.Rate, "rate", 4000, "checked operations a second")
	c.Flags().IntVar(&o.Workers, "workers", 16, "workers that do them")
	c.Flags().DurationVar(&o.Steady, "steady", 5*time.Second, "how long to measure before the move")
	c.Flags().BoolVar(&o.Saturate, "saturate", false, "write as fast as possible, and only keys that will move")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, for programs")
	return c
}

func printMove(w io.Writer, r *demo.MoveResult) {
	fmt.Fprintf(w, "moved %s of %s keys in %.2fs: %s keys/s\n", count(r.Moved), count(r.Keys), r.Seconds, count(int64(r.Rate)))
	for _, row := range []struct {
		name string
		f    bench.Figures
	}{{"before", r.Before}, {"during", r.During}} {
		fmt.Fprintf(w, "%s: %s ops/s   p50 %s   p99 %s   p99.9 %s   longest %s   errors %d\n", row.name,
			count(int64(row.f.OpsPerSec)), span(row.f.P50), span(row.f.P99), span(row.f.P999), span(row.f.Max), row.f.Errors)
	}
	ratio := "?"
	if r.Before.P99 > 0 && r.During.P99 > 0 {
		ratio = fmt.Sprintf("%.2f", float64(r.During.P99)/float64(r.Before.P99))
	}
	fmt.Fprintf(w, "p99 during / before: %s   wrong: %d   lost: %d\n", ratio, r.Wrong, len(r.Lost))
}
