package client

import (
	"bytes"
	"net"
	"slices"
	"strings"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// fakeChange is the newest that happened to a key.
type fakeChange struct {
	fakeEntry
	deleted bool
}

// fakeWatch is a connection of a FakeNode that watches. Guarded by the
// cluster's mu; a goroutine of its own writes what is queued.
type fakeWatch struct {
	node   *FakeNode
	conn   net.Conn
	what   protocol.Watch
	ranges []fakeRange
	queue  []fakePush
	wake   chan struct{} // capacity 1
	closed bool
}

// fakePush is a push on its way, and what is left of it if all that was to be told
// before it is dropped: nothing, mostly.
type fakePush struct {
	raw, left []byte
	last      bool // then the connection is closed
}

// fakeRange is what a fakeWatch tells. Of one that is not live nothing is told
// until the queue, which was too long, has been written.
type fakeRange struct {
	ring.Range
	version uint64 // all up to it was written; 0: nothing was
	live    bool
}

// watched answers a request of a connection that watches, or begins to; it
// reports false for another.
func (n *FakeNode) watched(conn net.Conn, name string, args [][]byte) bool {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	w := n.watches[conn]
	switch {
	case name == "WATCH":
		what, err := protocol.ParseWatch(args)
		if err != nil {
			panic(err)
		}
		what.Selector = bytes.Clone(what.Selector)
		if w == nil {
			w = &fakeWatch{node: n, conn: conn, what: what, wake: make(chan struct{}, 1)}
			n.watches[conn] = w
			n.busy.Go(w.write)
		}
		n.answerWatch(w, what)
	case w == nil:
		return false
	case name == "PING" && !n.deaf:
		w.push(protocol.Push{Kind: protocol.PushPong})
	}
	return true
}

func (n *FakeNode) answerWatch(w *fakeWatch, what protocol.Watch) {
	if n.onWatch != nil {
		n.onWatch(w, what)
		return
	}
	w.push(protocol.Push{Kind: protocol.PushWatching, ID: what.ID})
	for _, r := range what.Ranges {
		asked := ring.Range{Start: ring.Position(r.Start), End: ring.Position(r.End)}
		for _, arc := range n.owners.Arcs() {
			for _, part := range asked.Intersect(arc.Range) {
				if arc.Owner == n.address {
					w.catchUp(part, r.Version)
				} else {
					w.moved(part, 0, arc.Owner)
				}
			}
		}
	}
}

func (w *fakeWatch) push(pushes ...protocol.Push) {
	for _, p := range pushes {
		next := fakePush{raw: p.Append(nil)}
		switch p.Kind {
		case protocol.PushWatching:
			next.left = next.raw
		case protocol.PushMoved:
			p.Version = 0
			next.left = p.Append(nil)
		}
		w.queue = append(w.queue, next)
	}
	w.nudge()
}

func (w *fakeWatch) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// write is the goroutine that writes the queue.
func (w *fakeWatch) write() {
	f := w.node.cluster
	for range w.wake {
		for {
			f.mu.Lock()
			if w.closed {
				f.mu.Unlock()
				return
			}
			if len(w.queue) == 0 {
				w.drained()
				w.again()
			}
			if len(w.queue) == 0 {
				f.mu.Unlock()
				break
			}
			next := w.queue[0]
			w.queue = w.queue[1:]
			f.mu.Unlock()
			if _, err := w.conn.Write(next.raw); err != nil {
				return
			}
			if next.last {
				w.conn.Close()
				return
			}
		}
	}
}

// drained notes that all has been written.
func (w *fakeWatch) drained() {
	for i := range w.ranges {
		if w.ranges[i].live {
			w.ranges[i].version = w.node.cluster.version
		}
	}
}

// again catches up for a reader that was too slow.
func (w *fakeWatch) again() {
	behind := slices.DeleteFunc(slices.Clone(w.ranges), func(r fakeRange) bool { return r.live })
	w.ranges = slices.DeleteFunc(w.ranges, func(r fakeRange) bool { return !r.live })
	for _, r := range behind {
		w.catchUp(r.Range, r.version)
	}
}

// catchUp tells what happened in a range since a version, as a node does.
func (w *fakeWatch) catchUp(r ring.Range, since uint64) {
	f := w.node.cluster
	id := w.what.ID
	all := since == 0 && w.what.State || since != 0 && since < f.horizon
	if all {
		w.push(protocol.Push{Kind: protocol.PushState, ID: id, Start: uint32(r.Start), End: uint32(r.End)})
	}
	for key, c := range f.history {
		switch {
		case !w.selects(key) || !r.Contains(ring.PositionOfString(key)):
		case all && !c.deleted, since != 0 && !all && c.version > since:
			w.push(c.push(id, key))
		}
	}
	version := f.version
	w.push(protocol.Push{Kind: protocol.PushSynced, ID: id, Start: uint32(r.Start), End: uint32(r.End), Version: version})
	if since == 0 && !w.what.State {
		since = version // from now on
	}
	w.ranges = append(w.ranges, fakeRange{r, since, true}) // until it has been written
}

func (w *fakeWatch) selects(key string) bool {
	if w.what.Prefix {
		return strings.HasPrefix(key, string(w.what.Selector))
	}
	return key == string(w.what.Selector)
}

func (c fakeChange) push(id int64, key string) protocol.Push {
	if c.deleted {
		return protocol.Push{Kind: protocol.PushDelete, ID: id, Key: []byte(key), Version: c.version}
	}
	return protocol.Push{Kind: protocol.PushPut, ID: id, Key: []byte(key), Version: c.version, ExpireAt: c.expires, Value: c.value}
}

func (w *fakeWatch) moved(r ring.Range, version uint64, owner string) {
	w.push(protocol.Push{
		Kind: protocol.PushMoved, ID: w.what.ID, Start: uint32(r.Start), End: uint32(r.End),
		Version: version, Epoch: uint64(w.node.epoch), Address: []byte(owner),
	})
}

// changed tells the watches of a change. Called with mu held.
func (f *FakeCluster) changed(key string, c fakeChange) {
	f.history[key] = c
	at := ring.PositionOfString(key)
	for w := range f.everyWatch {
		for _, r := range w.ranges {
			if r.live && r.Contains(at) && w.selects(key) {
				w.push(c.push(w.what.ID, key))
			}
		}
		if f.patience > 0 && len(w.queue) > f.patience {
			w.fallBehind()
		}
	}
}

// fallBehind drops what is queued. What has moved is still said: of that not all has
// been told, then.
func (w *fakeWatch) fallBehind() {
	var left []fakePush
	for _, p := range w.queue {
		if p.left != nil {
			left = append(left, fakePush{raw: p.left, left: p.left})
		}
	}
	w.queue = left
	w.push(protocol.Push{Kind: protocol.PushBehind, ID: w.what.ID})
	for i := range w.ranges {
		w.ranges[i].live = false
	}
}

// everyWatch is called with mu held.
func (f *FakeCluster) everyWatch(yield func(*fakeWatch) bool) {
	for _, n := range f.nodes {
		for _, w := range n.watches {
			if !yield(w) {
				return
			}
		}
	}
}

// Progress makes all nodes say how far they are.
func (f *FakeCluster) Progress() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.everyWatch {
		w.push(protocol.Push{Kind: protocol.PushProgress, ID: w.what.ID, Version: f.version})
	}
}

