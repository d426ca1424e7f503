package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/quoitdb/quoit/client"
)

func TestImportWritesEveryItemOnceAndCounts(t *testing.T) {
	for _, n := range []int{0, 1, batchKeys - 1, batchKeys, 5000} {
		for _, workers := range []int{0, 1, 7} {
			db := newMemory()
			var last atomic.Int64
			p, err := Import(t.Context(), db, items(n), Options{Workers: workers, Report: func(p Progress) { last.Store(p.Keys) }})
			if err != nil {
				t.Fatal(err)
			}
			if p.Keys != int64(n) || len(db.values) != n || last.Load() != int64(n) {
				t.Errorf("%d items, %d workers: %d counted, %d stored, last report %d", n, workers, p.Keys, len(db.values), last.Load())
			}
			for k, times := range db.writes {
				if times != 1 {
					t.Errorf("%s was written %d times", k, times)
				}
			}
		}
	}
}

// A log of changes, or a file put together from two: the later line counts, in the
// same batch or in one much later, whatever the workers do.
func TestOfAKeyThatComesTwiceTheLaterValueStays(t *testing.T) {
	const keys, rounds = 700, 9
	source := func(yield func(Item, error) bool) {
		for round := range rounds {
			for k := range keys {
				if !yield(Item{Key: fmt.Sprint("k", k), Value: fmt.Append(nil, round)}, nil) {
					return
				}
				if k%50 == 0 && !yield(Item{Key: "often", Value: fmt.Append(nil, round, k)}, nil) {
					return
				}
			}
		}
	}
	db := newMemory()
	if _, err := Import(t.Context(), db, source, Options{Workers: 8}); err != nil {
		t.Fatal(err)
	}
	for k := range keys {
		if got := db.values[fmt.Sprint("k", k)]; got != fmt.Sprint(rounds-1) {
			t.Fatalf("k%d holds the value of round %s", k, got)
		}
	}
	if got, want := db.values["often"], fmt.Sprint(rounds-1, 650); got != want {
		t.Errorf("the key that comes often holds %q, want %q", got, want)
	}
}

func TestABatchReplacesAKeyThatItHasAlready(t *testing.T) {
	b := &batch{at: make(map[string]int)}
	b.add(Item{Key: "a", Value: []byte("12345")})
	b.add(Item{Key: "b", Value: []byte("x")})
	b.add(Item{Key: "a", Value: []byte("1"), TTL: time.Second})
	if len(b.pairs) != 2 || string(b.pairs[0].Value) != "1" || b.ttls[0] != time.Second || b.bytes != 4 {
		t.Errorf("batch is %+v", b)
	}
}

func TestAWriteThatFailsEndsTheImportAndNamesTheKey(t *testing.T) {
	refused := errors.New("disk full")
	db := newMemory()
	db.fail = func(_ int, key string) error {
		if key == "key:777" {
			return refused
		}
		return nil
	}
	p, err := Import(t.Context(), db, items(5000), Options{})
	if !errors.Is(err, refused) {
		t.Fatalf("err = %v, want %v", err, refused)
	}
	mustContain(t, err, `"key:777"`)
	if p.Keys > int64(len(db.values)) {
		t.Errorf("%d keys counted, only %d written", p.Keys, len(db.values))
	}
}

func TestAWriteOfUnknownOutcomeIsDoneAgain(t *testing.T) {
	db := newMemory()
	db.fail = func(call int, key string) error {
		if call < rewrites && strings.HasSuffix(key, "7") {
			return fmt.Errorf("link broke: %w", client.ErrOutcomeUnknown)
		}
		return nil
	}
	if _, err := Import(t.Context(), db, items(20), Options{Workers: 1}); err != nil {
		t.Fatal(err)
	}
	if len(db.values) != 20 || db.calls != rewrites {
		t.Errorf("%d keys after %d calls", len(db.values), db.calls)
	}
}

func TestUnknownOutcomesWithoutEndAreAnError(t *testing.T) {
	db := newMemory()
	db.fail = func(int, string) error { return client.ErrOutcomeUnknown }
	_, err := Import(t.Context(), db, items(3), Options{Workers: 1})
	if !errors.Is(err, client.ErrOutcomeUnknown) || db.calls != rewrites {
		t.Errorf("err = %v after %d calls", err, db.calls)
	}
}

func TestASourceThatFailsEndsTheImport(t *testing.T) {
	broken := errors.New("line 3: nonsense")
	source := func(yield func(Item, error) bool) {
		_ = yield(Item{Key: "a"}, nil) && yield(Item{}, broken)
	}
	if _, err := Import(t.Context(), newMemory(), source, Options{}); !errors.Is(err, broken) {
		t.Errorf("err = %v", err)
	}
}

func TestAnImportEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	endless := func(yield func(Item, error) bool) {
		for i := 0; ; i++ {
			if i == 10_000 {
				cancel()
			}
			if !yield(Item{Key: fmt.Sprint(i)}, nil) {
				return
			}
		}
	}
	if _, err := Import(ctx, newMemory(), endless, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

// ttlStore notes the time to live of each write, by how many options it had.
type ttlStore struct {
	*memory
	requests atomic.Int64
	expiring atomic.Int64
}

func (s *ttlStore) MPut(ctx context.Context, pairs []client.Pair, opts ...client.PutOption) ([]error, error) {
	s.requests.Add(1)
	if len(opts) > 0 {
		s.expiring.Add(int64(len(pairs)))
	}
	return s.memory.MPut(ctx, pairs, opts...)
}

func TestTimesToLiveAreGroupedNotOneRequestForEachKeyInTurn(t *testing.T) {
	source := func(yield func(Item, error) bool) {
		for i := range 1000 {
			if !yield(Item{Key: fmt.Sprint(i), TTL: time.Duration(i%2) * time.Minute}, nil) {
				return
			}
		}
	}
	db := &ttlStore{memory: newMemory()}
	if _, err := Import(t.Context(), db, source, Options{Workers: 1}); err != nil {
		t.Fatal(err)
	}
	if len(db.values) != 1000 || db.expiring.Load() != 500 || db.requests.Load() != 8 {
		t.Errorf("%d keys, %d of them expire, in %d requests; want 1000, 500, 8", len(db.values), db.expiring.Load(), db.requests.Load())
	}
}

// blocked is a store that takes nothing until it is opened, and then keeps the keys:
// the values of a test of bounds are too much to keep.
type blocked struct {
	*memory
	open chan struct{}
}

func (b *blocked) MPut(ctx context.Context, pairs []client.Pair, opts ...client.PutOption) ([]error, error) {
	select {
	case <-b.open:
	case <-ctx.Done():
		return make([]error, len(pairs)), ctx.Err()
	}
	pairs = slices.Clone(pairs)
	for i := range pairs {
		pairs[i].Value = nil
	}
	return b.memory.MPut(ctx, pairs, opts...)
}

func TestASlowStoreBoundsWhatIsHeldInMemory(t *testing.T) {
	const size, n = 16 << 20, 40
	value := make([]byte, size-8) // and its key
	db := &blocked{memory: newMemory(), open: make(chan struct{})}
	given := make(chan int, n)
	source := func(yield func(Item, error) bool) {
		for i := range n {
			given <- i
			if !yield(Item{Key: fmt.Sprint(i), Value: value}, nil) {
				return
			}
		}
	}
	ended := make(chan error, 1)
	go func() {
		_, err := Import(t.Context(), db, source, Options{Workers: 64})
		ended <- err
	}()
	for range inFlight/size + 1 { // so many fit, and one waits
		<-given
	}
	select {
	case i := <-given:
		t.Errorf("value %d was read while %d MiB were under way", i, inFlight>>20)
	default:
	}
	close(db.open)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if len(db.values) != n {
		t.Errorf("%d values arrived, want %d", len(db.values), n)
	}
}

func TestOneValueLargerThanTheBoundStillPasses(t *testing.T) {
	c := &cutter{lanes: make([]lane, 1), room: semaphore.NewWeighted(inFlight)}
	out := make(chan *batch, 1)
	c.lanes[0] = lane{out: out, open: &batch{bytes: 5 * inFlight}}
	if err := c.send(t.Context(), &c.lanes[0]); err != nil {
		t.Fatal(err)
	}
	if b := <-out; b.weight() != inFlight {
		t.Errorf("weight %d", b.weight())
	}
}

func TestRates(t *testing.T) {
	p := Progress{Keys: 100, Bytes: 3000, Elapsed: 2 * time.Second}
	if p.KeysPerSecond() != 50 || p.BytesPerSecond() != 1500 {
		t.Errorf("rates %v and %v", p.KeysPerSecond(), p.BytesPerSecond())
	}
	if (Progress{Keys: 5}).KeysPerSecond() != 0 {
		t.Error("a rate without time must be 0, not infinite")
	}
}

func TestErrorsShowTheBeginningOfALongKey(t *testing.T) {
	if got := quoted("a\nb"); got != `"a\nb"` {
		t.Errorf("quoted is %s", got)
	}
	if got := quoted(strings.Repeat("x", 70_000)); len(got) > 150 || !strings.Contains(got, "70000 bytes") {
		t.Errorf("quoted is %d bytes long", len(got))
	}
}
