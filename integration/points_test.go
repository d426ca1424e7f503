package integration

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
	"github.com/quoitdb/quoit/node/keeper"
	"github.com/quoitdb/quoit/node/migrate"
	"github.com/quoitdb/quoit/node/wal"
)

// points are all fail points of servers.
func points() []string {
	return slices.Concat(wal.Points(), keeper.Points(), migrate.Points(), node.Points(), manager.Points())
}

// tally counts the processes that were killed at each fail point.
type tally struct {
	mu    sync.Mutex
	kills map[string]int // guarded by mu
}

func (y *tally) killed(point string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.kills[point]++
}

// report prints the counts, and fails when a point was never met.
func (y *tally) report(t *testing.T) {
	t.Helper()
	y.mu.Lock()
	defer y.mu.Unlock()
	total := 0
	for _, point := range points() {
		n := y.kills[point]
		total += n
		t.Logf("%3d killed at %s", n, point)
		if n == 0 {
			t.Errorf("no process was killed at %s", point)
		}
	}
	t.Logf("%3d processes killed at %d fail points", total, len(points()))
	for point := range maps.Keys(y.kills) {
		if !slices.Contains(points(), point) {
			t.Errorf("%s is in no list of points", point)
		}
	}
}

// expectKill waits until a process has killed itself at a point; meanwhile, if it is
// not nil, is called again and again.
func (y *tally) expectKill(t *testing.T, p *process, point string, meanwhile func()) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; {
		select {
		case <-p.ended():
			if !p.diedOf(syscall.SIGKILL) {
				t.Fatalf("%s ended by itself, and not at %s", p.name, point)
			}
			y.killed(point)
			return
		case <-tick.C:
			if meanwhile != nil {
				meanwhile()
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s never came to %s", p.name, point)
			}
		}
	}
}

// diedOf says whether a process that has ended was ended by a signal.
func (p *process) diedOf(s syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == s
}

// TestMatrixKill kills a process with SIGKILL at every fail point there is, under
// load, starts it again, and wants everything to go on by itself with nothing lost.
func TestMatrixKill(t *testing.T) {
	t.Parallel()
	y := &tally{kills: make(map[string]int)}
	t.Run("at", func(t *testing.T) {
		// What takes longest begins first.
		for some := range slices.Chunk(pointsOfTheDisk(), 7) {
			t.Run("disk/"+some[0], func(t *testing.T) { t.Parallel(); y.killAtTheDisk(t, some) })
		}
		t.Run("start of a node", func(t *testing.T) { t.Parallel(); y.killAtTheStart(t) })
		for _, c := range append(cells(), moreCells()...) {
			t.Run(c.role+"/"+c.phase+"/"+c.point, func(t *testing.T) {
				t.Parallel()
				s := stageMove(t, c, "kill")
				y.expectKill(t, s.victim, c.point, nil)
				s.victim.start(t, "")
				s.finish()
			})
		}
		for _, c := range []cell{
			{role: "source", point: "migrate.source.abort"},
			{role: "source", point: "migrate.source.unseal"},
			{role: "target", point: "migrate.target.unstage"},
		} {
			t.Run(c.point, func(t *testing.T) { t.Parallel(); y.killAtAnAbort(t, c) })
		}
		t.Run("manager", func(t *testing.T) { t.Parallel(); y.killTheManager(t) })
	})
	y.report(t)
}

// moreCells are the fail points of a move that no cell of the matrix is about.
func moreCells() []cell {
	return []cell{
		{"source", "COPY", "migrate.source.copied"},
		{"source", "SEAL", "migrate.source.seal"},
		{"source", "SEAL", "migrate.source.sealing"},
		{"source", "COMMIT", "migrate.source.complete"},
		{"source", "COMMIT", "migrate.source.committed"},
		{"source", "DROP", "migrate.source.dropped"},
		{"target", "PLAN", "migrate.target.stage"},
		{"target", "PLAN", "migrate.target.staged"},
		{"target", "COPY", "migrate.target.copy"},
		{"target", "SEAL", "migrate.target.seal"},
		{"target", "SEAL", "migrate.target.sealing"},
	}
}

// killAtAnAbort has the manager take longer for each commit than a range may stay
// sealed, so that sources have their moves aborted.
func (y *tally) killAtAnAbort(t *testing.T, c cell) {
	s := stageMoveWith(t, c, map[string]string{
		c.role: c.point + "=kill@1", "manager": "manager.commit.before=sleep:10m",
	})
	y.expectKill(t, s.victim, c.point, nil)
	s.victim.start(t, "")
	s.fleet.manager.signal(syscall.SIGKILL) // it would wait for its answers
	<-s.fleet.manager.ended()
	s.fleet.manager.start(t, "")
	s.finish()
}

