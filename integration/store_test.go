package integration

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// cutVariable has the store be away for as long as it says, instead of only until
// everybody has noticed: QUOIT_TEST_BUCKET_CUT=4m, as `task faults:bucket` does.
const cutVariable = "QUOIT_TEST_BUCKET_CUT"

// remote is a fleet whose bucket is in a MinIO, which each member reaches on a way of
// its own.
type remote struct {
	*fleet
	store *buckettest.Server
	nodes []*process
	links []*link // of the nodes
	way   *link   // of the manager
	load  *load
	done  *atomic.Int64 // operations of the load that succeeded
}

// newRemote starts a cluster of three with a checked load.
func newRemote(t *testing.T) *remote {
	t.Helper()
	r := &remote{store: buckettest.MinIO(t), done: new(atomic.Int64)}
	r.way = newLink(t, &r.store.S3)
	for range 3 {
		r.links = append(r.links, newLink(t, &r.store.S3))
	}
	r.fleet = newFleet(t, len(r.links))
	r.manager.env = append(r.manager.env, r.way.environ("cluster")...)
	r.manager.start(t, "")
	for _, l := range r.links {
		n := r.keeper()
		n.env = append(n.env, l.environ("cluster")...)
		n.start(t, "")
		r.nodes = append(r.nodes, n)
	}
	r.until("the nodes to serve", settled(len(r.nodes)))
	r.load = observedLoad(t, r.address, func(err error) {
		if err == nil {
			r.done.Add(1)
		}
	})
	t.Cleanup(r.load.work.Halt)
	return r
}

// goesOn waits until the load has done more.
func (r *remote) goesOn(n int64) {
	r.t.Helper()
	goal := r.done.Load() + n
	r.until(fmt.Sprintf("%d more operations", n), func(manager.Status) bool { return r.done.Load() >= goal })
}

// each says whether all nodes are as wanted, as the manager was told.
func each(wanted func(manager.NodeStatus) bool) func(manager.Status) bool {
	return func(s manager.Status) bool {
		for _, n := range s.Nodes {
			if n.State == cluster.Active && (!n.Up || !n.Serving || n.Snapshot == nil || !wanted(n)) {
				return false
			}
		}
		return true
	}
}

// complains is met by a node that says why its snapshots and its log do not get on.
func complains(n manager.NodeStatus) bool {
	return n.Snapshot.State != "ok" && n.Snapshot.State != "starting"
}

// getsOn is met by a node that is well, and whose archive is not far behind.
func getsOn(n manager.NodeStatus) bool {
	return n.Snapshot.State == "ok" && n.Snapshot.ArchiveLag < 1<<20
}

// tool runs the quoit program as a person would.
func (r *remote) tool(env []string, words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, words...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// complained is met when quoit cluster status has a line for each node.
func (r *remote) complained(manager.Status) bool {
	r.t.Helper()
	lines := 0
	out, err := r.tool(nil, "cluster", "status", "--manager", r.address)
	if err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "  ! ") {
			lines++
		}
	}
	return lines == len(r.nodes)
}

// endure has the links of the nodes suffer a fault each, sees the nodes serve on and
// say what is the matter, and makes the links sound again.
func (r *remote) endure(faults ...storeFault) {
	r.t.Helper()
	var names []string
	for i, f := range faults {
		names = append(names, r.nodes[i].name+": "+f.name)
		f.inject(r.links[i])
	}
	what := strings.Join(names, ", ")
	r.until("every node to say what is the matter with "+what, each(complains))
	r.until("a line for each in quoit cluster status", r.complained)
	r.goesOn(300)
	for _, l := range r.links {
		l.heal()
	}
	r.until("every node to get on after "+what, each(getsOn))
}

