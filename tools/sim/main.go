// Command sim runs the simulator of internal/sim, many seeds, in a build in which one
// seed is always the same run: the Go runtime draws its own chances (which ready
// goroutine a select takes, where the iteration of a map begins) from the seed, too,
// and takes the processor from nobody. The compiler is given changed copies of six
// files of the runtime for that (go test -overlay); the toolchain stays as it is.
//
//	go run ./tools/sim                    # 10,000 seeds, on as many cores as there are
//	go run ./tools/sim -seed 4711         # one, with everything that happens in it
//	go run ./tools/sim -from 1 -seeds 500 -twice   # and again in the other order: same runs?
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
)

func main() {
	var o options
	flag.Uint64Var(&o.one, "seed", 0, "run this seed only and print its trace")
	flag.Uint64Var(&o.from, "from", 1, "the first seed")
	flag.IntVar(&o.seeds, "seeds", 10_000, "how many seeds")
	flag.IntVar(&o.jobs, "jobs", runtime.NumCPU(), "how many processes run seeds at the same time")
	flag.BoolVar(&o.twice, "twice", false, "run every seed twice, in two processes and in another order, and compare the runs")
	flag.BoolVar(&o.gate, "gate", true, "fail where a kind of fault or work has never happened")
	flag.StringVar(&o.build, "build", "", "build the simulator in this folder and run nothing: for profiles")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		stop()
		os.Exit(1)
	}
}

type options struct {
	one, from   uint64
	seeds, jobs int
	twice, gate bool
	build       string
}

func run(ctx context.Context, o options) error {
	if o.build != "" {
		_, err := build(ctx, o.build)
		return err
	}
	dir, err := os.MkdirTemp("", "quoit-sim-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s, err := build(ctx, dir)
	if err != nil {
		return err
	}
	if o.one != 0 {
		return s.trace(ctx, o.one)
	}
	return s.seeds(ctx, o)
}

// simulator is the built program, and a folder for what it writes.
type simulator struct{ dir, binary string }

// build builds the tests of internal/sim over the changed runtime.
func build(ctx context.Context, dir string) (*simulator, error) {
	overlay, err := writeOverlay(ctx, dir)
	if err != nil {
		return nil, err
	}
	s := &simulator{dir: dir, binary: filepath.Join(dir, "sim.test")}
	// The arguments are of our own making.
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-trimpath", "-tags", "steady", "-overlay", overlay, "-o", s.binary, "github.com/quoitdb/quoit/internal/sim")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the simulator: %w\n%s", err, out)
	}
	return s, nil
}

// trace runs one seed in the foreground.
func (s *simulator) trace(ctx context.Context, seed uint64) error {
	cmd := s.command(ctx, fmt.Sprint("QUOIT_TEST_SEED=", seed))
	cmd.Args = append(cmd.Args, "-test.v")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("seed %d fails", seed)
	}
	return err
}

func (s *simulator) command(ctx context.Context, env ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.binary, "-test.run", "^TestSeeds$", "-test.timeout", "0")
	cmd.Env = append(os.Environ(), env...)
	// One processor: otherwise the scheduler's choices are the machine's. No collection
	// that begins by itself: the test collects between two seeds. No stacks that begin
	// smaller after a collection.
	cmd.Env = append(cmd.Env, "GOMAXPROCS=1", "GOGC=off", "GODEBUG=adaptivestackstart=0")
	return cmd
}
