package engine

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/quoitdb/quoit/ring"
)

// arcs are the parts of the ring that moves take in TestCheckpointModel: a part of
// a partition, one that crosses borders, and all the rest, which begins and ends in
// one partition and contains whole ones.
var arcs = []ring.Range{
	{Start: 10*partitionSpan + 100, End: 10*partitionSpan + 5000},
	{Start: 10*partitionSpan + 5000, End: 12*partitionSpan + 7},
	{Start: 12*partitionSpan + 7, End: 10*partitionSpan + 100},
}

// arcPlaces are positions in each arc; each has two keys.
var arcPlaces = [][]ring.Position{
	{10*partitionSpan + 101, 10*partitionSpan + 102, 10*partitionSpan + 3000, 10*partitionSpan + 5000},
	{10*partitionSpan + 5001, 11*partitionSpan - 1, 11 * partitionSpan, 11*partitionSpan + 9, 12 * partitionSpan, 12*partitionSpan + 7},
	{12*partitionSpan + 8, 13*partitionSpan + 1, 13*partitionSpan + 2, 200 * partitionSpan, 10*partitionSpan + 2, 10*partitionSpan + 100},
}

// world is what an engine should be: the state of each arc, and the entries that a
// picture shows.
type world struct {
	state   []state
	entries map[string]got
}

func (w world) clone() world {
	return world{slices.Clone(w.state), maps.Clone(w.entries)}
}

// forget removes what an arc held.
func (w world) forget(arc int) {
	for _, pos := range arcPlaces[arc] {
		for _, key := range keysAt(pos) {
			delete(w.entries, key)
		}
	}
}

func keysAt(pos ring.Position) []string {
	return []string{fmt.Sprintf("%d/b", pos), fmt.Sprintf("%d/a", pos)}
}

// checkpointModel runs an engine beside a world, with checkpoints that are taken in
// small pieces between and in the middle of everything else.
type checkpointModel struct {
	m     *machine
	now   world
	since []world // from the last sync on, oldest first; the last is now
	cp    *Checkpoint
	parts *parts
	next  int // partition of the checkpoint
	// newest published cuts and entries, to look for what has not changed
	last  *State
	kept  *parts
	bases int
	cuts  [Partitions]int // how often a partition was referred to again
}

func moveOf(arc int) string { return fmt.Sprint("move ", arc) }

// did notes a change.
func (c *checkpointModel) did() { c.since = append(c.since, c.now.clone()) }

// place draws a key of an arc that is in one of these states.
func (c *checkpointModel) place(t *rapid.T, in ...state) (arc int, pos ring.Position, key string, ok bool) {
	arc, ok = c.arc(t, in...)
	pos = rapid.SampledFrom(arcPlaces[arc]).Draw(t, "position")
	return arc, pos, rapid.SampledFrom(keysAt(pos)).Draw(t, "key"), ok
}

func (c *checkpointModel) arc(t *rapid.T, in ...state) (arc int, ok bool) {
	arc = rapid.IntRange(0, len(arcs)-1).Draw(t, "arc")
	return arc, slices.Contains(in, c.now.state[arc])
}

// write changes a key that is served.
func (c *checkpointModel) write(t *rapid.T) {
	_, pos, key, ok := c.place(t, owned)
	if !ok {
		return
	}
	s, k, now := c.m.NewSession(), []byte(key), c.m.Now()
	switch rapid.IntRange(0, 4).Draw(t, "what") {
	case 0:
		o := PutOptions{}
		if rapid.Bool().Draw(t, "mortal") {
			o.ExpireAt = now + rapid.Int64Range(1, 30).Draw(t, "ttl")
		}
		value := rapid.SampledFrom([]string{"", "v", string(make([]byte, 2000))}).Draw(t, "value")
		_, err := s.Put(pos, k, []byte(value), o)
		must(t, err)
	case 1:
		_, err := s.Delete(pos, k, nil)
		must(t, err)
	case 2:
		_, err := s.Append(pos, k, []byte("+"))
		must(t, err)
	case 3:
		_, err := s.Expire(pos, k, now+rapid.Int64Range(-2, 30).Draw(t, "ttl"), ExpireAlways)
		must(t, err)
	case 4:
		_, err := s.Persist(pos, k)
		must(t, err)
	}
	c.look(pos, key)
}

