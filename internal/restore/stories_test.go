package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/restoretest"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// pair is a source that owns the ring and a target that owns nothing.
type pair struct {
	t      *testing.T
	bucket *buckettest.Memory
	clock  *restoretest.Clock
	a, b   *restoretest.Node
	move   *restoretest.Handover
}

// The keys of the stories: two that move, one that stays.
const moving, other, staying = "key:1", "key:3", "key:0"

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t, bucket: buckettest.NewMemory(), clock: restoretest.NewClock()}
	p.a = restoretest.Boot(t, p.bucket, p.clock, "10.0.0.1:7401", 1)
	p.b = restoretest.Boot(t, p.bucket, p.clock, "10.0.0.2:7401", 2)
	t.Cleanup(func() { p.a.Stop(); p.b.Stop() })
	must(t, p.a.SetOwnership([]ring.Range{restoretest.WholeRing}))
	must(t, p.b.SetOwnership(nil))
	at := ring.PositionOfString(staying)
	p.move = &restoretest.Handover{ID: "m1", Range: ring.Range{Start: at, End: at - 1}, Source: p.a, Target: p.b} // all but one key's position
	for _, key := range []string{moving, other, staying} {
		p.a.Put(key, "first")
	}
	p.later()
	return p
}

// later lets a second pass and returns the moment before.
func (p *pair) later() int64 { return p.clock.Add(1000) - 1000 }

func (p *pair) archive() {
	p.a.Archive()
	p.b.Archive()
}

// newest opens the newest state.
func (p *pair) open(at int64) *Moment {
	p.t.Helper()
	m, err := Open(p.t.Context(), p.bucket, Options{At: at, Now: func() time.Time { return time.UnixMilli(p.clock.Now()) }})
	must(p.t, err)
	return m
}

// want checks what a moment has, "key=value" in order.
func (p *pair) want(at int64, exact bool, want ...string) *Moment {
	p.t.Helper()
	m := p.open(at)
	var got []string
	for key, value := range contents(p.t, m) {
		got = append(got, key+"="+value)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		p.t.Errorf("as of %d: got %v, want %v", at, got, want)
	}
	if m.Exact() != exact {
		p.t.Errorf("as of %d: exact is %v: %v", at, m.Exact(), m.Gaps())
	}
	return m
}

// document writes a cluster document whose owners are these, by address.
func (p *pair) document(change func(cluster.Document) cluster.Document) {
	p.t.Helper()
	s := cluster.NewStore(p.bucket, cluster.StoreOptions{})
	d, err := cluster.New(restoretest.Cluster)
	must(p.t, err)
	if _, err := s.Create(p.t.Context(), d); err != nil && !errors.Is(err, cluster.ErrExists) {
		p.t.Fatal(err)
	}
	_, err = s.Update(p.t.Context(), func(d cluster.Document) (cluster.Document, error) {
		d.Incarnations = 9
		return change(d), nil
	})
	must(p.t, err)
}

// member is a member that owns everything if it is the only one.
func member(address string, incarnation uint64) cluster.Member {
	return cluster.Member{
		Address: address, ID: cluster.NodeID("id-" + fmt.Sprint(incarnation)), Incarnation: cluster.Incarnation(incarnation), Since: 1,
		Tokens: 1, State: cluster.Active,
	}
}

func TestAMoveThatWentWellIsTakenFromItsTarget(t *testing.T) {
	p := newPair(t)
	before := p.later()
	p.move.ToTheEnd()
	p.later()
	p.b.Put(moving, "second")
	p.b.Delete(other)
	p.later()
	p.archive()
	p.want(0, true, moving+"=second", staying+"=first")
	p.a.Put(staying, "to reach further")
	p.archive()
	p.want(before, true, moving+"=first", other+"=first", staying+"=first")
}

