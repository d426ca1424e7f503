package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/quoitdb/quoit/client"
)

// scans walk over keys that are there all the time: each must be given exactly once.
type scans struct {
	w    *World
	keys []string
}

func newScans(w *World) *scans { return &scans{w: w, keys: w.keyNames("s", 12)} }

// fill writes the keys before the faults begin.
func (s *scans) fill(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, key := range s.keys {
		s.w.know.issue(key, key)
		for {
			err := s.w.auditor.Put(ctx, key, []byte(key))
			if err == nil {
				break
			}
			if !sleep(ctx, 10*time.Millisecond) {
				s.w.fail("liveness: %s cannot be written before any fault: %v", key, err)
				return false
			}
		}
	}
	return true
}

func (s *scans) step(ctx context.Context, c *client.Client, d dice, id, _ int) {
	_ = s.scan(ctx, c, client.ScanOptions{Prefix: "s", Count: between(d, 1, 20), Values: d.chance(0.5)}, id) // It is counted.
}

func (s *scans) scan(ctx context.Context, c *client.Client, o client.ScanOptions, id int) error {
	seen := map[string]int{}
	for e, err := range c.Scan(ctx, o) {
		if err != nil {
			s.w.trace.note("op", fmt.Sprintf("c%d scan -> %v", id+1, err), nil)
			s.w.trace.count("scans failed", 1)
			return err
		}
		seen[e.Key]++
		if o.Values {
			s.w.know.told(e.Key, string(e.Value), e.Version)
		}
	}
	s.w.trace.note("op", fmt.Sprintf("c%d scan -> %d", id+1, len(seen)), nil)
	s.w.trace.count("scans checked", 1)
	for _, key := range s.keys {
		if n := seen[key]; n != 1 {
			s.w.fail("scan: %s is there all the time and was given %d times", key, n)
		}
		delete(seen, key)
	}
	for key := range seen {
		s.w.fail("scan: %s was given, which nobody wrote", key)
	}
	return nil
}

func (s *scans) audit(ctx context.Context, when string) {
	if err := s.scan(ctx, s.w.auditor, client.ScanOptions{Prefix: "s", Values: true}, s.w.plan.clients); err != nil {
		s.w.fail("liveness: %s no scan comes to its end: %v", when, err)
	}
}

func (s *scans) check() {}
