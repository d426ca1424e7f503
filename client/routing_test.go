package client

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

func TestKeysGoToTheirOwners(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		for i := range 300 {
			must(t, c.Put(ctx, strconv.Itoa(i), []byte("v")))
		}
		for i := range 3 {
			if n := f.Node(i + 1).Served("PUT"); n < 50 {
				t.Errorf("node %d served %d of 300 writes", i+1, n)
			}
			if open, dials := f.Node(i + 1).Conns(); dials > 2 || open < 1 {
				t.Errorf("node %d: %d connections, %d dials", i+1, open, dials)
			}
		}
		if s := c.Stats(); s.Redirects != 0 || s.Retries != 0 || s.Refreshes != 1 {
			t.Errorf("one hop and one topology: %+v", s)
		}
	})
}

func TestMovedIsFollowedAtOnceAndTheTopologyFetchedOnce(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		before := f.Topology(1, 2)
		key := f.Node(1).KeyOf("k")
		f.Put(key, "v")
		wantValue(t, c, key, "v")
		// Everything goes to the second node.
		after := before
		after.Epoch, after.Nodes = 2, before.Nodes[1:]
		f.Publish(after)

		start := time.Now()
		wantValue(t, c, key, "v")
		if d := time.Since(start); d != 0 {
			t.Errorf("following took %v", d)
		}
		pass(time.Second)
		if e := c.Topology().Epoch; e != 2 {
			t.Errorf("epoch %s after a MOVED of 2", e)
		}
		for range 10 {
			wantValue(t, c, key, "v")
		}
		if s := c.Stats(); s.Redirects != 1 || s.Refreshes != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestARefreshStormIsOneRefresh(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		for epoch := ring.Epoch(2); epoch < 6; epoch++ {
			next := f.Topology(epoch, 3)
			next.Nodes[epoch%3].Tokens = 32 + int(epoch)
			f.Publish(next)
			had := c.Stats().Refreshes
			var all sync.WaitGroup
			for i := range 200 {
				all.Go(func() {
					for j := range 10 {
						c.Get(ctx, strconv.Itoa(i*10+j))
					}
				})
			}
			all.Wait()
			pass(time.Second)
			if n := c.Stats().Refreshes - had; n != 1 {
				t.Errorf("epoch %s: %d topologies fetched", epoch, n)
			}
		}
	})
}

func TestAnUnknownOwnerIsLookedUpBeforeItIsDialled(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		var dialled []string
		var mu sync.Mutex
		c := open(t, ctx, f, WithDialer(func(ctx context.Context, address string) (Conn, error) {
			mu.Lock()
			dialled = append(dialled, address)
			mu.Unlock()
			return f.Dial(ctx, address)
		}))
		f.Add(fakeAddress(2))
		f.Publish(f.Topology(2, 2))
		key := f.Node(2).KeyOf("k")
		f.Put(key, "v")
		wantValue(t, c, key, "v")

		// A node that names a stranger of an epoch that nobody confirms.
		f.Node(1).Script(func(name string, _ [][]byte) (act fakeAct) {
			if name == "GET" {
				act.reply = protocol.AppendError(nil, protocol.Moved(99, "evil:1"))
			}
			return act
		})
		short, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		_, err := c.Get(short, f.Node(1).KeyOf("k"))
		wantIs(t, err, context.DeadlineExceeded)
		var e *ServerError
		if !errors.As(err, &e) || e.Code != protocol.MOVED {
			t.Errorf("the error hides what the node said: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, address := range dialled {
			if address == "evil:1" {
				t.Error("dialled a stranger on a node's word")
			}
		}
	})
}

func TestANodeThatLagsBehindIsWaitedFor(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		after := f.Topology(2, 2)
		after.Nodes = after.Nodes[1:]
		f.Publish(after, fakeAddress(1)) // the second does not know yet that it owns all
		c := open(t, ctx, f)
		key := f.Node(2).KeyOf("k") // of those it owned before, too
		moved := ""
		for i := 0; moved == ""; i++ {
			if k := "m" + strconv.Itoa(i); f.Node(2).owners.Owner(ring.PositionOfString(k)) == fakeAddress(1) {
				moved = k
			}
		}
		f.Put(key, "old")
		f.Put(moved, "new")
		wantValue(t, c, key, "old")
		go func() {
			pass(3 * time.Second)
			f.Publish(after, fakeAddress(2))
		}()
		start := time.Now()
		wantValue(t, c, moved, "new")
		if d := time.Since(start); d < 3*time.Second || d > 3200*time.Millisecond {
			t.Errorf("took %v", d)
		}
		if s := c.Stats(); s.Redirects != 0 {
			t.Errorf("followed a redirect into the past: %+v", s)
		}
	})
}