// The target has finished, and its archive lags: what the source had handed over is
// there, and what the target wrote since is told to be missing.
func TestAMoveWhoseTargetHasNotArchivedYetLosesNoKey(t *testing.T) {
	p := newPair(t)
	p.move.ToTheEnd()
	p.later()
	p.b.Put(moving, "second")
	p.a.Archive()
	m := p.want(0, false, moving+"=first", other+"=first", staying+"=first")
	g := m.Gaps()[0]
	if g.Kind != GapOwner || g.Node != p.a.Address || g.From != startedAt || !g.Range.Contains(ring.PositionOfString(moving)) || g.Range.Contains(ring.PositionOfString(staying)) {
		t.Errorf("the gap is %+v", g)
	}
	p.b.Archive()
	p.want(0, true, moving+"=second", other+"=first", staying+"=first")
}

// The source's wipe is archived and a snapshot taken since; of the target nothing is.
func TestASnapshotRightAfterTheHandoverDoesNotHideWhatWasHandedOver(t *testing.T) {
	p := newPair(t)
	p.a.Snapshot(nil)
	p.later()
	p.a.Put(moving, "second")
	p.move.ToTheEnd()
	p.later()
	p.a.Snapshot(nil)
	p.want(0, false, moving+"=second", other+"=first", staying+"=first")
}

// Everything is at the target, and nobody has committed: both have the same.
func TestAMoveThatIsCompleteAndNotCommittedCountsOnce(t *testing.T) {
	p := newPair(t)
	p.move.Stage()
	p.move.Copy()
	p.a.Delete(other)
	p.move.Seal()
	p.move.Complete()
	p.archive()
	p.want(0, false, moving+"=first", staying+"=first") // without a document nobody knows who serves
	p.document(func(d cluster.Document) cluster.Document {
		d.Nodes = []cluster.Member{member(p.a.Address, 1)}
		d.Epoch++
		return d
	})
	if m := p.open(0); len(m.Gaps()) == 0 {
		t.Error("the document has the source own what the target's records have, and nothing says so")
	}
}

// A move is aborted when the target had everything, and what the source wrote and deleted
// since is what counts, also while the target's archive knows nothing of the abort.
func TestAnAbortedMoveLeavesTheSourceInCharge(t *testing.T) {
	for name, targetKnows := range map[string]bool{"the target's archive has the abort": true, "the target's archive ends before": false} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.move.Stage()
			p.move.Copy()
			p.move.Seal()
			p.move.Complete()
			p.b.Archive()
			p.move.Abort()
			p.later()
			p.a.Put(moving, "second")
			p.a.Delete(other)
			p.a.Archive()
			if targetKnows {
				p.b.Archive()
			}
			p.want(0, true, moving+"=second", staying+"=first")
			p.a.Snapshot(nil)
			p.want(0, true, moving+"=second", staying+"=first")
		})
	}
}

// A node that was removed long ago has old copies in the bucket, and its keys are not
// taken from there.
func TestANodeThatLeftLongAgoBringsNothingBack(t *testing.T) {
	p := newPair(t)
	p.a.Snapshot(nil) // the last that the bucket has of it
	p.move.Range = restoretest.WholeRing
	p.move.ToTheEnd()
	p.later()
	p.b.Delete(moving)
	p.b.Put(other, "second")
	p.b.Archive()
	p.want(0, true, other+"=second", staying+"=first")
	p.b.Snapshot(nil)
	p.want(0, true, other+"=second", staying+"=first")
}

// A node leaves, and comes back to its address with an empty disk: its log begins anew.
func TestANodeThatIsAddedAgainBeginsANewLife(t *testing.T) {
	for name, archived := range map[string]bool{"all of its first life is archived": true, "the end of it is not": false} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.a.Snapshot(nil)
			p.move.Range = restoretest.WholeRing
			p.move.ToTheEnd()
			if archived {
				p.a.Archive()
			}
			p.later()
			p.b.Delete(other)
			p.b.Put(moving, "second")
			p.a.Stop()
			p.a = restoretest.Boot(t, p.bucket, p.clock, p.a.Address, 3)
			must(t, p.a.SetOwnership(nil))
			back := &restoretest.Handover{ID: "m2", Range: ring.Range{Start: 1 << 30, End: 1 << 31}, Source: p.b, Target: p.a}
			back.ToTheEnd()
			p.later()
			at := p.later()
			p.a.Put(moving, "third")
			p.archive()
			p.want(0, true, moving+"=third", staying+"=first")
			p.a.Snapshot(nil)
			p.want(0, true, moving+"=third", staying+"=first")
			p.b.Put(staying, "later")
			p.b.Snapshot(nil)
			p.archive()
			p.want(at, true, moving+"=second", staying+"=first")
		})
	}
}

