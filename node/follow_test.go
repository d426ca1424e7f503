package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// followMover notes what the follower tells it and lends its host to tests.
type followMover struct {
	noMover
	host Host

	mu        sync.Mutex
	decisions []cluster.Decision // guarded by mu
}

func (m *followMover) Follow(_ cluster.Document, decision cluster.Decision) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.decisions = append(m.decisions, decision)
}

func (m *followMover) last() cluster.Decision {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.decisions[len(m.decisions)-1]
}

// moving starts a node that owns everything, and a move of a range away from it.
func moving(t *testing.T, change ...func(*Config, *Seams)) (*testCluster, *Node, *followMover, cluster.Move) {
	t.Helper()
	c, m := newTestCluster(t), &followMover{}
	n := c.serving(func(cfg *Config, s *Seams) {
		with(change...)(cfg, s)
		s.NewMover = func(h Host) (Mover, error) { m.host = h; return m, nil }
	})
	d := c.other(otherAddress)
	c.follow(n, d)
	if len(d.Moves) == 0 || d.Moves[0].Source != n.Address() {
		t.Fatalf("no move: %+v", d.Moves)
	}
	return c, n, m, d.Moves[0]
}

// patient has held requests wait for as long as a test may take.
func patient(c *Config, _ *Seams) { c.Times.Park = time.Minute }

func commit(id cluster.MoveID) func(cluster.Document) (cluster.Document, error) {
	return func(d cluster.Document) (cluster.Document, error) { return d.Commit(id) }
}

func abort(id cluster.MoveID) func(cluster.Document) (cluster.Document, error) {
	return func(d cluster.Document) (cluster.Document, error) { return d.Abort(id) }
}

// TestACommittedMoveIsDroppedAndReported: the source deletes only now, tells
// clients who has the range, and tells the manager.
func TestACommittedMoveIsDroppedAndReported(t *testing.T) {
	c, n, m, mv := moving(t, patient)
	key := keyIn(mv.Range, 0)
	client := dial(t, n.Address())
	client.do("SET " + key + " 1")
	if _, err := m.host.Engine.Seal(string(mv.ID), mv.Range); err != nil {
		t.Fatal(err)
	}
	client.send("GET " + key + "\r\n")
	waitFor(t, "the request to be parked", func() bool { return n.stats.parked.Load() == 1 })
	d := c.change(commit(mv.ID))
	if _, err := m.host.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := client.reply(), fmt.Sprintf("-MOVED %d %s", d.Epoch, otherAddress); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := client.do("DBSIZE"); got != ":0" {
		t.Errorf("its copy: %s", got)
	}
	waitFor(t, "the report", func() bool { return slices.Contains(c.manager.reports(), string(mv.ID)+" dropped") })
	if !slices.ContainsFunc(m.last().Actions, func(a cluster.Action) bool { return a.Kind == cluster.Drop && a.Move == mv.ID }) {
		t.Errorf("the mover was not told: %+v", m.last())
	}
}

// What a node reports it can no longer lose: after it, the document forgets the move.
func TestWhatANodeReportsIsDurable(t *testing.T) {
	c, n, m, mv := moving(t)
	seal, err := m.host.Engine.Seal(string(mv.ID), mv.Range)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.host.Log.SyncTo(seal); err != nil {
		t.Fatal(err)
	}
	d := c.change(commit(mv.ID))
	c.follow(n, d)
	waitFor(t, "the report", func() bool { return slices.Contains(c.manager.reports(), string(mv.ID)+" dropped") })
	found := recovered(t, c.disk.CrashClone(func() bool { return false }))
	if len(found.Sealed) > 0 || found.Mark.Counter < d.Counter {
		t.Errorf("after a power failure it has acted on document %d and still holds %v; it has reported %s as dropped by document %d",
			found.Mark.Counter, found.Sealed, mv.ID, d.Counter)
	}
}

