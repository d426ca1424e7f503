package sim

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/quoitdb/quoit/client"
)

// registers are keys that many clients write, delete and read. What they answer must be
// what one register each could have answered.
type registers struct {
	w    *World
	keys []string

	mu      sync.Mutex
	history []porcupine.Operation // guarded by mu
	ended   []time.Duration       // when each of them was answered; guarded by mu
}

// registerOp is what a client asked of a register.
type registerOp struct {
	kind  byte // one of the constants below
	key   string
	value string
	may   []string // what a rollback may bring
}

func (op registerOp) writes() bool { return op.kind == put || op.kind == remove }

const (
	get        = 'g'
	getVersion = 'v'
	getAt      = 'a' // of any node, whoever owns it
	put        = 'p'
	remove     = 'd'
	rollback   = 'x' // by the loss of a disk
)

// nothing is what a register holds that is not there.
const nothing = ""

func newRegisters(w *World) *registers {
	return &registers{w: w, keys: w.keyNames("r", w.plan.registers)}
}

func (r *registers) step(ctx context.Context, c *client.Client, d dice, id, n int) {
	op := registerOp{kind: one[byte](d, get, get, getVersion, getVersion, getAt, put, put, put, put, put, put, remove), key: one(d, r.keys...)}
	at := one(d, r.w.nodes...).addr
	if op.kind == put {
		op.value = fmt.Sprintf("%d.%d%s", id, n, strings.Repeat(".", d.IntN(r.w.plan.padding+1)))
		r.w.know.issue(op.key, op.value)
	}
	_ = r.operate(ctx, c, op, at, id) // It is in the history.
}

// operate does one operation and notes what came of it.
func (r *registers) operate(ctx context.Context, c *client.Client, op registerOp, at string, id int) error {
	var version client.Version
	got, call := nothing, r.w.know.tick()
	var b []byte
	var err error
	switch op.kind {
	case get:
		b, err = c.Get(ctx, op.key)
	case getVersion:
		b, version, err = c.GetVersion(ctx, op.key)
	case getAt:
		b, err = getFrom(ctx, c, at, op.key)
	case put:
		err = c.Put(ctx, op.key, []byte(op.value))
	case remove:
		_, err = c.Delete(ctx, op.key)
	}
	back := r.w.know.tick()
	r.w.trace.note("op", fmt.Sprintf("c%d %c %s %.12s -> %.12s %v", id+1, op.kind, op.key, op.value, b, err), nil)
	ended := time.Since(r.w.trace.began)
	if op.writes() {
		switch r.w.outcomeOf(err) {
		case refused:
			return err
		case unknown:
			back, ended = math.MaxInt64, math.MaxInt64
		}
	} else {
		found, answered := r.w.read(err)
		if !answered {
			return err
		}
		if found {
			got = string(b)
			r.w.know.told(op.key, got, version)
		}
		if version > 0 {
			r.w.know.sight(op.key, call, back, version)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, ended)
	r.history = append(r.history, porcupine.Operation{ClientId: id, Input: op, Call: call, Output: got, Return: back})
	return nil
}

// getFrom asks one node. Only what owns the key may answer.
func getFrom(ctx context.Context, c *client.Client, at, key string) ([]byte, error) {
	reply, err := c.DoNode(ctx, at, "GET", key)
	switch {
	case err != nil:
		return nil, err
	case reply.Null:
		return nil, client.ErrNotFound
	}
	return reply.Bytes, nil
}

func (r *registers) audit(ctx context.Context, when string) {
	for _, key := range r.keys {
		if err := r.operate(ctx, r.w.auditor, registerOp{kind: getVersion, key: key}, "", r.w.plan.clients); err != nil {
			r.w.fail("liveness: %s %s cannot be read: %v", when, key, err)
		}
	}
}

// checkPatience is real time. A checker that has not decided by then has decided nothing,
// which fails the run.
const checkPatience = time.Minute

func (r *registers) check() {
	byKey, ended := map[string][]porcupine.Operation{}, map[string][]time.Duration{}
	for i, op := range r.history {
		key := op.Input.(registerOp).key
		byKey[key], ended[key] = append(byKey[key], op), append(ended[key], r.ended[i])
	}
	model := registerModel
	if r.w.loss != nil {
		model = lossyModel.ToModel()
		for key, history := range byKey {
			byKey[key] = r.w.loss.of(key, history, ended[key])
		}
	}
	for _, key := range r.keys {
		r.w.trace.count("operations checked", len(byKey[key]))
		switch porcupine.CheckOperationsTimeout(model, byKey[key], checkPatience) {
		case porcupine.Illegal:
			r.w.fail("linearizability: %s did what no register does:\n%s", key, shorten(model, byKey[key]))
		case porcupine.Unknown:
			r.w.trace.count("checker timeout", 1)
			r.w.fail("the checker of %s does not come to an end: nothing is decided", key)
		case porcupine.Ok:
			r.w.trace.count("histories checked", 1)
		}
	}
	r.w.know.checkVersions(r.keys)
}

// registerModel is what a register is: it holds what was put last.
var registerModel = porcupine.Model{
	Init: func() any { return nothing },
	Step: func(state, input, output any) (bool, any) {
		switch op := input.(registerOp); op.kind {
		case put:
			return true, op.value
		case remove:
			return true, nothing
		}
		return output == state, state
	},
}

// shorten finds a short beginning of a history that is wrong already, and prints its end.
func shorten(model porcupine.Model, history []porcupine.Operation) string {
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	n := 1 + slices.IndexFunc(history, func(op porcupine.Operation) bool {
		i := slices.IndexFunc(history, func(o porcupine.Operation) bool { return o.Call == op.Call })
		return porcupine.CheckOperationsTimeout(model, history[:i+1], time.Second) == porcupine.Illegal
	})
	text := ""
	for _, o := range history[max(0, n-12):n] {
		op := o.Input.(registerOp)
		back := fmt.Sprint(o.Return)
		if o.Return == math.MaxInt64 {
			back = "?"
		}
		text += fmt.Sprintf("    %d to %s: c%d %c %.12q %.12q\n", o.Call, back, o.ClientId+1, op.kind, op.value, o.Output)
	}
	return text
}
