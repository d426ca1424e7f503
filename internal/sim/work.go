package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/quoitdb/quoit/client"
)

// ledger is what clients have asked for and been answered, for the checks.
type ledger struct {
	clock atomic.Int64 // orders calls and returns

	registers []string

	mu      sync.Mutex
	history []porcupine.Operation // guarded by mu
	admin   *client.Client
}

func clientHost(i int) string { return fmt.Sprintf("c%d", i+1) }

func (l *ledger) begin(w *World) {
	l.registers = w.keyNames("r", w.plan.registers)
}

func (w *World) openClient(ctx context.Context, p *process, health time.Duration) (*client.Client, error) {
	seeds := []string{w.manager.addr}
	for _, m := range w.nodes {
		seeds = append(seeds, m.addr)
	}
	dial := w.net.dialler(p)
	return client.Open(ctx, seeds, client.WithDialTimeout(time.Second), client.WithHealthInterval(health),
		client.WithDialer(func(ctx context.Context, addr string) (client.Conn, error) {
			return dial(ctx, addr)
		}))
}

// work starts the clients, when the cluster has formed.
func (w *World) work(ctx context.Context) bool {
	p := &process{w: w, host: "c0", name: "auditor"}
	formed, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	auditor, err := w.openClient(formed, p, 2*time.Second)
	for ; err == nil; _ = sleep(formed, 10*time.Millisecond) {
		if _, err := auditor.Get(formed, "nothing"); errors.Is(err, client.ErrNotFound) {
			break
		}
		err = formed.Err()
	}
	if err != nil {
		w.fail("liveness: the cluster does not form within %s: %v", patience, err)
		return false
	}
	w.ledger.admin = auditor
	w.trace.note("formed", "", nil)
	for i := range w.plan.clients {
		w.working.Go(func() { w.client(ctx, i) })
	}
	return true
}

// client is one client's life.
func (w *World) client(ctx context.Context, i int) {
	d := w.dice(fmt.Sprint("client ", i))
	p := &process{w: w, host: clientHost(i), name: clientHost(i)}
	c, err := w.openClient(ctx, p, between(d, 300*time.Millisecond, 2*time.Second))
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	for n := 1; sleep(ctx, between(d, w.plan.thinking/8, 15*w.plan.thinking/8)); n++ {
		op, cancel := context.WithTimeout(context.WithoutCancel(ctx), between(d, 100*time.Millisecond, 3*time.Second))
		w.register(op, c, d, i, n)
		cancel()
	}
}

// registerOp is what a client asked of a register.
type registerOp struct {
	kind  byte // 'r', 'w' or 'd'
	key   string
	value string
}

const nothing = "" // what a register holds that is not there

func (w *World) register(ctx context.Context, c *client.Client, d dice, id, n int) {
	op := registerOp{kind: one[byte](d, 'r', 'r', 'r', 'w', 'w', 'w', 'w', 'd'), key: one(d, w.ledger.registers...)}
	if op.kind == 'w' {
		op.value = fmt.Sprintf("%d.%d", id, n)
	}
	_, _ = w.operate(ctx, c, op, id) // It is in the ledger.
}

// operate does an operation on a register and notes what came of it.
func (w *World) operate(ctx context.Context, c *client.Client, op registerOp, id int) (string, error) {
	var got string
	var err error
	call := w.ledger.clock.Add(1)
	switch op.kind {
	case 'r':
		var b []byte
		b, err = c.Get(ctx, op.key)
		if got = string(b); errors.Is(err, client.ErrNotFound) {
			got, err = nothing, nil
		}
	case 'w':
		err = c.Put(ctx, op.key, []byte(op.value))
	case 'd':
		_, err = c.Delete(ctx, op.key)
	}
	w.trace.note("op", fmt.Sprintf("c%d %c %s %s -> %s %v", id+1, op.kind, op.key, op.value, got, err), nil)
	w.ledger.add(w, porcupine.Operation{ClientId: id, Input: op, Call: call, Output: got, Return: w.ledger.clock.Add(1)}, op.kind != 'r', err)
	return got, err
}

// add notes an operation. What failed without an answer may happen until the end of time;
// a read that failed says nothing.
func (l *ledger) add(w *World, op porcupine.Operation, writes bool, err error) {
	switch {
	case err == nil:
		w.trace.count("operations acknowledged", 1)
	case !writes:
		w.trace.count("reads failed", 1)
		return
	case errors.Is(err, client.ErrOutcomeUnknown):
		w.trace.count("writes of unknown outcome", 1)
		op.Return = math.MaxInt64
	default:
		w.trace.count("writes refused", 1)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history = append(l.history, op)
}

// audit reads every key.
func (w *World) audit(when string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, key := range w.ledger.registers {
		if _, err := w.operate(ctx, w.ledger.admin, registerOp{kind: 'r', key: key}, w.plan.clients); err != nil {
			w.fail("%s %s cannot be read: %v", when, key, err)
		}
	}
}
