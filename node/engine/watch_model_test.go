package engine

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quoitdb/quoit/ring"
)

// watchModel is two nodes that own arcs of the ring and pass them to each other, and a
// client that watches all of it: at each node what it owns.
type watchModel struct {
	nodes   [2]*machine
	views   [2]*viewer
	arcs    []ring.Range
	owner   []int // of each arc, as the document has it
	moving  *watchMove
	moves   int
	history []watchWrite
}

// watchMove is a move under way. Its steps are the real ones.
type watchMove struct {
	name           string
	arc, from, to  int
	sink           *pipe
	copy           *Capture
	sealed         bool
	complete       bool
	committed      bool
	dropped, began bool
}

type watchWrite struct {
	node    int
	key     string
	version Version
}

func newWatchModel(t *rapid.T) *watchModel {
	w := &watchModel{owner: []int{0, 0, 1, 1}}
	w.arcs = ring.Split(wholeRing, 1<<30)
	known := map[string]seen{}
	for i := range w.nodes {
		w.nodes[i] = newMachine(t, nil)
		w.nodes[i].hub.o.History = 20 << 10
		w.nodes[i].hub.tombLimit = 100
		w.own(i)
		w.views[i] = &viewer{t: t, prefix: "k", known: known, versions: map[ring.Range]Version{}, mark: func() int { return len(w.history) }}
		for arc, owner := range w.owner {
			if owner == i {
				w.views[i].versions[w.arcs[arc]] = 0
			}
		}
		w.views[i].connect(w.nodes[i])
	}
	return w
}

func (w *watchModel) stop() {
	for _, n := range w.nodes {
		n.stop()
	}
}

// own tells a node what the document says.
func (w *watchModel) own(node int) {
	var own []ring.Range
	for arc, owner := range w.owner {
		if owner == node {
			own = append(own, w.arcs[arc])
		}
	}
	m := w.nodes[node]
	m.hub.o.Retention = 5e9
	must(m.t, m.SetOwnership(own))
}

func (w *watchModel) arcOf(key string) int {
	for i, r := range w.arcs {
		if r.Contains(at(key)) {
			return i
		}
	}
	panic("no arc")
}

// write does something to a key, where it is owned.
func (w *watchModel) write(t *rapid.T) {
	key := "k" + strconv.Itoa(rapid.IntRange(0, 30).Draw(t, "key"))
	node := w.owner[w.arcOf(key)]
	m := w.nodes[node]
	s, pos, k := m.NewSession(), at(key), []byte(key)
	before := m.clockOf()
	value := strings.Repeat("v", rapid.SampledFrom([]int{1, 10, 2000}).Draw(t, "size"))
	switch rapid.IntRange(0, 5).Draw(t, "what") {
	case 0, 1:
		_, _ = s.Put(pos, k, []byte(value), PutOptions{})
	case 2, 3:
		_, _ = s.Delete(pos, k, nil)
	case 4:
		_, _ = s.Append(pos, k, []byte("+"))
	case 5:
		_, _ = s.Expire(pos, k, m.Now()+1000, ExpireAlways)
	}
	if now := m.clockOf(); now > before { // A held range refuses: nothing has happened.
		w.history = append(w.history, watchWrite{node, key, now})
	}
}

func (e *Engine) clockOf() Version { return Version(e.clock.last.Load()) }

func (w *watchModel) node(t *rapid.T) int { return rapid.IntRange(0, 1).Draw(t, "node") }

func (w *watchModel) pass(t *rapid.T) {
	millis := rapid.Int64Range(0, 3000).Draw(t, "millis")
	for _, n := range w.nodes {
		n.clock.add(millis)
	}
}

func (w *watchModel) upkeep(t *rapid.T) {
	n := w.nodes[w.node(t)]
	for range 300 {
		n.Tick(tickBudget)
	}
}

func (w *watchModel) tick(t *rapid.T)  { w.nodes[w.node(t)].hub.tick() }
func (w *watchModel) round(t *rapid.T) { w.nodes[w.node(t)].hub.round() }
func (w *watchModel) pump(t *rapid.T)  { n := w.nodes[w.node(t)]; must(t, n.hub.pump()) }

func (w *watchModel) read(t *rapid.T) {
	w.views[w.node(t)].read(rapid.IntRange(1, 2000).Draw(t, "budget"))
	w.follow()
}

// follow watches what has moved where it is now.
func (w *watchModel) follow() {
	for i, v := range w.views {
		moved := v.moved
		v.moved = nil
		for _, e := range moved {
			for arc, r := range w.arcs {
				for _, part := range r.Intersect(e.Range) {
					to := w.views[w.owner[arc]]
					to.versions[part] = e.Version
					to.add(part)
				}
			}
		}
		_ = i
	}
}

func (w *watchModel) reconnect(t *rapid.T) {
	i := w.node(t)
	w.views[i].w.Close()
	w.views[i].connect(w.nodes[i])
}

