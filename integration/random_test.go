package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/oracle"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
	"github.com/quoitdb/quoit/node/keeper"
	"github.com/quoitdb/quoit/node/migrate"
	"github.com/quoitdb/quoit/node/wal"
)

// How many random runs there are, and whether it is one with a seed of before.
const (
	runsVariable = "QUOIT_TEST_RUNS"
	seedVariable = "QUOIT_TEST_SEED"
	// chaos is how long a run goes on before everything is made sound again.
	chaos = 10 * time.Second
)

// TestFaultsAtRandom has clusters of real processes suffer whatever there is, in any
// order and at the same time, under a checked load, while nodes join, leave and take
// snapshots. Made sound again, they must settle by themselves, with nothing lost.
//
// A seed decides which faults come, and how they follow each other; what they meet is
// up to the machine. The seed of a run is printed, with what has happened in it.
func TestFaultsAtRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute; run without -short")
	}
	t.Parallel()
	seeds := []uint64{}
	if text := os.Getenv(seedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s=%s: want a number, as a run has printed it", seedVariable, text)
		}
		seeds = append(seeds, seed)
	}
	runs := 3
	if text := os.Getenv(runsVariable); text != "" {
		var err error
		if runs, err = strconv.Atoi(text); err != nil || runs < 1 {
			t.Fatalf("%s=%s: want how many runs there are to be, such as 300", runsVariable, text)
		}
	}
	for len(seeds) < runs && os.Getenv(seedVariable) == "" {
		seeds = append(seeds, rand.Uint64N(1_000_000))
	}
	total := &tallies{}
	t.Run("seed", func(t *testing.T) {
		for _, seed := range seeds {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				c := newChaos(t, seed)
				c.run()
				total.add(c)
			})
		}
	})
	t.Logf("%v", total)
}

// tallies are what has happened in all runs that came to their end.
type tallies struct {
	mu                                     sync.Mutex
	runs                                   int            // guarded by mu, like all that follows
	fired                                  map[string]int // faults by kind
	acknowledged                           int64
	audited, kills, moves, snapshots, asks int
}

func (y *tallies) add(c *chaosRun) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.fired == nil {
		y.fired = map[string]int{}
	}
	y.runs++
	for kind, n := range c.fired {
		y.fired[kind] += n
	}
	y.acknowledged += int64(c.load.static) + c.load.work.Acknowledged()
	y.audited += c.load.audited
	y.kills += c.fired[killed] + c.fired[killedAtPoint]
	y.moves += c.moved
	y.snapshots += int(c.snapshots.Load())
	y.asks += c.asks
}

// String is the table that ends a night.
func (y *tallies) String() string {
	y.mu.Lock()
	defer y.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%d runs came to their end: %d acknowledged writes, %d keys audited, %d processes killed, %d ranges moved, %d snapshots published, %d joins and leaves asked for\nfaults that fired:",
		y.runs, y.acknowledged, y.audited, y.kills, y.moves, y.snapshots, y.asks)
	for _, kind := range slices.Sorted(maps.Keys(y.fired)) {
		fmt.Fprintf(&b, "\n%6d  %s", y.fired[kind], kind)
	}
	return b.String()
}

// The kinds of faults that are told from the others.
const (
	killed        = "killed (SIGKILL)"
	killedAtPoint = "killed at a fail point"
)

// party is a process and, in front of it, a proxy through which all others reach it.
type party struct {
	*process
	proxy *toxiproxy.Proxy
	until time.Time // when what it suffers is over; zero when it suffers nothing
	heal  func()
	ill   time.Time // the same of its disk, which is a matter of its own
}

func (p *party) runs() bool {
	select {
	case <-p.ended():
		return false
	default:
		return true
	}
}

