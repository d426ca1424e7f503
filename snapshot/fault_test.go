package snapshot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// life is what a node does with its snapshots, each step once; a step that failed
// can be taken again.
var life = []struct {
	name string
	step func(ctx context.Context, s *Store) error
}{
	{"claim", func(ctx context.Context, s *Store) error { return second(s.Claim(ctx, testCluster, 4)) }},
	{"first", func(ctx context.Context, s *Store) error { return once(ctx, s, 1, content{}, content{"a", "b"}) }},
	{"archive", func(ctx context.Context, s *Store) error {
		return second(s.Archive(ctx, LogPiece{From: 1, To: 2}, []byte("log")))
	}},
	{"second", func(ctx context.Context, s *Store) error {
		return once(ctx, s, 2, content{"a", "b"}, content{"a", "c"})
	}},
	{"verified", func(ctx context.Context, s *Store) error { return s.MarkVerified(ctx, 2, 5) }},
	{"prune", func(ctx context.Context, s *Store) error {
		return second(s.Prune(ctx, PruneOptions{Keep: 1, Now: longAgo}))
	}},
}

// once publishes a snapshot unless that has happened.
func once(ctx context.Context, s *Store, sequence uint64, was, is content) error {
	h, err := s.Head(ctx)
	if err != nil || h.Sequence() >= sequence {
		return err
	}
	m, err := snapshotOf(ctx, s, currentOrNone(ctx, s), was, is, 1)
	if err != nil {
		return err
	}
	m.Log = h.Log
	return second(s.Publish(ctx, m))
}

func currentOrNone(ctx context.Context, s *Store) Manifest {
	m, _ := s.Current(ctx)
	return m
}

// expectLife checks what has to be left of a life.
func expectLife(t *testing.T, b bucket.Bucket) {
	t.Helper()
	s := storeOn(t, b)
	h, err := s.Head(t.Context())
	must(t, err)
	if len(h.Snapshots) != 1 || h.Sequence() != 2 || !h.Snapshots[0].Verified || len(h.Condemned) != 0 || len(h.Log) != 0 {
		t.Fatalf("the head is %+v", h)
	}
	m, err := s.Current(t.Context())
	must(t, err)
	expectContent(t, s, m, content{"a", "c"})
	if len(m.Log) != 1 {
		t.Errorf("the manifest has %v", m.Log)
	}
}

var errBroken = errors.New("this store is broken")

// faultsOf returns what can become of a call, and whether the call has to succeed
// in the end without anybody's doing.
func faultsOf(method string) map[string]struct {
	fault    buckettest.Fault
	survives bool
} {
	type f = struct {
		fault    buckettest.Fault
		survives bool
	}
	faults := map[string]f{"busy": {buckettest.Busy(), true}, "broken": {buckettest.Fault{Before: errBroken}, false}}
	if strings.HasPrefix(method, "Put") || method == "Delete" {
		faults["reply lost"] = f{buckettest.LoseReply(), true}
		faults["request lost"] = f{buckettest.LoseRequest(), true}
		faults["broken after all"] = f{buckettest.Fault{After: errBroken}, false}
	}
	if strings.HasPrefix(method, "PutIf") {
		faults["conflict"] = f{buckettest.Conflict(), true}
		faults["own conflict"] = f{buckettest.OwnConflict(), true}
	}
	return faults
}

// methodsOfLife returns the methods that a life without faults calls, in order.
func methodsOfLife(t *testing.T) (methods []string) {
	b := buckettest.NewFaulty(buckettest.NewMemory(), func(op buckettest.Op) buckettest.Fault {
		methods = append(methods, op.Method)
		return buckettest.Fault{}
	})
	s := storeOn(t, b)
	for _, l := range life {
		must(t, l.step(t.Context(), s))
	}
	expectLife(t, b)
	return methods
}

func TestALifeSurvivesEveryFaultOfTheBucket(t *testing.T) {
	methods := methodsOfLife(t)
	if len(methods) < 30 {
		t.Fatalf("a life of %d calls proves little", len(methods))
	}
	for n, method := range methods {
		for name, f := range faultsOf(method) {
			t.Run(fmt.Sprintf("%d %s %s", n, method, name), func(t *testing.T) {
				calls := 0
				inner := buckettest.NewMemory()
				b := buckettest.NewFaulty(inner, func(buckettest.Op) buckettest.Fault {
					if calls++; calls == n+1 {
						return f.fault
					}
					return buckettest.Fault{}
				})
				s := storeOn(t, b)
				for _, l := range life {
					err := l.step(t.Context(), s)
					if err == nil {
						continue
					}
					if f.survives || !errors.Is(err, errBroken) {
						t.Fatalf("%s: %v", l.name, err)
					}
					expectWhole(t, inner)
					must(t, l.step(t.Context(), s)) // Who was told of it tries again.
				}
				expectLife(t, inner)
			})
		}
	}
}