// restored restores a cluster from the bucket alone, of a node more or less, and audits
// it: it must hold what was acknowledged.
func (r *remote) restored() {
	r.t.Helper()
	fresh := newFleet(r.t, 2)
	fresh.manager.start(r.t, "")
	for range 2 {
		fresh.node().start(r.t, "")
	}
	fresh.until("the new cluster to serve", settled(2))
	env := append(r.store.Environ(), "QUOIT_BUCKET="+r.store.Location("cluster"))
	out, err := r.tool(env, "snapshot", "restore", "--servers", fresh.address, "--check", "--timeout", "1m")
	if err != nil {
		r.t.Fatalf("restore from the bucket: %v\n%s", err, out)
	}
	db, err := client.Open(r.t.Context(), []string{fresh.address})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*patience)
	defer cancel()
	checked, lost, err := r.load.work.AuditOf(ctx, db)
	if err != nil || len(lost) > 0 || checked == 0 {
		r.t.Errorf("audit of %d restored keys: %v, lost %v", checked, err, lost)
	}
	r.load.readAll(ctx, db)
}

// finish halts the load, waits until the bucket has everything, and audits twice: the
// cluster, and one that is restored from the bucket when all of the old one is gone.
func (r *remote) finish() {
	r.t.Helper()
	r.load.work.Halt()
	r.until("the bucket to have everything", archived)
	r.load.audit()
	for _, p := range append(r.nodes, r.manager) {
		p.stop()
	}
	r.restored()
}

// TestTheBucketFailsInEveryWay: whatever becomes of the way to the bucket, nodes serve
// reads and writes, keep their log, say what is the matter, and catch up.
func TestTheBucketFailsInEveryWay(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	mustSnapshot(t, r.nodes...)
	r.endure(refused(), blackhole(requests), toxic("reset", "reset_peer", answers, map[string]int64{"timeout": 0}))
	r.endure(
		blackhole(answers), // also replies lost after the store has done it
		toxic("truncated requests", "limit_data", requests, map[string]int64{"bytes": 700}),
		toxic("truncated answers", "limit_data", answers, map[string]int64{"bytes": 250}),
	)
	r.endure(
		onTheWire("503", func(*http.Request) buckettest.Cut { return buckettest.Cut{Status: 503, Code: "SlowDown"} }),
		onTheWire("flipped bytes", func(*http.Request) buckettest.Cut { return buckettest.Cut{Body: flip, Answer: flip} }),
		onTheWire("replies lost after commit", func(r *http.Request) buckettest.Cut {
			return buckettest.Cut{Done: r.Method == http.MethodPut, Lost: true}
		}),
	)
	mustSnapshot(t, r.nodes...)
	r.finish()
}

// TestTheBucketIsSlowAndUnreliable: what fails now and then, or takes long, costs time
// and nothing else. Snapshots get through, and the archive gets on.
func TestTheBucketIsSlowAndUnreliable(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	r.links[0].toxic("latency", answers, map[string]int64{"latency": 150, "jitter": 100})
	r.links[0].toxic("bandwidth", requests, map[string]int64{"rate": 512})
	r.links[1].toxic("slicer", requests, map[string]int64{"average_size": 200, "size_variation": 100, "delay": 50})
	r.links[1].wire.Decide(nowAndThen(buckettest.Cut{Status: 503, Code: "SlowDown"}))
	r.links[2].wire.Decide(nowAndThen(buckettest.Cut{Done: true, Lost: true}))
	r.way.toxic("latency", answers, map[string]int64{"latency": 300})
	mustSnapshot(t, r.nodes...)
	r.goesOn(500)
	mustSnapshot(t, r.nodes...)
	r.finish()
}

