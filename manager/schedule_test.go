package manager

import (
	"fmt"
	"slices"
	"testing"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/ring"
)

// moving returns a document with planned moves, "source>target" each, one beside the
// other on the ring; a "!" behind it makes it committed.
func moving(moves ...string) cluster.Document {
	var d cluster.Document
	for i, m := range moves {
		move := cluster.Move{
			ID: cluster.MoveID(fmt.Sprintf("m%d", i+1)), Phase: cluster.Planned,
			Range:  ring.Range{Start: ring.Position(i * 1000), End: ring.Position(i*1000 + 1000)},
			Source: m[:1], Target: m[2:3],
		}
		if len(m) > 3 {
			move.Phase = cluster.Committed
		}
		d.Moves = append(d.Moves, move)
	}
	return d
}

func TestSchedule(t *testing.T) {
	for _, c := range []struct {
		name    string
		moves   []string
		asked   []cluster.MoveID
		down    string
		paused  bool
		perNode int
		want    []cluster.MoveID
	}{
		{name: "nothing to do"},
		{name: "all of a few", moves: []string{"a>b", "b>c"}, perNode: 4, want: []cluster.MoveID{"m1", "m2"}},
		{name: "so many from one node", moves: []string{"a>b", "a>c", "a>d", "b>a"}, perNode: 2, want: []cluster.MoveID{"m1", "m2", "m4"}},
		{name: "twice as many to one node", moves: []string{"a>x", "b>x", "c>x"}, perNode: 1, want: []cluster.MoveID{"m1", "m2"}},
		{name: "those that run come first", moves: []string{"a>b", "a>c"}, asked: []cluster.MoveID{"m2"}, perNode: 1, want: []cluster.MoveID{"m2"}},
		{name: "committed ones need nobody", moves: []string{"a>b!", "a>c"}, asked: []cluster.MoveID{"m1"}, perNode: 1, want: []cluster.MoveID{"m2"}},
		{name: "not to a node that is down", moves: []string{"a>b", "a>c"}, down: "b", perNode: 4, want: []cluster.MoveID{"m2"}},
		{name: "not from a node that is down", moves: []string{"a>b", "c>b"}, down: "a", perNode: 4, want: []cluster.MoveID{"m2"}},
		{name: "what hangs at a node that is down goes on", moves: []string{"a>b"}, asked: []cluster.MoveID{"m1"}, down: "b", perNode: 4, want: []cluster.MoveID{"m1"}},
		{name: "and keeps no place", moves: []string{"a>b", "a>c"}, asked: []cluster.MoveID{"m1"}, down: "b", perNode: 1, want: []cluster.MoveID{"m1", "m2"}},
		{name: "paused", moves: []string{"a>b", "b>a"}, asked: []cluster.MoveID{"m2"}, paused: true, perNode: 4, want: []cluster.MoveID{"m2"}},
		{name: "what is gone is not asked for", moves: []string{"a>b"}, asked: []cluster.MoveID{"m7"}, perNode: 4, want: []cluster.MoveID{"m1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := moving(c.moves...)
			d.Settings.MovesPaused = c.paused
			asked := make(map[cluster.MoveID]bool)
			for _, id := range c.asked {
				asked[id] = true
			}
			up := func(address string) bool { return address != c.down }
			var got []cluster.MoveID
			for _, m := range schedule(d, asked, up, c.perNode) {
				got = append(got, m.ID)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestScheduleIsStable: asked again with its own answer it gives the same, and a
// manager that has just started starts no more than one that has run for long.
func TestScheduleIsStable(t *testing.T) {
	var moves []string
	for i := range 60 {
		source, target := i%3, (i%3+1+i%2)%4
		moves = append(moves, string(rune('a'+source))+">"+string(rune('a'+target)))
	}
	d := moving(moves...)
	up := func(string) bool { return true }
	first := schedule(d, nil, up, 4)
	asked := make(map[cluster.MoveID]bool)
	leaving := make(map[string]int)
	for _, m := range first {
		asked[m.ID] = true
		leaving[m.Source]++
	}
	if again := schedule(d, asked, up, 4); !slices.Equal(first, again) {
		t.Errorf("%d moves, and then %d", len(first), len(again))
	}
	for source, n := range leaving {
		if n > 4 {
			t.Errorf("%d moves leave %s", n, source)
		}
	}
}