// expectWhole checks that every snapshot that the head names can be read.
func expectWhole(t *testing.T, b bucket.Bucket) {
	t.Helper()
	s := storeOn(t, b)
	list, err := s.List(t.Context())
	if errors.Is(err, ErrNoSnapshot) {
		return
	}
	must(t, err)
	for _, k := range list {
		m, err := s.Manifest(t.Context(), k.Sequence)
		must(t, err)
		expectContent(t, s, m, map[uint64]content{1: {"a", "b"}, 2: {"a", "c"}}[k.Sequence])
	}
}

func TestABucketThatStaysAwayIsToldAsSuch(t *testing.T) {
	var away atomic.Bool
	b := buckettest.NewFaulty(buckettest.NewMemory(), func(buckettest.Op) buckettest.Fault {
		if away.Load() {
			return buckettest.Busy()
		}
		return buckettest.Fault{}
	})
	s := claimed(t, b, 4)
	m, err := publish(t.Context(), s, content{}, content{"a", "b"}, 1)
	must(t, err)
	away.Store(true)
	_, head := s.Head(t.Context())
	_, publishing := s.Publish(t.Context(), m)
	_, opening := s.Open(t.Context(), m.Parts[0])
	_, pruning := s.Prune(t.Context(), PruneOptions{Keep: 1})
	for name, err := range map[string]error{"head": head, "publish": publishing, "open": opening, "prune": pruning} {
		if !bucket.IsRetryable(err) {
			t.Errorf("%s: got %v, want something that says: come back later", name, err)
		}
	}
	away.Store(false)
	must(t, second(s.Head(t.Context())))
}

// A reply is lost and the head is as before: that is no proof that the swap will not
// come yet, so an error of the next try must not read as if nothing had been sent.
func TestADoubtIsNotClosedByFindingNothing(t *testing.T) {
	late := make(chan struct{})
	forbidden := errors.New("access denied")
	b := buckettest.NewFaulty(buckettest.NewMemory(), buckettest.InTurn("PutIfMatch", buckettest.Fault{Late: late}, buckettest.Fault{Before: forbidden}))
	s := claimed(t, b, 4)
	m, err := publish(t.Context(), s, content{}, content{"a", "b"}, 1)
	if !errors.Is(err, ErrInDoubt) || !errors.Is(err, forbidden) {
		t.Errorf("got %v, want in doubt, and why", err)
	}
	close(late)
	b.Drain()
	if k, _ := must1(s.Head(t.Context())).Current(); k.Snapshot != m.Snapshot {
		t.Errorf("the current snapshot is %v, want %v, which came late", k.Snapshot, m.Snapshot)
	}
}

func TestASwapThatLandsLateDoesNotPublishTwice(t *testing.T) {
	late := make(chan struct{})
	b := buckettest.NewFaulty(buckettest.NewMemory(), buckettest.InTurn("PutIfMatch", buckettest.Fault{Late: late}))
	s := claimed(t, b, 4)
	m, err := publish(t.Context(), s, content{}, content{"a", "b"}, 1)
	must(t, err) // By a second swap, on the same condition.
	close(late)
	b.Drain()
	h, err := s.Head(t.Context())
	must(t, err)
	if len(h.Snapshots) != 1 || h.Snapshots[0].Snapshot != m.Snapshot || b.Calls("PutIfMatch") != 2 {
		t.Errorf("%d snapshots after %d swaps: %+v", len(h.Snapshots), b.Calls("PutIfMatch"), h.Snapshots)
	}
}

