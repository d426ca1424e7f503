package cluster

import (
	"strings"
	"testing"

	"github.com/quoitdb/quoit/ring"
)

// TestErrorsSayWhatToDo: a person reads them, in a log or on a terminal.
func TestErrorsSayWhatToDo(t *testing.T) {
	d := clusterOf(t, a, b)
	_, foreign := d.Register(Registration{Cluster: "other", ID: "id-c", Address: c, Tokens: 1})
	_, taken := d.Register(Registration{ID: "id-new", Address: a, Tokens: 1})
	_, nobody := d.Join("nobody:1")
	_, gone := d.Abort("m7")
	held := &HeldError{Held{Move: "m7", Range: ring.Range{Start: 1, End: 2}}, "it is not here"}
	for _, q := range []struct {
		err  error
		want []string
	}{
		{foreign, []string{"cluster", `"other"`, `"test"`, "data folder"}},
		{taken, []string{"node id", `"id-new"`, `"id-a"`, a, "forget"}},
		{nobody, []string{"nobody:1", "no such member"}},
		{gone, []string{"m7", "unknown move"}},
		{held, []string{"(1, 2]", "m7", "it is not here", "restore"}},
	} {
		for _, want := range q.want {
			if !strings.Contains(q.err.Error(), want) {
				t.Errorf("%q does not say %q", q.err, want)
			}
		}
	}
}
