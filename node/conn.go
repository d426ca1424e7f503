package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/inbox"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/protocol"
)

const (
	// flushSize is how many bytes of replies gather before they leave although
	// the batch goes on.
	flushSize = 128 << 10
	// writeChunk is what a client must take within the write timeout.
	writeChunk = 1 << 20
	// streamBuffer is how far the read buffer grows for a client that keeps it full.
	streamBuffer = 256 << 10
	// keepBuffer is what other buffers may keep between batches.
	keepBuffer = 1 << 20
)

// phase is what a connection's goroutine is doing, for the sweeper.
type phase uint64

const (
	idle      phase = iota // waiting for a request
	idleLarge              // the same, with buffers that could be given back
	partial                // waiting for the rest of a request
	running                // executing, or waiting for the log
	writing                // waiting for the client to take its replies
)

const (
	phaseBits = 3
	phaseMask = 1<<phaseBits - 1
)

var (
	errDraining    = errors.New("node: draining")
	errSlowRequest = errors.New("node: the request did not go on")
	errBroken      = errors.New("node: the replies did not get through")
)

// conn is one client. Everything but status and tally belongs to the goroutine
// of serve.
type conn struct {
	srv *server
	nc  net.Conn
	id  uint64

	// status is a phase and when it began (coarse unix milliseconds above it).
	status atomic.Uint64
	tally  tally

	in      inbox.Buffer
	arrived io.Reader // gives what need not be waited for; nil where a Read of nc gives all of it
	out     []byte
	parser  protocol.RequestParser
	ahead   *ahead // nil until the client pipelines

	later   later
	session *engine.Session // nil until the first data command after the start
	store   *store
	mover   any     // what the mover keeps for this connection
	durable wal.LSN // replies of member commands wait for this

	newcomer     bool                           // it has not proved anything yet, and is counted for that
	guest        auth.Guest                     // who is there
	claim        *auth.Claim                    // the one attempt to prove to be a member; nil before it
	standing     atomic.Pointer[auth.Principal] // the same, for the sweeper and for who sends pushes
	overstayed   atomic.Bool                    // the sweeper thinks that it has been a stranger for too long
	strangeSince int64                          // when the sweeper first saw that, 0: it is none; guarded by srv.roster.mu

	client   clientInfo
	outPart  inbox.Account
	argsPart inbox.Account // what the parser holds
	scratch  scratch
	progress progress      // of the request that runs
	parkLeft time.Duration // of this batch's budget
	closing  bool          // after the next flush
	flushAt  int           // this many bytes of replies leave although the batch goes on

	watch  *watching                // nil until the connection watches
	pusher atomic.Pointer[watching] // the same, for the sweeper

	cut bool // the sweeper has closed it; guarded by srv.roster.mu
}

// clientInfo is what CLIENT SETNAME, SETINFO and PARK said.
type clientInfo struct {
	name, libName, libVersion string
	impatient                 bool // PARK OFF: many callers share the connection
}

func newConn(srv *server, nc net.Conn, id uint64) *conn {
	c := &conn{srv: srv, nc: nc, id: id}
	c.in, c.outPart = inbox.NewBuffer(&srv.budget, inbox.First, streamBuffer), inbox.NewAccount(&srv.budget)
	c.argsPart = inbox.NewAccount(&srv.budget)
	c.arrived = tlsconf.Now(nc)
	c.scratch.bind(c)
	c.later.bind(c)
	c.arrive()
	c.mark(idle)
	return c
}

// mark publishes what the goroutine does from now on.
func (c *conn) mark(p phase) { c.status.Store(uint64(c.srv.clock.coarse())<<phaseBits | uint64(p)) }

// markAnswered lets an idle client's time begin with its reply, not with the request
// that the disk has kept waiting. Whatever the connection has marked meanwhile stays.
func (c *conn) markAnswered() {
	was := c.status.Load()
	if p := phase(was & phaseMask); p <= idleLarge {
		c.status.CompareAndSwap(was, uint64(c.srv.clock.coarse())<<phaseBits|uint64(p))
	}
}

// phaseSince reads what mark published.
func (c *conn) phaseSince() (phase, int64) {
	s := c.status.Load()
	return phase(s & phaseMask), int64(s >> phaseBits)
}

