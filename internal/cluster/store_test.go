package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// rushed is a store that does not wait between tries.
func rushed(b bucket.Bucket) *Store {
	return NewStore(b, StoreOptions{Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }})
}

// unwritten returns a document as it is before it is created.
func unwritten(t failer) Document {
	t.Helper()
	d, err := New("test")
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	if d, err = d.Bootstrap(node(a), node(b)); err != nil {
		t.Fatalf("Bootstrap: %v", err)
	}
	return d
}

// stored returns a bucket that holds a document with throttle 0.
func stored(t failer) *buckettest.Memory {
	t.Helper()
	m := buckettest.NewMemory()
	if _, err := rushed(m).Create(context.Background(), unwritten(t)); err != nil {
		t.Fatalf("Create: %v", err)
	}
	return m
}

// count adds one to the throttle, which serves as a counter here: it is not a
// transition that can be applied twice without being noticed.
func count(d Document) (Document, error) { return d.SetThrottle(d.Settings.MoveBytesPerSecond + 1) }

// counted returns how often count has happened.
func counted(t failer, b bucket.Bucket) int64 {
	t.Helper()
	d, _, err := rushed(b).Load(context.Background())
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return d.Settings.MoveBytesPerSecond
}

func TestStoreCreateLoadUpdate(t *testing.T) {
	m := buckettest.NewMemory()
	s := rushed(m)
	if _, _, err := s.Load(t.Context()); !errors.Is(err, ErrNoDocument) {
		t.Errorf("Load of nothing: %v", err)
	}
	if _, err := s.Update(t.Context(), count); !errors.Is(err, ErrNoDocument) {
		t.Errorf("Update of nothing: %v", err)
	}
	first, err := s.Create(t.Context(), unwritten(t))
	if err != nil || first.Counter != 1 {
		t.Fatalf("Create: counter %d, %v", first.Counter, err)
	}
	if existing, err := rushed(m).Create(t.Context(), unwritten(t)); !errors.Is(err, ErrExists) || existing.Nonce != first.Nonce {
		t.Errorf("Create again: %v, %v", existing.Nonce, err)
	}
	second, err := s.Update(t.Context(), count)
	if err != nil || second.Counter != 2 || second.Nonce == first.Nonce || second.Recent[0] != first.Nonce {
		t.Errorf("Update: counter %d, nonce %q, recent %q, %v", second.Counter, second.Nonce, second.Recent, err)
	}
	loaded, etag, err := s.Load(t.Context())
	if err != nil || loaded.Nonce != second.Nonce || etag == "" {
		t.Errorf("Load: %q with ETag %q, %v", loaded.Nonce, etag, err)
	}
}

// TestStoreKeepsSwapsApart: no two documents have equal bytes, even when nothing
// but a flag goes to and fro, so an ETag never comes back.
func TestStoreKeepsSwapsApart(t *testing.T) {
	m := stored(t)
	s := rushed(m)
	seen := map[bucket.ETag]bool{}
	for i := range 3 * MaxRecent {
		if _, err := s.Update(t.Context(), func(d Document) (Document, error) { return d.SetPaused(i%2 == 0) }); err != nil {
			t.Fatal(err)
		}
		d, etag, err := s.Load(t.Context())
		if err != nil || seen[etag] {
			t.Fatalf("swap %d: ETag %q seen before: %v, %v", i, etag, seen[etag], err)
		}
		seen[etag] = true
		if len(d.Recent) > MaxRecent {
			t.Fatalf("%d recent nonces", len(d.Recent))
		}
	}
}

func TestStoreWritesNothingForNothing(t *testing.T) {
	f := buckettest.NewFaulty(stored(t), func(buckettest.Op) buckettest.Fault { return buckettest.Fault{} })
	d, err := rushed(f).Update(t.Context(), func(d Document) (Document, error) { return d.Join(a) })
	if err != nil || d.Counter != 1 || f.Calls("PutIfMatch") != 0 {
		t.Errorf("counter %d, %d swaps, %v", d.Counter, f.Calls("PutIfMatch"), err)
	}
}