// chaosRun is one run.
type chaosRun struct {
	*fleet
	dice    *rand.Rand
	seed    uint64
	parties []*party // the manager first
	guest   *party   // joins in the middle
	leaver  *party   // may leave in the middle
	load    *load
	fired   map[string]int // faults that have really been met, by kind
	asks    int            // joins and leaves
	moved   int            // ranges
	story   []string
	began   time.Time
	asking  sync.WaitGroup // for snapshots

	snapshots atomic.Int64 // that were taken when asked for
}

func newChaos(t *testing.T, seed uint64) *chaosRun {
	t.Helper()
	c := &chaosRun{fleet: newFleet(t, 3), dice: rand.New(rand.NewPCG(seed, 1)), seed: seed, fired: map[string]int{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again: %s=%d go test -count=1 -run TestFaultsAtRandom -v ./integration\n%s", seedVariable, seed, strings.Join(c.story, "\n"))
		}
	})
	behind := freeAddress(t)
	m := &party{process: c.manager, proxy: c.proxied(c.address, behind)}
	m.env = append(m.env, "QUOIT_MANAGER_ADDR="+behind)
	m.start(t, "")
	c.parties = append(c.parties, m)
	for range 4 {
		n := &party{process: c.keeper()}
		behind := freeAddress(t)
		n.proxy = c.proxied(n.name, behind)
		n.env = append(n.env, "QUOIT_NODE_ADVERTISE="+n.name, "QUOIT_NODE_ADDR="+behind, "QUOIT_LOG_LEVEL=debug")
		c.parties = append(c.parties, n)
	}
	c.guest, c.leaver = c.parties[4], c.parties[1]
	for _, n := range c.parties[1:4] {
		n.start(t, "")
	}
	c.until("three nodes to serve", settled(3))
	c.guest.start(t, "")
	c.load = startLoadWith(t, c.address, oracle.Options{Extra: c.large})
	t.Cleanup(c.load.work.Halt)
	return c
}

// large writes one of the keys that do not change once more, with so large a value that
// logs need new segments all the time.
func (c *chaosRun) large(ctx context.Context, random *rand.Rand) error {
	key := staticKey(random.IntN(200))
	return c.load.db.Put(ctx, key, []byte(key+" "+strings.Repeat("x", random.IntN(48<<10))))
}

// proxied is the way to an address that others know, which leads to another one.
func (c *chaosRun) proxied(near, behind string) *toxiproxy.Proxy {
	c.t.Helper()
	p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), near, near, behind)
	for deadline := time.Now().Add(patience); ; {
		err := p.Start()
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			c.t.Fatal(err)
		}
		<-time.After(100 * time.Millisecond) // somebody else was faster, and goes again
	}
	c.t.Cleanup(p.Stop)
	return p
}

// run injects faults until the time is up, makes all sound again, and audits.
func (c *chaosRun) run() {
	c.began = time.Now()
	joins, leaves := c.moment(), c.moment()
	leaving := c.dice.IntN(2) == 0
	for now := time.Now(); now.Sub(c.began) < chaos; now = time.Now() {
		c.mend(now)
		if joins > 0 && now.Sub(c.began) > joins && c.ask("ADD", c.guest.name, (*manager.Control).Add) {
			joins = 0
		}
		if leaving && leaves > 0 && now.Sub(c.began) > leaves && c.ask("REMOVE", c.leaver.name, (*manager.Control).Remove) {
			leaves = 0
		}
		if c.dice.IntN(4) == 0 {
			c.hurt(now)
		}
		<-time.After(100 * time.Millisecond) // the pace of the faults, not a wait for something
	}
	c.sound()
	c.settle(leaving && leaves == 0)
	c.asking.Wait()
	c.load.audit()
	for _, p := range c.parties {
		c.read(p)
	}
}

// moment is one within the run.
func (c *chaosRun) moment() time.Duration { return 1 + time.Duration(c.dice.Int64N(int64(chaos*2/3))) }

func (c *chaosRun) tell(text string) {
	c.story = append(c.story, fmt.Sprintf("%5.1f s  %s", time.Since(c.began).Seconds(), text))
}