func TestTheTopologyNeverGoesBack(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.Publish(f.Topology(7, 2), fakeAddress(1))
		c := open(t, ctx, f)
		f.Node(1).Stop() // only the node of epoch 1 is left to ask
		must(t, c.RefreshTopology(ctx))
		if e := c.Topology().Epoch; e != 7 {
			t.Errorf("epoch %s", e)
		}
		other := f.Topology(9, 2)
		other.Cluster = "another"
		f.Publish(other)
		wantIs(t, c.RefreshTopology(ctx), errOtherCluster)
		if e := c.Topology().Epoch; e != 7 {
			t.Errorf("epoch %s", e)
		}
	})
}

func TestSeedsThatAreDeadOrIgnorant(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		f.Node(1).Stop()
		f.Add("fresh:1") // has no topology yet
		dial := WithDialer(f.Dial)
		c, err := Open(ctx, []string{"nowhere:1", fakeAddress(1), "fresh:1", fakeAddress(2)}, dial)
		must(t, err)
		must(t, c.Close())

		start := time.Now()
		_, err = Open(t.Context(), []string{"nowhere:1"}, dial)
		if d := time.Since(start); !errors.Is(err, errRefused) || d != 10*time.Second {
			t.Errorf("no seed answers: %v after %v", err, d)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err = Open(short, []string{"fresh:1"}, dial)
		wantIs(t, err, context.DeadlineExceeded)

		go func() {
			pass(2 * time.Second)
			f.Publish(f.Topology(1, 3), "fresh:1")
		}()
		c, err = Open(ctx, []string{"fresh:1"}, dial)
		must(t, err)
		must(t, c.Close())
	})
}

func TestASeedThatIsNoMemberIsNotHeldOnTo(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		manager := f.Add("manager:7400")
		f.Publish(f.Topology(1, 1))
		c, err := Open(ctx, []string{"manager:7400"}, WithDialer(f.Dial))
		must(t, err)
		defer c.Close()
		wantOpen := func(want int) {
			t.Helper()
			if open, _ := manager.Conns(); open != want {
				t.Errorf("%d connections to the manager, want %d", open, want)
			}
		}
		wantOpen(1)
		pass(time.Minute)
		wantOpen(0)
		_, err = c.Info(ctx, "manager:7400")
		must(t, err)
		wantOpen(1)
	})
}

func TestANodeThatLeftIsLetGoWhenItOwesNothing(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f, WithHealthInterval(time.Hour))
		key := f.Node(2).KeyOf("k")
		f.Put(key, "v")
		release := make(chan struct{})
		f.Node(2).Script(func(string, [][]byte) fakeAct { return fakeAct{wait: release} })
		answer := make(chan error, 1)
		go func() {
			_, err := c.Get(ctx, key)
			answer <- err
		}()
		synctest.Wait()
		left := f.Topology(2, 1)
		f.Publish(left, fakeAddress(1))
		must(t, c.RefreshTopology(ctx))
		if open, _ := f.Node(2).Conns(); open != 1 {
			t.Errorf("%d connections while a reply is owed", open)
		}
		close(release)
		must(t, <-answer)
		pass(2 * time.Hour)
		if open, _ := f.Node(2).Conns(); open != 0 {
			t.Errorf("%d connections to a node that left", open)
		}
	})
}

func TestEndpointsAreWhatIsDialled(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		topology := f.Topology(2, 2)
		topology.Nodes[0].Endpoints = []ring.Endpoint{{Kind: "ws", URL: "wss://one"}}
		f.Publish(topology)
		c := open(t, ctx, f, WithEndpoints(EndpointOfKind("ws")),
			WithDialer(func(ctx context.Context, address string) (Conn, error) {
				switch address {
				case "wss://one", fakeAddress(1): // the seed is dialled as it was given
					return f.Dial(ctx, fakeAddress(1))
				case "wss://two":
					return f.Dial(ctx, fakeAddress(2))
				}
				return nil, errors.New("unreachable from here: " + address)
			}))
		must(t, c.Put(ctx, f.Node(1).KeyOf("k"), nil))
		key := f.Node(2).KeyOf("k")
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		wantIs(t, c.Put(short, key, nil), errNoEndpoint)

		// The node publishes one: the same node is reached by it.
		topology.Nodes[1].Endpoints = []ring.Endpoint{{Kind: "ws", URL: "wss://two"}}
		f.Publish(topology)
		must(t, c.RefreshTopology(ctx))
		must(t, c.Put(ctx, key, nil))
	})
}

func TestNoOwnerYet(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		empty := f.Topology(1, 0)
		f.Publish(empty)
		c := open(t, ctx, f)
		if owner := c.Owner("k"); owner != "" {
			t.Errorf("owner %q in an empty cluster", owner)
		}
		go func() {
			pass(4 * time.Second)
			f.Publish(f.Topology(2, 1))
		}()
		must(t, c.Put(ctx, "k", nil))
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		f.Publish(f.Topology(3, 0))
		must(t, c.RefreshTopology(ctx))
		wantIs(t, c.Put(short, "k", nil), errNoOwner)
	})
}
