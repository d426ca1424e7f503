package transfer

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// memory is a store that keeps what is written, and can be told to misbehave.
type memory struct {
	mu     sync.Mutex
	values map[string]string
	writes map[string]int // how often each key was written
	calls  int
	// fail, if set, says what becomes of a write; it is not done if that is an error.
	fail func(call int, key string) error
}

func newMemory() *memory {
	return &memory{values: make(map[string]string), writes: make(map[string]int)}
}

func (m *memory) MPut(_ context.Context, pairs []client.Pair, _ ...client.PutOption) ([]error, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	errs := make([]error, len(pairs))
	var first error
	for i, p := range pairs {
		if m.fail != nil {
			errs[i] = m.fail(m.calls, p.Key)
		}
		if errs[i] != nil {
			first = errs[i]
			continue
		}
		m.values[p.Key] = string(p.Value)
		m.writes[p.Key]++
	}
	return errs, first
}

// items is a source of so many keys.
func items(n int) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for i := range n {
			if !yield(Item{Key: fmt.Sprint("key:", i), Value: []byte(fmt.Sprint("value ", i))}, nil) {
				return
			}
		}
	}
}

// collect reads a source to its end or its error.
func collect(source iter.Seq2[Item, error]) (all []Item, err error) {
	for item, err := range source {
		if err != nil {
			return all, err
		}
		item.Value = slices.Clone(item.Value)
		all = append(all, item)
	}
	return all, nil
}

// mustContain fails unless the error says each of the words.
func mustContain(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}