// ask gives the manager a command, and says whether it has taken it.
func (c *chaosRun) ask(what, address string, do func(*manager.Control, ...string) error) bool {
	m, err := manager.Dial(c.t.Context(), c.address, time.Second)
	if err != nil {
		return false
	}
	defer func() { _ = m.Close() }()
	err = do(m, address)
	c.asks++
	c.tell(fmt.Sprintf("%s %s: %v", what, address, err))
	return err == nil
}

// mend ends what has lasted long enough, and starts again what has ended by itself: a
// failed call or a full disk may be a reason not to go on.
func (c *chaosRun) mend(now time.Time) {
	for _, p := range c.parties {
		if !p.ill.IsZero() && now.After(p.ill) {
			c.cure(p)
		}
		if !p.until.IsZero() && now.After(p.until) {
			p.heal()
			p.until = time.Time{}
		}
		if p.until.IsZero() && !p.runs() {
			p.start(c.t, "")
		}
	}
}

func (c *chaosRun) cure(p *party) {
	p.order(c.t, "")
	p.ill = time.Time{}
}

// hurt does something to somebody who suffers nothing at the moment; others may.
func (c *chaosRun) hurt(now time.Time) {
	p := c.parties[c.dice.IntN(len(c.parties))]
	lasts := 100*time.Millisecond + time.Duration(c.dice.Int64N(int64(2500*time.Millisecond)))
	if c.dice.IntN(4) == 0 {
		if p != c.parties[0] && p.ill.IsZero() { // the manager has no disk
			c.sicken(p, lasts)
			p.ill = now.Add(lasts)
		}
		return
	}
	if !p.until.IsZero() {
		return
	}
	kinds := []func(*party) (kind string, heal func()){
		c.kill, c.kill, c.freeze, c.freeze, c.atPoint, c.atPoint, c.cut, c.cut, c.snapshot,
	}
	kind, heal := kinds[c.dice.IntN(len(kinds))](p)
	c.tell(fmt.Sprintf("%s: %s for %v", p.name, kind, lasts))
	p.until, p.heal = now.Add(lasts), heal
}

// sicken has the disk of a node be full, or slow, whatever else it suffers.
func (c *chaosRun) sicken(p *party, lasts time.Duration) {
	order := fmt.Sprintf("slow:%dms", 1+c.dice.IntN(120))
	if c.dice.IntN(2) == 0 {
		order = "full"
	}
	p.order(c.t, order)
	c.tell(fmt.Sprintf("%s: disk %s for %v", p.name, order, lasts))
}

// kill ends a process with SIGKILL; it comes back.
func (c *chaosRun) kill(p *party) (string, func()) {
	if p.runs() {
		c.fired[killed]++
	}
	p.signal(syscall.SIGKILL)
	<-p.ended()
	return "kill", func() { p.start(c.t, "") }
}

// freeze stops a process as a machine does that is suspended.
func (c *chaosRun) freeze(p *party) (string, func()) {
	if p.runs() {
		c.fired["frozen (SIGSTOP)"]++
	}
	p.signal(syscall.SIGSTOP)
	return "freeze", func() { p.signal(syscall.SIGCONT) }
}

// again ends a process, however it is, and starts it with fail points, or none.
func (c *chaosRun) again(p *party, points string) {
	p.signal(syscall.SIGCONT)
	_, _ = c.kill(p)
	p.start(c.t, points)
}

// atPoint restarts a process with something that will happen at a fail point: its call
// fails, or takes long, or the process is frozen or killed there.
func (c *chaosRun) atPoint(p *party) (string, func()) {
	all := slices.Concat(wal.Points(), keeper.Points(), migrate.Points(), node.Points())
	if p == c.parties[0] {
		all = manager.Points()
	}
	action := []string{"kill", "error", "pause", "sleep:300ms"}[c.dice.IntN(4)]
	arm := fmt.Sprintf("%s=%s@%d", all[c.dice.IntN(len(all))], action, 1+c.dice.IntN(6))
	c.again(p, arm)
	return "at-point " + arm, func() {
		if !p.runs() && p.diedOf(syscall.SIGKILL) {
			c.fired[killedAtPoint]++
		}
		c.again(p, "")
	}
}

