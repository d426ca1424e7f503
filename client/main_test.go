package client

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// inCluster runs a test against a fake cluster of n nodes, in a bubble where
// time passes only when everybody waits. Nothing may be left running.
func inCluster(t *testing.T, n int, test func(t *testing.T, ctx context.Context, f *FakeCluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := NewFakeCluster(n)
		defer f.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		test(t, ctx, f)
	})
}

// open opens a client of a fake cluster and closes it with the test.
func open(t *testing.T, ctx context.Context, f *FakeCluster, opts ...Option) *Client {
	t.Helper()
	c, err := Open(ctx, []string{fakeAddress(1)}, append([]Option{WithDialer(f.Dial)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pass lets time go by, which in a bubble takes none.
func pass(d time.Duration) { <-time.After(d) }
