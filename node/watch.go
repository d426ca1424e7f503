package node

import (
	"cmp"
	"errors"
	"slices"
	"strconv"

	"github.com/quoitdb/quoit/internal/discreet"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// The first WATCH that is accepted makes a connection one that watches: from then on
// a second goroutine sends pushes, and nothing else is sent; see watching.

// watch runs WATCH on a connection that does not watch yet.
func watch(c *conn, args [][]byte) error {
	st, why := c.srv.state.serving()
	if st == nil {
		return &protocol.Error{Code: protocol.UNAVAILABLE, Message: why}
	}
	t := newWatching(c, st.engine.NewWatcher())
	if err := t.watch(args); err != nil {
		t.w.Close()
		return err
	}
	c.watch = t
	c.pusher.Store(t)
	go t.run()
	return nil
}

// unwatch answers a connection that does not watch.
func unwatch(_ *conn, args [][]byte) error {
	if _, err := protocol.ParseUnwatch(args); err != nil {
		return err
	}
	return &protocol.Error{Code: protocol.ERR, Message: "UNWATCH: nothing is watched on this connection"}
}

// request runs one request of a connection that watches.
func (t *watching) request(args [][]byte) {
	cmd, known := protocol.Lookup(args[0])
	if known {
		t.c.tally.count(cmd)
	}
	if ended := t.c.ended(); ended != nil {
		t.c.closing = true
		t.refuse(0, ended)
		return
	}
	switch {
	case !known:
		t.refuse(0, t.c.orStranger(protocol.UnknownCommand(args[0])))
	case cmd == protocol.CmdWatch:
		if err := t.another(args); err != nil {
			id := protocol.WatchID(args)
			t.end(id)
			t.refuse(id, protocol.AsError(err))
		}
	case cmd == protocol.CmdUnwatch:
		t.unwatch(args)
	case cmd == protocol.CmdPing:
		t.ping(args)
	case cmd == protocol.CmdQuit:
		t.c.closing = true
	default:
		t.refuse(0, t.c.orStranger(&protocol.Error{Code: protocol.ERR, Message: cmd.String() + " cannot be used on a connection that watches, which takes WATCH, UNWATCH, PING and QUIT: open another one"}))
	}
}

func (t *watching) ping(args [][]byte) {
	message, err := protocol.ParsePing(args)
	if err != nil {
		t.refuse(0, t.c.orStranger(protocol.AsError(err)))
		return
	}
	if err := t.c.guest.Authorize(t.c.srv.clock.coarse(), protocol.CmdPing, args); err != nil {
		t.refuse(0, err)
		return
	}
	t.say(&protocol.Push{Kind: protocol.PushPong, Message: message})
}

// another is watch for a connection that watches already: nobody has yet asked whether it
// may.
func (t *watching) another(args [][]byte) error {
	if err := t.c.guest.Authorize(t.c.srv.clock.coarse(), protocol.CmdWatch, args); err != nil {
		return err
	}
	return t.watch(args)
}

// watch begins a watch, or adds ranges to it.
func (t *watching) watch(args [][]byte) error {
	req, err := protocol.ParseWatch(args)
	if err != nil {
		return err
	}
	if err := t.c.srv.limits.CheckKey(req.Selector); err != nil {
		return err
	}
	if err := t.enrol(req.ID); err != nil {
		return err
	}
	ranges := make([]engine.WatchRange, len(req.Ranges))
	for i, r := range req.Ranges {
		ranges[i] = engine.WatchRange{
			Range: ring.Range{Start: ring.Position(r.Start), End: ring.Position(r.End)}, Since: engine.Version(r.Version),
		}
	}
	if err := t.w.Watch(req.ID, req.Selector, req.Prefix, req.State, ranges); err != nil {
		t.end(req.ID)
		return watchError(req.ID, err)
	}
	t.c.srv.members.hintStaged()
	return nil
}

func watchError(id int64, err error) error {
	if errors.Is(err, engine.ErrWatchSelector) {
		return &protocol.Error{Code: protocol.ERR, Message: "WATCH: " + strconv.FormatInt(id, 10) + " is the id of a watch of another key or prefix"}
	}
	return &protocol.Error{Code: protocol.OVERLOADED, Message: discreet.Text(err)}
}

// enrol counts a watch that is new.
func (t *watching) enrol(id int64) error {
	if _, ok := t.ids[id]; ok {
		return nil
	}
	srv := t.c.srv
	if len(t.ids) == protocol.MaxWatches {
		return &protocol.Error{Code: protocol.OVERLOADED, Message: "a connection has at most " + strconv.Itoa(protocol.MaxWatches) + " watches"}
	}
	if srv.watches.Add(1) > int64(srv.maxWatches) {
		srv.watches.Add(-1)
		return &protocol.Error{Code: protocol.OVERLOADED, Message: "the node has as many watches as it may (QUOIT_NODE_MAX_WATCHES)"}
	}
	t.ids[id] = struct{}{}
	return nil
}

// end ends a watch, if there is one, and says so.
func (t *watching) end(id int64) bool {
	if _, ok := t.ids[id]; !ok {
		return false
	}
	delete(t.ids, id)
	t.c.srv.watches.Add(-1)
	t.w.Unwatch(id)
	return true
}

func (t *watching) unwatch(args [][]byte) {
	req, err := protocol.ParseUnwatch(args)
	switch {
	case err != nil:
		t.refuse(protocol.WatchID(args), t.c.orStranger(protocol.AsError(err)))
	case !t.end(req.ID):
		t.refuse(req.ID, t.c.orStranger(&protocol.Error{Code: protocol.ERR, Message: "UNWATCH: there is no watch " + strconv.FormatInt(req.ID, 10) + " on this connection"}))
	default:
		t.say(&protocol.Push{Kind: protocol.PushUnwatched, ID: req.ID})
	}
}

// refuse says that a watch has ended or did not begin, 0 for a request that names none.
func (t *watching) refuse(id int64, e *protocol.Error) {
	t.c.srv.stats.errors.Add(1)
	t.say(&protocol.Push{Kind: protocol.PushRefused, ID: id, Message: []byte(e.Error())})
}

// home is a part of a range with its owner.
type home struct {
	r     ring.Range
	owner string
}

// homes says who owns a range, clockwise from its start; "" where nobody knows.
func (v *view) homes(r ring.Range) []home {
	if v.owners == nil {
		return []home{{r, ""}}
	}
	var all []home
	for _, arc := range v.owners.Arcs() {
		for _, part := range r.Intersect(arc.Range) {
			all = append(all, home{part, arc.Owner})
		}
	}
	if len(all) == 0 {
		return []home{{r, ""}}
	}
	slices.SortFunc(all, func(a, b home) int { return cmp.Compare(a.r.Start-r.Start, b.r.Start-r.Start) })
	merged := all[:1]
	for _, h := range all[1:] {
		if last := &merged[len(merged)-1]; last.owner == h.owner && last.r.End == h.r.Start {
			last.r.End = h.r.End
			continue
		}
		merged = append(merged, h)
	}
	return merged
}
