// Command planted tests the tests. It puts one mistake after the other into the
// code, such as a programmer might make on a bad day (a sync that is skipped, a
// condition that is ignored), and runs the tests that must notice. A mistake that
// they miss fails the run, and so does one whose place in the code has changed: a
// list of mistakes that no longer apply proves nothing.
//
// The source stays as it is: the compiler is given changed copies (go test
// -overlay). The same tests are run once without any mistake, and must pass.
//
//	go run ./tools/planted                # all of them
//	go run ./tools/planted -run seal      # those whose name contains "seal"
//	go run ./tools/planted -list          # what there is
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	only := flag.String("run", "", "plant only the mistakes whose names contain this")
	list := flag.Bool("list", false, "print the mistakes and plant none")
	jobs := flag.Int("jobs", 2, "how many are planted and tested at the same time")
	verbose := flag.Bool("v", false, "print what the tests say to each mistake")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only, *list, max(1, *jobs), *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "planted:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, list bool, jobs int, verbose bool) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	chosen := choose(mistakes(), only)
	if len(chosen) == 0 {
		return fmt.Errorf("no mistake has a name that contains %q; -list prints them all", only)
	}
	if list {
		return printList(chosen)
	}
	dir, err := os.MkdirTemp("", "quoit-planted-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	began := time.Now()
	g := &garden{root: root, dir: dir, verbose: verbose}
	if err := g.withoutMistakes(ctx, chosen, jobs); err != nil {
		return err
	}
	results := g.withMistakes(ctx, chosen, jobs)
	if err := ctx.Err(); err != nil {
		return err
	}
	return report(results, time.Since(began))
}

// moduleRoot is the folder of go.mod, from where this runs upwards.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return "", errors.New("there is no go.mod here or above: run it inside the module")
	}
}

func choose(all []mistake, only string) []mistake {
	var chosen []mistake
	for _, m := range all {
		if strings.Contains(m.name, only) {
			chosen = append(chosen, m)
		}
	}
	return chosen
}

func printList(all []mistake) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, m := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", m.name, m.file, m.what)
	}
	return w.Flush()
}

// report says how many were caught; the error says what was missed, or could not be
// planted.
func report(results []result, took time.Duration) error {
	caught, missed := 0, []string(nil)
	var wrong []error
	for _, r := range results {
		switch {
		case r.err != nil:
			wrong = append(wrong, fmt.Errorf("%s: %w", r.name, r.err))
		case r.by == "":
			missed = append(missed, r.name)
		default:
			caught++
		}
	}
	fmt.Printf("caught %d of %d planted mistakes in %.0f s\n", caught, len(results), took.Seconds())
	if len(missed) > 0 {
		wrong = append(wrong, fmt.Errorf("the tests miss %s", strings.Join(missed, ", ")))
	}
	return errors.Join(wrong...)
}