// A node is lost and forgotten; who got its range began with nothing. The keys that were
// given up come back with a restore, and that is told; what was written since counts.
func TestWhatAForgottenNodeHadIsTold(t *testing.T) {
	p := newPair(t)
	p.a.Snapshot(nil)
	p.later()
	must(t, p.b.SetOwnership([]ring.Range{restoretest.WholeRing}))
	p.b.Put(moving, "second")
	p.b.Archive()
	p.document(func(d cluster.Document) cluster.Document {
		d.Nodes = []cluster.Member{member(p.b.Address, 2)}
		d.Epoch++
		return d
	})
	m := p.want(0, false, moving+"=second", other+"=first", staying+"=first")
	if g := m.Gaps()[0]; g.Node != p.b.Address || !strings.Contains(g.Reason, "forgotten") || !strings.Contains(g.Reason, p.a.Address) {
		t.Errorf("the gap is %s", g)
	}
	p.b.Snapshot(nil) // From now on its records say that it owns all of it.
	p.want(0, true, moving+"=second")
}

func TestAMemberWithoutAnythingInTheBucketIsTold(t *testing.T) {
	p := newPair(t)
	p.a.Archive()
	p.document(func(d cluster.Document) cluster.Document {
		d.Nodes = []cluster.Member{member(p.a.Address, 1), member("10.0.0.9:7401", 9)}
		d.Epoch++
		return d
	})
	m := p.want(0, false, moving+"=first", other+"=first", staying+"=first")
	if g := m.Gaps()[0]; g.Kind != GapNothing || g.Node != "10.0.0.9:7401" || g.Range == (ring.Range{}) {
		t.Errorf("the gap is %+v", g)
	}
	at := p.later()
	p.a.Put(staying, "second")
	p.a.Archive()
	m = p.want(at, false, moving+"=first", other+"=first", staying+"=first")
	if g := m.Gaps()[0]; g.Kind != GapNothing || g.Node != "10.0.0.9:7401" || g.To != at {
		t.Errorf("the gap is %+v", g)
	}
}

func TestAMomentBehindTheArchivesEndIsTold(t *testing.T) {
	p := newPair(t)
	p.archive()
	m := p.want(p.clock.Now(), false, moving+"=first", other+"=first", staying+"=first")
	g := m.Gaps()[0]
	if g.Kind != GapEnd || g.From != p.clock.Now()-1 || g.To != p.clock.Now() {
		t.Errorf("the gap is %+v", g)
	}
}

// TestAnIdleNodeIsToldFromOneThatLags: that a node had written nothing since its last
// piece of log could not be told from an archive that lagged.
func TestAnIdleNodeIsToldFromOneThatLags(t *testing.T) {
	p := newPair(t)
	first := []string{moving + "=first", other + "=first", staying + "=first"}
	p.later()
	p.archive()
	archived := p.clock.Now() - 1
	p.want(archived, true, first...) // a second after the last write
	p.later()
	p.want(p.clock.Now()-1, false, first...)

	p.a.Vouch()
	p.b.Vouch()
	vouched := p.clock.Now() - 1
	p.want(vouched, true, first...)
	p.a.Put(staying, "second")
	p.want(vouched, true, first...)
	p.later()
	m := p.want(p.clock.Now()-1, false, first...)
	if g := m.Gaps()[0]; g.Kind != GapEnd || g.Node != p.a.Address || g.From != vouched {
		t.Errorf("the gap is %+v", g)
	}
	p.a.Archive()
	p.want(vouched, true, first...)
	p.want(p.clock.Now()-1, true, moving+"=first", other+"=first", staying+"=second")

	// What was said holds when the pieces have gone into a snapshot's manifest, and when a
	// piece is missing it does not.
	p.later()
	p.a.Snapshot(nil)
	p.want(vouched, true, first...)
	p.a.Put(staying, "third")
	p.a.Archive()
	p.later()
	p.a.Vouch()
	p.b.Vouch()
	p.want(p.clock.Now()-1, true, moving+"=first", other+"=first", staying+"=third")
	h, err := p.a.Store.Head(t.Context())
	must(t, err)
	must(t, p.bucket.Delete(t.Context(), h.Log[len(h.Log)-1].Key))
	if m := p.open(p.clock.Now() - 1); m.Exact() {
		t.Error("a piece of log is gone, and the moment is exact")
	}
}