// look takes over from memory what a write has made of a key: that it is right is
// TestModel's to say.
func (c *checkpointModel) look(pos ring.Position, key string) {
	e, ok := c.m.part(pos).table.Get(pos, []byte(key))
	delete(c.now.entries, key)
	if ok {
		c.now.entries[key] = got{string(e.Value), Version(e.Version), e.ExpireAt}
	}
	c.did()
}

// receive applies records of a move.
func (c *checkpointModel) receive(t *rapid.T) {
	arc, pos, key, ok := c.place(t, staging)
	if !ok {
		return
	}
	r := entry{kind: kindPut, pos: pos, version: c.m.Version(), key: []byte(key)}
	if rapid.Bool().Draw(t, "delete") {
		r.kind = kindDelete
	} else {
		r.value = []byte("received")
	}
	_, err := c.m.StageApply(moveOf(arc), appendEntry(nil, r))
	must(t, err)
	c.look(pos, key)
}

// step takes an arc through its life.
func (c *checkpointModel) step(t *rapid.T) {
	arc := rapid.IntRange(0, len(arcs)-1).Draw(t, "arc")
	r, move, on := arcs[arc], moveOf(arc), rapid.Bool().Draw(t, "on")
	var err error
	switch was := c.now.state[arc]; {
	case was == owned && on:
		_, err = c.m.Seal(move, r)
		c.now.state[arc] = sealed
	case was == owned:
		c.now.state[arc] = foreign
		err = c.m.SetOwnership(c.owned())
	case was == sealed && on:
		_, err = c.m.Drop(move)
		c.now.state[arc] = foreign
		c.now.forget(arc)
	case was == sealed:
		_, err = c.m.Unseal(move)
		c.now.state[arc] = owned
	case was == foreign && on, was == staging && !on:
		_, err = c.m.Stage(move, r)
		c.now.state[arc] = staging
		c.now.forget(arc)
	case was == foreign:
		_, err = c.m.WipeForeign()
		for other, s := range c.now.state {
			if s == foreign {
				c.now.forget(other)
			}
		}
	case was == staging:
		_, err = c.m.StageComplete(move, c.m.Version(), c.m.count(r))
		c.now.state[arc] = staged
	case was == staged && on:
		_, err = c.m.Activate(move)
		c.now.state[arc] = owned
	case was == staged:
		_, err = c.m.Unstage(move)
		c.now.state[arc] = foreign
		c.now.forget(arc)
	}
	must(t, err)
	c.did()
}

func (c *checkpointModel) owned() (own []ring.Range) {
	for i, s := range c.now.state {
		if s == owned {
			own = append(own, arcs[i])
		}
	}
	return own
}

// tick lets time pass, and may remove what has expired.
func (c *checkpointModel) tick(t *rapid.T) {
	c.m.clock.add(rapid.Int64Range(0, 10).Draw(t, "millis"))
	c.m.Tick(rapid.IntRange(1, 2000).Draw(t, "budget"))
	c.now.entries = c.m.contents()
	c.did()
}

func (c *checkpointModel) sync(t tester) {
	must(t, c.m.log.SyncTo(c.m.log.Appended()))
	c.since = []world{c.now.clone()}
}

// something is one step of anything that may happen while a partition is scanned.
func (c *checkpointModel) something(t *rapid.T) {
	switch rapid.IntRange(0, 9).Draw(t, "something") {
	case 0:
		c.step(t)
	case 1:
		c.tick(t)
	case 2:
		c.sync(t)
	case 3, 4:
		c.receive(t)
	default:
		c.write(t)
	}
}

// pull takes some partitions of the checkpoint, and begins and ends it.
func (c *checkpointModel) pull(t *rapid.T) {
	if c.cp == nil {
		cp, err := c.m.BeginCheckpoint()
		must(t, err)
		cp.chunk, cp.delta = rapid.IntRange(1, 200).Draw(t, "chunk"), rapid.IntRange(0, 200).Draw(t, "delta")
		c.cp, c.parts, c.next = cp, &parts{}, 0
	}
	c.cp.pause = func() {
		if rapid.IntRange(0, 3).Draw(t, "busy") == 0 {
			c.something(t)
		}
	}
	for range rapid.SampledFrom([]int{1, 11, 13, 256}).Draw(t, "partitions") {
		if c.next < Partitions {
			c.takeNext(t)
		}
	}
	if c.next == Partitions {
		c.publish(t)
	}
}

