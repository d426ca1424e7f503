package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/protocol"
)

// workload is one kind of thing that clients do, and what is known of it.
type workload interface {
	// step does one thing, as client id for the n-th time.
	step(ctx context.Context, c *client.Client, d dice, id, n int)
	// audit reads everything when the cluster has come to rest.
	audit(ctx context.Context, when string)
	// check looks at the whole history when the run is over.
	check()
}

func clientHost(i int) string { return fmt.Sprintf("c%d", i+1) }

// openClient opens one that may do everything, unless it is given another token.
func (w *World) openClient(ctx context.Context, p *process, health time.Duration, other ...client.Option) (*client.Client, error) {
	seeds := []string{w.manager.addr}
	for _, m := range w.nodes {
		seeds = append(seeds, m.addr)
	}
	dial := w.net.dialler(p)
	o := append(w.with(w.everything), client.WithDialTimeout(time.Second), client.WithHealthInterval(health),
		client.WithDialer(func(ctx context.Context, addr string) (client.Conn, error) { return dial(ctx, addr) }))
	return client.Open(ctx, seeds, append(o, other...)...)
}

// form waits until the cluster answers.
func (w *World) form(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	auditor, err := w.openClient(ctx, &process{w: w, host: "c0", name: "auditor"}, 2*time.Second)
	for ; err == nil; _ = sleep(ctx, 10*time.Millisecond) {
		if _, err = auditor.Get(ctx, "nothing"); errors.Is(err, client.ErrNotFound) {
			break
		}
		err = ctx.Err()
	}
	if auditor != nil {
		w.auditor = auditor
	}
	if !errors.Is(err, client.ErrNotFound) {
		w.fail("liveness: the cluster does not form within %s: %v", patience, err)
		return false
	}
	w.trace.note("formed", "", nil)
	return true
}

// assign makes the workloads of the plan.
func (w *World) assign(ctx context.Context) bool {
	w.know = newKnowledge(w)
	r := newRegisters(w)
	w.registers = r
	if w.plan.lossy {
		w.loss = &loss{w: w, keys: map[string]bool{}}
	}
	w.works = []workload{r, r}
	if w.plan.counters {
		w.works = append(w.works, newCounters(w))
	}
	if w.plan.mortals {
		w.works = append(w.works, newMortals(w))
	}
	if w.plan.scans {
		s := newScans(w)
		if !s.fill(ctx) {
			return false
		}
		w.works = append(w.works, s)
	}
	if w.trust != nil {
		var err error
		if w.scopes, err = newScopes(ctx, w, r); err != nil {
			w.fail("token: a client that may read some keys does not open: %v", err)
			return false
		}
		w.works = append(w.works, w.scopes)
	}
	if w.plan.watches {
		v := newWatches(w, r)
		go v.watch(ctx)
		w.watching = v
	}
	return true
}

// work starts the clients.
func (w *World) work(ctx context.Context) {
	for i := range w.plan.clients {
		w.working.Go(func() { w.client(ctx, i) })
	}
}

// client is one client's life.
func (w *World) client(ctx context.Context, i int) {
	d := w.dice(fmt.Sprint("client ", i))
	c, err := w.openClient(ctx, &process{w: w, host: clientHost(i), name: clientHost(i)}, between(d, 300*time.Millisecond, 2*time.Second))
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	for n := 1; sleep(ctx, between(d, w.plan.thinking/8, 15*w.plan.thinking/8)); n++ {
		op, cancel := context.WithTimeout(context.WithoutCancel(ctx), between(d, 100*time.Millisecond, 3*time.Second))
		one(d, w.works...).step(op, c, d, i, n)
		cancel()
	}
}

// outcome is what a client knows of a write.
type outcome byte

const (
	done    outcome = iota + 1
	refused         // it was not done, and never will be
	unknown         // it may be done, now or later
)

// outcomeOf counts it, too.
func (w *World) outcomeOf(err error) outcome {
	switch {
	case err == nil:
		w.trace.count("writes acknowledged", 1)
		return done
	case errors.Is(err, client.ErrOutcomeUnknown):
		w.trace.count("writes of unknown outcome", 1)
		return unknown
	}
	w.trace.count("writes refused", 1)
	if full := new(client.ServerError); errors.As(err, &full) && full.Code == protocol.READONLY {
		w.trace.count("write refused by a full disk", 1)
	}
	return refused
}

// read says whether a read has an answer; not found is one.
func (w *World) read(err error) (found, answered bool) {
	switch {
	case err == nil:
		w.trace.count("reads answered", 1)
		return true, true
	case errors.Is(err, client.ErrNotFound):
		w.trace.count("reads answered", 1)
		return false, true
	}
	w.trace.count("reads failed", 1)
	return false, false
}

// audit reads everything.
func (w *World) audit(when string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i, work := range w.works {
		if i != 1 { // the registers are there twice, to be done twice as often
			work.audit(ctx, when)
		}
	}
	if w.watching != nil {
		w.watching.audit(ctx, when)
	}
}

// check looks at all histories, outside of virtual time.
func (w *World) check() {
	for i, work := range w.works {
		if i != 1 {
			work.check()
		}
	}
	if w.watching != nil {
		w.watching.check()
	}
}
