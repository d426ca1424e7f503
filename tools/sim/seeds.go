package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// result is what internal/sim writes of one run.
type result struct {
	Seed     uint64
	Sum      string
	Events   int
	Failures []string
	Counts   map[string]int
}

// perProcess is how many seeds one process runs: what a process keeps must not grow.
const perProcess = 500

// watchdog is real time without a result after which a process is taken for stuck.
const watchdog = 2 * time.Minute

// job is a part of the seeds.
type job struct {
	from    uint64
	n       int
	reverse bool
}

// tally is what all runs together have come to.
type tally struct {
	mu     sync.Mutex
	runs   int
	events int
	counts map[string]int
	sums   map[uint64]string // of seeds that are run twice
	same   int
	differ []uint64
	failed map[uint64][]string
}

// seeds runs all of them and prints what came of it.
func (s *simulator) seeds(ctx context.Context, o options) error {
	t := &tally{counts: map[string]int{}, failed: map[uint64][]string{}}
	if o.twice {
		t.sums = map[uint64]string{}
	}
	jobs := make(chan job)
	var working sync.WaitGroup
	for i := range o.jobs {
		working.Go(func() {
			for j := range jobs {
				s.do(ctx, i, j, t)
			}
		})
	}
	began := time.Now()
	for _, j := range parts(o) {
		jobs <- j
	}
	close(jobs)
	working.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.report(o, time.Since(began))
}

func parts(o options) []job {
	var all []job
	for done := 0; done < o.seeds; done += perProcess {
		all = append(all, job{from: o.from + uint64(done), n: min(perProcess, o.seeds-done)})
	}
	if o.twice {
		for _, j := range slices.Clone(all) {
			j.reverse = true
			all = append(all, j)
		}
	}
	return all
}

// do runs a part in a process of its own, and what a process that has died left over in
// another one.
func (s *simulator) do(ctx context.Context, worker int, j job, t *tally) {
	todo := make([]uint64, 0, j.n)
	for i := range j.n {
		todo = append(todo, j.from+uint64(i))
	}
	if j.reverse {
		slices.Reverse(todo)
	}
	for len(todo) > 0 && ctx.Err() == nil {
		done, out, err := s.process(ctx, worker, todo, t)
		if todo = todo[done:]; len(todo) > 0 && ctx.Err() == nil {
			t.fail(todo[0], fmt.Sprintf("the process died: %v\n%s", err, tail(out)))
			todo = todo[1:]
		}
	}
}

// process runs seeds in one process until it ends, and says how many it has done.
func (s *simulator) process(ctx context.Context, worker int, todo []uint64, t *tally) (done int, out []byte, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	list := filepath.Join(s.dir, fmt.Sprintf("seeds-%d.json", worker))
	b, err := json.Marshal(todo)
	if err == nil {
		err = os.WriteFile(list, b, 0o600)
	}
	if err != nil {
		return 0, nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = r.Close() }()
	cmd := s.command(ctx, "QUOIT_TEST_SEEDS=@"+list)
	cmd.ExtraFiles = []*os.File{w}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return 0, nil, err
	}
	alive := time.AfterFunc(watchdog, cancel)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		alive.Reset(watchdog)
		var one result
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			cancel()
			break
		}
		t.add(one)
		done++
	}
	alive.Stop()
	err = errors.Join(cmd.Wait(), lines.Err())
	return done, said.Bytes(), err
}

func (t *tally) add(r result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before, again := t.sums[r.Seed]; again {
		if before == r.Sum {
			t.same++
		} else {
			t.differ = append(t.differ, r.Seed)
		}
	} else if t.sums != nil {
		t.sums[r.Seed] = r.Sum
	}
	if t.runs++; t.runs%500 == 0 {
		fmt.Fprintf(os.Stderr, "%d runs, %d failed\n", t.runs, len(t.failed))
	}
	t.events += r.Events
	for kind, n := range r.Counts {
		t.counts[kind] += n
	}
	if len(r.Failures) > 0 {
		t.failed[r.Seed] = r.Failures
	}
}

func (t *tally) fail(seed uint64, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed[seed] = append(t.failed[seed], why)
}

// report prints the figures, and says what fails the whole.
func (t *tally) report(o options, took time.Duration) error {
	fmt.Printf("%10d seeds from %d on, %d runs, in %s: %.0f runs an hour with %d processes\n",
		o.seeds, o.from, t.runs, took.Round(time.Second), float64(t.runs)/took.Hours(), o.jobs)
	fmt.Printf("%10d events\n", t.events)
	never := 0
	for _, kind := range slices.Sorted(maps.Keys(t.counts)) {
		mark := ""
		if t.counts[kind] == 0 {
			never++
			mark = "   <- never"
		}
		fmt.Printf("%10d %s%s\n", t.counts[kind], kind, mark)
	}
	if o.twice {
		slices.Sort(t.differ)
		fmt.Printf("%10d seeds were the same run twice, %d were not %v\n", t.same, len(t.differ), t.differ[:min(20, len(t.differ))])
	}
	for _, seed := range slices.Sorted(maps.Keys(t.failed)) {
		fmt.Printf("FAILED seed %d: replay it with\n    go run ./tools/sim -seed %d\n", seed, seed)
		for _, why := range t.failed[seed] {
			fmt.Println("    " + why)
		}
	}
	switch {
	case len(t.failed) > 0:
		return fmt.Errorf("%d seeds failed", len(t.failed))
	case t.counts["checker timeout"] > 0:
		return errors.New("the checker has not come to an end: what it has not decided is not checked")
	case o.gate && never > 0:
		return fmt.Errorf("%d kinds have never happened: what was not tried is not tested", never)
	case len(t.differ) > 0:
		return fmt.Errorf("%d seeds are not the same run twice", len(t.differ))
	}
	return nil
}

// tail is the end of what a process said, where the reason is.
func tail(out []byte) []byte {
	const most = 6000
	if i := bytes.Index(out, []byte("\npanic: ")); i >= 0 {
		out = out[i:]
		return out[:min(len(out), most)]
	}
	if i := bytes.Index(out, []byte("fatal error: ")); i >= 0 {
		out = out[i:]
		return out[:min(len(out), most)]
	}
	return out[max(0, len(out)-most):]
}
