package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/keeper"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/snapshot"
)

// quick makes what a restoration waits for short, and the archive prompt.
func quick(c *Config, _ *Seams) {
	c.Times.Poll = 50 * time.Millisecond
	c.Snapshot.ArchiveEvery = 100 * time.Millisecond
	c.Snapshot.Interval = 0   // only when asked
	c.Limits.Value = 64 << 10 // so that segments are as small as they are said to be
}

// with puts several changes together.
func with(changes ...func(*Config, *Seams)) func(*Config, *Seams) {
	return func(c *Config, s *Seams) {
		for _, change := range changes {
			change(c, s)
		}
	}
}

// valueOf is large enough that thousands fill segments of the log.
func valueOf(i int) string { return fmt.Sprint("value ", i, strings.Repeat(".", 300)) }

// fill writes keys.
func (c *testCluster) fill(n *Node, from, to int) {
	c.t.Helper()
	client := dial(c.t, n.Address())
	for i := from; i < to; i += 500 {
		var batch []byte
		for j := i; j < min(i+500, to); j++ {
			batch = protocol.AppendRequestStrings(batch, "SET", fmt.Sprint("key:", j), valueOf(j))
		}
		client.send(string(batch))
		for j := i; j < min(i+500, to); j++ {
			if got := client.reply(); got != "+OK" {
				c.t.Fatalf("SET key:%d: %s", j, got)
			}
		}
	}
}

// has checks that every key is there.
func (c *testCluster) has(n *Node, from, to int) {
	c.t.Helper()
	waitFor(c.t, "the node to serve", func() bool { return n.Ready() == nil })
	client := dial(c.t, n.Address())
	for i := from; i < to; i += 500 {
		var batch []byte
		for j := i; j < min(i+500, to); j++ {
			batch = protocol.AppendRequestStrings(batch, "GET", fmt.Sprint("key:", j))
		}
		client.send(string(batch))
		for j := i; j < min(i+500, to); j++ {
			if got, want := client.reply(), valueOf(j); got != want {
				c.t.Fatalf("key:%d is %q, want %q\n%s", j, got, want, c.logs)
			}
		}
	}
}

// archived waits until the bucket has the whole log.
func (c *testCluster) archived(n *Node) {
	c.t.Helper()
	waitFor(c.t, "the archive", func() bool {
		k := n.keeping()
		return k != nil && k.Status().ArchiveLag == 0 && k.Status().State == "ok"
	})
}

// snapshot takes one through the protocol.
func (c *testCluster) snapshot(n *Node) string {
	c.t.Helper()
	waitFor(c.t, "the claim", func() bool { return n.keeping() != nil && n.keeping().Status().State == "ok" })
	return dial(c.t, n.Address()).do("SNAPSHOT")
}

func TestANodeGoesOnFromItsSnapshotAndWhatIsLeftOfItsLog(t *testing.T) {
	c := newTestCluster(t)
	n := c.serving(quick)
	for round := range 4 {
		c.fill(n, round*3000, (round+1)*3000)
		if got, want := c.snapshot(n), fmt.Sprint(":", round+1); got != want {
			t.Fatalf("SNAPSHOT: %s, want %s\n%s", got, want, c.logs)
		}
	}
	c.fill(n, 12000, 12500)
	if n.store.log.Start() == 0 {
		t.Fatal("the log still has its beginning")
	}
	c.stop(n)
	n = c.mustStart(quick)
	c.ready(n)
	c.has(n, 0, 12500)
	if !strings.Contains(c.logs.String(), "read snapshot 4 of its own folder") {
		t.Errorf("it did not go on from its own snapshot\n%s", c.logs)
	}
	if got := c.snapshot(n); got != ":5" {
		t.Errorf("SNAPSHOT after the restart: %s\n%s", got, c.logs)
	}
	if got := c.snapshot(n); got != ":5" {
		t.Errorf("SNAPSHOT of nothing new: %s\n%s", got, c.logs)
	}
}