// recovered is what the log on a node's disk says.
func recovered(t *testing.T, disk vfs.FS) engine.Recovered {
	t.Helper()
	log, err := wal.Open(wal.Options{FS: disk, Dir: "/data/log", SegmentSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	e, err := engine.Open(engine.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.Recovered()
}

// TestAnAbortedMoveIsUnsealed: only after reading that the move is gone.
func TestAnAbortedMoveIsUnsealed(t *testing.T) {
	c, n, m, mv := moving(t)
	key := keyIn(mv.Range, 0)
	client := dial(t, n.Address())
	client.do("SET " + key + " 1")
	if _, err := m.host.Engine.Seal(string(mv.ID), mv.Range); err != nil {
		t.Fatal(err)
	}
	if got := client.do("GET " + key); !strings.HasPrefix(got, "-TRYAGAIN") {
		t.Errorf("sealed: %s", got)
	}
	if _, err := m.host.Update(t.Context(), abort(mv.ID)); err != nil {
		t.Fatal(err)
	}
	if got := client.do("GET " + key); got != "1" {
		t.Errorf("after the abort: %s", got)
	}
	c.stop(n)
	n = c.mustStart(nil)
	c.ready(n)
	if got := dial(t, n.Address()).do("GET " + key); got != "1" {
		t.Errorf("after a restart: %s", got)
	}
}

// TestASealThatCameLateIsUndone: the document had aborted the move before the
// mover sealed; reading the same document again has to act on what it finds.
func TestASealThatCameLateIsUndone(t *testing.T) {
	c, n, m, mv := moving(t)
	key := keyIn(mv.Range, 0)
	c.follow(n, c.change(abort(mv.ID)))
	if _, err := m.host.Engine.Seal(string(mv.ID), mv.Range); err != nil {
		t.Fatal(err)
	}
	if _, err := m.host.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := dial(t, n.Address()).do("SET " + key + " 1"); got != "+OK" {
		t.Errorf("got %s", got)
	}
}

// arriving starts a node that owns nothing, and a move of a range to it.
func arriving(t *testing.T, change ...func(*Config, *Seams)) (*testCluster, *Node, *followMover, cluster.Move) {
	t.Helper()
	c, m := newTestCluster(t), &followMover{}
	c.form()
	c.other(otherAddress)
	n := c.mustStart(func(cfg *Config, s *Seams) {
		with(change...)(cfg, s)
		s.NewMover = func(h Host) (Mover, error) { m.host = h; return m, nil }
	})
	c.ready(n)
	d := c.join(n.Address())
	c.follow(n, d)
	return c, n, m, d.Moves[0]
}

// TestACommittedMoveIsActivatedAndReported: the target serves only now.
func TestACommittedMoveIsActivatedAndReported(t *testing.T) {
	c, n, m, mv := arriving(t, patient)
	key := keyIn(mv.Range, 0)
	client := dial(t, n.Address())
	client.do("CLIENT PARK OFF")
	if got := client.do("GET " + key); !strings.HasPrefix(got, "-MOVED ") {
		t.Errorf("before: %s", got)
	}
	m.stage(t, mv)
	if got := client.do("GET " + key); !strings.HasPrefix(got, "-TRYAGAIN ") {
		t.Errorf("complete, and not committed: %s", got)
	}
	c.change(commit(mv.ID))
	client.do("CLIENT PARK ON")
	// A request for the range is hint enough to read the document.
	if got := client.do("GET " + key); got != "(nil)" {
		t.Errorf("committed: %s", got)
	}
	waitFor(t, "the report", func() bool { return slices.Contains(c.manager.reports(), string(mv.ID)+" active") })
	if m.host.Address != n.Address() || m.host.Manager != c.manager.addr() {
		t.Errorf("host %+v", m.host)
	}
}

func (m *followMover) stage(t *testing.T, mv cluster.Move) {
	t.Helper()
	e := m.host.Engine
	if _, err := e.Stage(string(mv.ID), mv.Range); err != nil {
		t.Fatal(err)
	}
	lsn, err := e.StageComplete(string(mv.ID), e.Version(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.host.Log.SyncTo(lsn); err != nil {
		t.Fatal(err)
	}
}

// TestAnAbortedMoveIsUnstaged: what had arrived is forgotten.
func TestAnAbortedMoveIsUnstaged(t *testing.T) {
	c, n, m, mv := arriving(t)
	m.stage(t, mv)
	c.follow(n, c.change(abort(mv.ID)))
	if _, err := m.host.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, staged := m.host.Engine.Held(); len(staged) != 0 {
		t.Errorf("still staged: %+v", staged)
	}
}

// TestAMoveGoesOnAfterARestart: of the target, when the commit came meanwhile.
func TestAMoveGoesOnAfterARestart(t *testing.T) {
	c, n, m, mv := arriving(t)
	m.stage(t, mv)
	c.stop(n)
	c.change(commit(mv.ID))
	n = c.mustStart(nil)
	c.ready(n)
	if got := dial(t, n.Address()).do("SET " + keyIn(mv.Range, 0) + " 1"); got != "+OK" {
		t.Errorf("got %s", got)
	}
	waitFor(t, "the report", func() bool { return slices.Contains(c.manager.reports(), string(mv.ID)+" active") })
}

// TestReportsSurviveAManagerThatIsAway: they are delivered when it is back.
func TestReportsSurviveAManagerThatIsAway(t *testing.T) {
	c, n, m, mv := moving(t)
	c.manager.setDown(true)
	if _, err := m.host.Engine.Seal(string(mv.ID), mv.Range); err != nil {
		t.Fatal(err)
	}
	c.follow(n, c.change(commit(mv.ID)))
	waitFor(t, "an attempt", func() bool { return n.stats.heartbeatErrors.Load() > 0 })
	c.manager.setDown(false)
	waitFor(t, "the report", func() bool { return slices.Contains(c.manager.reports(), string(mv.ID)+" dropped") })
}

func TestRefreshAndUpdateEndWithTheirContext(t *testing.T) {
	c, _, m, _ := moving(t)
	c.bucket.down.Store(true)
	if _, err := m.host.Refresh(t.Context()); err == nil {
		t.Error("a reading that failed was reported as done")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := m.host.Update(ctx, func(d cluster.Document) (cluster.Document, error) { return d, nil }); err == nil {
		t.Error("an update without a bucket was reported as done")
	}
	c.bucket.down.Store(false)
	refused := errors.New("refused")
	if _, err := m.host.Update(t.Context(), func(d cluster.Document) (cluster.Document, error) { return d, refused }); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
}

// TestManyHintsAreFewReadings: held requests all hint at the same document.
func TestManyHintsAreFewReadings(t *testing.T) {
	c, n, _, _ := moving(t)
	before := c.bucket.reads.Load()
	began := time.Now()
	for time.Since(began) < 100*time.Millisecond {
		n.hint()
	}
	if reads, most := c.bucket.reads.Load()-before, int64(time.Since(began)/readGap)+10; reads > most {
		t.Errorf("%d readings in %v", reads, time.Since(began))
	}
}

// TestAMoverThatCannotStartEndsTheNode.
func TestAMoverThatCannotStartEndsTheNode(t *testing.T) {
	c := newTestCluster(t)
	c.form()
	n := c.mustStart(func(_ *Config, s *Seams) {
		s.NewMover = func(Host) (Mover, error) { return nil, errors.New("no hands") }
	})
	if err := c.failure(n); !strings.Contains(err.Error(), "no hands") {
		t.Errorf("got %v", err)
	}
}

// TestOwnershipFollowsTheDocumentAlone: whatever the log says, keys of ranges that
// the document gives to others are gone after a restart.
func TestOwnershipFollowsTheDocumentAlone(t *testing.T) {
	c, n, _, _ := moving(t)
	client := dial(t, n.Address())
	for i := range 200 {
		client.do(fmt.Sprintf("SET key:%d v", i))
	}
	c.stop(n)
	d := c.change(func(d cluster.Document) (cluster.Document, error) {
		ids := make([]cluster.MoveID, len(d.Moves))
		for i, mv := range d.Moves {
			ids[i] = mv.ID
		}
		return d.Commit(ids...)
	})
	owners, err := d.Ownership()
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for i := range 200 {
		if owners.Owner(ring.PositionOfString(fmt.Sprintf("key:%d", i))) == n.Address() {
			want++
		}
	}
	n = c.mustStart(nil)
	c.ready(n)
	if got := dial(t, n.Address()).do("DBSIZE"); got != fmt.Sprintf(":%d", want) || want == 0 || want == 200 {
		t.Errorf("%s keys, want %d of 200", got, want)
	}
}

// fillDisk leaves no byte for any record, urgent ones included.
func (c *testCluster) fillDisk(h Host) {
	c.disk.SetCapacity(1)
	for _, appendTo := range []func([]byte) (wal.LSN, error){h.Log.Append, h.Log.AppendUrgent} {
		for size := 1 << 20; size > 0; {
			if _, err := appendTo(make([]byte, size)); errors.Is(err, wal.ErrDiskFull) {
				size /= 2
			}
		}
	}
}

// TestAFullDiskDoesNotKeepARangeSealed: the document cannot be noted, but a range
// that stays here serves again; one that comes waits. Hints do not make the node try
// without a pause.
func TestAFullDiskDoesNotKeepARangeSealed(t *testing.T) {
	c, n, m, mv := moving(t)
	key := keyIn(mv.Range, 0)
	client := dial(t, n.Address())
	client.do("SET " + key + " 1")
	if _, err := m.host.Engine.Seal(string(mv.ID), mv.Range); err != nil {
		t.Fatal(err)
	}
	c.fillDisk(m.host)
	if _, err := m.host.Update(t.Context(), abort(mv.ID)); !errors.Is(err, engine.ErrReadOnly) {
		t.Errorf("acted without a mark: %v", err)
	}
	if got := client.do("GET " + key); got != "1" {
		t.Errorf("after the abort: %s", got)
	}
	before, began := c.bucket.reads.Load(), time.Now()
	for time.Since(began) < 10*readGap {
		n.hint()
	}
	if reads, most := c.bucket.reads.Load()-before, 3+int64(time.Since(began)/firstRetry); reads > most {
		t.Errorf("%d readings in %v without a chance", reads, time.Since(began))
	}
}

// TestTheLogIsNotToldTheSameAtEveryTry: while the bucket was away the log had a line
// every two seconds.
func TestTheLogIsNotToldTheSameAtEveryTry(t *testing.T) {
	var told trouble
	now := time.Unix(0, 0)
	for i, step := range []struct {
		err   string
		after time.Duration
		news  bool
	}{
		{"away", 0, true},
		{"away", 2 * time.Second, false},
		{"denied", 2 * time.Second, true},
		{"denied", 59 * time.Second, false},
		{"denied", time.Second, true},
	} {
		now = now.Add(step.after)
		if got := told.news(errors.New(step.err), now); got != step.news {
			t.Errorf("step %d, %s: news: %v", i, step.err, got)
		}
	}
	if !told.over() || told.over() {
		t.Error("it is over once")
	}
	if !told.news(errors.New("denied"), now) {
		t.Error("after it was over, the same is news")
	}
}
