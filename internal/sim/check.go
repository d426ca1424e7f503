package sim

import (
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// registerModel is what a register is: it holds what was put last.
var registerModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		var keys []string
		for _, op := range history {
			key := op.Input.(registerOp).key
			if byKey[key] == nil {
				keys = append(keys, key)
			}
			byKey[key] = append(byKey[key], op)
		}
		slices.Sort(keys)
		var parts [][]porcupine.Operation
		for _, key := range keys {
			parts = append(parts, byKey[key])
		}
		return parts
	},
	Init: func() any { return nothing },
	Step: func(state, input, output any) (bool, any) {
		switch op := input.(registerOp); op.kind {
		case 'w':
			return true, op.value
		case 'd':
			return true, nothing
		}
		return output == state, state
	},
}

// checkPatience is real time. A checker that has not decided by then has decided nothing,
// which fails the run.
const checkPatience = time.Minute

func (l *ledger) check(w *World) {
	for _, part := range registerModel.Partition(l.history) {
		switch porcupine.CheckOperationsTimeout(registerModel, part, checkPatience) {
		case porcupine.Illegal:
			w.failures = append(w.failures, "register "+part[0].Input.(registerOp).key+" did what no register does")
		case porcupine.Unknown:
			w.trace.fired["checker timeout"]++
			w.failures = append(w.failures, "register "+part[0].Input.(registerOp).key+": the checker does not come to an end")
		case porcupine.Ok:
			w.trace.fired["histories checked"]++
		}
	}
	w.trace.fired["operations checked"] += len(l.history)
}