// killAtTheStart kills a node that joins at every step of its start, one after the other.
func (y *tally) killAtTheStart(t *testing.T) {
	f := newFleet(t, 2)
	f.manager.start(t, "")
	for range 2 {
		f.node().start(t, "")
	}
	f.until("two nodes to serve", settled(2))
	l := startLoad(t, f.address)
	third := f.node()
	for _, point := range []string{
		"wal.recover", "wal.recovered", "node.identity", "node.identified",
		"node.join", "node.joined", "node.document", "node.follow", "node.followed",
	} {
		third.start(t, point+"=kill@1")
		y.expectKill(t, third, point, nil)
	}
	third.start(t, "")
	f.until("the third node to register", known(third.name))
	s := &move{t: t, fleet: f, load: l, victim: third, joins: third.name}
	s.finish()
	// And once more with all that it has.
	for _, point := range []string{"wal.recover", "wal.recovered", "node.join", "node.joined", "node.document", "node.follow", "node.followed"} {
		third.stop()
		third.start(t, point+"=kill@1")
		y.expectKill(t, third, point, nil)
		third.start(t, "")
		f.until("the node to be back", settled(3))
	}
	l.audit()
}

// killTheManager kills it at each thing that it does, from the founding of the cluster on.
func (y *tally) killTheManager(t *testing.T) {
	f := newFleet(t, 2)
	for _, point := range []string{"manager.found", "manager.founded"} {
		f.manager.start(t, point+"=kill@1")
		y.expectKill(t, f.manager, point, nil)
	}
	f.manager.start(t, "manager.register=kill@1")
	for range 2 {
		f.node().start(t, "")
	}
	y.expectKill(t, f.manager, "manager.register", nil)
	for _, point := range []string{"manager.swap", "manager.swapped", "manager.reconcile"} {
		f.manager.start(t, point+"=kill@1")
		y.expectKill(t, f.manager, point, nil)
	}
	f.manager.start(t, "")
	f.until("two nodes to serve", settled(2))
	l := startLoad(t, f.address)
	third := f.node()
	third.start(t, "")
	f.until("the third node to register", known(third.name))
	s := &move{t: t, fleet: f, load: l, joins: third.name}
	for _, point := range []string{"manager.swap", "manager.swapped", "manager.reconcile"} {
		f.manager.stop()
		f.manager.start(t, point+"=kill@2")
		y.expectKill(t, f.manager, point, s.tryAdd)
	}
	f.manager.start(t, "")
	s.finish()
}

// pointsOfTheDisk are the steps of a node's log and of its snapshots, without those of a
// start: killAtTheStart does them.
func pointsOfTheDisk() []string {
	return slices.DeleteFunc(append(wal.Points(), keeper.Points()...), func(point string) bool { return strings.HasPrefix(point, "wal.recover") })
}

// killAtTheDisk kills a node at such steps, one after the other, and then takes its disk
// away.
func (y *tally) killAtTheDisk(t *testing.T, steps []string) {
	f, nodes := keepers(t, 2)
	l := startLoad(t, nodes[0].name)
	mustSnapshot(t, nodes...)
	victim := nodes[1]
	for _, point := range steps {
		victim.stop()
		victim.start(t, point+"=kill@1")
		if point == "wal.close" {
			mustSnapshot(t, victim) // so it has come so far that it ends in order
			victim.signal(syscall.SIGTERM)
		}
		y.expectKill(t, victim, point, func() {
			if strings.HasPrefix(point, "wal.") {
				l.grow(t)
			}
			_, _ = snapshot(victim)
		})
		victim.start(t, "")
		f.until("the node to be back", settled(2))
		mustSnapshot(t, victim)
	}
	l.work.Halt()
	f.until("the archive", archived)
	victim.loseDisk(t)
	victim.start(t, "node.restored=kill@1")
	y.expectKill(t, victim, "node.restored", nil)
	victim.start(t, "")
	f.until("the node to be back", func(s manager.Status) bool { return settled(2)(s) && archived(s) })
	l.audit()
}

// grow writes so much that logs need new segments. A node may be away: what is not
// written now is written the next time.
func (l *load) grow(t *testing.T) {
	t.Helper()
	pairs := make([]client.Pair, 64)
	for i := range pairs {
		pairs[i] = client.Pair{Key: staticKey(i), Value: []byte(staticKey(i) + " " + strings.Repeat("w", 48<<10))}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, _ = l.db.MPut(ctx, pairs)
}

// Every place in the code that is hit has its name in its package's list: else nothing
// would miss it here.
func TestEveryFailPointIsListed(t *testing.T) {
	hit := regexp.MustCompile(`[pP]oints\.Hit\(([^)]*)\)`)
	declared := regexp.MustCompile(`(?m)^\t(point\w+)\s*= "([a-z.]+)"`)
	for _, dir := range []string{"node", "node/wal", "node/engine", "node/keeper", "node/migrate", "manager", "snapshot", "snapshot/bucket", "internal/cluster"} {
		files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		names, used := map[string]string{}, map[string]string{}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range hit.FindAllSubmatch(source, -1) {
				used[string(m[1])] = file
			}
			for _, m := range declared.FindAllSubmatch(source, -1) {
				names[string(m[1])] = string(m[2])
			}
		}
		for argument, file := range used {
			if names[argument] == "" {
				t.Errorf("%s hits %s: give the point a constant in points.go of its package", file, argument)
			}
		}
		for constant, name := range names {
			if used[constant] == "" || !slices.Contains(points(), name) {
				t.Errorf("%s (%s) of %s is not hit, or in no list of points", constant, name, dir)
			}
		}
	}
}