// cut does something to one direction of the way to a process.
func (c *chaosRun) cut(p *party) (string, func()) {
	direction := []string{requests, answers}[c.dice.IntN(2)]
	toxic := []struct {
		kind       string
		attributes map[string]int64
	}{
		{"timeout", map[string]int64{"timeout": 0}}, // swallows everything
		{"latency", map[string]int64{"latency": 100, "jitter": 80}},
		{"reset_peer", map[string]int64{"timeout": 0}},
		{"limit_data", map[string]int64{"bytes": 3000}},
		{"slicer", map[string]int64{"average_size": 40, "size_variation": 20, "delay": 100}},
	}[c.dice.IntN(5)]
	text, err := json.Marshal(map[string]any{"type": toxic.kind, "stream": direction, "attributes": toxic.attributes})
	if err == nil {
		_, err = p.proxy.Toxics.AddToxicJson(strings.NewReader(string(text)))
	}
	if err != nil {
		c.t.Fatalf("toxic %s: %v", toxic.kind, err)
	}
	c.fired["link cut: "+toxic.kind]++
	return "cut " + direction + " " + toxic.kind, func() { p.proxy.Toxics.ResetToxics(c.t.Context()) }
}

// snapshot has a node take one; it may have other worries.
func (c *chaosRun) snapshot(p *party) (string, func()) {
	c.asking.Go(func() {
		if got, err := snapshot(p.process); err == nil && strings.HasPrefix(got, ":") {
			c.snapshots.Add(1)
		}
	})
	return "snapshot", func() {}
}

// sound makes everything as it should be: all processes run, and hear each other.
func (c *chaosRun) sound() {
	for _, p := range c.parties {
		p.proxy.Toxics.ResetToxics(c.t.Context())
		if !p.ill.IsZero() {
			c.cure(p)
		}
		if !p.until.IsZero() {
			p.heal()
			p.until = time.Time{}
		}
	}
	c.mend(time.Now())
}

// read counts what a process says of itself in its log: the faults that it has met, and
// the ranges that have become its own.
func (c *chaosRun) read(p *party) {
	c.t.Helper()
	log, err := os.ReadFile(p.log)
	if err != nil {
		c.t.Fatal(err)
	}
	moves := map[string]bool{}
	for text := range bytes.Lines(log) {
		var line struct{ Msg, Fault, Step, Move string }
		if json.Unmarshal(text, &line) != nil {
			continue
		}
		order, disk := strings.CutPrefix(line.Fault, "disk ")
		kind, _, _ := strings.Cut(order, ":")
		switch {
		case disk:
			c.fired["disk "+kind]++
		case line.Fault != "":
			c.fired["fail point acted"]++
		case line.Step == string(cluster.Activate):
			moves[line.Move] = true
		}
	}
	c.moved += len(moves)
}

// until is that of the fleet, with an eye on processes that end by themselves: one that
// was started while its disk was full comes to it later.
func (c *chaosRun) until(what string, wanted func(manager.Status) bool) {
	c.t.Helper()
	untilStatus(c.t, c.address, what, wanted, func() { c.mend(time.Now()) })
}

// settle waits until all members serve and nothing moves any more.
func (c *chaosRun) settle(left bool) {
	c.t.Helper()
	members := 4
	if left {
		members = 3
		c.until("the node to have left", func(s manager.Status) bool {
			for _, n := range s.Nodes {
				if n.Address == c.leaver.name && (n.State == cluster.Active || n.State == cluster.Leaving) {
					return false
				}
			}
			return true
		})
	}
	operate(c.t, c.address, func(m *manager.Control) error { return m.Add(c.guest.name) })
	c.until(fmt.Sprintf("%d nodes to serve and nothing to move", members), settled(members))
}
