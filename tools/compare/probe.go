package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// probe is an open load: requests leave when they are due, whether the ones
// before have been answered or not, so that a pause of the server shows in all of
// them. Half are reads and half are writes, of uniform keys that exist.
type probe struct {
	stop context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex
	answers []answered // guarded by mu
	errs    []error    // guarded by mu
}

type answered struct {
	sent time.Time
	took time.Duration
}

const probeConnections = 8

// startProbe begins to send rate requests a second.
func startProbe(ctx context.Context, s *server, rate, keys int) (*probe, error) {
	p := &probe{}
	ctx, p.stop = context.WithCancel(ctx)
	for i := range probeConnections {
		c, err := dial(s.address())
		if err != nil {
			return nil, errors.Join(err, p.end())
		}
		random := rand.New(rand.NewPCG(1, uint64(i)))
		sent := make(chan time.Time, 1<<16) // as many as may be under way
		p.work.Go(func() { p.send(ctx, c, sent, random, time.Second*probeConnections/time.Duration(rate), keys) })
		p.work.Go(func() { p.receive(c, sent) })
	}
	return p, nil
}

// send sends a request whenever one is due.
func (p *probe) send(ctx context.Context, c *talk, sent chan time.Time, random *rand.Rand, every time.Duration, keys int) {
	defer close(sent)
	value := halfRandom(packed, random.Uint64())
	for due := time.Now().Add(time.Duration(random.Int64N(int64(every)))); ; due = due.Add(every) {
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			return
		}
		key := random.IntN(keys)
		request := command(nil, "GET", keyOf(key))
		if random.IntN(2) == 0 {
			request = command(nil, "SET", keyOf(key), string(value(key)))
		}
		sent <- time.Now()
		if _, err := c.Write(request); err != nil {
			p.failed(err)
			return
		}
	}
}

// receive notes how long each answer took.
func (p *probe) receive(c *talk, sent chan time.Time) {
	defer c.Close()
	for at := range sent {
		if _, err := c.reply(); err != nil {
			p.failed(err)
			return
		}
		took := time.Since(at)
		p.mu.Lock()
		p.answers = append(p.answers, answered{at, took})
		p.mu.Unlock()
	}
}

func (p *probe) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errs = append(p.errs, fmt.Errorf("traffic: %w", err))
	p.stop()
}

// end stops the load, and says what went wrong.
func (p *probe) end() error {
	p.stop()
	p.work.Wait()
	return errors.Join(p.errs...)
}

// between returns how long those took that were sent in a time. All of them must
// have been answered.
func (p *probe) between(from, to time.Time) (list []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.answers {
		if !a.sent.Before(from) && a.sent.Before(to) {
			list = append(list, a.took)
		}
	}
	return list
}

// quantile returns the value that a share of the list does not exceed; 1 is the
// longest. It sorts the list.
func quantile(list []time.Duration, share float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(len(list)-1, int(share*float64(len(list))))]
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
