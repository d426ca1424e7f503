package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/inbox"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
)

// channel is a WebSocket on /v1/node/{address} with a connection of its own to that
// node. One goroutine parses what the client sends and passes it on; when the node
// does not take it, it waits, and so does the client. Another passes the replies
// on, and what a node pushes to those who watch; when the client does not take
// them, it waits, and so does the node.
type channel struct {
	*socket
	bearer
	node    net.Conn
	address string

	reader stamp
	in     inbox.Buffer  // from the client
	args   inbox.Account // what the parser holds
	parser protocol.RequestParser
	active atomic.Int64 // when something was last asked, answered or pushed, coarse
	// watches says that the node has accepted a WATCH: from then on it pushes. Of the
	// goroutine that reads from the client.
	watches bool

	from inbox.Buffer // from the node
	ends replyEnds
	out  []byte
	due  due
	big  atomic.Bool // from has grown
	quit atomic.Bool // the client has said QUIT
}

const (
	dialTimeout = 5 * time.Second
	// channelBuffer is what a channel reads into, in either direction, until more comes.
	channelBuffer = 512
	// shrinkIdle is how long a connection is quiet before its memory is taken back.
	shrinkIdle = 2 * time.Second
)

func (g *Gateway) serveNode(w http.ResponseWriter, r *http.Request) {
	if !g.speaks(w, r) {
		return
	}
	address := r.PathValue("address")
	if !g.source.member(r.Context(), address) {
		g.noSuchNode(w)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), dialTimeout)
	node, err := g.dial(ctx, address)
	cancel()
	if err != nil {
		g.stats.unreachable.Add(1)
		http.Error(w, "the node does not answer", http.StatusBadGateway)
		return
	}
	s := g.accept(w, r, g.messageLimit(int64(g.config.Limits.Message)))
	if s == nil {
		_ = tlsconf.Cut(node)
		return
	}
	g.newChannel(s, node, address).enter()
}

// noSuchNode says why an address is not dialled.
func (g *Gateway) noSuchNode(w http.ResponseWriter) {
	g.stats.notMember.Add(1)
	switch own := g.config.only.Address; {
	case own != "":
		http.Error(w, "this gateway leads to "+own+" alone", http.StatusNotFound)
	case len(g.source.view.Load().text) == 0:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the gateway does not know the cluster yet", http.StatusServiceUnavailable)
	default:
		http.Error(w, "no node of the topology has that address", http.StatusNotFound)
	}
}

func (g *Gateway) newChannel(s *socket, node net.Conn, address string) *channel {
	c := &channel{socket: s, node: node, address: address}
	c.begin(g)
	c.allow()
	c.in, c.from = inbox.NewBuffer(&g.budget, channelBuffer, streamBuffer), inbox.NewBuffer(&g.budget, channelBuffer, streamBuffer)
	c.args = inbox.NewAccount(&g.budget)
	c.due.init()
	c.reader.mark(g.clock, idle)
	c.active.Store(g.clock.coarse())
	return c
}

// allow sets how much a client may send at once: a stranger little.
func (c *channel) allow() {
	c.parser.Limits = c.gw.limits
	if !c.known() {
		c.parser.Limits = auth.StrangerLimits()
		c.ws.SetReadLimit(strangerMessage)
		return
	}
	c.ws.SetReadLimit(int64(c.gw.config.Limits.Message))
}

// enter lets the channel be served by goroutines of its own: that of the request has
// grown by now, and holds on to the request.
func (c *channel) enter() {
	if !c.gw.roster.enter(c) {
		c.drain()
		c.finish()
		_ = tlsconf.Cut(c.node)
		return
	}
	go c.run()
}

// run serves the channel until one of the two sides goes.
func (c *channel) run() {
	defer c.gw.roster.leave(c)
	defer c.finish()
	c.gw.stats.channels.Add(1)
	defer func() {
		c.forget()
		c.gw.stats.channels.Add(-1)
		if c.watches {
			c.gw.stats.watching.Add(-1)
		}
	}()
	c.spawn(func() {
		defer c.recovered()
		c.answers()
	})
	defer c.recovered()
	c.requests()
}

