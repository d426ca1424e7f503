package sim

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/cluster"
)

// World is one run.
type World struct {
	Seed uint64

	plan      plan
	trace     *trace
	net       *network
	bucket    *store
	manager   *machine
	second    *machine   // another manager at the same time; nil: there is none
	nodes     []*machine // the spares last
	watcher   documents
	ambush    *ambush
	trust     *trust // nil: nobody is asked for tokens
	loss      *loss  // nil: no disk is lost while clients write
	know      *knowledge
	registers *registers
	works     []workload
	auditor   *client.Client
	scopes    *scopes // nil: there are no tokens
	// watching is a workload that nobody does in steps; nil: none.
	watching *watches
	working  sync.WaitGroup
	over     bool // virtual time has ended

	mu       sync.Mutex
	failures []string // guarded by mu
}

// Options say how to run.
type Options struct {
	// Trace keeps every event in words.
	Trace bool
	// warming has tokens asked for, whatever the plan says.
	warming bool
}

// Result is what became of a run.
type Result struct {
	Seed     uint64
	Sum      uint64 // of the trace: equal sums are equal runs
	Events   int
	Virtual  time.Duration
	Failures []string // empty: nothing was wrong
	Counts   map[string]int
	Trace    string
}

// warmups is how many worlds it takes until everything has been done once. Every second
// one has tokens.
const warmups = 24

// warmed says that this process has run a world before: there are things that it makes
// once and keeps, and draws chances for.
var warmed bool

// Run runs the world of a seed. It must not be called by two at the same time.
func Run(t *testing.T, seed uint64, o Options) *Result {
	t.Helper()
	if err := warm(); err != nil {
		t.Fatal(err)
	}
	if Steady && !warmed {
		warmed = true
		for i := range uint64(warmups) {
			Run(t, math.MaxUint64-i, Options{warming: i%2 == 0})
		}
	}
	w := &World{Seed: seed, trace: newTrace()}
	w.plan = newPlan(w.dice("plan"))
	if w.plan.tokensAsked = w.plan.tokensAsked || o.warming; w.plan.tokensAsked {
		w.trust = newTrust(t)
	}
	if o.Trace {
		w.trace.kept = &strings.Builder{}
	}
	// One processor: of two goroutines that could go on, the scheduler chooses and not the
	// machine.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	cryptotest.SetGlobalRandom(t, seed)
	emptyPools()
	steady(seed)
	synctest.Test(t, func(t *testing.T) {
		w.trace.began = time.Now()
		w.live()
	})
	w.over = true
	w.check()
	r := &Result{
		Seed: seed, Sum: w.trace.sum, Events: w.trace.events, Virtual: w.trace.end,
		Failures: w.failures, Counts: w.trace.fired,
	}
	if o.Trace {
		r.Trace = w.trace.kept.String()
	}
	return r
}

// emptyPools collects in a build by tools/sim, where that does not begin by itself: twice,
// which empties every sync.Pool. What a pool lacks is made anew, and a map that is made
// draws a chance: with pools as the runs before have left them, no run would be repeatable.
func emptyPools() {
	if Steady {
		runtime.GC()
		runtime.GC()
	}
}

// fail notes that something is wrong that must not be.
func (w *World) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !w.over {
		w.trace.note("WRONG", text, nil)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, text)
}

// refused is told why a server did not start or go on. Whoever runs it does what it asks for.
func (w *World) refused(host string, err error) {
	w.trace.count("server ended by itself", 1)
	if strings.Contains(err.Error(), "move the data folder away") {
		w.moveFolderAway(host)
	}
	if w.loss != nil {
		w.loss.refused(host, err)
	}
}

// moveFolderAway is for a node that was removed while it was frozen or dead, with a part of a
// range that never became its own: unless it owns something, its folder has nothing.
func (w *World) moveFolderAway(host string) {
	w.watcher.mu.Lock()
	d := w.watcher.last
	w.watcher.mu.Unlock()
	owned, err := d.Ownership()
	if err != nil {
		return
	}
	for _, m := range w.nodes {
		if m.host == host && len(owned.ArcsOf(m.addr)) == 0 {
			w.trace.count("folder of a node that was removed moved away", 1)
			m.stale.Store(true)
		}
	}
}

// live is the whole run: a beginning, a time of faults, peace, and an audit.
func (w *World) live() {
	w.trace.note("plan", fmt.Sprintf("%+v", w.plan), nil)
	w.net, w.ambush = newNetwork(w), w.newAmbush()
	w.bucket = w.newStore()
	w.watcher = documents{w: w, store: cluster.NewStore(w.bucket.memory, cluster.StoreOptions{})}
	w.build()
	defer w.end()
	w.manager.boot()
	for _, m := range w.nodes {
		m.boot()
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if !w.form(ctx) || !w.assign(ctx) {
		return
	}
	w.work(ctx)
	w.suffer(ctx)
	w.trace.note("peace", "", nil)
	w.makePeace()
	w.joinOrLeave(w.dice("peace")) // Moves that come to their end, whatever the faults were.
	stop()
	w.working.Wait()
	if !w.settle("after the faults") {
		return
	}
	w.audit("after the faults")
	if w.plan.restore && !w.loseDisk() {
		return
	}
	for _, m := range w.nodes {
		m.crash(nil, "for the audit", false)
		m.boot()
	}
	if !w.settle("after the last restart") {
		return
	}
	w.audit("after the last restart")
}

// build makes the machines.
func (w *World) build() {
	w.manager = w.newMachine("m", "m:7400", startManager)
	if w.plan.second {
		w.second = w.newMachine("m2", "m2:7400", startManager)
	}
	for i := range w.plan.nodes + w.plan.spares {
		host := fmt.Sprintf("n%d", i+1)
		m := w.newMachine(host, host+":7401", startNode)
		m.disk = w.newDisk(host)
		w.nodes = append(w.nodes, m)
	}
}

// machines are all that run something.
func (w *World) machines() []*machine {
	all := []*machine{w.manager}
	if w.second != nil {
		all = append(all, w.second)
	}
	return append(all, w.nodes...)
}

// eitherManager is where a stream to the manager goes: where two have one name, to one of
// them.
func (w *World) eitherManager(addr string, d dice) string {
	if addr == w.manager.addr && w.second != nil && w.plan.oneName && d.chance(0.5) && w.second.running() != nil {
		return w.second.addr
	}
	return addr
}

// isSpare says whether a node is not in the ring from the beginning.
func (w *World) isSpare(addr string) bool {
	return slices.IndexFunc(w.nodes, func(m *machine) bool { return m.addr == addr }) >= w.plan.nodes
}

func (w *World) tokensOf(m *machine) int {
	if w.isSpare(m.addr) {
		return w.plan.spareTokens
	}
	return w.plan.tokens
}

// makePeace ends all faults, and starts what does not run. Two managers under one name are
// a fault: each hears of some of the nodes, and starts no move to or from the others.
func (w *World) makePeace() {
	if w.second != nil && w.plan.oneName {
		w.second.end()
	}
	w.net.healAll()
	for _, m := range w.machines() {
		for _, p := range m.processes() {
			p.thaw()
		}
		if m.disk != nil {
			m.disk.set(func(d *disk) {
				d.slow, d.failSync = false, 0
				d.mem.SetCapacity(0)
			})
		}
		m.boot()
	}
}

func (w *World) end() {
	w.working.Wait()
	if w.watching != nil {
		w.watching.end()
	}
	if w.auditor != nil {
		_ = w.auditor.Close()
	}
	if w.scopes != nil {
		_ = w.scopes.narrow.Close()
	}
	for _, m := range w.machines() {
		m.end()
	}
}