// serve runs the connection until it ends: read what is there, execute every
// complete request of it, wait for the log once, write once.
func (c *conn) serve() {
	defer c.end()
	if !c.greet() {
		return
	}
	for !c.closing {
		if err := c.fill(); err != nil {
			c.leave(err)
			return
		}
		if !c.reclaim() {
			return
		}
		c.batch()
		if !c.handOver() && !c.flush() {
			return
		}
	}
	c.stopWatching()
	linger(c.nc, lingerTime)
}

// stopWatching lets the goroutine that sends pushes end.
func (c *conn) stopWatching() {
	if c.watch != nil {
		c.watch.stop()
	}
}

// end runs when the goroutine does, panic or not: a bug that one client can
// trigger must not take the others down with it.
func (c *conn) end() {
	if p := recover(); p != nil {
		c.srv.stats.panics.Caught(c.srv.log, "a connection", p, "client", c.nc.RemoteAddr().String())
		// What a move brings in is written by sessions of the engine's own: of those
		// nobody here knows whether they were through.
		if c.session != nil && c.session.Torn() || c.mover != nil {
			c.srv.fail(fmt.Errorf("a write panicked between the log and memory: %v", p))
		}
	}
	_ = c.nc.Close()
	c.stopWatching()
	c.later.await()
	c.in.Release()
	c.chargeOut(0)
	c.argsPart.Set(0)
	c.guest.Forget()
	if c.mover != nil {
		c.srv.members.mover().Closed(c.mover)
	}
	c.srv.remove(c)
}

// fill blocks until there is something new in the inbox.
func (c *conn) fill() error {
	if err := c.in.MakeRoom(c.parser.Need()); err != nil {
		return err
	}
	if !c.argsPart.Set(c.parser.Held()) {
		return inbox.ErrBudget
	}
	c.markWaiting()
	for {
		n, err := c.in.Fill(c.nc)
		if n > 0 {
			c.srv.clock.refresh()
			c.mark(running)
			c.tally.in.Add(uint64(n + c.readOn()))
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = c.poked()
		}
		if err != nil {
			return err
		}
	}
}

// readOn reads what else has arrived, so that it shares the one wait of the batch: over
// TLS a Read gives no more than one record, which may be one small request of many that
// callers have sent one by one. An error comes again when there is nothing else.
func (c *conn) readOn() (total int) {
	for c.arrived != nil && c.in.Room() > 0 {
		n, err := c.in.Fill(c.arrived)
		total += n
		if n == 0 || err != nil {
			break
		}
	}
	return total
}

// markWaiting publishes what the connection waits for.
func (c *conn) markWaiting() {
	switch {
	case c.in.Pending():
		c.mark(partial)
	case c.in.Large() || cap(c.out) > inbox.First:
		c.mark(idleLarge)
	default:
		c.mark(idle)
	}
}

// poked runs when someone ended the blocking read with a deadline in the past:
// the node drains, the request is too slow, or memory should be given back.
func (c *conn) poked() error {
	_ = c.nc.SetReadDeadline(time.Time{})
	if c.srv.draining() {
		return errDraining
	}
	if c.later.over() && !c.reclaim() {
		return errBroken
	}
	if c.overstayed.Swap(false) && (!c.guest.Known() || c.ended() != nil) {
		return errUnproved
	}
	p, since := c.phaseSince()
	if p == running { // it has sent the rest of its replies, and waits again
		c.markWaiting()
	}
	if p == partial && c.srv.overdue(since, c.srv.times.Request) {
		return errSlowRequest
	}
	if p == idleLarge && !c.later.handed {
		c.mark(idle)
		c.in.Shrink()
		c.out = nil
		c.chargeOut(0)
	}
	return nil
}

// leave says goodbye, where there is something to say, to a client whose next
// request will not be read.
func (c *conn) leave(err error) {
	if !c.reclaim() {
		return
	}
	switch {
	case errors.Is(err, errDraining):
		c.stopWatching()
		linger(c.nc, drainGrace)
		return
	case errors.Is(err, errSlowRequest):
		c.srv.stats.slowRequests.Add(1)
		c.refuse(&protocol.Error{Code: protocol.ERR, Message: "Protocol error: the rest of the request did not come within " + c.srv.times.Request.String()})
	case errors.Is(err, errUnproved):
		c.srv.stats.unproved.Add(1)
		c.refuse(c.unproved())
	case errors.Is(err, inbox.ErrBudget):
		c.srv.stats.overloaded.Add(1)
		c.refuse(&protocol.Error{Code: protocol.OVERLOADED, Message: "the node holds as many bytes of requests as it may (QUOIT_NODE_MAX_INFLIGHT); try again"})
	default:
		return
	}
	c.stopWatching()
	if c.flush() {
		linger(c.nc, lingerTime)
	}
}