// recovered ends a channel, however one of its goroutines ended: a bug that one
// client can trigger must not take the others down with it.
func (c *channel) recovered() {
	if p := recover(); p != nil {
		c.gw.stats.panics.Caught(c.gw.log, "a channel", p, "node", c.address)
		c.cutOff()
	}
	_ = tlsconf.Cut(c.node)
	c.due.close()
}

// requests reads from the client until it goes or the channel ends.
func (c *channel) requests() {
	defer c.in.Release()
	defer c.args.Set(0)
	for {
		c.reader.mark(c.gw.clock, c.waiting())
		kind, message, err := c.ws.Reader(context.Background())
		if err != nil {
			c.gone()
			return
		}
		if kind != websocket.MessageBinary {
			c.gw.stats.cutProtocol.Add(1)
			c.end(CloseProtocol, "requests come in binary messages")
			return
		}
		c.gw.stats.messagesIn.Add(1)
		if !c.take(message) {
			c.leftOver()
			return
		}
	}
}

// waiting is the phase between two messages: a request may have begun in the last.
func (c *channel) waiting() phase {
	if c.in.Pending() {
		return partial
	}
	return idle
}

// take reads one message and passes on the requests in it. It says whether the
// channel goes on.
func (c *channel) take(message io.Reader) bool {
	size := 0
	for {
		if err := c.in.MakeRoom(c.parser.Need()); err != nil || !c.args.Set(c.parser.Held()) {
			c.gw.stats.cutBudget.Add(1)
			c.leave(CloseOverloaded, "the gateway holds as many bytes of requests as it may")
			return false
		}
		c.reader.mark(c.gw.clock, partial)
		n, err := c.in.Fill(message)
		c.gw.clock.refresh()
		c.reader.mark(c.gw.clock, running)
		c.listen()
		size += n
		if n > 0 && !c.pass() {
			return false
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return true // the next Reader says so too
		}
	}
	c.gw.stats.bytesIn.Add(uint64(size))
	if size < c.in.Size()/2 {
		c.in.Shrink()
	}
	return true
}

// pass looks at every complete request in the buffer and passes on those that the
// node may see, as they came.
func (c *channel) pass() bool {
	c.active.Store(c.gw.clock.coarse())
	from, requests := c.in.Offset(), 0
	for {
		begin := c.in.Offset()
		array := c.in.Pending() && c.in.Bytes()[0] == '*'
		args, n, err := c.parser.Next(c.in.Bytes())
		c.in.Consume(n)
		switch {
		case err != nil:
			return c.send(c.in.Between(from, begin), requests) && c.broken(err)
		case n == 0:
			return c.send(c.in.Between(from, begin), requests)
		case len(args) == 0:
			if !c.send(c.in.Between(from, begin), requests) {
				return false
			}
			from, requests = c.in.Offset(), 0
			continue
		}
		cmd, refusal := c.look(args)
		if refusal == nil && array && !c.decides(cmd) {
			requests++
			continue
		}
		if !c.send(c.in.Between(from, begin), requests) || !c.apart(cmd, refusal, args) {
			return false
		}
		from, requests = c.in.Offset(), 0
	}
}

// decides says whether a request decides how those behind it are taken: the first WATCH,
// and what makes the connection somebody's, or nobody's.
func (c *channel) decides(cmd protocol.Command) bool {
	switch cmd {
	case protocol.CmdWatch:
		return !c.watches
	case protocol.CmdAuth, protocol.CmdHello, protocol.CmdReset:
		return c.gw.asks() && !c.watches
	}
	return false
}

// apart is for what does not go to the node as it came: a request that is refused,
// one that was written as a line, which goes on as an array, and one that decides how
// those behind it are taken.
func (c *channel) apart(cmd protocol.Command, refusal *protocol.Error, args [][]byte) bool {
	if refusal != nil {
		return c.refuse(refusal)
	}
	line := protocol.AppendCommandHeader(nil, len(args))
	for _, arg := range args {
		line = protocol.AppendBulk(line, arg)
	}
	if !c.decides(cmd) {
		return c.send(line, 1)
	}
	switch cmd {
	case protocol.CmdWatch:
		return c.beginWatch(line)
	case protocol.CmdReset:
		if !c.send(line, 1) {
			return false
		}
		c.forget()
		c.allow()
		return true
	}
	token, err := tokenOf(cmd, args)
	if err != nil || token == nil {
		return c.send(line, 1) // the node says what is wrong with it
	}
	return c.authenticate(line, token)
}

