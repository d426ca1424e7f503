package node

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"

	"github.com/quoitdb/quoit/internal/discreet"
	"github.com/quoitdb/quoit/node/keeper"
	"github.com/quoitdb/quoit/protocol"
)

// members is what connections need of the rest of the cluster.
type members interface {
	// hint says that a newer document may be there: read it soon.
	hint()
	// hintCounter says that the document is at least this new.
	hintCounter(counter uint64)
	// hintStaged is hint where the document may say that a range that has arrived is ours.
	hintStaged()
	// mover runs the commands of a move; nil before the node serves.
	mover() Mover
	// keeping keeps the node's snapshots; nil before the node serves.
	keeping() *keeper.Keeper
}

// topology answers from the cached document, as any member does.
func topology(c *conn, _ [][]byte) error {
	v := c.srv.state.view()
	if v.text == nil {
		return &protocol.Error{Code: protocol.UNAVAILABLE, Message: v.why}
	}
	c.out = protocol.AppendBulk(c.out, v.text)
	return nil
}

func refresh(c *conn, args [][]byte) error {
	in, err := protocol.ParseRefresh(args)
	if err != nil {
		return err
	}
	c.srv.members.hintCounter(in.Counter)
	c.out = protocol.AppendOK(c.out)
	return nil
}

// managersOwn answers a command that only the manager runs.
func managersOwn(cmd protocol.Command) handler {
	return func(c *conn, _ [][]byte) error {
		return &protocol.Error{Code: protocol.ERR, Message: cmd.String() + " is for the manager, which is at " + c.srv.about.manager}
	}
}

// moveCommand hands a message of a range move to the mover. A staging connection
// that met an error is closed: its sender begins again with a new handshake.
func moveCommand(cmd protocol.Command) handler {
	return func(c *conn, args [][]byte) error {
		m := c.srv.members.mover()
		if m == nil {
			return &protocol.Error{Code: protocol.UNAVAILABLE, Message: c.srv.state.view().why}
		}
		if c.store == nil {
			c.store = c.srv.state.store.Load()
		}
		out, lsn, err := m.Command(c.srv.ctx, &c.mover, cmd, args, c.out)
		if err != nil {
			c.closing = cmd != protocol.CmdMigrateRange
			return err
		}
		c.out = out
		c.durable = max(c.durable, lsn)
		return nil
	}
}

// takeSnapshot takes a snapshot and answers when it is published. What the batch has
// done so far is answered first: this may take minutes.
func takeSnapshot(c *conn, args [][]byte) error {
	status := len(args) == 2 && strings.EqualFold(string(args[1]), "STATUS")
	if len(args) > 1 && !status {
		return &protocol.Error{Code: protocol.ERR, Message: "SNAPSHOT takes STATUS or nothing"}
	}
	k := c.srv.members.keeping()
	if k == nil {
		return &protocol.Error{Code: protocol.UNAVAILABLE, Message: "there are no snapshots yet: " + cmp.Or(c.srv.state.view().why, "the node has only just begun to serve; ask again")}
	}
	if status {
		text, err := json.Marshal(k.Status())
		if err != nil {
			return err
		}
		c.out = protocol.AppendBulk(c.out, text)
		return nil
	}
	ctx, cancel := context.WithCancel(c.srv.ctx)
	defer cancel()
	go func() {
		select {
		case <-c.srv.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	s, err := k.Snapshot(ctx)
	if err != nil {
		return &protocol.Error{Code: protocol.UNAVAILABLE, Message: "no new snapshot: " + discreet.Text(err, bucketErrors()...)}
	}
	c.out = protocol.AppendInt(c.out, int64(s.Sequence))
	return nil
}