// linger lets the client read its last replies: closing with unread bytes in the
// kernel would reset the connection and throw them away.
func linger(nc net.Conn, patience time.Duration) {
	half, ok := nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = nc.SetReadDeadline(time.Now().Add(patience))
	_, _ = io.CopyN(io.Discard, nc, lingerBytes)
}

const (
	lingerTime  = 250 * time.Millisecond
	lingerBytes = 1 << 20
)

// batch executes every complete request in the inbox.
func (c *conn) batch() {
	c.parkLeft = c.srv.times.Park
	for !c.closing {
		args, n, err := c.parser.Next(c.in.Bytes())
		if err != nil {
			c.broken(err)
			return
		}
		if n == 0 {
			return
		}
		c.in.Consume(n)
		if c.session != nil && c.in.Pending() && c.guest.Known() {
			c.group(args)
		} else {
			c.run(args)
		}
	}
}

// run executes one request; none if it is an empty line.
func (c *conn) run(args [][]byte) {
	if len(args) > 0 {
		c.execute(args)
	}
	if len(c.out) >= c.flushAt && !c.flush() {
		c.closing = true
	}
}

// broken answers bytes that are no request. Nothing after them can be read.
func (c *conn) broken(err error) {
	c.closing = true
	c.srv.stats.protocolErrors.Add(1)
	if errors.Is(err, protocol.ErrCrossProtocol) {
		c.srv.stats.crossProtocol.Add(1)
		c.srv.foreign.Warn(c.srv.log, "closed a connection that speaks another protocol", "client", c.nc.RemoteAddr().String())
		return
	}
	c.refuse(c.orStranger(protocol.AsError(err)))
}

// flush waits until everything that the replies reveal is durable, and sends
// them. It says whether the connection lives on.
func (c *conn) flush() bool {
	c.tally.fold()
	if err := c.settled(); err != nil {
		c.srv.fail(err)
		return false
	}
	return c.send(c.out)
}

// send writes the rest of the replies.
func (c *conn) send(rest []byte) bool {
	if len(c.out) == 0 {
		return true
	}
	c.mark(writing)
	for len(rest) > 0 {
		n, err := c.nc.Write(rest[:min(len(rest), writeChunk)])
		if err != nil {
			return false
		}
		c.tally.out.Add(uint64(n))
		rest = rest[n:]
		if len(rest) > 0 {
			c.mark(writing)
		}
	}
	c.mark(running)
	c.recycle()
	return true
}

// recycle empties the buffer of replies, or gives a large one back.
func (c *conn) recycle() {
	c.out = c.out[:0]
	if cap(c.out) > keepBuffer {
		c.out = nil
	}
	c.chargeOut(cap(c.out))
}

// settled is the one wait of a batch: no reply reveals a write that a crash
// could still take back.
func (c *conn) settled() error {
	if c.session != nil {
		if err := c.session.Wait(); err != nil {
			return err
		}
	}
	if c.durable != 0 {
		if err := c.store.log.Wait(c.durable); err != nil {
			return err
		}
		c.durable = 0
	}
	return nil
}

// refuse appends an error reply.
func (c *conn) refuse(e *protocol.Error) {
	if c.watch != nil {
		c.watch.refuse(0, e)
		return
	}
	c.srv.stats.errors.Add(1)
	c.out = protocol.AppendError(c.out, e)
}

// attach gives the connection its session, once the node serves.
func (c *conn) attach() bool {
	st, why := c.srv.state.serving()
	if st == nil {
		c.refuse(&protocol.Error{Code: protocol.UNAVAILABLE, Message: why})
		return false
	}
	c.store, c.session = st, st.engine.NewSession()
	return true
}

// chargeOut keeps the budget's account of the reply buffer.
func (c *conn) chargeOut(size int) bool { return c.outPart.Set(size) }
