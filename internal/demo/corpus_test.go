package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/oracle"
	"github.com/quoitdb/quoit/internal/transfer"
)

// shelf is a cluster in a map, as far as the checks need one.
type shelf struct {
	mu     sync.Mutex
	values map[string]string
	fail   error
	calls  int
	busy   chan struct{} // closed after a hundred puts
}

func (s *shelf) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	if v, ok := s.values[key]; ok {
		return []byte(v), nil
	}
	return nil, client.ErrNotFound
}

func (s *shelf) MGet(ctx context.Context, keys ...string) ([]client.Result, error) {
	results := make([]client.Result, len(keys))
	var failed error
	for i, k := range keys {
		results[i].Value, results[i].Err = s.Get(ctx, k)
		if err := results[i].Err; err != nil && !errors.Is(err, client.ErrNotFound) {
			failed = err
		}
	}
	return results, failed
}

func (s *shelf) Put(_ context.Context, key string, value []byte, _ ...client.PutOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = string(value)
	if s.calls++; s.calls == 100 && s.busy != nil {
		close(s.busy)
	}
	return s.fail
}

func (s *shelf) Delete(_ context.Context, keys ...string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.values)
	for _, k := range keys {
		delete(s.values, k)
	}
	return n - len(s.values), s.fail
}

// imported is a corpus of so many keys, and a shelf that holds them.
func imported(t *testing.T, n int) (*corpus, *shelf) {
	t.Helper()
	c, s := &corpus{}, &shelf{values: make(map[string]string)}
	for item, err := range c.remember(files(n), 0) {
		if err != nil {
			t.Fatal(err)
		}
		s.values[item.Key] = string(item.Value)
	}
	return c, s
}

// files are so many of ten bytes each.
func files(n int) func(func(transfer.Item, error) bool) {
	return func(yield func(transfer.Item, error) bool) {
		for i := range n {
			if !yield(transfer.Item{Key: fmt.Sprint("file/", i), Value: fmt.Appendf(nil, "%010d", i)}, nil) {
				return
			}
		}
	}
}

func TestAnAuditFindsNothingWhereNothingIsWrong(t *testing.T) {
	c, s := imported(t, 1000)
	checked, lost, err := c.audit(t.Context(), s)
	if checked != 1000 || len(lost) > 0 || err != nil {
		t.Errorf("%d checked, lost %q, %v", checked, lost, err)
	}
}

func TestAnAuditFindsWhatIsGoneAndWhatHasChanged(t *testing.T) {
	c, s := imported(t, 1000)
	delete(s.values, "file/7")
	s.values["file/999"] = "something else"
	s.values["file/500"] = ""
	checked, lost, err := c.audit(t.Context(), s)
	if err != nil || checked != 1000 {
		t.Fatalf("%d checked, %v", checked, err)
	}
	if want := []string{`"file/7" is gone`, `"file/500" has changed`, `"file/999" has changed`}; !slices.Equal(lost, want) {
		t.Errorf("lost %q, want %q", lost, want)
	}
}

func TestAnAuditThatCannotReadIsNoVerdict(t *testing.T) {
	c, s := imported(t, 10)
	s.fail = errors.New("no node answers")
	if _, lost, err := c.audit(t.Context(), s); !errors.Is(err, s.fail) || len(lost) > 0 {
		t.Errorf("lost %q, %v", lost, err)
	}
}

func TestAReadThatIsWrongIsSeenAtOnce(t *testing.T) {
	c, s := imported(t, 3)
	random := rand.New(rand.NewPCG(1, 1))
	if err := c.check(t.Context(), s, random); err != nil {
		t.Fatal(err)
	}
	clear(s.values)
	var bad *oracle.WrongAnswer
	if err := c.check(t.Context(), s, random); !errors.As(err, &bad) {
		t.Errorf("a key that is gone: %v", err)
	}
	for k := range c.hashes {
		s.values[k] = "x"
	}
	if err := c.check(t.Context(), s, random); !errors.As(err, &bad) {
		t.Errorf("a value that has changed: %v", err)
	}
	s.fail = errors.New("no node answers")
	if err := c.check(t.Context(), s, random); errors.As(err, &bad) || !errors.Is(err, s.fail) {
		t.Errorf("a node that does not answer: %v", err)
	}
}

func TestTheImportStopsAtItsLimit(t *testing.T) {
	for limit, want := range map[int64]int{0: 100, 1: 1, 95: 10, 100: 10, 101: 11, 1e6: 100} {
		c := &corpus{}
		n := 0
		for range c.remember(files(100), limit) {
			n++
		}
		if n != want || len(c.keys) != want {
			t.Errorf("limit %d: %d files, want %d", limit, n, want)
		}
	}
}

func TestASourceThatFailsIsPassedOnAndNotRemembered(t *testing.T) {
	c, broken := &corpus{}, errors.New("broken")
	for _, err := range c.remember(func(yield func(transfer.Item, error) bool) { yield(transfer.Item{}, broken) }, 0) {
		if !errors.Is(err, broken) {
			t.Errorf("err = %v", err)
		}
	}
	if len(c.keys) > 0 {
		t.Errorf("remembered %q", c.keys)
	}
}

func TestTrafficGoesToThePhasesAndFindsLies(t *testing.T) {
	c, s := imported(t, 20)
	s.busy = make(chan struct{})
	work := newTraffic(s, c, 2, 0)
	work.Start(t.Context())
	<-s.busy
	work.Halt()
	if r := work.current().row(noon()); r.Ops < 100 || r.Errors > 0 {
		t.Errorf("after a hundred writes: %+v", r)
	}
	if _, lost, err := work.Audit(t.Context()); len(lost) > 0 || err != nil {
		t.Errorf("an honest store: lost %q, %v", lost, err)
	}
	clear(s.values)
	if _, lost, _ := work.Audit(t.Context()); len(lost) == 0 {
		t.Error("a store that has lost everything goes unnoticed")
	}
}