func (c *checkpointModel) takeNext(t *rapid.T) {
	i := c.next
	c.next++
	if c.last != nil {
		_, same, err := c.cp.Unchanged(i, c.last.Cuts[i])
		must(t, err)
		if same {
			c.parts[i] = c.kept[i]
			c.cuts[i]++
			c.compare(t, i)
			return
		}
	}
	c.parts.take(t, c.cp, i)
	c.compare(t, i)
}

// compare compares a picture with the world, which has not gone on since its cut.
func (c *checkpointModel) compare(t *rapid.T, i int) {
	t.Helper()
	want := map[string]got{}
	for _, places := range arcPlaces {
		for _, pos := range places {
			for _, key := range keysAt(pos) {
				if g, ok := c.now.entries[key]; ok && int(pos/partitionSpan) == i {
					want[key] = g
				}
			}
		}
	}
	here := map[string]got{}
	for _, e := range c.parts[i] {
		here[e.key] = e.got
	}
	if !maps.Equal(here, want) {
		t.Fatalf("partition %d: the picture is %v, want %v", i, here, want)
	}
}

// publish makes the checkpoint the base, and drops the log before it, or not.
func (c *checkpointModel) publish(t *rapid.T) {
	s, err := c.cp.Finish()
	must(t, err)
	c.since = []world{c.now.clone()} // Finish has synced.
	c.end()
	c.bases++
	c.last, c.kept = s, c.parts
	c.m.base = &Base{State: s.Encode(), Load: c.parts.load}
	if rapid.Bool().Draw(t, "truncate") {
		must(t, c.m.log.Truncate(s.MinCut()))
	}
}

func (c *checkpointModel) end() {
	if c.cp != nil {
		c.cp.Close()
		c.cp = nil
	}
}

// crash takes the power away and finds out what the engine came back as.
func (c *checkpointModel) crash(t *rapid.T) {
	c.end()
	c.m.crash(coin(rapid.Uint64().Draw(t, "seed")))
	here := c.m.contents()
	found := -1
	for i, w := range c.since {
		if maps.Equal(here, w.entries) && c.holds(w) {
			found = i
		}
	}
	if found < 0 {
		sealed, staged := c.m.Held()
		t.Fatalf("came back with %v, %v, %v, which is none of %v", here, sealed, staged, c.since)
	}
	c.now = c.since[found].clone()
	must(t, c.m.SetOwnership(c.owned()))
	checkSegments(t, c.m)
	c.sync(t)
}

// holds says whether the engine holds what the world says.
func (c *checkpointModel) holds(w world) bool {
	var want, have []string
	for arc, s := range w.state {
		if s == sealed || s == staging || s == staged {
			want = append(want, fmt.Sprint(s, moveOf(arc), arcs[arc]))
		}
	}
	c.m.ranges.Lock()
	defer c.m.ranges.Unlock()
	for _, h := range c.m.sealed {
		have = append(have, fmt.Sprint(sealed, h.move, h.r))
	}
	for _, h := range c.m.staged {
		s := staging
		if h.complete {
			s = staged
		}
		have = append(have, fmt.Sprint(s, h.move, h.r))
	}
	slices.Sort(want)
	slices.Sort(have)
	return slices.Equal(want, have)
}

// TestCheckpointModel: everything that can change a partition, between and in the
// middle of checkpoints, with crashes, truncation and restarts from the last base.
func TestCheckpointModel(t *testing.T) {
	again, bases := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		c := &checkpointModel{m: newMachine(t, nil), now: world{make([]state, len(arcs)), map[string]got{}}}
		defer func() { c.m.stop() }()
		for i := range arcs {
			c.now.state[i] = owned
		}
		must(t, c.m.SetOwnership(c.owned()))
		c.sync(t)
		t.Repeat(map[string]func(*rapid.T){
			"":        func(t *rapid.T) { checkSegments(t, c.m) },
			"write":   c.write,
			"more":    func(t *rapid.T) { c.write(t); c.write(t); c.write(t); c.receive(t) },
			"receive": c.receive,
			"step":    c.step,
			"tick":    c.tick,
			"sync":    func(t *rapid.T) { c.sync(t) },
			"pull":    c.pull,
			"crash":   c.crash,
		})
		c.end()
		bases += c.bases
		for _, n := range c.cuts {
			again += n
		}
	})
	if again == 0 || bases == 0 {
		t.Fatalf("%d checkpoints, %d partitions referred to again: the test has tested nothing", bases, again)
	}
}
