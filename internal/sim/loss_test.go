package sim

import (
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// TestALostDiskTakesOnlyWhatWasNotArchived is about the checker: a register may go back to
// what the archive has of it, and to nothing older.
func TestALostDiskTakesOnlyWhatWasNotArchived(t *testing.T) {
	const unanswered = math.MaxInt64
	writes := []porcupine.Operation{
		{Input: registerOp{kind: put, value: "old"}, Call: 1, Return: 2},
		{Input: registerOp{kind: put, value: "archived"}, Call: 3, Return: 4},
		{Input: registerOp{kind: put, value: "late"}, Call: 5, Return: 6},
		{Input: registerOp{kind: remove}, Call: 7, Return: unanswered},
	}
	ended := []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond, unanswered}
	for _, c := range []struct {
		name, read string
		agreed     bool
		key        string
		want       porcupine.CheckResult
	}{
		{"what was there", "late", false, "lost", porcupine.Ok},
		{"what the archive has", "archived", false, "lost", porcupine.Ok},
		{"what nobody was told", nothing, false, "lost", porcupine.Ok},
		{"older than the archive", "old", false, "lost", porcupine.Illegal},
		{"older than the archive, and somebody agreed", "old", true, "lost", porcupine.Ok},
		{"of another node", "archived", false, "kept", porcupine.Illegal},
	} {
		w := &World{trace: newTrace()}
		l := &loss{w: w, keys: map[string]bool{"lost": true}, tick: 100, archived: 50 * time.Millisecond, agreed: c.agreed}
		read := porcupine.Operation{Input: registerOp{kind: get}, Output: c.read, Call: 101, Return: 102}
		history := l.of(c.key, append(writes[:len(writes):len(writes)], read), append(ended[:len(ended):len(ended)], time.Second))
		if got := porcupine.CheckOperationsTimeout(lossyModel.ToModel(), history, time.Minute); got != c.want {
			t.Errorf("%s: a read gives %q after the loss, and the checker says %s, want %s", c.name, c.read, got, c.want)
		}
	}
}