func TestALostDiskComesBackFromTheBucket(t *testing.T) {
	for _, snapshots := range []int{0, 1, 3} {
		t.Run(fmt.Sprint(snapshots, " snapshots"), func(t *testing.T) {
			c := newTestCluster(t)
			n := c.serving(quick)
			id := n.identity.ID
			for round := range snapshots {
				c.fill(n, round*1000, (round+1)*1000)
				c.snapshot(n)
			}
			c.fill(n, snapshots*1000, snapshots*1000+500)
			c.archived(n)
			c.stop(n)
			c.disk = vfs.NewMem()
			for again := range 3 { // and it restarts like any other
				n = c.mustStart(quick)
				c.ready(n)
				c.has(n, 0, snapshots*1000+500)
				if n.identity.ID != id || n.identity.Restoring {
					t.Fatalf("start %d: the folder is %+v, want id %s", again, n.identity, id)
				}
				c.stop(n)
			}
		})
	}
}

// lostDisk stops the node and gives the next one an empty disk.
func (c *testCluster) lostDisk(n *Node) {
	c.t.Helper()
	c.stop(n)
	c.disk = vfs.NewMem()
}

func TestAMemberWithoutAnythingInTheBucketIsNotStartedEmpty(t *testing.T) {
	c := newTestCluster(t)
	off := with(quick, func(c *Config, _ *Seams) { c.Snapshot.Archive = keeper.ArchiveOff })
	n := c.serving(off)
	c.fill(n, 0, 10)
	c.lostDisk(n)
	err := c.failure(c.mustStart(off))
	var refused *keeper.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "QUOIT_ALLOW_EMPTY=true") {
		t.Fatalf("it ended with %v", err)
	}
	c.disk = vfs.NewMem()
	n = c.mustStart(with(off, func(c *Config, _ *Seams) { c.AllowEmpty = true }))
	c.ready(n)
	c.fill(n, 100, 110)
	c.stop(n)
	n = c.mustStart(off) // and from then on it is a node like any other
	c.ready(n)
	c.has(n, 100, 110)
	if got := dial(t, n.Address()).do("GET key:1"); got != "(nil)" {
		t.Errorf("key:1 is %q", got)
	}
	if got := c.snapshot(n); got != ":1" {
		t.Errorf("SNAPSHOT: %s", got)
	}
}

