package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/quoitdb/quoit/protocol"
)

func TestRepliesFindTheirCallers(t *testing.T) {
	for _, connections := range []int{1, 3} {
		inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
			c := open(t, ctx, f, WithConnections(connections))
			var all sync.WaitGroup
			for g := range 64 {
				all.Go(func() {
					for i := range 50 {
						text := strings.Repeat(strconv.Itoa(g)+",", i)
						r, err := c.Do(ctx, "k", "ECHO", text)
						if err != nil || string(r.Bytes) != text {
							t.Errorf("asked for %q, got %q, %v", text, r.Bytes, err)
						}
					}
				})
			}
			all.Wait()
			if open, dials := f.Node(1).Conns(); open != 1+connections || dials != open {
				t.Errorf("%d connections, %d dials", open, dials)
			}
		})
	}
}

func TestCallersShareWrites(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		var stream *countingConn
		c := open(t, ctx, f, WithDialer(func(ctx context.Context, address string) (Conn, error) {
			conn, err := f.Dial(ctx, address)
			stream = &countingConn{Conn: conn}
			return stream, err
		}))
		must(t, c.Put(ctx, "k", []byte("v")))
		// The node takes its time with the first: how fast callers come does not matter.
		release := make(chan struct{})
		f.Node(1).Script(func(string, [][]byte) fakeAct { return fakeAct{wait: release} })
		before := stream.writes.Load()
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() { c.Get(ctx, "k") })
		}
		synctest.Wait()
		close(release)
		all.Wait()
		if n := stream.writes.Load() - before; n > 500 {
			t.Errorf("%d writes for 1000 requests", n)
		}
	})
}

// countingConn counts writes.
type countingConn struct {
	Conn
	writes atomic.Int64
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

func TestACallerThatLeavesDisturbsNobody(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f, WithHealthInterval(time.Hour))
		must(t, c.Put(ctx, "k", []byte("v")))
		_, dials := f.Node(1).Conns()
		release := make(chan struct{})
		f.Node(1).Script(func(name string, args [][]byte) (act fakeAct) {
			if name == "ECHO" && string(args[1]) == "slow" {
				act.wait = release
			}
			return act
		})
		var stay sync.WaitGroup
		leaving, leave := context.WithCancel(ctx)
		left := make(chan error, 100)
		for i := range 100 {
			go func() {
				_, err := c.Do(leaving, "k", "ECHO", "slow")
				left <- err
			}()
			stay.Go(func() {
				text := "stay" + strconv.Itoa(i)
				r, err := c.Do(ctx, "k", "ECHO", text)
				if err != nil || string(r.Bytes) != text {
					t.Errorf("asked for %q, got %q, %v", text, r.Bytes, err)
				}
			})
		}
		synctest.Wait()
		leave()
		for range 100 {
			wantIs(t, <-left, context.Canceled)
		}
		close(release)
		stay.Wait()
		if _, now := f.Node(1).Conns(); now != dials {
			t.Error("leaving cost a connection")
		}
		if s := c.Stats(); s.Abandoned != 100 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatAnAbandonedWriteSaysOfItself(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		release := make(chan struct{})
		defer close(release)
		f.Node(1).Script(func(string, [][]byte) fakeAct { return fakeAct{wait: release} })
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		err := c.Put(short, "k", []byte("v"))
		wantIs(t, err, context.DeadlineExceeded)
		wantIs(t, err, ErrOutcomeUnknown)
		if _, err = c.Get(short, "k"); errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("a read has no outcome to be unsure of: %v", err)
		}
		// Ended before it began: nothing was sent.
		err = c.Put(short, "k", []byte("v"))
		wantIs(t, err, context.DeadlineExceeded)
		errs, many := c.MPut(short, []Pair{{Key: "k"}, {Key: "l"}})
		wantIs(t, many, context.DeadlineExceeded)
		if errors.Is(err, ErrOutcomeUnknown) || errors.Is(errs[1], ErrOutcomeUnknown) {
			t.Errorf("writes that never began: %v, %v", err, errs)
		}
	})
}