func TestAMomentBeforeTheOldestSnapshotIsTold(t *testing.T) {
	p := newPair(t)
	at := p.later()
	for i := range 4 {
		p.a.Put(moving, fmt.Sprint("later ", i))
		p.later()
		p.a.Snapshot(nil)
	}
	_, err := p.a.Store.Prune(t.Context(), snapshot.PruneOptions{Keep: 2, Now: time.UnixMilli(p.clock.Now())})
	must(t, err)
	m := p.want(at, false)
	if g := m.Gaps()[0]; g.Kind != GapNothing || g.Node != p.a.Address || !strings.Contains(g.Reason, "oldest") {
		t.Errorf("the gap is %+v", g)
	}
}

func TestExpiryIsAsOfTheMoment(t *testing.T) {
	p := newPair(t)
	p.a.PutUntil("short", "lived", p.clock.Now()+500)
	while := p.clock.Add(100)
	after := p.clock.Add(1000)
	p.a.Tick(1000)
	p.later()
	p.a.Put(staying, "second")
	p.archive()
	p.want(while, true, moving+"=first", other+"=first", staying+"=first", "short=lived")
	p.want(after, true, moving+"=first", other+"=first", staying+"=first")
	p.want(0, true, moving+"=first", other+"=first", staying+"=second")
}

// spoil changes an object, or removes it.
func spoil(t *testing.T, b bucket.Bucket, key string, remove bool) {
	t.Helper()
	o, err := b.Get(t.Context(), key)
	must(t, err)
	must(t, b.Delete(t.Context(), key))
	if !remove {
		o.Body[len(o.Body)/2] ^= 1
		_, err = b.Put(t.Context(), key, strings.NewReader(string(o.Body)), int64(len(o.Body)))
		must(t, err)
	}
}

// A manifest that is damaged gives way to the snapshot before it, and what cannot be
// known without it is told.
func TestADamagedManifestGivesWayToTheSnapshotBefore(t *testing.T) {
	p := newPair(t)
	p.a.Snapshot(nil)
	p.a.Put(moving, "second")
	p.a.Archive()
	p.a.Snapshot(nil)
	p.later()
	h, err := p.a.Store.Head(t.Context())
	must(t, err)
	spoil(t, p.bucket, h.Snapshots[1].Manifest, false)
	// Here the list of the pieces between the two is gone with it.
	m := p.want(0, false, moving+"=first", other+"=first", staying+"=first")
	for _, g := range m.Gaps() {
		if g.Node != p.a.Address || !strings.Contains(g.Reason, h.Snapshots[1].Manifest) {
			t.Errorf("gap %s", g)
		}
	}
	if n := len(m.Gaps()); n != 2 || m.Gaps()[0].Kind != GapSnapshot || m.Gaps()[1].Kind != GapLog {
		t.Errorf("gaps %v", m.Gaps())
	}
}

