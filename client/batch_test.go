package client

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

func somePairs(n int) (pairs []Pair, keys []string) {
	for i := range n {
		key := "key:" + strconv.Itoa(i)
		pairs = append(pairs, Pair{Key: key, Value: []byte("value of " + key)})
		keys = append(keys, key)
	}
	return pairs, keys
}

func TestManyKeysOverAllNodes(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		pairs, keys := somePairs(5000)
		errs, err := c.MPut(ctx, pairs)
		must(t, err)
		if len(errs) != len(pairs) {
			t.Fatalf("%d errors for %d pairs", len(errs), len(pairs))
		}
		results, err := c.MGet(ctx, append(keys, "nobody")...)
		must(t, err)
		for i, p := range pairs {
			if string(results[i].Value) != string(p.Value) || results[i].Err != nil {
				t.Fatalf("%s: %q, %v", p.Key, results[i].Value, results[i].Err)
			}
		}
		wantIs(t, results[len(pairs)].Err, ErrNotFound)
		n, err := c.Count(ctx)
		must(t, err)
		deleted, err := c.Delete(ctx, append(keys[1000:], "nobody")...)
		must(t, err)
		left, err := c.Count(ctx)
		must(t, err)
		if n != 5000 || deleted != 4000 || left != 1000 {
			t.Errorf("%d keys, %d deleted, %d left", n, deleted, left)
		}
		none, err := c.MGet(ctx)
		if len(none) != 0 || err != nil {
			t.Errorf("MGet of nothing: %v, %v", none, err)
		}
	})
}

func TestManyKeysWithOptions(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		f.Put("key:1", "was here")
		pairs, _ := somePairs(3)
		errs, err := c.MPut(ctx, pairs, IfAbsent(), WithTTL(time.Hour))
		wantIs(t, err, ErrExists)
		var which *KeyError
		if !errors.As(err, &which) || which.Key != "key:1" {
			t.Errorf("got %v", err)
		}
		wantIs(t, errs[1], ErrExists)
		wantValue(t, c, "key:1", "was here")
		wantTTL(t, c, "key:2", time.Hour)
		_, err = c.MPut(ctx, pairs, WithTTL(-1))
		wantIs(t, err, errExpiry)
	})
}

func TestMGetWithOneNodeDown(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		pairs, keys := somePairs(600)
		_, err := c.MPut(ctx, pairs)
		must(t, err)
		dead := fakeAddress(2)
		f.Node(2).Stop()
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		start := time.Now()
		results, err := c.MGet(short, keys...)
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("took %v", d)
		}
		wantIs(t, err, errRefused)
		wantIs(t, err, context.DeadlineExceeded)
		if !strings.Contains(err.Error(), "more keys") || strings.Count(err.Error(), "\n") != shownErrors {
			t.Errorf("the error is no summary:\n%v", err)
		}
		for i, r := range results {
			if c.Owner(keys[i]) == dead {
				wantIs(t, r.Err, errRefused)
			} else if r.Err != nil || string(r.Value) != string(pairs[i].Value) {
				t.Fatalf("%s of a live node: %v", keys[i], r.Err)
			}
		}

		// It comes back in time: nobody sees an error.
		time.AfterFunc(3*time.Second, f.Node(2).Start)
		_, err = c.MGet(ctx, keys...)
		must(t, err)
	})
}

func TestABatchThatBreaksInTheMiddle(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		var seen atomic.Int64
		f.Node(1).Script(func(name string, _ [][]byte) (act fakeAct) {
			if name == "PUT" && seen.Add(1) == 40 || name == "GET" && seen.Add(1) == 40 {
				act.cut = true
			}
			return act
		})
		pairs, keys := somePairs(100)
		errs, err := c.MPut(ctx, pairs)
		wantIs(t, err, ErrOutcomeUnknown)
		for i, err := range errs {
			if i < 39 && err != nil {
				t.Errorf("%s was answered, and is %v", keys[i], err)
			}
			if i >= 39 {
				wantIs(t, err, ErrOutcomeUnknown)
			}
		}
		if n := f.Node(1).Served("PUT"); n != 40 {
			t.Errorf("%d writes served", n)
		}

		seen.Store(0)
		results, err := c.MGet(ctx, keys...)
		must(t, err)
		for i, r := range results {
			if found := r.Err == nil; found != (i < 39) {
				t.Errorf("%s: %v", keys[i], r.Err)
			}
		}
	})
}

func TestABatchDuringAMove(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		pairs, keys := somePairs(2000)
		_, err := c.MPut(ctx, pairs)
		must(t, err)
		after := f.Topology(2, 2) // the third node hands all it has to the others
		f.Publish(after)
		for i := range 2 {
			f.Node(i + 1).Script(failing("GET", 100, protocol.TRYAGAIN))
		}
		results, err := c.MGet(ctx, keys...)
		must(t, err)
		for i, r := range results {
			if string(r.Value) != string(pairs[i].Value) {
				t.Fatalf("%s: %q, %v", keys[i], r.Value, r.Err)
			}
		}
		if s := c.Stats(); s.Redirects == 0 || s.Retries < 200 {
			t.Errorf("%+v", s)
		}
		pass(time.Second)
		if e := c.Topology().Epoch; e != 2 {
			t.Errorf("epoch %s", e)
		}
	})
}

func TestABatchIsAbandoned(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		release := make(chan struct{})
		defer close(release)
		f.Node(2).Script(func(string, [][]byte) fakeAct { return fakeAct{wait: release} })
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		pairs, keys := somePairs(100)
		errs, err := c.MPut(short, pairs)
		wantIs(t, err, context.DeadlineExceeded)
		for i, err := range errs {
			if c.Owner(keys[i]) == fakeAddress(2) {
				wantIs(t, err, ErrOutcomeUnknown)
			} else if err != nil {
				t.Errorf("%s of the good node: %v", keys[i], err)
			}
		}
	})
}

func TestABatchLargerThanItsWindow(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		var pairs []Pair
		var keys []string
		for i := range 64 {
			keys = append(keys, strconv.Itoa(i))
			pairs = append(pairs, Pair{keys[i], bytes.Repeat([]byte{byte(i)}, 70<<10)})
		}
		_, err := c.MPut(ctx, pairs)
		must(t, err)
		results, err := c.MGet(ctx, keys...)
		must(t, err)
		for i := range results {
			if !bytes.Equal(results[i].Value, pairs[i].Value) {
				t.Errorf("value %d differs", i)
			}
		}
	})
}
