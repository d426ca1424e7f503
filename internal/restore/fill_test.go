package restore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/local"
	"github.com/quoitdb/quoit/internal/restoretest"
	"github.com/quoitdb/quoit/node"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// startCluster starts nodes to restore into, and a client.
func startCluster(t testing.TB, nodes int) *client.Client {
	t.Helper()
	config, err := node.LoadConfig(map[string]string{"QUOIT_FSYNC": "never", "QUOIT_NODE_TOKENS": "8", "QUOIT_NODE_DATA": "-", "QUOIT_BUCKET": "-"})
	must(t, err)
	c, err := local.Start(t.Context(), local.Options{Dir: t.TempDir(), Nodes: nodes, Port: -1, Node: &config})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close(context.WithoutCancel(t.Context()))) })
	db, err := client.Open(t.Context(), []string{c.Manager()})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

// filled is a bucket with so many keys.
func filled(t *testing.T, keys int) *buckettest.Memory {
	t.Helper()
	b := buckettest.NewMemory()
	clock := restoretest.NewClock()
	a := restoretest.Boot(t, b, clock, "10.0.0.1:7401", 1)
	defer a.Stop()
	must(t, a.SetOwnership([]ring.Range{restoretest.WholeRing}))
	for i := range keys {
		a.Put(fmt.Sprint("key:", i), fmt.Sprint("value ", i))
	}
	a.Bits = 2
	a.Snapshot(nil)
	return b
}

func open(t *testing.T, b bucket.Bucket) *Moment {
	t.Helper()
	m, err := Open(t.Context(), b, Options{})
	must(t, err)
	return m
}

// failAfter is a context that ends when so many keys have been written.
func failAfter(t *testing.T, keys int64) (context.Context, func(Phase, int64)) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	var n atomic.Int64
	return ctx, func(_ Phase, k int64) {
		if n.Add(k) >= keys {
			cancel()
		}
	}
}

func TestARestoreThatBrokeOffGoesOn(t *testing.T) {
	const keys = 20_000
	b, db := filled(t, keys), startCluster(t, 2)
	ctx, report := failAfter(t, keys/2)
	first, err := Fill(ctx, open(t, b), db, FillOptions{Workers: 2, Report: report})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if _, err := db.Get(t.Context(), ProgressKey); err != nil {
		t.Fatalf("there is no note of it: %v", err)
	}
	second, err := Fill(t.Context(), open(t, b), db, FillOptions{Check: true})
	must(t, err)
	if !second.Resumed || second.Keys != keys || second.Checked != keys || second.Written == 0 || second.Written >= keys {
		t.Errorf("the first run: %+v, the second: %+v", first, second)
	}
	if n, err := db.Count(t.Context()); err != nil || n != keys {
		t.Errorf("%d keys, %v", n, err)
	}
}

// Units that were never begun are not done: a restore that took them for done would
// remove the note that it needs to go on.
func TestUnitsLeftOutBecauseTheContextEndedAreNotDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := &filling{m: open(t, filled(t, 10)), o: FillOptions{Workers: 1}}
	calls := 0
	err := f.each(ctx, func(context.Context, int) error {
		calls++
		return nil
	})
	if !errors.Is(err, context.Canceled) || calls != 0 {
		t.Errorf("got %v after %d of %d units", err, calls, f.m.Units())
	}
}

func TestAnotherRestoreIsNotMixedInWithOneThatBrokeOff(t *testing.T) {
	db := startCluster(t, 1)
	ctx, report := failAfter(t, 1000)
	if _, err := Fill(ctx, open(t, filled(t, 5000)), db, FillOptions{Report: report}); err == nil {
		t.Fatal("it did not break off")
	}
	if _, err := Fill(t.Context(), open(t, filled(t, 10)), db, FillOptions{IntoNonempty: true}); !errors.Is(err, ErrOtherRestore) {
		t.Errorf("got %v", err)
	}
}

func TestAClusterThatHoldsKeysIsRefused(t *testing.T) {
	db := startCluster(t, 1)
	must(t, db.Put(t.Context(), "own", []byte("value")))
	m := open(t, filled(t, 100))
	if _, err := Fill(t.Context(), m, db, FillOptions{}); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("got %v", err)
	}
	if n, err := db.Count(t.Context()); err != nil || n != 1 {
		t.Errorf("%d keys, %v", n, err)
	}
	_, err := Fill(t.Context(), m, db, FillOptions{IntoNonempty: true, Check: true})
	must(t, err)
	if n, err := db.Count(t.Context()); err != nil || n != 101 {
		t.Errorf("%d keys, %v", n, err)
	}
}

func TestTheClusterOfTheBucketIsRefused(t *testing.T) {
	db := startCluster(t, 1)
	b := buckettest.NewMemory()
	clock := restoretest.NewClock()
	a := restoretest.BootIn(t, b, clock, "10.0.0.1:7401", 1, db.Topology().Cluster)
	defer a.Stop()
	must(t, a.SetOwnership([]ring.Range{restoretest.WholeRing}))
	a.Put("key", "value")
	a.Archive()
	if _, err := Fill(t.Context(), open(t, b), db, FillOptions{}); !errors.Is(err, ErrSameCluster) {
		t.Errorf("got %v", err)
	}
}

// A key that is lost, or changed, on its way is found: by the count, and by --check.
func TestWhatDidNotArriveIsNoticed(t *testing.T) {
	for name, c := range map[string]struct {
		check bool
		spoil func(db *client.Client) error
	}{
		"a key that went away": {false, func(db *client.Client) error {
			_, err := db.Delete(context.Background(), "key:5")
			return err
		}},
		"a value that changed": {true, func(db *client.Client) error {
			return db.Put(context.Background(), "key:5", []byte("another"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			const keys = 1000
			db := startCluster(t, 2)
			var n atomic.Int64
			_, err := Fill(t.Context(), open(t, filled(t, keys)), db, FillOptions{Check: c.check, Report: func(p Phase, k int64) {
				if p == Writing && n.Add(k) == keys {
					if err := c.spoil(db); err != nil {
						t.Error(err)
					}
				}
			}})
			if !errors.Is(err, ErrIncomplete) {
				t.Errorf("got %v", err)
			}
		})
	}
}
