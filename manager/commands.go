package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/discreet"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// execute runs one request and appends its reply.
func (c *conn) execute(ctx context.Context, args [][]byte) {
	cmd, known := protocol.Lookup(args[0])
	if !known {
		c.refuse(c.orStranger(protocol.UnknownCommand(args[0])))
		return
	}
	if err := c.parser.Limits.Check(cmd, args); err != nil {
		c.refuse(c.orStranger(protocol.AsError(err)))
		return
	}
	now := time.Now().UnixMilli()
	if err := c.guest.Authorize(now, cmd, args); err != nil {
		c.refuse(err)
		if c.guest.Who().Ended(now) != nil {
			c.logout() // it has as long as anyone to authenticate anew
		}
		return
	}
	err := c.run(ctx, cmd, args)
	switch {
	case err == nil:
	case errors.Is(err, cluster.ErrInDoubt):
		// A request that is answered with an error was not executed: see
		// docs/protocol.md. Of this one nobody can say so.
		c.m.log.Warn("no answer, as the outcome is not known", "command", cmd.String(), "error", err)
		c.closing = true
	default:
		c.refuse(failure(err))
	}
}

// orStranger is what a request that is wrong is answered: a stranger is not told what.
func (c *conn) orStranger(err *protocol.Error) *protocol.Error {
	return c.guest.OrStranger(time.Now().UnixMilli(), err)
}

// run runs one command. It appends the whole reply, or nothing and returns an error.
func (c *conn) run(ctx context.Context, cmd protocol.Command, args [][]byte) error {
	switch cmd {
	case protocol.CmdTopology:
		return c.bulk(c.m.known.Load().topology())
	case protocol.CmdInfo:
		return c.bulk([]byte(c.m.info(c.guest.Who().SeesServer())), nil)
	case protocol.CmdChallenge:
		return c.challenge(args)
	case protocol.CmdProve:
		return c.prove(args)
	case protocol.CmdRegister:
		return c.counter(c.m.register(ctx, c.guest.Who(), args[1]))
	case protocol.CmdHeartbeat:
		return c.counter(c.m.heartbeat(c.guest.Who(), args[1]))
	case protocol.CmdCommitMove:
		return c.ok(c.m.commit(ctx, c.guest.Who(), args))
	case protocol.CmdMoveDone:
		return c.ok(c.m.moveDone(ctx, c.guest.Who(), args))
	case protocol.CmdCluster:
		return c.cluster(ctx, args[1:])
	}
	if cmd.Spec().Has(protocol.Session) {
		return c.session(cmd, args)
	}
	return &protocol.Error{Code: protocol.ERR, Message: cmd.String() + " is for nodes: the manager holds no data; TOPOLOGY lists the nodes"}
}

// session runs what stock clients say when they connect.
func (c *conn) session(cmd protocol.Command, args [][]byte) error {
	switch cmd {
	case protocol.CmdPing:
		message, err := protocol.ParsePing(args)
		if err == nil && message == nil {
			c.out = protocol.AppendSimple(c.out, "PONG")
			return nil
		}
		return c.bulk(message, err)
	case protocol.CmdEcho:
		return c.bulk(args[1], nil)
	case protocol.CmdQuit:
		c.closing = true
		return c.ok(nil)
	case protocol.CmdAuth:
		in, err := protocol.ParseAuth(args)
		if err != nil {
			return err
		}
		return c.ok(c.login(in.Password))
	case protocol.CmdReset:
		c.logout()
		c.out = protocol.AppendSimple(c.out, "RESET")
		return nil
	case protocol.CmdSelect:
		return c.ok(protocol.ParseSelect(args))
	case protocol.CmdCommand:
		c.out = protocol.AppendCommandReply(c.out, args)
		return nil
	case protocol.CmdTime:
		now := time.Now()
		c.out = protocol.AppendBulkInt(protocol.AppendArray(c.out, 2), now.Unix())
		c.out = protocol.AppendBulkInt(c.out, int64(now.Nanosecond()/1000))
		return nil
	case protocol.CmdHello:
		return c.hello(args)
	case protocol.CmdClient:
		return c.client(args)
	}
	return &protocol.Error{Code: protocol.ERR, Message: "the manager does not have " + cmd.String()}
}

// login takes a token. Where it is not good the connection ends, when that has been told.
func (c *conn) login(token []byte) error {
	err := c.guest.Login(token, time.Now(), c.nc.RemoteAddr().String())
	c.bound()
	if err != nil {
		c.closing = c.m.guard.On()
		return err
	}
	c.introduced()
	return nil
}

// logout makes the connection a stranger's again.
func (c *conn) logout() {
	if c.guest.Known() {
		c.strange = time.Now()
	}
	c.guest.Forget()
	c.bound()
}

func (c *conn) hello(args [][]byte) error {
	in, err := protocol.ParseHello(args)
	if err != nil {
		return err
	}
	if in.HasAuth {
		if err := c.login(in.Auth.Password); err != nil {
			return err
		}
	}
	if stranger := c.guest.Unproved(time.Now().UnixMilli()); stranger != nil {
		return stranger
	}
	text := func(name, value string) {
		c.out = protocol.AppendBulkString(protocol.AppendBulkString(c.out, name), value)
	}
	number := func(name string, value int64) {
		c.out = protocol.AppendInt(protocol.AppendBulkString(c.out, name), value)
	}
	c.out = protocol.AppendArray(c.out, 12)
	text("server", "quoit")
	number("proto", protocol.ProtocolVersion)
	number("id", c.id)
	text("mode", "manager")
	text("role", "master")
	c.out = protocol.AppendArray(protocol.AppendBulkString(c.out, "modules"), 0)
	return nil
}