// Forget makes the nodes forget what was deleted up to now.
func (f *FakeCluster) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.horizon = f.version + 1
}

// Delete deletes a key behind everybody's back.
func (f *FakeCluster) Delete(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delete(key)
}

// delete is called with mu held.
func (f *FakeCluster) delete(key string) {
	if _, there := f.data[key]; !there {
		return
	}
	delete(f.data, key)
	f.version++
	f.changed(key, fakeChange{fakeEntry{version: f.version}, true})
}

// CutWatches breaks the connections that watch.
func (n *FakeNode) CutWatches() {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	for conn := range n.watches {
		conn.Close()
	}
}

// OnWatch sets who answers WATCH in the node's place, with the cluster's mu held.
func (n *FakeNode) OnWatch(answer func(*fakeWatch, protocol.Watch)) {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	n.onWatch = answer
}

// reowned tells the watches of a node what it does not own any more. Called
// with mu held, after its topology was replaced.
func (n *FakeNode) reowned() {
	for _, w := range n.watches {
		var kept []fakeRange
		for _, r := range w.ranges {
			for _, arc := range n.owners.Arcs() {
				for _, part := range r.Intersect(arc.Range) {
					switch {
					case arc.Owner == n.address:
						kept = append(kept, fakeRange{part, r.version, r.live})
					case r.live:
						w.moved(part, n.cluster.version, arc.Owner)
					default:
						w.moved(part, 0, arc.Owner)
					}
				}
			}
		}
		w.ranges = kept
	}
}

// endWatch is called when a connection ends.
func (n *FakeNode) endWatch(conn net.Conn) {
	if w := n.watches[conn]; w != nil {
		w.closed = true
		w.nudge()
		delete(n.watches, conn)
	}
}