// step takes a move one step further, or begins one.
func (w *watchModel) step(t *rapid.T) {
	mv := w.moving
	if mv == nil {
		arc := rapid.IntRange(0, 3).Draw(t, "arc")
		w.moves++
		mv = &watchMove{name: fmt.Sprint("m", w.moves), arc: arc, from: w.owner[arc], to: 1 - w.owner[arc], sink: &pipe{}}
		w.moving = mv
		w.nodes[mv.to].sync(w.nodes[mv.to].Stage(mv.name, w.arcs[arc]))
		var err error
		mv.copy, err = w.nodes[mv.from].Capture(mv.name, w.arcs[arc], mv.sink)
		must(t, err)
		return
	}
	a, b, r := w.nodes[mv.from], w.nodes[mv.to], w.arcs[mv.arc]
	switch {
	case !mv.sealed && rapid.Bool().Draw(t, "copy"):
		_, err := mv.copy.CopyNext(2000)
		must(t, err)
	case !mv.sealed:
		for done := false; !done; {
			var err error
			done, err = mv.copy.CopyNext(1 << 20)
			must(t, err)
		}
		a.sync(a.Seal(mv.name, r))
		mv.sealed = true
	case !mv.complete && rapid.IntRange(0, 3).Draw(t, "abort") == 0:
		mv.copy.Close()
		a.sync(a.Unseal(mv.name))
		b.sync(b.Unstage(mv.name))
		w.moving = nil
	case !mv.complete:
		mv.sink.deliver(t, b, mv.name)
		hlc, err := a.SealVersion(mv.name)
		must(t, err)
		b.sync(b.StageComplete(mv.name, hlc, mv.copy.Count()))
		mv.copy.Close()
		mv.complete = true
	case !mv.committed:
		w.owner[mv.arc], mv.committed = mv.to, true
	case !mv.dropped && rapid.Bool().Draw(t, "drop"):
		a.sync(a.Drop(mv.name))
		mv.dropped = true
	case !mv.began:
		b.sync(b.Activate(mv.name))
		mv.began = true
	}
	if mv.dropped && mv.began {
		w.moving = nil
	}
}

// crash takes the power of a node away that takes part in no move.
func (w *watchModel) crash(t *rapid.T) {
	if w.moving != nil {
		return
	}
	i := w.node(t)
	w.views[i].w.Close()
	w.nodes[i].crash(coin(rapid.Uint64().Draw(t, "seed")))
	w.nodes[i].hub.o.History, w.nodes[i].hub.tombLimit = 20<<10, 100
	w.own(i)
	w.views[i].connect(w.nodes[i])
	// What was not synced may never have happened, and cannot be expected.
	w.history = nil
	for _, v := range w.views {
		clear(v.marks)
	}
}

// check lets everything come to rest and compares.
func (w *watchModel) check(t *rapid.T) {
	for w.moving != nil {
		w.step(t)
	}
	for _, n := range w.nodes {
		n.user().scanAll(100) // removes what has expired
	}
	for range 3 {
		for i, v := range w.views {
			v.catchUp()
			w.nodes[i].hub.tick()
			v.catchUp()
		}
		w.follow()
	}
	for i, v := range w.views {
		for arc, owner := range w.owner {
			if owner == i {
				v.want(w.nodes[i], w.arcs[arc])
			}
		}
		for r := range v.versions {
			if !v.live[r] {
				t.Fatalf("node %d: %s is not live; %v", i, r, v.log)
			}
		}
		// A scan may have removed expired keys.
		v.catchUp()
		w.complete(t, i, v)
	}
}

// complete checks that of a range that stayed live no change was left out.
func (w *watchModel) complete(t *rapid.T, node int, v *viewer) {
	for r, mark := range v.marks {
		for _, h := range w.history[mark:] {
			if h.node == node && r.Contains(at(h.key)) && !v.events[fmt.Sprint(h.key, "@", h.version)] {
				t.Fatalf("node %d did not tell of %s@%d in %s, live from %d of %d\n%v", node, h.key, h.version, r, mark, len(w.history), strings.Join(v.log, "\n"))
			}
		}
	}
}

// Whatever happens, a watcher that follows its ranges from node to node ends with what
// is there; versions rise for each key; and while a range is live no change is missing.
func TestWatchModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWatchModel(t)
		defer w.stop()
		actions := map[string]func(*rapid.T){
			"pass": w.pass, "upkeep": w.upkeep, "tick": w.tick, "round": w.round, "pump": w.pump,
			"reconnect": w.reconnect, "crash": w.crash, "check": w.check,
		}
		for i := range 8 {
			actions["write"+strconv.Itoa(i)] = w.write
		}
		for i := range 3 {
			actions["read"+strconv.Itoa(i)], actions["step"+strconv.Itoa(i)] = w.read, w.step
		}
		t.Repeat(actions)
		w.check(t)
	})
}