// authenticate passes a token on that is good here, and waits for what the node says to
// it: until it has taken one nothing else goes through.
func (c *channel) authenticate(request, token []byte) bool {
	who, refusal := c.check(token, c.nc.RemoteAddr().String())
	if refusal != nil {
		if c.refuse(refusal) {
			c.leave(closeFor(refusal), short(refusal))
		}
		return false
	}
	if !c.due.await(awaitsAuth) || !c.ask(request) {
		who.Drop()
		return false
	}
	switch c.due.verdict() {
	case '+', '*':
		c.adopt(who)
		c.allow()
		return true
	case 0:
		who.Drop()
		return false
	}
	who.Drop()
	return true // the node has said why, and closes the connection
}

// beginWatch passes the first WATCH on and waits for what the node says to it: that
// decides what the requests behind it are answered with, replies or pushes.
func (c *channel) beginWatch(request []byte) bool {
	if !c.due.await(awaitsWatch) || !c.ask(request) {
		return false
	}
	verdict := c.due.verdict()
	if c.watches = verdict == '*'; c.watches {
		c.gw.stats.watching.Add(1)
	}
	return verdict != 0
}

// look says which command a request is, and why it is not passed on, nil if it is. A
// node answers those who watch to a few commands only, and says itself what is wrong
// with those.
func (c *channel) look(args [][]byte) (protocol.Command, *protocol.Error) {
	cmd, refusal := c.gw.look(args)
	if cmd == protocol.CmdQuit {
		c.quit.Store(true)
	}
	if refusal != nil {
		refusal = c.orStranger(refusal)
	} else {
		refusal = c.denies(cmd, args)
	}
	switch {
	case !c.watches:
	case cmd == protocol.CmdWatch || cmd == protocol.CmdUnwatch || cmd == protocol.CmdPing || cmd == protocol.CmdQuit:
		refusal = nil
	case refusal == nil:
		refusal = &protocol.Error{Code: protocol.ERR, Message: cmd.String() + " on a connection that watches: only WATCH, UNWATCH, PING and QUIT are answered here; open another channel for the rest"}
	}
	return cmd, refusal
}

// send writes requests to the node, which then owes their replies.
func (c *channel) send(requests []byte, n int) bool {
	return n == 0 || c.due.expect(n) && c.ask(requests)
}

// ask waits until the node takes requests.
func (c *channel) ask(requests []byte) bool {
	c.reader.mark(c.gw.clock, writing)
	_, err := c.node.Write(requests)
	c.reader.mark(c.gw.clock, running)
	return err == nil // if not, whoever reads the replies says so
}

// refuse says why a request was not passed on, in the form that the client expects.
func (c *channel) refuse(e *protocol.Error) bool {
	if !c.watches {
		return c.answer(protocol.AppendError(nil, e))
	}
	p := protocol.Push{Kind: protocol.PushRefused, Message: []byte(e.Error())}
	return c.answer(p.Append(nil))
}

// answer gives a reply of the gateway's own its place among those of the node.
func (c *channel) answer(reply []byte) bool {
	c.gw.stats.errors.Add(1)
	mine, open := c.due.own(reply)
	if mine {
		c.settle()
	}
	return open
}

// broken answers bytes that are no request. Nothing after them can be read.
func (c *channel) broken(err error) bool {
	c.gw.stats.cutProtocol.Add(1)
	if errors.Is(err, protocol.ErrCrossProtocol) {
		c.end(CloseProtocol, "that is HTTP")
		return false
	}
	if c.refuse(c.orStranger(protocol.AsError(err))) {
		c.leave(CloseProtocol, "what came is no request")
	}
	return false
}