func TestANodeThatDoesNotReadHoldsItsCallersBack(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		var dials atomic.Int64
		c := open(t, ctx, f, WithHealthInterval(time.Minute), WithDialer(func(ctx context.Context, address string) (Conn, error) {
			if dials.Add(1) != 2 {
				return f.Dial(ctx, address)
			}
			here, _ := net.Pipe() // nobody at the other end
			return here, nil
		}))
		value := bytes.Repeat([]byte("x"), 100<<10)
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() { wantIs(t, c.Put(short, "k"+strconv.Itoa(i), value), context.DeadlineExceeded) })
		}
		synctest.Wait()
		l := c.routing.Load().nodes[fakeAddress(1)].links()[0]
		l.mu.Lock()
		if len(l.out) > maxOut+len(value)+1000 {
			t.Errorf("%d bytes are waiting to be written", len(l.out))
		}
		l.mu.Unlock()
		all.Wait()
		pass(5 * time.Minute) // the link is found dead, and replaced
		must(t, c.Put(ctx, "k", value))
		wantValue(t, c, "k", string(value))
	})
}

func TestCloseEndsEverything(t *testing.T) {
	inCluster(t, 2, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		must(t, c.Put(ctx, "k", []byte("v")))
		release := make(chan struct{})
		defer close(release)
		stuck := func(string, [][]byte) fakeAct { return fakeAct{wait: release} }
		f.Node(1).Script(stuck)
		f.Node(2).Script(stuck)
		results := make(chan error, 5)
		go func() { results <- c.Put(ctx, "k", []byte("w")) }()
		go func() { _, err := c.Get(ctx, "k"); results <- err }()
		go func() { _, err := c.MGet(ctx, "a", "b", "c"); results <- err }()
		go func() { _, err := c.Count(ctx); results <- err }()
		go func() { results <- c.RefreshTopology(ctx) }()
		synctest.Wait()
		must(t, c.Close())
		must(t, c.Close())
		for range 5 {
			wantIs(t, <-results, ErrClosed)
		}
		everyCommand(ctx, c, func(name string, err error) {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("%s after Close: %v", name, err)
			}
		})
		wantIs(t, c.RefreshTopology(ctx), ErrClosed)
		for i := range 2 {
			f.Node(i + 1).Script(nil)
		}
	})
}

func TestCloseWhileDialling(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		var dials atomic.Int64
		late := make(chan struct{})
		c := open(t, ctx, f, WithDialer(func(ctx context.Context, address string) (Conn, error) {
			if dials.Add(1) > 1 {
				<-late // does not even look at its context
			}
			return f.Dial(ctx, address)
		}))
		result := make(chan error, 1)
		go func() { result <- c.Put(ctx, "k", nil) }()
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- c.Close() }()
		synctest.Wait()
		close(late)
		wantIs(t, <-result, ErrClosed)
		must(t, <-closed)
		synctest.Wait()
		if open, _ := f.Node(1).Conns(); open != 0 {
			t.Errorf("%d connections left open", open)
		}
	})
}

func TestCloseWhileWaitingToTryAgain(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		f.Node(1).Stop()
		result := make(chan error, 1)
		go func() { result <- c.Put(ctx, "k", nil) }()
		pass(time.Second)
		must(t, c.Close())
		synctest.Wait()
		wantIs(t, <-result, ErrClosed)
	})
}

func TestLargeValues(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		for _, size := range []int{readBuffer - 8, readBuffer, writeChunk, 3 << 20} {
			value := bytes.Repeat([]byte("0123456789abcdef"), size/16)
			must(t, c.Put(ctx, "big", value))
			got, err := c.Get(ctx, "big")
			if err != nil || !bytes.Equal(got, value) {
				t.Errorf("%d bytes: %d came back, %v", size, len(got), err)
			}
			wantValue(t, c, "big", string(value))
		}
	})
}

