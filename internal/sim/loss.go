package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
)

// loss is a disk that is lost while clients write. What docs/reliability.md says of it is
// all that may be missing: writes to keys of that node that its archive did not have.
type loss struct {
	w *World
	m *machine

	mu       sync.Mutex
	tick     int64           // when, 0: not yet; guarded by mu
	archived time.Duration   // what was acknowledged before is in the bucket; guarded by mu
	keys     map[string]bool // of registers that were the node's; guarded by mu
	agreed   bool            // somebody has said that it may go on without what is missing; guarded by mu
}

// loseDiskEarly takes one node's disk, once in a run.
func (w *World) loseDiskEarly(d dice) {
	l := w.loss
	m := w.nodes[d.IntN(w.plan.nodes)]
	if l == nil || m.running() == nil {
		return
	}
	l.mu.Lock()
	again := l.tick > 0
	l.mu.Unlock()
	archived, err := l.archivedOf(m)
	if again || err != nil || !m.crash(nil, "its disk is lost", false) {
		return
	}
	m.disk.set(func(d *disk) { d.mem = vfs.NewMem() })
	l.mu.Lock()
	l.m, l.archived, l.tick = m, archived, w.know.tick()
	l.mu.Unlock()
	w.know.forget()
	w.trace.fault("disk lost before everything was in the bucket", fmt.Sprint(m.host, ", which has what is older than ", archived))
	w.watcher.mu.Lock()
	document := w.watcher.last
	w.watcher.mu.Unlock()
	l.notice(document)
	time.AfterFunc(between(d, 10*time.Millisecond, 500*time.Millisecond), m.boot)
}

// archivedOf is up to when the bucket has all that a node has acknowledged.
func (l *loss) archivedOf(m *machine) (time.Duration, error) {
	s, err := snapshot.NewStore(l.w.bucket.memory, m.addr, snapshot.StoreOptions{})
	if err != nil {
		return 0, err
	}
	h, err := s.Head(context.Background())
	if errors.Is(err, snapshot.ErrNoSnapshot) {
		return 0, nil
	}
	return time.UnixMilli(h.Complete.At).Sub(l.w.trace.began), err
}

// notice adds the keys that are the node's now: until it is back, more may become so, by
// a commit that was under way.
func (l *loss) notice(d cluster.Document) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tick == 0 {
		return
	}
	owned, err := d.Ownership()
	if err != nil {
		return
	}
	for _, key := range l.w.registers.keys {
		if owned.Owner(ring.PositionOfString(key)) == l.m.addr {
			l.keys[key] = true
		}
	}
}

// refused is told why a node has ended. One that will not go on without what is missing
// is told that it may: then what is missing is not known.
func (l *loss) refused(host string, err error) {
	if !strings.Contains(err.Error(), "QUOIT_ALLOW_") { // what it asks to be set
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tick > 0 && l.m.host == host && !l.agreed {
		l.agreed = true
		l.w.trace.fault("node goes on without what its lost disk had, as it was told", host)
	}
}

// took says whether the disk of a node is the one that was lost.
func (l *loss) took(m *machine) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m == m
}

// agrees says whether a node is to be started so.
func (l *loss) agrees(m *machine) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.agreed && l.m == m
}

// of is the loss as something that a register does: it becomes what it may have been at
// some moment after the archive's end.
func (l *loss) of(key string, history []porcupine.Operation, ended []time.Duration) []porcupine.Operation {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.keys[key] {
		return history
	}
	op := registerOp{kind: rollback, key: key, may: l.values(history, ended)}
	l.w.trace.count("registers of a lost disk checked", 1)
	return append(history, porcupine.Operation{ClientId: l.w.plan.clients + 1, Input: op, Call: l.tick, Return: l.tick})
}

// values are what may be there again, guarded by mu.
func (l *loss) values(history []porcupine.Operation, ended []time.Duration) []string {
	var kept int64 // the latest call among the writes that are archived for sure
	for i, op := range history {
		if in := op.Input.(registerOp); in.writes() && l.isArchived(ended[i]) {
			kept = max(kept, op.Call)
		}
	}
	var may []string
	if kept == 0 {
		may = append(may, nothing)
	}
	for i, op := range history {
		in := op.Input.(registerOp)
		if !in.writes() || op.Call > l.tick || op.Return < kept && l.isArchived(ended[i]) {
			continue
		}
		if !l.isArchived(ended[i]) && op.Return < math.MaxInt64 {
			l.w.trace.count("writes that a lost disk may have taken along", 1)
		}
		may = append(may, in.value)
	}
	return may
}

// isArchived says whether a write that was acknowledged at some time must be in the
// bucket, guarded by mu. Versions know milliseconds.
func (l *loss) isArchived(at time.Duration) bool {
	return !l.agreed && at < l.archived-time.Millisecond
}

// lossyModel is a register on a disk that was lost.
var lossyModel = porcupine.NondeterministicModel{
	Init: func() []any { return []any{nothing} },
	Step: func(state, input, output any) []any {
		op := input.(registerOp)
		if op.kind == rollback {
			states := []any{state}
			for _, v := range op.may {
				states = append(states, v)
			}
			return states
		}
		if ok, next := registerModel.Step(state, input, output); ok {
			return []any{next}
		}
		return nil
	},
}
