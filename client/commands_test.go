package client

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestCommandsDoWhatTheySay(t *testing.T) {
	inCluster(t, 3, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		_, err := c.Get(ctx, "ada")
		wantIs(t, err, ErrNotFound)
		must(t, c.Put(ctx, "ada", []byte("countess")))
		wantValue(t, c, "ada", "countess")
		value, v1, err := c.GetVersion(ctx, "ada")
		must(t, err)
		if string(value) != "countess" || v1 == 0 {
			t.Errorf("GetVersion gave %q and %s", value, v1)
		}

		v2, err := c.CompareAndPut(ctx, "ada", []byte("analyst"), v1)
		must(t, err)
		_, err = c.CompareAndPut(ctx, "ada", []byte("late"), v1)
		var lost *VersionError
		if !errors.As(err, &lost) || lost.Current != v2 {
			t.Errorf("a second writer got %v, the version is %s", err, v2)
		}
		_, err = c.CompareAndPut(ctx, "nobody", []byte("x"), 7)
		if !errors.As(err, &lost) || lost.Current != 0 {
			t.Errorf("no such key: got %v", err)
		}

		wantIs(t, c.Put(ctx, "ada", nil, IfAbsent()), ErrExists)
		wantIs(t, c.Put(ctx, "charles", nil, IfPresent()), ErrNotFound)
		must(t, c.Put(ctx, "charles", []byte{}, IfAbsent()))
		wantValue(t, c, "charles", "")

		_, err = c.Increment(ctx, "count", 40)
		must(t, err)
		sum, err := c.Increment(ctx, "count", 2)
		must(t, err)
		size, err := c.Append(ctx, "count", []byte("!"))
		must(t, err)
		wantValue(t, c, "count", "42!")
		if sum != 42 || size != 3 {
			t.Errorf("sum %d, size %d", sum, size)
		}

		there, err := c.Exists(ctx, "count")
		must(t, err)
		n, err := c.Delete(ctx, "count")
		must(t, err)
		again, err := c.Delete(ctx, "count")
		must(t, err)
		gone, err := c.Exists(ctx, "count")
		must(t, err)
		if !there || n != 1 || again != 0 || gone {
			t.Errorf("exists %v, deleted %d then %d, exists %v", there, n, again, gone)
		}
	})
}

func TestExpiry(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		_, err := c.TTL(ctx, "session")
		wantIs(t, err, ErrNotFound)
		must(t, c.Put(ctx, "session", []byte("s"), WithTTL(90*time.Second)))
		wantTTL(t, c, "session", 90*time.Second)
		must(t, c.Put(ctx, "session", []byte("t"), KeepTTL()))
		wantTTL(t, c, "session", 90*time.Second)
		must(t, c.Put(ctx, "session", []byte("t")))
		wantTTL(t, c, "session", NoExpiry)

		must(t, c.Put(ctx, "session", []byte("u"), WithExpireAt(time.Now().Add(time.Hour))))
		wantTTL(t, c, "session", time.Hour)
		must(t, c.Expire(ctx, "session", time.Minute))
		wantTTL(t, c, "session", time.Minute)
		must(t, c.ExpireAt(ctx, "session", time.Now().Add(time.Second)))
		wantTTL(t, c, "session", time.Second)
		removed, err := c.Persist(ctx, "session")
		must(t, err)
		none, err := c.Persist(ctx, "session")
		must(t, err)
		if !removed || none {
			t.Errorf("Persist reported %v, then %v", removed, none)
		}
		wantIs(t, c.Expire(ctx, "nobody", time.Minute), ErrNotFound)
		wantIs(t, c.Put(ctx, "session", nil, WithTTL(0)), errExpiry)
		wantIs(t, c.Put(ctx, "session", nil, WithTTL(-time.Hour)), errExpiry)
		must(t, c.Put(ctx, "session", nil, WithTTL(time.Nanosecond)))
		wantTTL(t, c, "session", time.Millisecond)
	})
}

func TestRawCommands(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		r, err := c.Do(ctx, "k", "PUT", "k", "v")
		must(t, err)
		if r.Kind != '+' || string(r.Bytes) != "OK" {
			t.Errorf("PUT answered %c %q", r.Kind, r.Bytes)
		}
		r, err = c.Do(ctx, "k", "GETV", "k")
		must(t, err)
		if len(r.Array) != 2 || string(r.Array[0].Bytes) != "v" {
			t.Errorf("GETV answered %v", r)
		}
		_, err = c.Do(ctx, "k", "FROB", "k")
		var e *ServerError
		if !errors.As(err, &e) || e.Code != "ERR" || e.Node != c.Owner("k") {
			t.Errorf("an unknown command: %v", err)
		}
		_, err = c.Do(ctx, "k")
		wantIs(t, err, errNoCommand)

		for _, address := range []string{fakeAddress(1), fakeAddress(2)} {
			info, err := c.Info(ctx, address)
			must(t, err)
			_, err = c.Ping(ctx, address)
			must(t, err)
			if info != "address:"+address {
				t.Errorf("Info(%s) = %q", address, info)
			}
		}
		var stranger *UnknownNodeError
		if _, err := c.Ping(ctx, "n9:7401"); !errors.As(err, &stranger) {
			t.Errorf("Ping of a stranger: %v", err)
		}
		// A node asked on purpose is not replaced by the owner.
		key := f.Node(2).KeyOf("k")
		if _, err := c.DoNode(ctx, fakeAddress(1), "GET", key); !errors.As(err, &e) || e.Code != "MOVED" {
			t.Errorf("GET from the wrong node: %v", err)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	dial := WithDialer(NewFakeCluster(1).Dial)
	for name, opts := range map[string][]Option{
		"no dialer":      {WithDialer(nil)},
		"no endpoints":   {dial, WithEndpoints(nil)},
		"no connections": {dial, WithConnections(0)},
		"too many":       {dial, WithConnections(65)},
		"dial timeout":   {dial, WithDialTimeout(0)},
		"health":         {dial, WithHealthInterval(-1)},
		"budget":         {dial, WithRetryBudget(-1)},
	} {
		if _, err := Open(t.Context(), []string{"n1:7401"}, opts...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Open(t.Context(), nil, dial); err == nil {
		t.Error("no seeds: accepted")
	}
}

func wantIs(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func wantValue(t *testing.T, c *Client, key, want string) {
	t.Helper()
	value, err := c.Get(t.Context(), key)
	if err != nil || string(value) != want || value == nil {
		t.Errorf("%s is %q, %v; want %q", key, value, err, want)
	}
}

func wantTTL(t *testing.T, c *Client, key string, want time.Duration) {
	t.Helper()
	ttl, err := c.TTL(t.Context(), key)
	if err != nil || ttl != want {
		t.Errorf("%s has %v to live, %v; want %v", key, ttl, err, want)
	}
}