// answers passes on what the node sends, until it goes.
func (c *channel) answers() {
	defer c.from.Release()
	for {
		if c.from.MakeRoom(1) != nil {
			c.from.Shrink() // it is empty: there is always room for the first size
		}
		c.big.Store(c.from.Large())
		n, err := c.from.Fill(c.node)
		if n > 0 {
			c.gw.clock.refresh()
			c.active.Store(c.gw.clock.coarse())
			if !c.deliver(c.from.Bytes()) {
				if !c.over() {
					c.cutOff()
				}
				return
			}
			c.from.Consume(n)
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			_ = c.node.SetReadDeadline(time.Time{})
			c.from.Shrink()
		default:
			c.nodeGone()
			return
		}
	}
}

func (c *channel) nodeGone() {
	if c.quit.Load() {
		c.end(CloseDone, "")
		return
	}
	if !c.over() {
		c.gw.stats.cutNode.Add(1)
	}
	if !c.known() || c.lapsed() != nil {
		c.end(CloseUnauthenticated, "the node wants a token, or another one")
		return
	}
	c.end(CloseNode, "the node has closed the connection")
}

// deliver sends the client what has come from the node, with the gateway's own
// replies where they belong.
func (c *channel) deliver(b []byte) bool {
	c.due.begin()
	c.out = c.out[:0]
	for rest := b; len(rest) > 0; {
		n, done, err := c.ends.next(rest)
		if err != nil {
			c.gw.stats.cutNode.Add(1)
			c.gw.log.Error("a node sent something that is no reply", "node", c.address)
			c.end(CloseNode, "the node does not speak the protocol")
			return false
		}
		var own []byte
		if done {
			own = c.due.arrived(c.ends.first)
		}
		if len(own) > 0 || len(c.out) > 0 {
			if len(c.out) == 0 {
				c.out = append(c.out, b[:len(b)-len(rest)]...)
			}
			c.out = append(append(c.out, rest[:n]...), own...)
		}
		rest = rest[n:]
	}
	if len(c.out) > 0 {
		b = c.out
	}
	if !c.write(b) {
		return false
	}
	if cap(c.out) > streamBuffer {
		c.out = nil
	}
	return c.settle()
}

// settle sends own replies whose turn has come, until the node owes the next, and
// ends the channel when it was only to finish.
func (c *channel) settle() bool {
	for {
		own, leave := c.due.ready(c.ends.begun)
		if len(own) == 0 {
			if leave != nil {
				c.end(leave.code, leave.reason)
			}
			return true
		}
		if !c.write(own) {
			return false
		}
	}
}

// leave ends the channel when everything that was asked has been answered.
func (c *channel) leave(code websocket.StatusCode, reason string) {
	if c.due.last(&parting{code, reason}) {
		c.end(code, reason)
	}
}

func (c *channel) drain() { c.leave(CloseDraining, "the gateway stops") }

// sweep looks for what takes too long.
func (c *channel) sweep() {
	g := c.gw
	p, since := c.reader.read()
	c.sweepSocket(p <= partial)
	w, quiet := c.writer.read()
	quiet = max(quiet, c.active.Load())
	owes := c.due.owes()
	if late := c.overstays(); late != nil && !c.over() {
		g.stats.cutUnproved.Add(1)
		c.end(CloseUnauthenticated, short(late))
	}
	switch {
	case c.over():
	case p == partial && g.clock.overdue(since, g.times.Request):
		g.stats.cutSlowRequest.Add(1)
		c.end(CloseProtocol, "the rest of the request did not come within "+g.times.Request.String())
	case owes && w == idle && g.clock.overdue(quiet, g.times.Request):
		g.stats.cutNode.Add(1)
		c.end(CloseNode, "the node does not answer")
	case !owes && g.clock.overdue(c.active.Load(), g.times.Idle):
		g.stats.cutIdle.Add(1)
		c.end(CloseIdle, "nothing was asked for "+g.times.Idle.String())
	case !owes && g.clock.overdue(quiet, shrinkIdle) && c.big.Load():
		_ = c.node.SetReadDeadline(time.Unix(1, 0))
	}
}