// TestStoreReturnsWhatWasRefused: a caller that is refused goes by the document
// that refused it.
func TestStoreReturnsWhatWasRefused(t *testing.T) {
	d, err := rushed(stored(t)).Update(t.Context(), func(d Document) (Document, error) { return d.Abort("m7") })
	if !errors.Is(err, ErrUnknownMove) || errors.Is(err, ErrInDoubt) || d.Counter != 1 {
		t.Errorf("counter %d, %v", d.Counter, err)
	}
}

// TestStoreOneFault: each fault of one swap, and of the look after it. The update
// succeeds, and has happened once.
func TestStoreOneFault(t *testing.T) {
	now := make(chan struct{})
	close(now)
	for name, fault := range map[string]buckettest.Fault{
		"lost request":  buckettest.LoseRequest(),
		"lost reply":    buckettest.LoseReply(),
		"busy":          buckettest.Busy(),
		"conflict":      buckettest.Conflict(),
		"own conflict":  buckettest.OwnConflict(),
		"late, at once": {Late: now},
	} {
		for _, look := range []buckettest.Fault{{}, buckettest.Busy()} {
			t.Run(name, func(t *testing.T) {
				m := stored(t)
				f := buckettest.NewFaulty(m, func(op buckettest.Op) buckettest.Fault {
					switch {
					case op.Method == "PutIfMatch" && op.N <= 2:
						return fault
					case op.Method == "Get" && op.N > 1 && op.N < 4:
						return look
					}
					return buckettest.Fault{}
				})
				d, err := rushed(f).Update(t.Context(), count)
				f.Drain()
				if err != nil || d.Settings.MoveBytesPerSecond != 1 {
					t.Errorf("throttle %d, %v", d.Settings.MoveBytesPerSecond, err)
				}
				if got := counted(t, m); got != 1 {
					t.Errorf("happened %d times", got)
				}
			})
		}
	}
}

// TestStoreClosesADoubt: a swap whose request is still under way when the document
// is looked at has not failed. The next swap decides, and the late one cannot land.
func TestStoreClosesADoubt(t *testing.T) {
	m := stored(t)
	release := make(chan struct{})
	f := buckettest.NewFaulty(m, buckettest.InTurn("PutIfMatch", buckettest.Fault{Late: release}))
	d, err := rushed(f).Update(t.Context(), count)
	if err != nil || d.Counter != 2 || f.Calls("PutIfMatch") != 2 {
		t.Fatalf("counter %d after %d swaps, %v", d.Counter, f.Calls("PutIfMatch"), err)
	}
	close(release)
	f.Drain()
	if got := counted(t, m); got != 1 {
		t.Errorf("happened %d times", got)
	}
}

// TestStoreFindsItsLateSwap: the late one lands first, the second meets it.
func TestStoreFindsItsLateSwap(t *testing.T) {
	m := stored(t)
	release := make(chan struct{})
	var f *buckettest.Faulty
	f = buckettest.NewFaulty(m, func(op buckettest.Op) buckettest.Fault {
		if op.Method != "PutIfMatch" {
			return buckettest.Fault{}
		}
		if op.N == 1 {
			return buckettest.Fault{Late: release}
		}
		close(release)
		f.Drain()
		return buckettest.Fault{}
	})
	d, err := rushed(f).Update(t.Context(), count)
	if err != nil || d.Counter != 2 {
		t.Errorf("counter %d, %v", d.Counter, err)
	}
	if got := counted(t, m); got != 1 {
		t.Errorf("happened %d times", got)
	}
}