func TestLimitsOnReplies(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		limits := protocol.DefaultLimits()
		limits.MaxValue, limits.MaxKey = 1<<10, 1<<10
		c := open(t, ctx, f, WithLimits(limits), WithRetryBudget(0))
		f.Put("small", strings.Repeat("x", 1<<10))
		f.Put("large", strings.Repeat("x", 1<<20))
		_, err := c.Get(t.Context(), "small")
		must(t, err)
		var broken *protocol.ProtocolError
		if _, err = c.Get(t.Context(), "large"); !errors.As(err, &broken) {
			t.Errorf("got %v", err)
		}
	})
}

// What the caller does with its slices afterwards is its own business.
func TestBytesAreNotShared(t *testing.T) {
	inCluster(t, 1, func(t *testing.T, ctx context.Context, f *FakeCluster) {
		c := open(t, ctx, f)
		value := []byte("good")
		must(t, c.Put(ctx, "k", value))
		copy(value, "evil")
		got, err := c.Get(ctx, "k")
		must(t, err)
		copy(got, "evil")
		wantValue(t, c, "k", "good")
		if r, err := c.Do(ctx, "k", "PUT", "k", "v"); err == nil {
			copy(r.Bytes, "KO")
		}
		must(t, c.Put(ctx, "k", value))
	})
}

func TestMakeSpaceKeepsWhatIsNotParsed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		buf := make([]byte, rapid.SampledFrom([]int{readBuffer, 100 << 10, 3 << 20}).Draw(t, "size"))
		end := rapid.IntRange(0, len(buf)).Draw(t, "end")
		start := rapid.IntRange(0, end).Draw(t, "start")
		need := rapid.IntRange(1, 1<<30).Draw(t, "need")
		for i := start; i < end; i++ {
			buf[i] = byte(i)
		}
		held := bytes.Clone(buf[start:end])
		got, s, e := makeSpace(buf, start, end, need)
		if !bytes.Equal(got[s:e], held) {
			t.Fatal("bytes changed")
		}
		if len(got) == e {
			t.Fatal("no room to read into")
		}
		if len(got) > max(len(buf)+len(buf)/2, 2*len(held)+readBuffer) {
			t.Fatalf("%d bytes for %d held: trusts need too far", len(got), len(held))
		}
	})
}

// A reply that is claimed to be huge, and trickles, must not cost what it claims.
func TestABigClaimCostsLittle(t *testing.T) {
	here, there := net.Pipe()
	l := newLink(here, protocol.DefaultLimits())
	result := make(chan error, 1)
	go func() { result <- l.readReplies() }()
	if _, err := io.WriteString(there, "$67000000\r\nonly this"); err != nil {
		t.Fatal(err)
	}
	there.Close()
	if err := <-result; !errors.Is(err, errLinkClosed) {
		t.Errorf("got %v", err)
	}
	per := testing.AllocsPerRun(10, func() { makeSpace(make([]byte, readBuffer), 0, 20, 67_000_000) })
	if per > 1 {
		t.Errorf("%v allocations to read on", per)
	}
}

func TestAllocations(t *testing.T) {
	if nativeDialer() == nil {
		t.Skip("a browser has no sockets to measure with")
	}
	address := okServers(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, err := Open(ctx, []string{address})
	must(t, err)
	defer c.Close()
	value := make([]byte, 64)
	for name, tc := range map[string]struct {
		limit float64
		op    func() error
	}{
		"Get": {1, func() error { _, err := c.Get(ctx, "key"); return err }}, // the value
		"Put": {0, func() error { return c.Put(ctx, "key", value) }},
		"TTL": {0, func() error { return c.Put(ctx, "key", value, WithTTL(time.Minute), IfPresent()) }},
	} {
		must(t, tc.op())
		if n := testing.AllocsPerRun(1000, func() { tc.op() }); n > tc.limit && !raceEnabled {
			t.Errorf("%s: %v allocations, want %v", name, n, tc.limit)
		}
	}
}