// Nothing was written between the two.
func TestADamagedManifestOfAnIdleNodeCostsNothing(t *testing.T) {
	p := newPair(t)
	p.a.Snapshot(nil)
	p.later()
	p.a.Snapshot(nil)
	h, err := p.a.Store.Head(t.Context())
	must(t, err)
	spoil(t, p.bucket, h.Snapshots[1].Manifest, true)
	m := p.want(0, true, moving+"=first", other+"=first", staying+"=first")
	if len(m.Gaps()) != 1 || !m.Gaps()[0].Harmless() || m.Gaps()[0].Sequence != 2 {
		t.Errorf("gaps %v", m.Gaps())
	}
}

func TestALostPieceOfLogEndsTheNodesHistoryThere(t *testing.T) {
	for _, remove := range []bool{true, false} {
		p := newPair(t)
		p.a.Archive()
		p.later()
		p.a.Put(moving, "second")
		p.a.Archive()
		p.later()
		p.a.Put(moving, "third")
		p.a.Archive()
		h, err := p.a.Store.Head(t.Context())
		must(t, err)
		spoil(t, p.bucket, h.Log[1].Key, remove)
		m := p.want(0, false, moving+"=first", other+"=first", staying+"=first")
		if g := m.Gaps()[0]; g.Kind != GapLog || g.From != startedAt || !strings.Contains(g.Reason, h.Log[1].Key) {
			t.Errorf("the gap is %+v", g)
		}
	}
}

func TestALostPartIsAnErrorThatNamesIt(t *testing.T) {
	for _, remove := range []bool{true, false} {
		p := newPair(t)
		s := p.a.Snapshot(nil)
		spoil(t, p.bucket, s.Parts[0].Key, remove)
		err := p.open(0).Scan(t.Context(), 2, func(int, snapshot.Entry) error { return nil })
		if err == nil || !strings.Contains(err.Error(), s.Parts[0].Key) || !strings.Contains(err.Error(), p.a.Address) {
			t.Errorf("got %v", err)
		}
	}
}

func TestBucketsThatHoldNothingOrTwoClustersAreRefused(t *testing.T) {
	b := buckettest.NewMemory()
	if _, err := Open(t.Context(), b, Options{}); !errors.Is(err, ErrEmpty) {
		t.Errorf("an empty one: %v", err)
	}
	p := newPair(t)
	p.archive()
	s, err := snapshot.NewStore(p.bucket, "10.0.0.7:7401", snapshot.StoreOptions{})
	must(t, err)
	_, err = s.Claim(t.Context(), "another", 1)
	must(t, err)
	if _, err := Open(t.Context(), p.bucket, Options{}); err == nil || !strings.Contains(err.Error(), "another") {
		t.Errorf("two clusters: %v", err)
	}
}

func TestABucketThatCannotBeReadIsAnError(t *testing.T) {
	p := newPair(t)
	p.archive()
	failed := errors.New("the disk is on fire")
	b := buckettest.NewFaulty(p.bucket, func(op buckettest.Op) buckettest.Fault {
		if strings.Contains(op.Key, "/log/") {
			return buckettest.Fault{Before: failed}
		}
		return buckettest.Fault{}
	})
	if _, err := Open(context.Background(), b, Options{}); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
}

// The same over an object store.
func TestRestoringFromAnObjectStore(t *testing.T) {
	s := buckettest.NewFakeS3(t)
	b := s.Open(t, "cluster")
	clock := restoretest.NewClock()
	a := restoretest.Boot(t, b, clock, "10.0.0.1:7401", 1)
	defer a.Stop()
	must(t, a.SetOwnership([]ring.Range{restoretest.WholeRing}))
	for i := range 500 {
		a.Put(fmt.Sprint("key:", i), "value")
	}
	clock.Add(10)
	a.Snapshot(nil)
	a.Delete("key:7")
	a.Archive()
	m, err := Open(t.Context(), b, Options{})
	must(t, err)
	if n := len(contents(t, m)); n != 499 || !m.Exact() {
		t.Errorf("%d keys, %v", n, m.Gaps())
	}
	if _, err := m.Key(t.Context(), []byte("key:7")); !errors.Is(err, ErrNoKey) {
		t.Errorf("a deleted key: %v", err)
	}
}