func TestTheSnapshotsOfAnotherClusterAreNotTaken(t *testing.T) {
	c := newTestCluster(t)
	n := c.serving(quick)
	c.snapshot(n)
	c.lostDisk(n)
	other, err := snapshot.NewStore(c.bucket, c.address, snapshot.StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := other.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.Cluster, h.Counter = "another", h.Counter+1
	body, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	name, err := snapshot.NodeName(c.address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.bucket.Put(t.Context(), "nodes/"+name+"/head.json", bytes.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
	if err := c.failure(c.mustStart(quick)); !strings.Contains(err.Error(), "are of cluster another") {
		t.Errorf("it ended with %v", err)
	}
}

func TestAnEmptyFolderDoesNotPushAsideANodeThatIsWell(t *testing.T) {
	c := newTestCluster(t)
	first := c.serving(quick)
	c.fill(first, 0, 100)
	c.snapshot(first)
	old := c.disk
	c.disk = vfs.NewMem()
	second := c.mustStart(with(quick, func(cfg *Config, _ *Seams) {
		cfg.Addr, cfg.Advertise = "127.0.0.1:0", first.Address()
	}))
	waitFor(t, "the second to find the first", func() bool {
		err := second.Ready()
		return err != nil && strings.Contains(err.Error(), "another process answers at "+first.Address())
	})
	c.has(first, 0, 100)
	c.archived(first)
	c.disk = old
	c.stop(first)
	c.ready(second) // nobody is there any more
	if second.store.engine.Count() != 100 {
		t.Errorf("it holds %d keys", second.store.engine.Count())
	}
}

// A process that cannot be reached under the node's address, and still runs, ends
// when it has read that another one has taken its place.
func TestWhoeverRanUnderTheNodesNameIsFencedOff(t *testing.T) {
	c := newTestCluster(t)
	first := c.serving(quick)
	c.fill(first, 0, 100)
	c.archived(first)
	c.disk = vfs.NewMem()
	second := c.mustStart(with(quick, func(cfg *Config, s *Seams) {
		cfg.Addr, cfg.Advertise = "127.0.0.1:0", first.Address()
		s.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			if address == first.Address() {
				return nil, errors.New("no route")
			}
			return peer.TCP(ctx, address)
		}
	}))
	var identity *cluster.IdentityError
	if err := c.failure(first); !errors.As(err, &identity) || identity.Subject != "incarnation" {
		t.Errorf("the old process ended with %v", err)
	}
	c.ready(second)
	if second.store.engine.Count() != 100 {
		t.Errorf("it holds %d keys", second.store.engine.Count())
	}
}

// An address that was given up and comes back has a past in the bucket, which is not
// this node's: neither its keys nor the positions of its log.
func TestAnAddressThatWasGivenUpBeginsAnew(t *testing.T) {
	c := newTestCluster(t)
	n := c.serving(quick)
	c.other("10.0.0.9:7401")
	c.fill(n, 0, 1)
	if got := c.snapshot(n); got != ":1" {
		t.Fatalf("SNAPSHOT: %s", got)
	}
	end := n.store.log.Appended()
	c.lostDisk(n)
	c.change(func(d cluster.Document) (cluster.Document, error) { return d.Forget(c.address) })
	n = c.mustStart(quick)
	c.ready(n)
	if start := n.store.log.Start(); start <= end {
		t.Errorf("the new log begins at %s, and the old one ended at %s", start, end)
	}
	if keys := n.store.engine.Recovered().Keys; keys != 0 {
		t.Errorf("%d keys have come back", keys)
	}
	if got := c.snapshot(n); got != ":2" {
		t.Errorf("SNAPSHOT: %s", got)
	}
	c.stop(n)
	n = c.mustStart(quick)
	c.ready(n)
}

func TestTheBucketIsAwayWhileTheNodeServes(t *testing.T) {
	c := newTestCluster(t)
	n := c.serving(quick)
	c.fill(n, 0, 10)
	c.snapshot(n)
	c.bucket.down.Store(true)
	c.fill(n, 10, 20)
	if got := dial(t, n.Address()).do("SNAPSHOT"); !strings.HasPrefix(got, "-UNAVAILABLE no new snapshot:") {
		t.Errorf("SNAPSHOT: %s", got)
	}
	status := dial(t, n.Address()).do("SNAPSHOT STATUS")
	if !strings.Contains(status, `"state":"no snapshot since `) || !strings.Contains(status, "the bucket is not available") {
		t.Errorf("SNAPSHOT STATUS: %s", status)
	}
	if info := dial(t, n.Address()).do("INFO snapshot"); !strings.Contains(info, "snapshot_sequence:1\r\n") || !strings.Contains(info, "snapshot_state:no snapshot since") {
		t.Errorf("INFO: %s", info)
	}
	c.has(n, 0, 20)
	waitFor(t, "the manager to hear of it", func() bool {
		beats := c.manager.heartbeats()
		if len(beats) == 0 {
			return false
		}
		s := beats[len(beats)-1].Snapshot
		return s != nil && s.Sequence == 1 && strings.HasPrefix(s.State, "no snapshot since")
	})
	c.bucket.down.Store(false)
	if got := c.snapshotAfter(n); got != ":2" {
		t.Errorf("SNAPSHOT: %s", got)
	}
}

// snapshotAfter takes a snapshot whatever the state is.
func (c *testCluster) snapshotAfter(n *Node) string { return dial(c.t, n.Address()).do("SNAPSHOT") }

func TestSnapshotTakesOneWord(t *testing.T) {
	c := newTestCluster(t)
	n := c.serving(quick)
	if got := dial(t, n.Address()).do("SNAPSHOT NOW"); got != "-ERR SNAPSHOT takes STATUS or nothing" {
		t.Error(got)
	}
}

func TestALostDiskWaitsForTheBucket(t *testing.T) {
	c := newTestCluster(t)
	n := c.serving(quick)
	c.fill(n, 0, 100)
	c.archived(n)
	c.lostDisk(n)
	c.bucket.down.Store(true)
	n = c.mustStart(quick)
	waitFor(t, "the node to miss the bucket", func() bool {
		err := n.Ready()
		return err != nil && strings.Contains(err.Error(), "the node is looking for what it held: ")
	})
	if got := dial(t, n.Address()).do("GET key:1"); !strings.HasPrefix(got, "-UNAVAILABLE") {
		t.Errorf("meanwhile it answers %s", got)
	}
	c.bucket.down.Store(false)
	c.ready(n)
	c.has(n, 0, 100)
}

// A range that came after the archive's end is not taken for an empty one.
func TestALostDiskThatHadGainedARangeAfterTheArchiveIsRefused(t *testing.T) {
	c := newTestCluster(t)
	off := with(quick, func(c *Config, _ *Seams) { c.Snapshot.Archive = keeper.ArchiveOff })
	n := c.serving(off)
	c.other("10.0.0.9:7401")
	c.fill(n, 0, 1)
	if got := c.snapshot(n); got != ":1" {
		t.Fatalf("SNAPSHOT: %s", got)
	}
	c.lostDisk(n)
	c.change(func(d cluster.Document) (cluster.Document, error) { // as if all that the other one had been sent had come back
		d.Nodes = append([]cluster.Member(nil), d.Nodes...)
		for i := range d.Nodes {
			if d.Nodes[i].Address == c.address {
				d.Nodes[i].Gained = d.Counter + 1
			}
		}
		return d, nil
	})
	n = c.mustStart(off)
	if err := c.failure(n); !strings.Contains(err.Error(), "QUOIT_ALLOW_OLDER_SNAPSHOT=true") {
		t.Fatalf("it ended with %v", err)
	}
	c.stop(n)
	n = c.mustStart(with(off, func(c *Config, _ *Seams) { c.AllowOlder = true }))
	c.ready(n)
	c.stop(n)
	n = c.mustStart(off)
	c.ready(n)
	c.has(n, 0, 1)
}

// TestALostDiskThatHadAPartOfARange: the archive ends while a range is coming, and its move
// comes to its end after that. Who says that the node may go on without has said so for the
// part, too: it refused for ever.
func TestALostDiskThatHadAPartOfARange(t *testing.T) {
	const other = "10.0.0.9:7401"
	c := newTestCluster(t)
	n := c.serving(quick)
	finish := func(ids ...cluster.MoveID) (d cluster.Document) {
		for _, step := range []func(cluster.Document, ...cluster.MoveID) (cluster.Document, error){
			cluster.Document.Commit, cluster.Document.MarkDropped, cluster.Document.MarkActive,
		} {
			d = c.change(func(d cluster.Document) (cluster.Document, error) { return step(d, ids...) })
		}
		return d
	}
	c.follow(n, finish(movesOf(c.other(other))...))
	d := c.change(func(d cluster.Document) (cluster.Document, error) { return d.Leave(other) })
	c.follow(n, d)
	coming := d.Moves[0]
	lsn, err := n.store.engine.Stage(string(coming.ID), coming.Range)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.store.log.SyncTo(lsn); err != nil {
		t.Fatal(err)
	}
	c.archived(n)
	c.lostDisk(n)
	finish(coming.ID)

	n = c.mustStart(quick)
	if err := c.failure(n); !strings.Contains(err.Error(), "QUOIT_ALLOW_OLDER_SNAPSHOT=true") {
		t.Fatalf("it ended with %v", err)
	}
	c.stop(n)
	n = c.mustStart(with(quick, func(c *Config, _ *Seams) { c.AllowOlder = true }))
	c.ready(n)
	c.stop(n)
	n = c.mustStart(quick) // what was said once is enough
	c.ready(n)
}

func movesOf(d cluster.Document) []cluster.MoveID {
	var ids []cluster.MoveID
	for _, m := range d.Moves {
		ids = append(ids, m.ID)
	}
	return ids
}

// It answers what came before it in a batch before it begins, and that must not be
// answered again when it then fails.
func TestAFailedSnapshotRepeatsNoReply(t *testing.T) {
	c := newTestCluster(t)
	n := c.serving(quick)
	c.fill(n, 0, 10)
	c.bucket.down.Store(true)
	conn := dial(t, n.Address())
	conn.send("CLIENT SETNAME a\r\nSNAPSHOT\r\nPING\r\n")
	for _, want := range []string{"+OK", "-UNAVAILABLE no new snapshot:", "+PONG"} {
		if got := conn.reply(); !strings.HasPrefix(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	c.bucket.down.Store(false)
}
