package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// mistake is one change to the code that the tests must notice.
type mistake struct {
	name string // short, with hyphens
	what string // what was done wrong, in one sentence
	file string // where, from the root of the module

	old, new string // old is there exactly once

	pkg   string   // whose tests must notice: a folder from the root of the module
	tests []string // names of tests and fuzz targets, as narrow as will do
}

// apply returns the source with the mistake in it.
func (m mistake) apply(source string) (string, error) {
	switch n := strings.Count(source, m.old); {
	case m.old == "" || m.old == m.new:
		return "", errors.New("the mistake changes nothing")
	case n != 1:
		return "", fmt.Errorf("%s contains the text to be changed %d times, want once: the code has moved on, bring the list up to date; it is\n%s", m.file, n, m.old)
	}
	return strings.Replace(source, m.old, m.new, 1), nil
}

// result is what the tests said to a mistake.
type result struct {
	mistake
	by   string // the test that noticed, empty if none did
	took time.Duration
	err  error // why it could not be planted
}

// garden plants mistakes in copies of files below dir.
type garden struct {
	root, dir string
	verbose   bool

	printing sync.Mutex
}

// patience bounds the tests of one mistake: some make a test wait for what never comes.
const patience = "60s"

// withoutMistakes runs every test that is relied on, once: they must pass.
func (g *garden) withoutMistakes(ctx context.Context, all []mistake, jobs int) error {
	tests := make(map[string][]string)
	for _, m := range all {
		tests[m.pkg] = append(tests[m.pkg], m.tests...)
	}
	pkgs := slices.Sorted(maps.Keys(tests))
	errs := make([]error, len(pkgs))
	each(jobs, len(pkgs), func(i int) {
		pkg := pkgs[i]
		out, failed, err := g.test(ctx, "sound-"+strings.ReplaceAll(pkg, "/", "-"), pkg, "", tests[pkg])
		switch {
		case err != nil:
			errs[i] = err
		case failed:
			errs[i] = fmt.Errorf("the tests of %s fail without any mistake:\n%s", pkg, tail(out))
		}
	})
	return errors.Join(errs...)
}

// withMistakes plants each and runs its tests.
func (g *garden) withMistakes(ctx context.Context, all []mistake, jobs int) []result {
	results, width := make([]result, len(all)), 0
	for _, m := range all {
		width = max(width, len(m.name))
	}
	each(jobs, len(all), func(i int) {
		began := time.Now()
		r := result{mistake: all[i]}
		if ctx.Err() == nil {
			r.by, r.err = g.plant(ctx, all[i])
		}
		r.took = time.Since(began)
		results[i] = r
		g.tell(r, width)
	})
	return results
}

// tell prints a line of the table.
func (g *garden) tell(r result, width int) {
	verdict := "caught by " + r.by
	switch {
	case r.err != nil:
		verdict = "NOT PLANTED"
	case r.by == "":
		verdict = "MISSED: " + r.what
	}
	g.printing.Lock()
	defer g.printing.Unlock()
	fmt.Printf("%-*s %5.1f s  %s\n", width, r.name, r.took.Seconds(), verdict)
}

// plant says which test notices a mistake.
func (g *garden) plant(ctx context.Context, m mistake) (by string, err error) {
	source, err := os.ReadFile(filepath.Join(g.root, m.file))
	if err != nil {
		return "", err
	}
	changed, err := m.apply(string(source))
	if err != nil {
		return "", err
	}
	copied := filepath.Join(g.dir, m.name+".go")
	if err := os.WriteFile(copied, []byte(changed), 0o600); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(g.root, m.file): copied}})
	if err != nil {
		return "", err
	}
	file := filepath.Join(g.dir, m.name+".json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return "", err
	}
	out, failed, err := g.test(ctx, m.name, m.pkg, file, m.tests)
	if err != nil {
		return "", err
	}
	if g.verbose {
		g.printing.Lock()
		defer g.printing.Unlock()
		fmt.Printf("== %s: %s\n%s\n", m.name, m.what, tail(out))
	}
	if !failed {
		return "", nil
	}
	return culprit(out), nil
}

// test builds the tests of a package and runs some of them. Only what they say
// themselves counts as failing: code that does not compile is an error.
func (g *garden) test(ctx context.Context, name, pkg, overlay string, tests []string) (out []byte, failed bool, err error) {
	binary := filepath.Join(g.dir, name+".test")
	args := []string{"test", "-c", "-o", binary}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	build := exec.CommandContext(ctx, "go", append(args, "./"+pkg)...)
	build.Dir = g.root
	if out, err := build.CombinedOutput(); err != nil {
		return nil, false, fmt.Errorf("it does not compile: %w\n%s", err, tail(out))
	}
	defer func() { _ = os.Remove(binary) }()
	run := exec.CommandContext(ctx, binary, "-test.run", "^("+strings.Join(tests, "|")+")$",
		"-test.failfast", "-test.timeout", patience, "-test.v")
	run.Dir = filepath.Join(g.root, pkg)
	out, err = run.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return out, false, err
	}
	if err == nil && !bytes.Contains(out, []byte("--- PASS: ")) {
		return out, false, fmt.Errorf("%s has none of the tests %s", pkg, strings.Join(tests, ", "))
	}
	return out, err != nil, nil
}

var (
	failedTest  = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	runningTest = regexp.MustCompile(`(?m)^=== RUN\s+(\S+)`)
)

// culprit is the test that noticed: the one that failed, the innermost first, or
// the one that ran last when the process died.
func culprit(out []byte) string {
	if m := failedTest.FindAllSubmatch(out, -1); len(m) > 0 {
		return string(m[len(m)-1][1])
	}
	how := "died"
	if bytes.Contains(out, []byte("panic: test timed out")) {
		how = "never ended"
	}
	if m := runningTest.FindAllSubmatch(out, -1); len(m) > 0 {
		return string(m[len(m)-1][1]) + " (" + how + ")"
	}
	return "the process " + how
}

// tail is the end of an output, which is where the reason is.
func tail(out []byte) []byte {
	const most = 4000
	if len(out) > most {
		out = out[len(out)-most:]
	}
	return bytes.TrimSpace(out)
}

// each calls fn for 0 to n-1, so many at the same time.
func each(jobs, n int, fn func(i int)) {
	next := make(chan int)
	var running sync.WaitGroup
	for range min(jobs, n) {
		running.Go(func() {
			for i := range next {
				fn(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	running.Wait()
}
