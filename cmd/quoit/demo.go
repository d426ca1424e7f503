package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/demo"
)

// demoFlags are what quoit demo can be told.
type demoFlags struct {
	demo.Options
	quick bool
	json  bool
}

func newDemo() *cobra.Command {
	var o demoFlags
	c := &cobra.Command{
		Use:   "demo",
		Short: "Nodes join, leave and die under checked traffic; nothing is lost",
		Long: `Starts a cluster of real processes on free ports and in a temporary folder, imports
real files (the Go source tree, or --source), and keeps reading and writing, every
answer checked, while a node joins, a node leaves, a node is killed with SIGKILL and
comes back, and the manager is killed in the middle of a move. Then it reads every
acknowledged write back. Exit code 1 if anything was lost or wrong.

It needs no cluster, touches none that runs, and takes everything away afterwards.`,
		Args: arguments(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.complete(c); err != nil {
				return err
			}
			result, err := demo.Run(c.Context(), o.Options)
			if err != nil {
				return err
			}
			if o.json {
				err = printJSON(c.OutOrStdout(), result)
			} else {
				printDemo(c.OutOrStdout(), result)
			}
			if err == nil && result.Failed() {
				return &exitError{code: exitFailure}
			}
			return err
		},
	}
	c.Flags().StringVar(&o.Source, "source", "", "folder to import (default: the Go source tree)")
	c.Flags().DurationVar(&o.Steady, "steady", 5*time.Second, "how long the quiet parts last")
	c.Flags().IntVar(&o.Rate, "rate", 2000, "operations a second")
	c.Flags().IntVar(&o.Workers, "workers", 16, "workers that do them")
	c.Flags().BoolVar(&o.quick, "quick", false, "20 MB of files, and quiet parts of 2s")
	c.Flags().BoolVar(&o.Keep, "keep", false, "leave data and logs when all is well too")
	c.Flags().BoolVar(&o.json, "json", false, "print the result as JSON, the story on standard error")
	_ = c.MarkFlagDirname("source") // the flag is there: see above
	c.AddCommand(newDemoServer())
	return c
}

// newDemoServer is what the demo starts its servers with: not for people.
func newDemoServer() *cobra.Command {
	return &cobra.Command{
		Use: "server node|manager", Hidden: true, Args: arguments(1, 1),
		Short: "Run a server that ends with its standard input",
		RunE: func(c *cobra.Command, args []string) error {
			ctx := demo.WhileParentLives(c.Context(), c.InOrStdin())
			for _, s := range []server{nodeServer(), managerServer()} {
				if s.name == args[0] {
					return s.serve(ctx, config.Environ(os.Environ()), c.ErrOrStderr())
				}
			}
			return usageError("there is no server %q", args[0])
		},
	}
}

// complete fills in what was not said, and checks the rest.
func (o *demoFlags) complete(c *cobra.Command) (err error) {
	const quickSteady, quickLimit = 2 * time.Second, 20 << 20
	if o.quick {
		o.Limit = quickLimit
		if !c.Flags().Changed("steady") {
			o.Steady = quickSteady
		}
	}
	if o.Rate < 1 || o.Workers < 1 || o.Steady < 0 {
		return usageError("--rate and --workers take 1 or more, --steady 0s or more")
	}
	if o.Source == "" {
		o.Source, err = goSource()
	} else if info, missing := os.Stat(o.Source); missing != nil || !info.IsDir() {
		err = usageError("--source %s: there is no such folder", o.Source)
	}
	if err != nil {
		return err
	}
	if o.Out = c.OutOrStdout(); o.json {
		o.Out = c.ErrOrStderr()
	}
	o.Live = isTerminal(o.Out)
	o.Binary, err = os.Executable()
	return err
}

// goSource is the folder of the Go source tree on this machine: thousands of real
// files that everyone who builds this has.
func goSource() (string, error) {
	candidates := []string{"/usr/local/go", "/usr/lib/go", "/usr/share/go"}
	if root, err := exec.Command("go", "env", "GOROOT").Output(); err == nil {
		candidates = append([]string{strings.TrimSpace(string(root))}, candidates...)
	}
	for _, root := range candidates {
		source := filepath.Join(root, "src")
		if info, err := os.Stat(filepath.Join(source, "fmt")); err == nil && info.IsDir() {
			return source, nil
		}
	}
	return "", usageError("no Go source tree is found on this machine; give a folder of files with --source")
}

func printDemo(w io.Writer, r *demo.Result) {
	fmt.Fprintln(w)
	t := newTable("PHASE", ">SECONDS", ">OPS", ">P50", ">P99", ">LONGEST", ">UNKNOWN", ">ERRORS")
	for _, row := range r.Rows {
		name := row.Phase
		if row.Event {
			name = "► " + name
		}
		t.add(name, fmt.Sprintf("%.1f", row.Seconds), count(int64(row.Ops)), span(row.P50), span(row.P99), span(row.Longest),
			count(int64(row.Unknown)), count(int64(row.Errors)))
	}
	t.write(w, "")
	fmt.Fprintln(w, "\nUNKNOWN: a node was killed before it answered a write; either outcome is right.")
	fmt.Fprintln(w)
	for _, j := range r.Joins {
		fmt.Fprintf(w, "%-26s %s of %s keys moved, %.1f%%; the node's share of the ring is %.1f%%, 1/N is %.1f%%\n", j.What+":",
			count(j.Moved), count(j.Total), 100*float64(j.Moved)/float64(max(j.Total, 1)), 100*j.Share, 100*j.Ideal)
	}
	worst := r.Longest()
	fmt.Fprintf(w, "%-26s %s (%s)\n", "longest pause:", span(worst.Longest), worst.Phase)
	p := paintFor(w)
	verdict := p.bold(p.green("nothing was lost"))
	if r.Failed() {
		verdict = p.bold(p.red("FAILED"))
	}
	fmt.Fprintf(w, "%-26s %s acknowledged keys   lost: %d   wrong answers: %d   %s\n", "audited:", count(int64(r.Checked)), len(r.Lost), r.Wrong, verdict)
	const most = 20
	for i, text := range append(r.Lost[:len(r.Lost):len(r.Lost)], r.Faults...) {
		if i == most {
			fmt.Fprintf(w, "  ... and %d more\n", len(r.Lost)+len(r.Faults)-most)
			break
		}
		fmt.Fprintln(w, "  "+text)
	}
}
