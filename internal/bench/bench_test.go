package bench

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// slow is a store that takes a millisecond for each request.
type slow struct {
	mu     sync.Mutex
	values map[string]int // sizes
	reads  atomic.Int64
	writes atomic.Int64
	fail   error
	most   int // bytes of one MPut
}

func newSlow() *slow { return &slow{values: make(map[string]int)} }

func (s *slow) Get(_ context.Context, key string) ([]byte, error) {
	s.reads.Add(1)
	<-time.After(time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.values[key]; ok {
		return make([]byte, n), s.fail
	}
	return nil, client.ErrNotFound
}

func (s *slow) Put(_ context.Context, key string, value []byte, _ ...client.PutOption) error {
	s.writes.Add(1)
	<-time.After(time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = len(value)
	return s.fail
}

func (s *slow) MPut(_ context.Context, pairs []client.Pair, _ ...client.PutOption) ([]error, error) {
	bytes := 0
	for _, p := range pairs {
		bytes += len(p.Value)
		s.values[p.Key] = len(p.Value)
	}
	s.most = max(s.most, bytes)
	return make([]error, len(pairs)), s.fail
}

func TestARunCountsWhatWasDoneAndHowLongItTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newSlow()
		o := Options{Callers: 10, Duration: 3 * time.Second, Keys: 1000, Size: 7, Reads: 0.8}
		if err := Fill(t.Context(), db, o, nil); err != nil {
			t.Fatal(err)
		}
		var reports []Figures
		o.Report = func(f Figures) { reports = append(reports, f) }
		f := Run(t.Context(), db, o)
		const want = 10 * 3000 // each caller does one a millisecond
		if f.Ops < want-20 || f.Ops > want || f.Seconds < 3 || f.Seconds > 3.01 {
			t.Errorf("%d operations in %v s, want about %d in 3", f.Ops, f.Seconds, want)
		}
		if f.P50 < time.Millisecond || f.P50 > 1040*time.Microsecond || f.Max != time.Millisecond {
			t.Errorf("p50 %v and longest %v, want 1ms", f.P50, f.Max)
		}
		if share := float64(db.reads.Load()) / want; share < 0.78 || share > 0.82 {
			t.Errorf("%.2f of the operations read, want 0.8", share)
		}
		if f.Misses > 0 || f.Errors > 0 {
			t.Errorf("%d misses, %d errors in a keyspace that is full", f.Misses, f.Errors)
		}
		if len(reports) < 2 || reports[0].Seconds != 1 || reports[0].Ops > reports[1].Ops {
			t.Errorf("reports: %+v", reports)
		}
	})
}

func TestMissesAreNoErrorsAndErrorsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Callers: 2, Duration: 100 * time.Millisecond, Keys: 10, Reads: 1}
		if f := Run(t.Context(), newSlow(), o); f.Misses != f.Ops || f.Errors != 0 || f.Ops == 0 {
			t.Errorf("an empty store gave %+v", f)
		}
		db := newSlow()
		db.fail = errors.New("disk full")
		o.Reads = 0
		if f := Run(t.Context(), db, o); f.Errors != f.Ops || f.FirstErr != "disk full" {
			t.Errorf("a store that refuses gave %+v", f)
		}
	})
}

func TestARunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		f := Run(ctx, newSlow(), Options{Callers: 3, Duration: time.Hour, Keys: 10})
		if f.Seconds > 0.1 || f.Ops == 0 {
			t.Errorf("%d operations in %v s after 50 ms", f.Ops, f.Seconds)
		}
	})
}

func TestFillWritesEveryKeyInBoundedBatches(t *testing.T) {
	for _, c := range []struct{ keys, size, most int }{
		{0, 10, 0}, {1, 10, 10}, {499, 0, 0}, {1234, 10, 5000}, {3, 5 << 20, 5 << 20}, {3, 20 << 20, 20 << 20},
	} {
		db := newSlow()
		last := 0
		if err := Fill(t.Context(), db, Options{Keys: c.keys, Size: c.size}, func(done int) { last = done }); err != nil {
			t.Fatal(err)
		}
		if len(db.values) != c.keys || last != c.keys || db.most != c.most {
			t.Errorf("%d keys of %d B: %d written, %d reported, %d B at once; want at most %d", c.keys, c.size, len(db.values), last, db.most, c.most)
		}
	}
	db := newSlow()
	db.fail = errors.New("disk full")
	if err := Fill(t.Context(), db, Options{Keys: 1000}, nil); !errors.Is(err, db.fail) {
		t.Errorf("err = %v", err)
	}
}

func TestFiguresOfNothingAreZero(t *testing.T) {
	var r Recorder
	if f := r.Figures(time.Second); f != (Figures{Seconds: 1}) {
		t.Errorf("figures of nothing: %+v", f)
	}
	if f := r.Figures(0); f.OpsPerSec != 0 {
		t.Errorf("%v operations a second in no time", f.OpsPerSec)
	}
}