// TestTheBucketIsAway: cut off from it all, and for as long as it takes, the cluster
// serves; back, the log is archived and snapshots are published.
func TestTheBucketIsAway(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	mustSnapshot(t, r.nodes...)
	began := time.Now()
	for _, l := range append(r.links, r.way) {
		l.proxy.Stop()
	}
	r.until("every node to say that the bucket is away", func(s manager.Status) bool { return s.Trouble != "" && each(complains)(s) })
	r.until("a line for each in quoit cluster status", r.complained)
	var asked sync.WaitGroup
	for _, p := range r.nodes {
		asked.Go(func() {
			if got, err := snapshot(p); err != nil || !strings.HasPrefix(got, "-UNAVAILABLE ") {
				t.Errorf("SNAPSHOT without a bucket: %q, %v", got, err)
			}
		})
	}
	asked.Wait()
	r.goesOn(500)
	r.stayAway(began)
	before := r.until("the status", func(manager.Status) bool { return true })
	for _, l := range append(r.links, r.way) {
		l.heal()
	}
	back := time.Now()
	r.until("every node to get on", func(s manager.Status) bool { return s.Trouble == "" && each(getsOn)(s) })
	r.tell("archives have caught up %.1f s after the bucket is back", time.Since(back).Seconds())
	mustSnapshot(t, r.nodes...)
	r.tell("snapshots are published %.1f s after", time.Since(back).Seconds())
	for _, n := range r.until("newer snapshots", func(s manager.Status) bool { return newer(before, s) }).Nodes {
		r.tell("%s: snapshot %d, log %d bytes, lag %d", n.Address, n.Snapshot.Sequence, n.LogBytes, n.Snapshot.ArchiveLag)
	}
	r.finish()
}

// newer is met when each node has a newer snapshot than it had before.
func newer(before, now manager.Status) bool {
	had := map[string]uint64{}
	for _, n := range before.Nodes {
		had[n.Address] = n.Snapshot.Sequence
	}
	return each(func(n manager.NodeStatus) bool { return n.Snapshot.Sequence > had[n.Address] })(now)
}

// stayAway keeps the cut up for as long as cutVariable says, and tells what it looks
// like meanwhile.
func (r *remote) stayAway(began time.Time) {
	r.t.Helper()
	text := os.Getenv(cutVariable)
	if text == "" {
		return
	}
	cut, err := time.ParseDuration(text)
	if err != nil {
		r.t.Fatalf("%s: %v", cutVariable, err)
	}
	end := time.NewTimer(cut - time.Since(began))
	defer end.Stop()
	look := time.NewTicker(max(cut/8, time.Second))
	defer look.Stop()
	for last := r.done.Load(); ; {
		select {
		case <-end.C:
			return
		case <-look.C:
		}
		s := r.until("the nodes to serve on", each(complains))
		done := r.done.Load()
		for _, n := range s.Nodes {
			r.tell("away for %.0f s: %s serves %.0f ops/s, log %d bytes, lag %d; %s", time.Since(began).Seconds(), n.Address,
				n.OpsPerSec, n.LogBytes, n.Snapshot.ArchiveLag, n.Snapshot.State)
		}
		if done == last {
			r.t.Errorf("the load has come no further than %d operations", done)
		}
		last = done
	}
}

// tell notes a figure where the minutes are asked for.
func (r *remote) tell(format string, args ...any) {
	if os.Getenv(cutVariable) != "" {
		r.t.Logf(format, args...)
	}
}

// TestANodeStartsWhileTheBucketIsAway: its log alone is no right to serve. It waits,
// says what for, and serves when the bucket is back.
func TestANodeStartsWhileTheBucketIsAway(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	mustSnapshot(t, r.nodes...)
	victim, way := r.nodes[0], r.links[0]
	waits := func(manager.Status) bool {
		got, err := ask(victim, "GET any")
		return err == nil && strings.HasPrefix(got, "-UNAVAILABLE ") && strings.Contains(got, "bucket")
	}
	blackhole(answers).inject(way)
	victim.stop()
	victim.start(t, "")
	r.until("the node to say that it waits", waits)
	way.heal()
	r.until("the node to serve", settled(len(r.nodes)))

	// The same with a disk that is lost: it comes back from the bucket when there is one.
	r.load.work.Halt()
	r.until("the bucket to have everything", archived)
	victim.loseDisk(t)
	refused().inject(way)
	victim.start(t, "")
	r.until("the node to say that it waits", waits)
	way.heal()
	r.until("the node to be back", settled(len(r.nodes)))
	r.load.audit()
}
