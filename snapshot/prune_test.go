package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
	"pgregory.net/rapid"
)

const hour = int64(time.Hour / time.Millisecond)

// history publishes n snapshots, one each hour before longAgo, each with one half
// changed, and the log between.
func history(t tester, s *Store, n int) {
	t.Helper()
	was := content{}
	for i := range n {
		is := was
		is[i%2] = fmt.Sprint("value ", i)
		if i == 0 {
			is = content{"begin", "begin"}
		}
		ctx := context.Background()
		piece, err := s.Archive(ctx, LogPiece{From: uint64(i), To: uint64(i + 1), FirstMS: int64(i), LastMS: int64(i)}, []byte{byte(i)})
		must(t, err)
		m, err := snapshotOf(ctx, s, currentOrNone(ctx, s), was, is, longAgo.UnixMilli()-int64(n-1-i)*hour)
		must(t, err)
		m.Log = []LogPiece{piece}
		must(t, second(s.Publish(ctx, m)))
		was = is
	}
}

// expectKept checks that the snapshots kept are these and can be read, and returns
// the number of objects in the bucket.
func expectKept(t *testing.T, b bucket.Bucket, want ...uint64) int {
	t.Helper()
	s := storeOn(t, b)
	list, err := s.List(t.Context())
	must(t, err)
	var got []uint64
	for _, k := range list {
		got = append(got, k.Sequence)
		m, err := s.Manifest(t.Context(), k.Sequence)
		must(t, err)
		report, err := s.Verify(t.Context(), m, VerifyOptions{Level: LevelBlocks})
		must(t, err)
		if len(report.Damage) > 0 {
			t.Errorf("snapshot %d: %v", k.Sequence, report.Damage)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("snapshots %v are kept, want %v", got, want)
	}
	return len(objects(t, b))
}

func TestPruningDeletesWhatNothingRefersToAndNothingElse(t *testing.T) {
	b := buckettest.NewMemory()
	s := claimed(t, b, 4)
	history(t, s, 6)
	must(t, s.MarkVerified(t.Context(), 3, 1))
	all := expectKept(t, b, 1, 2, 3, 4, 5, 6)

	o := PruneOptions{Keep: 2, Now: longAgo, Grace: time.Hour, DryRun: true}
	report, err := s.Prune(t.Context(), o)
	must(t, err)
	if len(report.Condemned) != 2 || len(report.Kept) != 4 || expectKept(t, b, 1, 2, 3, 4, 5, 6) != all {
		t.Errorf("a dry run did something, or said something else: %+v", report)
	}
	o.DryRun = false
	report, err = s.Prune(t.Context(), o)
	must(t, err)
	if len(report.Condemned) != 2 || report.Waiting != 2 || len(report.Deleted) != 0 || expectKept(t, b, 3, 4, 5, 6) != all {
		t.Errorf("within the grace: %+v", report)
	}
	o.Now = longAgo.Add(time.Hour)
	o.DryRun = true
	would, err := s.Prune(t.Context(), o)
	must(t, err)
	o.DryRun = false
	report, err = s.Prune(t.Context(), o)
	must(t, err)
	// Two manifests and two pieces of log; the first snapshot's half 1 and half 0 were
	// replaced by the second's half 1 and the third's half 0, which are kept.
	if len(report.Deleted) != 6 || expectKept(t, b, 3, 4, 5, 6) != all-6 || !slices.Equal(would.Deleted, report.Deleted) {
		t.Errorf("after the grace: %d deleted, %d announced: %v", len(report.Deleted), len(would.Deleted), report)
	}
	must(t, s.MarkVerified(t.Context(), 6, 2))
	o.Grace = 0
	report, err = s.Prune(t.Context(), o)
	must(t, err)
	if left := expectKept(t, b, 5, 6); left != 1+2+2+3 {
		t.Errorf("%d objects are left, want the head, two manifests, two pieces of log and three parts: %v", left, slices.Sorted(maps.Keys(objects(t, b))))
	}
	if len(report.Left) > 0 {
		t.Errorf("something was left: %v", report.Left)
	}
}

func TestPruningStopsWhereItDoesNotKnow(t *testing.T) {
	b := buckettest.NewMemory()
	s := claimed(t, b, 4)
	history(t, s, 4)
	list, err := s.List(t.Context())
	must(t, err)
	must(t, b.Delete(t.Context(), list[2].Manifest)) // One that is kept.
	all := len(objects(t, b))
	_, err = s.Prune(t.Context(), PruneOptions{Keep: 2, Now: longAgo})
	if !errors.Is(err, ErrMissing) || len(objects(t, b)) != all {
		t.Errorf("with a kept manifest missing: got %v, and %d objects of %d are left", err, len(objects(t, b)), all)
	}
	_, err = s.Sweep(t.Context(), SweepOptions{Now: time.Now().Add(time.Hour)})
	if !errors.Is(err, ErrMissing) || len(objects(t, b)) != all {
		t.Errorf("sweeping: got %v", err)
	}
}

func TestADamagedManifestThatIsCondemnedLeavesItsParts(t *testing.T) {
	b := buckettest.NewMemory()
	s := claimed(t, b, 4)
	history(t, s, 3)
	list, err := s.List(t.Context())
	must(t, err)
	must(t, second(b.PutIfMatch(t.Context(), list[0].Manifest, []byte("{}"), must1(b.Head(t.Context(), list[0].Manifest)).ETag)))
	report, err := s.Prune(t.Context(), PruneOptions{Keep: 1, Now: longAgo})
	must(t, err)
	if len(report.Left) != 1 {
		t.Errorf("got %+v", report)
	}
	expectKept(t, b, 3)
	h := must1(s.Head(t.Context()))
	if len(h.Condemned) != 0 {
		t.Errorf("still condemned: %v", h.Condemned)
	}
	// What it has left is for Sweep.
	swept, err := s.Sweep(t.Context(), SweepOptions{Now: time.Now().Add(time.Hour), Grace: time.Minute})
	must(t, err)
	if len(swept.Deleted) == 0 {
		t.Errorf("nothing was swept")
	}
	if left := expectKept(t, b, 3); left != 1+1+2+1 {
		t.Errorf("%d objects are left, want head, manifest, two parts and a piece of log", left)
	}
}

func TestSweepingSparesWhatIsYoungAndWhatIsInUse(t *testing.T) {
	b := buckettest.NewMemory()
	s := claimed(t, b, 4)
	history(t, s, 2)
	must(t, second(s.Archive(t.Context(), LogPiece{From: 90, To: 91}, []byte("tail"))))
	must(t, second(s.Prune(t.Context(), PruneOptions{Keep: 1, Now: longAgo, Grace: time.Hour}))) // Condemns one.
	inUse := objects(t, b)
	must(t, second(snapshotOf(t.Context(), s, Manifest{}, content{}, content{"or", "phan"}, 1)))
	report, err := s.Sweep(t.Context(), SweepOptions{Now: time.Now(), Grace: time.Hour})
	must(t, err)
	if len(report.Deleted) != 0 || report.Young != 2 {
		t.Errorf("within the grace: %+v", report)
	}
	late := SweepOptions{Now: time.Now().Add(2 * time.Hour), Grace: time.Hour, DryRun: true}
	report, err = s.Sweep(t.Context(), late)
	must(t, err)
	if len(report.Deleted) != 2 || len(objects(t, b)) != len(inUse)+2 {
		t.Errorf("a dry run: %+v", report)
	}
	late.DryRun = false
	must(t, second(s.Sweep(t.Context(), late)))
	if got := objects(t, b); !maps.Equal(got, inUse) {
		t.Errorf("left are %v, want %v", got, inUse)
	}
}

// TestWhatIsKept checks the rule against its sentences, for any list and any wish.
func TestWhatIsKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []Kept
		created := longAgo.UnixMilli()
		for i := range rapid.IntRange(1, 12).Draw(t, "snapshots") {
			list = append(list, Kept{Sequence: uint64(i + 1), Created: created, Verified: rapid.Bool().Draw(t, "verified")})
			created += rapid.Int64Range(-hour/2, 5*hour).Draw(t, "until the next")
		}
		o := PruneOptions{
			Keep:    rapid.IntRange(0, 14).Draw(t, "keep"),
			KeepFor: time.Duration(rapid.IntRange(0, 40).Draw(t, "hours")) * time.Hour,
			Now:     time.UnixMilli(created),
		}
		from := firstKept(list, o)
		if kept := len(list) - from; kept < min(max(1, o.Keep), len(list)) {
			t.Fatalf("%d are kept of %d", kept, len(list))
		}
		verified := -1
		for i, k := range list {
			if k.Verified {
				verified = i
			}
		}
		if verified >= 0 && from > verified {
			t.Fatalf("the newest verified one, %d, is not kept: %d and newer are", verified, from)
		}
		oldest := o.Now.Add(-o.KeepFor).UnixMilli()
		// Clocks step back, so that an older time need not be an older snapshot.
		if from > 0 && o.KeepFor > 0 && !slices.ContainsFunc(list[from:], func(k Kept) bool { return k.Created <= oldest }) {
			t.Fatalf("the state of %d cannot be restored: none of those kept from %d on is as old", oldest, from)
		}
		if from == 0 || from == verified || len(list)-from == max(1, o.Keep) {
			return
		}
		if o.KeepFor == 0 || list[from+1].Created <= oldest && len(list)-from-1 >= max(1, o.Keep) {
			t.Fatalf("%d is kept for nothing", from)
		}
	})
}

