package migrate

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/quoitdb/quoit/node/engine"
)

// registerOp is one operation on one key, and registerModel what a key is: it holds
// what was put last.
type registerOp struct {
	key   int
	value string // "" to read
}

var registerModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		var parts [][]porcupine.Operation
		byKey := map[int]int{}
		for _, op := range history {
			key := op.Input.(registerOp).key
			i, ok := byKey[key]
			if !ok {
				i = len(parts)
				byKey[key] = i
				parts = append(parts, nil)
			}
			parts[i] = append(parts[i], op)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if op := input.(registerOp); op.value != "" {
			return true, op.value
		}
		return output == state, state
	},
}

// TestAMoveIsLinearizable has clients write and read a few registers, each at
// whichever node it likes to ask first, while their range moves; and demands that
// the history is one that a single register could have had. It runs in real time.
func TestAMoveIsLinearizable(t *testing.T) {
	for round := range 5 {
		w := newWorld(t, small)
		w.fill(200)
		w.b.points.On(pointTargetCopy, func() error { wait(2 * time.Millisecond); return nil })
		var clock atomic.Int64
		histories, quit, running := make([][]porcupine.Operation, 6), make(chan struct{}), sync.WaitGroup{}
		for i := range histories {
			running.Go(func() { histories[i] = w.registers(i, round, &clock, quit) })
		}
		w.start()
		w.settled()
		wait(2 * time.Millisecond)
		close(quit)
		running.Wait()
		w.mustOwn(w.b)
		var all []porcupine.Operation
		for _, h := range histories {
			all = append(all, h...)
		}
		w.stop()
		t.Logf("%d operations", len(all))
		if got := porcupine.CheckOperationsTimeout(registerModel, all, 5*time.Minute); got != porcupine.Ok {
			t.Fatalf("%d operations: %v", len(all), got)
		}
	}
}

// registers operates until told to stop, and returns what it did.
func (w *world) registers(id, round int, clock *atomic.Int64, quit <-chan struct{}) (history []porcupine.Operation) {
	c, rnd := w.client(), rand.New(rand.NewPCG(uint64(id), uint64(round)))
	for n := 0; len(history) < 2000; n++ {
		select {
		case <-quit:
			return history
		default:
			runtime.Gosched()
		}
		op := registerOp{key: 20_000 + rnd.IntN(4)}
		if rnd.IntN(2) == 0 {
			op.value = strconv.Itoa(id) + "." + strconv.Itoa(n)
		}
		pos, key := w.key(op.key)
		got, call := "", clock.Add(1)
		err := c.do(rnd.IntN(2), func(s *engine.Session) error {
			if op.value != "" {
				_, err := s.Put(pos, key, []byte(op.value), engine.PutOptions{})
				return err
			}
			got = ""
			err := s.Get(pos, key, func(it engine.Item) { got = string(it.Value) })
			if errors.Is(err, engine.ErrNotFound) {
				return nil
			}
			return err
		})
		if err != nil {
			w.t.Error(err)
			return history
		}
		history = append(history, porcupine.Operation{ClientId: id, Input: op, Call: call, Output: got, Return: clock.Add(1)})
	}
	return history
}