func TestASwapThatHappenedIsRecognisedUnderALaterOne(t *testing.T) {
	inner := buckettest.NewMemory()
	lost := false
	b := buckettest.NewFaulty(inner, func(op buckettest.Op) buckettest.Fault {
		switch {
		case op.Method == "PutIfMatch":
			lost = true
			return buckettest.LoseReply()
		case op.Method == "Get" && lost: // Before anybody has looked, the next incarnation comes.
			lost = false
			claimed(t, inner, 5)
		}
		return buckettest.Fault{}
	})
	s := claimed(t, b, 4)
	m, err := publish(t.Context(), s, content{}, content{"a", "b"}, 1)
	must(t, err)
	k, _ := must1(storeOn(t, inner).Head(t.Context())).Current()
	if k.Snapshot != m.Snapshot {
		t.Errorf("the current snapshot is %v, want %v", k.Snapshot, m.Snapshot)
	}
	_, err = publish(t.Context(), s, content{}, content{"a", "b"}, 1)
	expectFenced(t, "the next snapshot", err)
}

// TestAZombieAtEveryStep lets a new incarnation take over before each call that an
// old one makes, publish a snapshot that shares the old one's parts, and then lets
// the old one go on.
func TestAZombieAtEveryStep(t *testing.T) {
	prune := func(ctx context.Context, s *Store) error {
		return second(s.Prune(ctx, PruneOptions{Keep: 1, Now: longAgo}))
	}
	for name, act := range map[string]func(ctx context.Context, s *Store) error{
		"publish": func(ctx context.Context, s *Store) error {
			return second(publish(ctx, s, content{"a", "c"}, content{"z", "z"}, 1))
		},
		"archive": func(ctx context.Context, s *Store) error {
			return second(s.Archive(ctx, LogPiece{From: 1, To: 2}, []byte("log")))
		},
		"prune": prune,
		"sweep": func(ctx context.Context, s *Store) error {
			return second(s.Sweep(ctx, SweepOptions{Now: time.Now().Add(time.Hour)}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; takeOverAt(t, n, act); n++ {
				if n > 1000 {
					t.Fatal("it never ends")
				}
			}
		})
	}
}

// takeOverAt reports whether the old incarnation made as many as n calls.
func takeOverAt(t *testing.T, n int, act func(ctx context.Context, s *Store) error) bool {
	inner := buckettest.NewMemory()
	seed := claimed(t, inner, 4)
	must(t, second(publish(t.Context(), seed, content{}, content{"a", "b"}, 1)))
	must(t, second(publish(t.Context(), seed, content{"a", "b"}, content{"a", "c"}, 1)))
	must(t, second(snapshotOf(t.Context(), seed, Manifest{}, content{}, content{"or", "phan"}, 1)))

	var taken Head
	calls, deletes, decided := 0, 0, false
	var fresh *Store
	b := buckettest.NewFaulty(inner, func(op buckettest.Op) buckettest.Fault {
		if op.Method == "Delete" {
			deletes++
		}
		if calls++; calls == n {
			decided = deletes > 0 // Past the last look at the head.
			fresh = claimed(t, inner, 5)
			must(t, second(publish(t.Context(), fresh, content{"a", "c"}, content{"a", "new"}, 2)))
			taken = must1(fresh.Head(t.Context()))
		}
		return buckettest.Fault{}
	})
	zombie := storeOn(t, b)
	zombie.claimed, zombie.incarnation = true, 4
	err := act(t.Context(), zombie)
	if fresh == nil {
		must(t, err)
		return false
	}
	h := must1(fresh.Head(t.Context()))
	if h.Counter != taken.Counter || h.Incarnation != 5 {
		t.Fatalf("call %d: the head went on from %d to %d", n, taken.Counter, h.Counter)
	}
	m := must1(fresh.Current(t.Context()))
	for _, k := range h.Snapshots {
		old, err := fresh.Manifest(t.Context(), k.Sequence)
		must(t, err)
		report, err := fresh.Verify(t.Context(), old, VerifyOptions{Level: LevelBlocks})
		must(t, err)
		if len(report.Damage) > 0 {
			t.Fatalf("call %d: snapshot %d: %v", n, k.Sequence, report.Damage)
		}
	}
	expectContent(t, fresh, m, content{"a", "new"})
	if err != nil {
		expectFenced(t, fmt.Sprintf("call %d", n), err)
	}
	if errors.Is(err, ErrInDoubt) {
		t.Errorf("call %d: got %v, but there is no doubt: the condition cannot hold any more", n, err)
	}
	if !decided && deletes > 0 {
		t.Errorf("call %d: %d objects were deleted although the head could have told not to", n, deletes)
	}
	return true
}