// However many newer ones there are that nobody has verified.
func TestTheNewestVerifiedSnapshotIsSpared(t *testing.T) {
	list := make([]Kept, 6)
	for i := range list {
		list[i] = Kept{Sequence: uint64(i + 1), Created: longAgo.UnixMilli(), Verified: i == 1 || i == 2}
	}
	if from := firstKept(list, PruneOptions{Keep: 1, Now: longAgo}); from != 2 {
		t.Errorf("kept from %d on, want 2, the newest that was verified", from)
	}
}

// TestASnapshotAMinuteLeavesRoomInTheHead: all of a day were kept for restores as of a
// moment, and for another day in their grace. After 1,024 the head was full, no snapshot
// was published any more, and so nothing was pruned either: the log grew for ever. So it
// was 1,024 snapshots after one that somebody had verified.
func TestASnapshotAMinuteLeavesRoomInTheHead(t *testing.T) {
	s := claimed(t, buckettest.NewMemory(), 1)
	o := PruneOptions{Keep: 3, KeepFor: 24 * time.Hour, Now: longAgo, Grace: 24 * time.Hour}
	const left = MaxKept / 2
	must(t, second(s.update(t.Context(), func(h Head) (Head, error) {
		for i := range uint64(MaxKept) {
			h.Snapshots = append(h.Snapshots, Kept{
				Sequence: i + 1, Manifest: s.keys.manifest(i+1, "n"), SHA256: strings.Repeat("0", 64),
				Created: longAgo.UnixMilli() - int64(MaxKept-i), Verified: i == 0,
			})
		}
		return h, nil
	})))
	report, err := s.Prune(t.Context(), o)
	must(t, err)
	h, err := s.Head(t.Context())
	must(t, err)
	if len(h.Snapshots) != left || len(h.Condemned) != MaxKept-left || report.Waiting != MaxKept-left {
		t.Errorf("%d are kept, %d of %d in their grace", len(h.Snapshots), report.Waiting, len(h.Condemned))
	}
	// One more in its grace, and the oldest must go.
	h.Condemned = append(h.Condemned, Condemned{h.Snapshots[0], longAgo.UnixMilli()})
	if due := h.due(o); len(due) != 1 || due[0].Sequence != 1 {
		t.Errorf("to go are %d: %+v", len(due), due)
	}
}

func TestAFullHeadSaysThatItShouldBePruned(t *testing.T) {
	b := buckettest.NewMemory()
	s := claimed(t, b, 4)
	must(t, second(s.update(t.Context(), func(h Head) (Head, error) {
		for i := range uint64(MaxTail) {
			h.Log = append(h.Log, LogPiece{Key: s.keys.log(4, i, i+1), Incarnation: 4, From: i, To: i + 1, Size: 1})
		}
		return h, nil
	})))
	if _, err := s.Archive(t.Context(), LogPiece{From: MaxTail, To: MaxTail + 1}, []byte("x")); !errors.Is(err, ErrLimit) {
		t.Errorf("one piece of log too many: got %v", err)
	}
	history := Head{Cluster: testCluster, Node: testNode, Counter: 1, Nonce: "n", Snapshots: make([]Kept, MaxKept+1)}
	if _, err := history.Encode(); err == nil {
		t.Error("a head with too many snapshots was written")
	}
}