// TestStoreFindsItsSwapBehindOthers: the reply is lost, and before the next look
// others have swapped on. Up to MaxRecent of them do not hide what happened; with
// one more it is applied again, which every transition tolerates.
func TestStoreFindsItsSwapBehindOthers(t *testing.T) {
	for _, c := range []struct{ others, throttle, want int64 }{
		{MaxRecent, 1, MaxRecent + 1},
		{MaxRecent + 1, MaxRecent + 3, MaxRecent + 3},
	} {
		m := stored(t)
		others := rushed(m)
		f := buckettest.NewFaulty(m, func(op buckettest.Op) buckettest.Fault {
			if op.Method == "Get" && op.N == 2 {
				for range c.others {
					if _, err := others.Update(context.Background(), count); err != nil {
						t.Errorf("another's update: %v", err)
					}
				}
			}
			return buckettest.InTurn("PutIfMatch", buckettest.LoseReply())(op)
		})
		d, err := rushed(f).Update(t.Context(), count)
		if err != nil || d.Settings.MoveBytesPerSecond != c.throttle {
			t.Errorf("%d others: want the document as it was written: throttle %d, %v", c.others, d.Settings.MoveBytesPerSecond, err)
		}
		if got := counted(t, m); got != c.want {
			t.Errorf("%d others: happened %d times in all, want %d", c.others, got, c.want)
		}
	}
}

// TestStoreGivesUpInDoubt: when the context ends, the error says whether something
// may still happen.
func TestStoreGivesUpInDoubt(t *testing.T) {
	now := make(chan struct{})
	close(now)
	for _, c := range []struct {
		name  string
		fault buckettest.Fault
		doubt bool
	}{
		{"lost reply", buckettest.Fault{Late: now}, true},
		{"lost request", buckettest.LoseRequest(), true},
		{"refused", buckettest.Busy(), false},
		{"not begun", buckettest.Fault{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			f := buckettest.NewFaulty(stored(t), func(op buckettest.Op) buckettest.Fault {
				if op.Method == "PutIfMatch" {
					cancel()
					return c.fault
				}
				return buckettest.Fault{}
			})
			_, err := rushed(f).Update(ctx, count)
			if !errors.Is(err, context.Canceled) || errors.Is(err, ErrInDoubt) != c.doubt {
				t.Errorf("%v; in doubt should be %v", err, c.doubt)
			}
		})
	}
}

// TestStoreStopsAtErrorsThatStay.
func TestStoreStopsAtErrorsThatStay(t *testing.T) {
	denied := errors.New("403")
	for _, method := range []string{"Get", "PutIfMatch"} {
		f := buckettest.NewFaulty(stored(t), buckettest.InTurn(method, buckettest.Fault{Before: denied}))
		if _, err := rushed(f).Update(t.Context(), count); !errors.Is(err, denied) || errors.Is(err, ErrInDoubt) {
			t.Errorf("%s denied: %v", method, err)
		}
	}
	// After a swap in doubt, the same error leaves the doubt.
	f := buckettest.NewFaulty(stored(t), buckettest.InTurn("PutIfMatch", buckettest.LoseRequest(), buckettest.Fault{Before: denied}))
	if _, err := rushed(f).Update(t.Context(), count); !errors.Is(err, denied) || !errors.Is(err, ErrInDoubt) {
		t.Errorf("denied after a doubt: %v", err)
	}
}

func TestStoreCreateInDoubt(t *testing.T) {
	release := make(chan struct{})
	for name, fault := range map[string]buckettest.Fault{
		"lost request": buckettest.LoseRequest(), "lost reply": buckettest.LoseReply(), "busy": buckettest.Busy(),
		"conflict": buckettest.Conflict(), "own conflict": buckettest.OwnConflict(), "late": {Late: release},
	} {
		t.Run(name, func(t *testing.T) {
			m := buckettest.NewMemory()
			f := buckettest.NewFaulty(m, buckettest.InTurn("PutIfAbsent", fault))
			d, err := rushed(f).Create(t.Context(), unwritten(t))
			if err != nil {
				t.Fatal(err)
			}
			if name == "late" {
				close(release)
				f.Drain()
			}
			if got, _, err := rushed(m).Load(t.Context()); err != nil || got.Nonce != d.Nonce {
				t.Errorf("created %q, found %q, %v", d.Nonce, got.Nonce, err)
			}
		})
	}
}

func TestStoreCreateGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := buckettest.NewFaulty(buckettest.NewMemory(), func(op buckettest.Op) buckettest.Fault {
		if op.Method == "Get" {
			cancel()
			return buckettest.Busy()
		}
		return buckettest.LoseReply()
	})
	if _, err := rushed(f).Create(ctx, unwritten(t)); !errors.Is(err, ErrInDoubt) || !errors.Is(err, context.Canceled) {
		t.Errorf("Create: %v", err)
	}
	denied := errors.New("403")
	f = buckettest.NewFaulty(buckettest.NewMemory(), buckettest.InTurn("PutIfAbsent", buckettest.Fault{Before: denied}))
	if _, err := rushed(f).Create(t.Context(), unwritten(t)); !errors.Is(err, denied) || errors.Is(err, ErrInDoubt) {
		t.Errorf("Create: %v", err)
	}
	if _, err := rushed(f).Create(t.Context(), Document{}); err == nil {
		t.Error("Create of a document that is none")
	}
}

// TestStoreRefusesToGoBack: a document that is older than one seen, another one
// with the same counter, another cluster's, or none: never acted on.
func TestStoreRefusesToGoBack(t *testing.T) {
	m := stored(t)
	s := rushed(m)
	old, err := m.Get(t.Context(), DefaultKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(t.Context(), count); err != nil {
		t.Fatal(err)
	}
	replace := func(body []byte) {
		if _, err := m.Put(t.Context(), DefaultKey, bytes.NewReader(body), int64(len(body))); err != nil {
			t.Fatal(err)
		}
	}
	newest, err := m.Get(t.Context(), DefaultKey)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Decode(newest.Body)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{
		"older":           old.Body,
		"another writer":  edited(t, d, func(doc map[string]any) { doc["nonce"] = "forged" }),
		"another cluster": edited(t, d, func(doc map[string]any) { doc["cluster"], doc["counter"] = "other", 9 }),
		"nothing":         nil,
	} {
		if replace(body); body == nil {
			if err := m.Delete(t.Context(), DefaultKey); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := s.Load(t.Context()); !errors.Is(err, ErrRolledBack) || errors.Is(err, ErrNoDocument) {
			t.Errorf("%s: Load: %v, want ErrRolledBack", name, err)
		}
		if _, err := s.Update(t.Context(), count); !errors.Is(err, ErrRolledBack) {
			t.Errorf("%s: Update: %v, want ErrRolledBack", name, err)
		}
	}
	replace(newest.Body)
	if _, _, err := s.Load(t.Context()); err != nil {
		t.Errorf("Load of the newest: %v", err)
	}
	for name, fn := range map[string]func(Document) (Document, error){
		"cluster": func(d Document) (Document, error) { d.Cluster = "other"; return d, nil },
		"epoch":   func(d Document) (Document, error) { d.Epoch--; return d, nil },
	} {
		if _, err := s.Update(t.Context(), fn); !errors.Is(err, ErrRolledBack) {
			t.Errorf("an update of the %s: %v, want ErrRolledBack", name, err)
		}
	}
}

func TestStoreReportsDamage(t *testing.T) {
	m := buckettest.NewMemory()
	if _, err := m.PutIfAbsent(t.Context(), DefaultKey, []byte(`{"format":9}`)); err != nil {
		t.Fatal(err)
	}
	_, _, err := rushed(m).Load(t.Context())
	if !errors.As(err, new(*FormatError)) || !strings.Contains(err.Error(), DefaultKey) {
		t.Errorf("Load: %v", err)
	}
}

// TestStoreTwoRace: two stores, as of two managers started by mistake, lose
// nothing and do nothing twice; here on the folder, where it counts.
func TestStoreTwoRace(t *testing.T) {
	const stores, callers, updates = 2, 3, 10
	f, err := bucket.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := rushed(f).Create(t.Context(), unwritten(t)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range stores {
		s := NewStore(f, StoreOptions{})
		for range callers {
			wg.Go(func() {
				for range updates {
					if _, err := s.Update(t.Context(), count); err != nil {
						t.Errorf("Update: %v", err)
					}
				}
			})
		}
	}
	wg.Wait()
	if got := counted(t, f); got != stores*callers*updates {
		t.Errorf("happened %d times, want %d", got, stores*callers*updates)
	}
}

// TestStoreRaceUnderFaults: racing writers whose calls meet every fault at random.
// Each update that succeeds has happened exactly once, each that fails not at all.
// There are no more swaps than a document remembers, so no doubt stays open.
func TestStoreRaceUnderFaults(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { raceUnderFaults(t, seed) })
	}
}

func raceUnderFaults(t *testing.T, seed uint64) {
	const writers, updates = 4, MaxRecent / 4
	m, random := stored(t), rand.New(rand.NewPCG(seed, 0))
	now := make(chan struct{})
	close(now)
	faults := []buckettest.Fault{
		{}, {}, buckettest.LoseReply(), buckettest.LoseRequest(), buckettest.Busy(), buckettest.Conflict(), buckettest.OwnConflict(), {Late: now},
	}
	f := buckettest.NewFaulty(m, func(op buckettest.Op) buckettest.Fault {
		fault := faults[random.IntN(len(faults))]
		if op.Method == "Get" && fault != buckettest.Busy() {
			return buckettest.Fault{}
		}
		return fault
	})
	var wg sync.WaitGroup
	var done atomic.Int64
	for range writers {
		s := rushed(f)
		wg.Go(func() {
			for range updates {
				if _, err := s.Update(t.Context(), count); err != nil {
					t.Errorf("Update: %v", err)
					continue
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	f.Drain()
	if got := counted(t, m); got != done.Load() {
		t.Errorf("happened %d times, %d updates succeeded", got, done.Load())
	}
}

// TestStoreWaits between tries, longer each time, and not for ever.
func TestStoreWaits(t *testing.T) {
	var waits []time.Duration
	ctx, cancel := context.WithCancel(t.Context())
	contended := buckettest.NewFaulty(stored(t), func(op buckettest.Op) buckettest.Fault {
		if op.Method == "PutIfMatch" {
			return buckettest.Conflict()
		}
		return buckettest.Fault{}
	})
	s := NewStore(contended, StoreOptions{Wait: func(ctx context.Context, d time.Duration) error {
		if waits = append(waits, d); len(waits) == 64 {
			cancel()
		}
		return ctx.Err()
	}})
	if _, err := s.Update(ctx, count); !errors.Is(err, context.Canceled) {
		t.Errorf("Update: %v", err)
	}
	for i, d := range waits {
		if limit := min(time.Millisecond<<min(i, 20), 500*time.Millisecond); d < 0 || d >= limit {
			t.Errorf("wait %d is %v, want less than %v", i, d, limit)
		}
	}
}

// TestStoreWaitsItsTurn: the updates of one store queue, and a queue can be left.
func TestStoreWaitsItsTurn(t *testing.T) {
	s := rushed(stored(t))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Update(t.Context(), func(d Document) (Document, error) {
		cancel()
		if _, err := s.Update(ctx, count); !errors.Is(err, context.Canceled) {
			t.Errorf("an update in an update: %v", err)
		}
		return count(d)
	})
	if err != nil {
		t.Error(err)
	}
}

// TestWait is the clock that servers use.
func TestWait(t *testing.T) {
	if err := wait(t.Context(), time.Nanosecond); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := wait(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// BenchmarkStoreUpdate is one change of the document on this disk, all included.
func BenchmarkStoreUpdate(b *testing.B) {
	f, err := bucket.OpenFolder(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	d := ok(b)(registered(b, clusterOf(b, a), c).Join(c))
	if _, err := rushed(f).Create(b.Context(), d); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(d.Moves)), "moves")
	s := NewStore(f, StoreOptions{})
	for b.Loop() {
		if _, err := s.Update(b.Context(), count); err != nil {
			b.Fatal(err)
		}
	}
}
