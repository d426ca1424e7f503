package oracle

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoitdb/quoit/client"
)

// fakeStore is a map that can be told to misbehave.
type fakeStore struct {
	mu     sync.Mutex
	values map[string][]byte
	// lose drops every n-th acknowledged write; fail makes every n-th write fail
	// after it was done.
	lose, fail, writes int
}

func (s *fakeStore) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.values[key]; ok {
		return v, nil
	}
	return nil, client.ErrNotFound
}

func (s *fakeStore) write(do func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.lose == 0 || s.writes%s.lose != 0 {
		do()
	}
	if s.fail > 0 && s.writes%s.fail == 0 {
		return client.ErrOutcomeUnknown
	}
	return nil
}

func (s *fakeStore) Put(_ context.Context, key string, value []byte, _ ...client.PutOption) error {
	return s.write(func() { s.values[key] = value })
}

func (s *fakeStore) Delete(_ context.Context, keys ...string) (int, error) {
	return 1, s.write(func() { delete(s.values, keys[0]) })
}

// play runs a load for a second of fake time and audits it.
func play(t *testing.T, s *fakeStore, after func()) (wrong int64, lost []string, w *Workload) {
	t.Helper()
	s.values = make(map[string][]byte)
	synctest.Test(t, func(t *testing.T) {
		w = New(s, Options{Prefix: "t:", Workers: 4, Registers: 8, Rate: 5000, Timeout: time.Second})
		w.Start(t.Context())
		<-time.After(time.Second)
		w.Halt()
		if after != nil {
			after()
		}
		checked, missing, err := w.Audit(t.Context())
		if err != nil || checked != 32 {
			t.Fatalf("audit checked %d keys: %v", checked, err)
		}
		wrong, _ = w.Wrong()
		lost = missing
	})
	return wrong, lost, w
}

func TestAStoreThatKeepsItsWordPasses(t *testing.T) {
	s := &fakeStore{}
	wrong, lost, w := play(t, s, nil)
	if wrong != 0 || len(lost) != 0 {
		t.Errorf("wrong %d, lost %v", wrong, lost)
	}
	least, most := w.Present()
	if least != most || least != len(s.values) {
		t.Errorf("%d to %d keys are said to be there; there are %d", least, most, len(s.values))
	}
	if s.writes < 1000 {
		t.Errorf("only %d writes: the load proves little", s.writes)
	}
	if w.Acknowledged() != int64(s.writes) {
		t.Errorf("%d writes of %d were acknowledged", w.Acknowledged(), s.writes)
	}
}

func TestWritesOfUnknownOutcomeAreNotHeldAgainstTheStore(t *testing.T) {
	s := &fakeStore{fail: 7}
	wrong, lost, w := play(t, s, nil)
	if wrong != 0 || len(lost) != 0 {
		t.Errorf("wrong %d, lost %v", wrong, lost)
	}
	if least, most := w.Present(); least > len(s.values) || most < len(s.values) {
		t.Errorf("%d to %d keys are said to be there; there are %d", least, most, len(s.values))
	}
}

func TestALostWriteIsSeen(t *testing.T) {
	if wrong, lost, _ := play(t, &fakeStore{lose: 50}, nil); wrong == 0 && len(lost) == 0 {
		t.Error("every 50th acknowledged write was dropped and nobody noticed")
	}
}

func TestAKeyThatVanishesAtTheEndIsSeen(t *testing.T) {
	s := &fakeStore{}
	_, lost, _ := play(t, s, func() {
		for k := range s.values {
			delete(s.values, k)
			return
		}
	})
	if len(lost) != 1 {
		t.Errorf("one key was taken away; the audit found %v", lost)
	}
}

func TestAValueOfAnotherKeyIsSeen(t *testing.T) {
	s := &fakeStore{}
	_, lost, _ := play(t, s, func() {
		for k, v := range s.values {
			for other := range s.values {
				if other != k {
					s.values[other] = v
					return
				}
			}
		}
	})
	if len(lost) != 1 {
		t.Errorf("one value was replaced by another key's; the audit found %v", lost)
	}
}

func TestADeletedKeyThatComesBackIsSeen(t *testing.T) {
	w, r := New(&fakeStore{}, Options{}), &register{key: "k", unknown: map[int64]bool{}}
	w.settle(r, write{number: 1}, nil)
	w.settle(r, write{number: 2, deleted: true}, nil)
	if err := r.check(r.value(1), true); err == nil {
		t.Error("a deleted value came back and passed")
	}
	w.settle(r, write{number: 3}, errors.New("link broke"))
	if err := r.check(r.value(3), true); err != nil {
		t.Errorf("a write of unknown outcome was refused: %v", err)
	}
	if err := r.check(nil, false); err != nil {
		t.Errorf("the delete may still be the last: %v", err)
	}
}
