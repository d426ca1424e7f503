package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// TestAnObserverHearsOfEveryKey that is asked for, of whom was asked, and of the way
// there; and once it has gone nothing is noted any more.
func TestAnObserverHearsOfEveryKey(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		var mu sync.Mutex
		var trips []Trip
		c.Observe(func(trip Trip) {
			mu.Lock()
			defer mu.Unlock()
			trips = append(trips, trip)
		})
		take := func() []Trip {
			mu.Lock()
			defer mu.Unlock()
			all := trips
			trips = nil
			slices.SortFunc(all, func(a, b Trip) int { return int(a.Position) - int(b.Position) })
			return all
		}
		key := f.Node(1).KeyOf("k")
		must(t, c.Put(ctx, key, []byte("v")))
		if got := take(); len(got) != 1 || got[0].Command != "PUT" || got[0].Key != key || got[0].Node != fakeAddress(1) || got[0].Err != nil ||
			got[0].Position != ring.PositionOfString(key) || got[0].Redirects+got[0].Retries != 0 {
			t.Errorf("a put: %+v", got)
		}
		moved := f.Topology(2, 2)
		moved.Nodes = moved.Nodes[1:]
		f.Publish(moved)
		wantValue(t, c, key, "v")
		if got := take(); len(got) != 1 || got[0].Command != "GET" || got[0].Node != fakeAddress(2) || got[0].Redirects != 1 || got[0].Retries != 0 {
			t.Errorf("a get of a key that has moved: %+v", got)
		}
		if _, err := c.CompareAndPut(ctx, key, []byte("w"), 1<<40); err == nil {
			t.Fatal("a version that the key never had was the right one")
		}
		if got := take(); len(got) != 1 || got[0].Command != "PUT" || got[0].Err == nil {
			t.Errorf("a refusal: %+v", got)
		}
		if _, err := c.MGet(ctx, key, "other"); err != nil {
			t.Fatal(err)
		}
		got := take()
		if len(got) != 2 || got[0].Command != "GET" || got[0].Node != fakeAddress(2) {
			t.Errorf("two keys at once: %+v", got)
		}
		for _, trip := range got {
			if missing := errors.Is(trip.Err, ErrNotFound); missing != (trip.Key == "other") {
				t.Errorf("of two keys: %+v", trip)
			}
		}
		c.Observe(nil)
		wantValue(t, c, key, "v")
		if got := take(); len(got) != 0 {
			t.Errorf("after it has gone: %+v", got)
		}
	})
}

// TestASourceStandsInForSeeds: the first topology comes from there, and a newer one
// when no node answers; what is sent unasked is used at once, unless it is old.
func TestASourceStandsInForSeeds(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		newest, troubles := f.Topology(1, 1), 2
		source := func(context.Context) (ring.Topology, error) {
			if troubles--; troubles >= 0 {
				return ring.Topology{}, errors.New("not yet")
			}
			return newest, nil
		}
		c, err := Open(ctx, nil, WithDialer(f.Dial), WithSource(source))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		var epochs []ring.Epoch
		for topology := range c.Topologies(ctx) {
			epochs = append(epochs, topology.Epoch)
			switch topology.Epoch {
			case 1:
				f.Node(1).Stop()
				newest = f.Topology(2, 1)
				must(t, c.RefreshTopology(ctx)) // nobody but the source is left
			case 2:
				must(t, c.UseTopology(f.Topology(1, 1)))
				must(t, c.UseTopology(f.Topology(2, 1)))
				must(t, c.UseTopology(f.Topology(3, 2)))
			}
			if topology.Epoch == 3 {
				break
			}
		}
		if !slices.Equal(epochs, []ring.Epoch{1, 2, 3}) {
			t.Errorf("the topologies are those of %v", epochs)
		}
		other := f.Topology(4, 2)
		other.Cluster = "another"
		if err := c.UseTopology(other); err == nil {
			t.Error("one of another cluster was taken")
		}
	})
}
