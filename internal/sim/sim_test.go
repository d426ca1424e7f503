package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// TestTheSameSeedIsTheSameRun runs seeds twice, with another one in between. go run
// ./tools/sim -twice does so with thousands, in different processes.
func TestTheSameSeedIsTheSameRun(t *testing.T) {
	if !Steady {
		t.Skip("only in a build by tools/sim does the scheduler draw its chances from the seed")
	}
	for seed := uint64(1); seed <= 10; seed++ {
		first := Run(t, seed, Options{})
		Run(t, seed+1000, Options{})
		if again := Run(t, seed, Options{}); again.Sum != first.Sum {
			t.Errorf("seed %d: %d events with the sum %016x, then %d with %016x", seed, first.Events, first.Sum, again.Events, again.Sum)
		}
	}
}

// ordinary is how many seeds go test runs by itself.
const ordinary = 120

// kept are seeds that have found something once.
var kept = []uint64{
	1071, // stood still: a full segment, a slow disk, and writers of one partition
}

// TestSeeds runs whole clusters, one for each seed. QUOIT_TEST_SEED=n runs one of them
// and prints all that happens, QUOIT_TEST_SEEDS=n runs more.
func TestSeeds(t *testing.T) {
	seeds, trace := chosen(t)
	var results *os.File
	if Steady { // else the descriptor is somebody else's, and this would close it one day
		results = os.NewFile(3, "results")
	}
	total := map[string]int{}
	for _, seed := range seeds {
		r := Run(t, seed, Options{Trace: trace})
		for kind, n := range r.Counts {
			total[kind] += n
		}
		tell(t, r, results)
	}
	if len(seeds) > 1 {
		t.Logf("%d seeds: %v", len(seeds), total)
	}
}

// chosen are the seeds to run, and whether to print their traces.
func chosen(t *testing.T) (seeds []uint64, trace bool) {
	t.Helper()
	if v := os.Getenv("QUOIT_TEST_SEED"); v != "" {
		seed, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("QUOIT_TEST_SEED=%q: want a number", v)
		}
		return []uint64{seed}, true
	}
	n, v := uint64(ordinary), os.Getenv("QUOIT_TEST_SEEDS")
	if file, ok := strings.CutPrefix(v, "@"); ok {
		return listed(t, file), false
	}
	if v != "" {
		var err error
		if n, err = strconv.ParseUint(v, 10, 32); err != nil {
			t.Fatalf("QUOIT_TEST_SEEDS=%q: want how many", v)
		}
	}
	seeds = append(seeds, kept...)
	for i := range n {
		seeds = append(seeds, i+1)
	}
	return seeds, false
}

// listed are the seeds that tools/sim has written into a file.
func listed(t *testing.T, file string) (seeds []uint64) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &seeds)
	}
	if err != nil {
		t.Fatal(err)
	}
	return seeds
}

// tell reports a run: to tools/sim if that has started this process.
func tell(t *testing.T, r *Result, results *os.File) {
	t.Helper()
	if r.Trace != "" {
		fmt.Println(r.Trace)
		t.Logf("seed %d: sum %016x, %d events in %s: %v", r.Seed, r.Sum, r.Events, r.Virtual, r.Counts)
	}
	for _, why := range r.Failures {
		t.Errorf("seed %d: %s\nreplay it with: QUOIT_TEST_SEED=%d go test -run TestSeeds ./internal/sim, or exactly with: go run ./tools/sim -seed %d", r.Seed, why, r.Seed, r.Seed)
	}
	if results == nil || r.Trace != "" {
		return
	}
	line, err := json.Marshal(map[string]any{
		"Seed": r.Seed, "Sum": fmt.Sprintf("%016x", r.Sum), "Events": r.Events, "Failures": r.Failures, "Counts": r.Counts,
	})
	if err == nil {
		_, err = results.Write(append(line, '\n'))
	}
	if err != nil {
		t.Fatal(err)
	}
}
