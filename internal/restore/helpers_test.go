package restore

import (
	"context"
	"fmt"
	"testing"

	"github.com/quoitdb/quoit/internal/restoretest"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
)

const startedAt = restoretest.StartedAt

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

// contents reads a moment as keys and values.
func contents(t testing.TB, m *Moment) map[string]string {
	t.Helper()
	found := make(chan [2]string)
	all := map[string]string{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for kv := range found {
			if _, twice := all[kv[0]]; twice {
				t.Errorf("key %s comes twice", kv[0])
			}
			all[kv[0]] = kv[1]
		}
	}()
	err := m.Scan(context.Background(), 3, func(_ int, e snapshot.Entry) error {
		if e.Position != ring.PositionOf(e.Key) {
			return fmt.Errorf("key %q at position %s", e.Key, e.Position)
		}
		found <- [2]string{string(e.Key), string(e.Value)}
		return nil
	})
	close(found)
	<-done
	must(t, err)
	return all
}
