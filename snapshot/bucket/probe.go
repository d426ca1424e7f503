package bucket

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// How hard [Probe] tries: enough writers to meet, few enough to start quickly.
const (
	probeWriters = 8
	probeRounds  = 3
	probeRetries = 5 // of a round in which the store refused or lost too much
	probeCleanUp = 30 * time.Second
)

// ProbeError says which promise the bucket did not keep.
type ProbeError struct {
	Check string // what was tried
	Seen  string // what came of it
}

func (e *ProbeError) Error() string {
	return "bucket cannot be trusted with the cluster's state: " + e.Check + ": " + e.Seen
}

// Probe proves by trying that the bucket's conditional writes are atomic: racing
// creations, racing swaps, a stale swap, a swap of nothing. It writes below
// "probe/" and removes what it wrote. A broken promise is a [ProbeError]; passing
// is evidence, not proof.
func Probe(ctx context.Context, b Bucket) (err error) {
	p := &prober{bucket: b, prefix: "probe/" + strings.ToLower(rand.Text())}
	defer func() { err = p.cleanUp(context.WithoutCancel(ctx), err) }()
	if err := p.sequential(ctx); err != nil {
		return err
	}
	for range probeRounds {
		if err := p.races(ctx); err != nil {
			return err
		}
	}
	return nil
}

type prober struct {
	bucket Bucket
	prefix string
	keys   []string
	wrote  bool // or may have
}

// key returns a key never used before.
func (p *prober) key() string {
	key := fmt.Sprintf("%s-%d", p.prefix, len(p.keys))
	p.keys = append(p.keys, key)
	return key
}

// cleanUp removes what was written. Of a bucket that is away, or that refuses its
// user, the reason of the probe says it all: the same once more for each key, and
// the time that takes, is worth nothing.
func (p *prober) cleanUp(ctx context.Context, probed error) error {
	if !p.wrote {
		return probed
	}
	ctx, cancel := context.WithTimeout(ctx, probeCleanUp)
	defer cancel()
	var errs []error
	for _, key := range p.keys {
		errs = append(errs, p.bucket.Delete(ctx, key))
	}
	if probed != nil {
		return probed // What is left is garbage, and no reason.
	}
	return errors.Join(errs...)
}

// sequential makes the calls whose outcome one writer alone can judge.
func (p *prober) sequential(ctx context.Context) error {
	key, missing := p.key(), p.key()
	first, err := retry(ctx, func() (ETag, error) { return p.bucket.PutIfAbsent(ctx, key, []byte("first")) })
	p.wrote = err == nil || errors.Is(err, ErrInDoubt)
	if err != nil {
		return fmt.Errorf("probing the bucket: %w", err)
	}
	if _, err := retry(ctx, func() (ETag, error) { return p.bucket.PutIfMatch(ctx, key, []byte("second"), first) }); err != nil {
		return fmt.Errorf("probing the bucket: %w", err)
	}
	refused := []struct {
		check, key, holds string
		call              func() (ETag, error)
	}{
		{"creating an object that exists", key, "second", func() (ETag, error) {
			return p.bucket.PutIfAbsent(ctx, key, []byte("third"))
		}},
		{"swapping with the ETag of an older version", key, "second", func() (ETag, error) {
			return p.bucket.PutIfMatch(ctx, key, []byte("fourth"), first)
		}},
		{"swapping an object that does not exist", missing, "", func() (ETag, error) {
			return p.bucket.PutIfMatch(ctx, missing, []byte("fifth"), first)
		}},
	}
	for _, r := range refused {
		if err := p.expectRefusal(ctx, r.check, r.key, r.holds, r.call); err != nil {
			return err
		}
	}
	return nil
}

// expectRefusal makes a call that must fail on its condition and change nothing.
func (p *prober) expectRefusal(ctx context.Context, check, key, holds string, call func() (ETag, error)) error {
	_, err := retry(ctx, call)
	if err == nil {
		return &ProbeError{check, "succeeded, although its condition did not hold"}
	}
	if !errors.Is(err, ErrConditionFailed) {
		return fmt.Errorf("probing the bucket: %s: %w", check, err)
	}
	o, err := retry(ctx, func() (Object, error) { return p.bucket.Get(ctx, key) })
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("probing the bucket: %w", err)
	}
	if string(o.Body) != holds {
		return &ProbeError{check, fmt.Sprintf("was refused, and the object is %.40q all the same, want %q", o.Body, holds)}
	}
	return nil
}

// races lets writers meet: first to create an object, then to swap it.
func (p *prober) races(ctx context.Context) error {
	key := p.key()
	if err := p.race(ctx, "racing creations", key, func(body []byte) (ETag, error) {
		return p.bucket.PutIfAbsent(ctx, key, body)
	}); err != nil {
		return err
	}
	o, err := retry(ctx, func() (Object, error) { return p.bucket.Get(ctx, key) })
	if err != nil {
		return fmt.Errorf("probing the bucket: %w", err)
	}
	return p.race(ctx, "racing swaps", key, func(body []byte) (ETag, error) {
		return p.bucket.PutIfMatch(ctx, key, body, o.ETag)
	})
}

// race has all writers make the same conditional write at once. One wins, and its
// body is what the object then holds.
func (p *prober) race(ctx context.Context, check, key string, write func([]byte) (ETag, error)) error {
	for try := 0; ; try++ {
		winners, doubts := p.meet(check, try, write)
		switch {
		case len(winners) > 1:
			return &ProbeError{check, fmt.Sprintf("%d of %d writers were told that they had won", len(winners), probeWriters)}
		case len(winners) == 1:
			return p.expectWinner(ctx, check, key, winners[0])
		case try == probeRetries:
			return fmt.Errorf("probing the bucket: %s: nobody won: %w", check, errors.Join(doubts...))
		case len(doubts) == 0:
			return &ProbeError{check, "every writer was told that another had won"}
		}
	}
}

// meet returns the bodies of the writers that won, and the errors of those that
// did not learn their outcome.
func (p *prober) meet(check string, try int, write func([]byte) (ETag, error)) (winners []string, doubts []error) {
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		gate = make(chan struct{})
	)
	for i := range probeWriters {
		wg.Go(func() {
			body := fmt.Sprintf("%s: writer %d, try %d", check, i, try)
			<-gate
			_, err := write([]byte(body))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				winners = append(winners, body)
			case !errors.Is(err, ErrConditionFailed):
				doubts = append(doubts, err)
			}
		})
	}
	close(gate)
	wg.Wait()
	return winners, doubts
}

func (p *prober) expectWinner(ctx context.Context, check, key, winner string) error {
	o, err := retry(ctx, func() (Object, error) { return p.bucket.Get(ctx, key) })
	if err != nil {
		return fmt.Errorf("probing the bucket: %w", err)
	}
	if string(o.Body) != winner {
		return &ProbeError{check, fmt.Sprintf("%q was told that it had won, and the object is %.80q", winner, o.Body)}
	}
	return nil
}

// retry makes a call again while the bucket says that this is worth it.
func retry[T any](ctx context.Context, call func() (T, error)) (T, error) {
	for try := 0; ; try++ {
		v, err := call()
		if err == nil || !IsRetryable(err) || try == probeRetries || ctx.Err() != nil {
			return v, err
		}
	}
}