func (c *conn) client(args [][]byte) error {
	in, err := protocol.ParseClient(args)
	switch {
	case err == nil && in.Verb == protocol.ClientID:
		c.out = protocol.AppendInt(c.out, c.id)
		return nil
	case err == nil && in.Verb == protocol.ClientGetName:
		c.out = protocol.AppendNull(c.out) // names are not kept
		return nil
	}
	return c.ok(err)
}

func (c *conn) ok(err error) error {
	if err == nil {
		c.out = protocol.AppendOK(c.out)
	}
	return err
}

func (c *conn) bulk(value []byte, err error) error {
	if err == nil {
		c.out = protocol.AppendBulk(c.out, value)
	}
	return err
}

func (c *conn) counter(counter uint64, err error) error {
	if err == nil {
		c.out = protocol.AppendInt(c.out, int64(counter))
	}
	return err
}

// register makes a new node known, and returns the counter of a document that knows
// it. For one that is known already it changes nothing: a node takes its next
// incarnation by itself, and a request that comes late must not fence it off.
func (m *Manager) register(ctx context.Context, who *auth.Principal, arg []byte) (uint64, error) {
	var r member.Registration
	if err := member.Decode(arg, &r); err != nil {
		return 0, err
	}
	if err := speaks(who, protocol.CmdRegister, r.Address); err != nil {
		return 0, err
	}
	if err := m.seams.Points.Hit(pointRegister); err != nil {
		return 0, err
	}
	fresh := false
	d, err := m.change(ctx, func(d cluster.Document) (cluster.Document, error) {
		next, err := d.Register(cluster.Registration{Cluster: r.Cluster, ID: r.ID, Address: r.Address, Tokens: r.Tokens, Endpoints: r.Endpoints})
		if err != nil {
			return d, err
		}
		if _, known := d.Member(r.Address); known {
			fresh = false
			return d, nil
		}
		fresh = true
		return next, nil
	})
	if err != nil {
		m.log.Warn("a node could not register", "node", r.Address, "error", err)
		return 0, err
	}
	if fresh {
		m.log.Info("node registered", "node", r.Address, "id", r.ID)
	}
	return d.Counter, nil
}

// heartbeat notes how a member does. A member that has seen a newer document than
// this manager gives it a reason to read.
func (m *Manager) heartbeat(who *auth.Principal, arg []byte) (uint64, error) {
	var h member.Heartbeat
	if err := member.Decode(arg, &h); err != nil {
		return 0, err
	}
	if err := speaks(who, protocol.CmdHeartbeat, h.Address); err != nil {
		return 0, err
	}
	d := m.document()
	if h.Counter > d.Counter {
		m.read.ring()
	}
	if n, ok := d.Member(h.Address); ok && m.nodes.note(h, n) {
		m.plan.ring()
		m.doors.ring()
	}
	return d.Counter, nil
}

// commit hands a range over, together with whatever else is waiting for a swap.
// Only the source asks for it, once everything is durable at the target and the
// range is sealed.
func (m *Manager) commit(ctx context.Context, who *auth.Principal, args [][]byte) error {
	in, err := protocol.ParseCommitMove(args)
	if err != nil {
		return err
	}
	if err := m.seams.Points.Hit(pointCommitBefore); err != nil {
		return err
	}
	id := cluster.MoveID(in.Move)
	if _, err := m.change(ctx, func(d cluster.Document) (cluster.Document, error) {
		if err := speaksForMoves(who, protocol.CmdCommitMove, d, false, id); err != nil {
			return d, err
		}
		return d.Commit(id)
	}); err != nil {
		return err
	}
	if err := m.seams.Points.Hit(pointCommitAfter); err != nil {
		return fmt.Errorf("%w: %w", cluster.ErrInDoubt, err) // an answer that is lost
	}
	return nil
}

// moveDone notes that one end of committed moves has nothing left to do.
func (m *Manager) moveDone(ctx context.Context, who *auth.Principal, args [][]byte) error {
	in, err := protocol.ParseMoveDone(args)
	if err != nil {
		return err
	}
	if err := m.seams.Points.Hit(pointDone); err != nil {
		return err
	}
	mark := cluster.Document.MarkDropped
	if in.Active {
		mark = cluster.Document.MarkActive
	}
	ids := make([]cluster.MoveID, len(in.Moves))
	for i, move := range in.Moves {
		ids[i] = cluster.MoveID(move)
	}
	_, err = m.changeSoon(ctx, func(d cluster.Document) (cluster.Document, error) {
		if err := speaksForMoves(who, protocol.CmdMoveDone, d, in.Active, ids...); err != nil {
			return d, err
		}
		return mark(d, ids...)
	})
	return err
}

// maxMessage bounds what an error says: it may repeat what a stranger has sent.
const maxMessage = 1 << 10

// reason is what people may read of an error.
func reason(err error) string {
	return discreet.Text(err, bucket.ErrInDoubt, bucket.ErrConditionFailed, bucket.ErrUnavailable, bucket.ErrNotFound)
}

// failure is an error in the words of the protocol: whether asking again may help
// is in the code.
func failure(err error) *protocol.Error {
	var reply *protocol.Error
	if errors.As(err, &reply) {
		return reply
	}
	e := &protocol.Error{Code: protocol.ERR, Message: reason(err)}
	if errors.Is(err, errNotNow) {
		e.Code = protocol.UNAVAILABLE
		if text := errNotNow.Error(); !strings.HasPrefix(e.Message, text) {
			e.Message = text + ": " + e.Message
		}
	}
	if len(e.Message) > maxMessage {
		e.Message = e.Message[:maxMessage] + "..."
	}
	return e
}
