package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/inbox"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
)

// door is the plain TCP way in: any Redis client talks to the whole cluster.
type door struct {
	gw       *Gateway
	entrance *entrance
	listener net.Listener // the entrance, or TLS around it
	nextID   atomic.Int64
}

func newDoor(g *Gateway, l net.Listener) *door {
	d := &door{gw: g, entrance: &entrance{Listener: l, gate: g.gate, log: g.log, refusal: refusalRedis, stopping: g.stopping}}
	d.listener = g.public(d.entrance)
	return d
}

// refusalRedis is what a client reads that is not let in.
func refusalRedis(why error) []byte {
	return protocol.AppendErrorCode(nil, protocol.OVERLOADED, why.Error())
}

func (d *door) accept() {
	for {
		nc, err := d.listener.Accept()
		if err != nil {
			if !d.gw.draining() {
				d.gw.failed <- fmt.Errorf("gateway listener: %w", err)
			}
			return
		}
		v := newVisitor(d.gw, nc, d.nextID.Add(1))
		if !d.gw.roster.enter(v) {
			_ = nc.Close()
			return
		}
		go v.serve()
	}
}

const (
	// flushSize is how many bytes of replies gather before they leave.
	flushSize = 64 << 10
	// writeChunk is what a client must take within the write timeout.
	writeChunk = 1 << 20
	// drainGrace is how long a draining gateway waits for requests on their way, twice.
	drainGrace = 50 * time.Millisecond
)

var (
	errDraining    = errors.New("gateway: draining")
	errSlowRequest = errors.New("gateway: the request did not go on")
	errUnproved    = errors.New("gateway: nobody authenticated in time")
)

// visitor is one client of the door. Everything but status belongs to the goroutine
// of serve.
type visitor struct {
	bearer
	gw     *Gateway
	tenant *tenant // who asks the nodes for it; nil: the gateway's own client
	nc     net.Conn
	id     int64
	ctx    context.Context // ends when the connection is cut
	cancel context.CancelFunc

	status stamp
	in     inbox.Buffer
	parser protocol.RequestParser
	batch  batch

	out     []byte
	outPart inbox.Account
	args    inbox.Account // what the parser holds
	room    int           // how far out may grow
	name    string
	closing bool // after the next flush
	parting bool // the gateway drains: this was the last read
	broke   bool // the client is gone: nothing is written any more
}

func newVisitor(g *Gateway, nc net.Conn, id int64) *visitor {
	v := &visitor{gw: g, nc: nc, id: id, room: inbox.First}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	v.begin(g)
	v.allow()
	v.in, v.outPart = inbox.NewBuffer(&g.budget, inbox.First, streamBuffer), inbox.NewAccount(&g.budget)
	v.args = inbox.NewAccount(&g.budget)
	v.status.mark(g.clock, idle)
	return v
}

// allow sets how much the client may send at once: a stranger little.
func (v *visitor) allow() {
	if v.parser.Limits = v.gw.limits; !v.known() {
		v.parser.Limits = auth.StrangerLimits()
	}
}

// serve runs until the connection ends: read what is there, ask the nodes for all
// of it at once, answer in order.
func (v *visitor) serve() {
	v.gw.stats.redis.Add(1)
	defer v.leave()
	if err := tlsconf.Handshake(v.ctx, v.nc, v.gw.times.Handshake); err != nil {
		v.gw.stats.cutTLS.Add(1)
		v.gw.log.Debug("no TLS with a client", "client", v.nc.RemoteAddr().String(), "err", err)
		_ = tlsconf.Cut(v.nc)
		return
	}
	for !v.closing {
		if err := v.fill(); err != nil {
			v.farewell(err)
			return
		}
		v.work()
		v.flush()
	}
	linger(v.nc, lingerTime)
}

// leave runs when the goroutine does, panic or not: a bug that one client can
// trigger must not take the others down with it.
func (v *visitor) leave() {
	if p := recover(); p != nil {
		v.gw.stats.panics.Caught(v.gw.log, "a connection", p, "client", v.nc.RemoteAddr().String())
	}
	_ = v.nc.Close()
	v.cancel()
	v.forget()
	v.tenant.leave()
	v.in.Release()
	v.args.Set(0)
	v.batch.release(&v.gw.budget)
	v.outPart.Set(0)
	v.gw.stats.redis.Add(-1)
	v.gw.roster.leave(v)
}

// fill blocks until there is something new in the inbox.
func (v *visitor) fill() error {
	if err := v.in.MakeRoom(v.parser.Need()); err != nil {
		return err
	}
	if !v.args.Set(v.parser.Held()) {
		return inbox.ErrBudget
	}
	switch {
	case v.in.Pending():
		v.status.mark(v.gw.clock, partial)
	case v.in.Large() || v.room > inbox.First:
		v.status.mark(v.gw.clock, idleLarge)
	default:
		v.status.mark(v.gw.clock, idle)
	}
	for {
		n, err := v.in.Fill(v.nc)
		if n > 0 {
			v.gw.clock.refresh()
			v.status.mark(v.gw.clock, running)
			v.gw.stats.bytesIn.Add(uint64(n))
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = v.poked()
		}
		if err != nil {
			return err
		}
	}
}

// poked runs when someone ended the blocking read with a deadline: the gateway
// drains, the request is too slow, or memory should be given back.
func (v *visitor) poked() error {
	_ = v.nc.SetReadDeadline(time.Time{})
	if v.gw.draining() {
		// A deadline that is over hides what has come before it: look once more.
		if v.parting {
			return errDraining
		}
		v.parting = true
		v.drain()
		return nil
	}
	if v.overstays() != nil {
		return errUnproved
	}
	p, since := v.status.read()
	switch {
	case p == partial && v.gw.clock.overdue(since, v.gw.times.Request):
		return errSlowRequest
	case p == idleLarge:
		v.status.mark(v.gw.clock, idle)
		v.in.Shrink()
		v.out, v.room = nil, inbox.First
		v.outPart.Set(0)
	}
	return nil
}

// farewell says goodbye, where there is something to say, to a client whose next
// request will not be read.
func (v *visitor) farewell(err error) {
	switch {
	case errors.Is(err, errDraining):
		v.gw.stats.drained.Add(1)
	case errors.Is(err, errUnproved):
		v.gw.stats.cutUnproved.Add(1)
		v.refuse(v.overstays())
	case errors.Is(err, errSlowRequest):
		v.gw.stats.cutSlowRequest.Add(1)
		v.refuse(&protocol.Error{Code: protocol.ERR, Message: "Protocol error: the rest of the request did not come within " + v.gw.times.Request.String()})
	case errors.Is(err, inbox.ErrBudget):
		v.gw.stats.cutBudget.Add(1)
		v.refuse(overloaded())
	default:
		return
	}
	v.flush()
	linger(v.nc, lingerTime)
}

func overloaded() *protocol.Error {
	return &protocol.Error{Code: protocol.OVERLOADED, Message: "the gateway holds as many bytes of requests and replies as it may (QUOIT_GATEWAY_MAX_INFLIGHT); ask for less, or try again"}
}

// work executes every complete request in the inbox.
func (v *visitor) work() {
	v.batch.reset()
	for !v.closing {
		begin := v.in.Offset()
		array := v.in.Pending() && v.in.Bytes()[0] == '*'
		args, n, err := v.parser.Next(v.in.Bytes())
		v.in.Consume(n)
		switch {
		case err != nil:
			v.perform()
			v.broken(err)
			return
		case n == 0:
			v.perform()
			return
		case len(args) == 0:
			continue
		}
		var wire []byte
		if array {
			wire = v.in.Between(begin, v.in.Offset())
		}
		v.add(args, wire)
	}
	v.perform()
}

// broken answers bytes that are no request. Nothing after them can be read.
func (v *visitor) broken(err error) {
	v.closing = true
	v.gw.stats.cutProtocol.Add(1)
	if errors.Is(err, protocol.ErrCrossProtocol) {
		v.gw.stats.cutHTTP.Add(1)
		v.gw.foreign.Warn(v.gw.log, "closed a connection to the Redis door that speaks another protocol", "client", v.nc.RemoteAddr().String())
		return
	}
	v.refuse(v.orStranger(protocol.AsError(err)))
}

// refuse appends an error reply.
func (v *visitor) refuse(e *protocol.Error) {
	v.gw.stats.errors.Add(1)
	v.reserve(len(e.Message) + 64)
	v.out = protocol.AppendError(v.out, e)
}

// reserve makes sure that so many bytes more may be appended to the replies, by
// sending those that are there if need be.
func (v *visitor) reserve(n int) {
	if len(v.out)+n <= v.room {
		return
	}
	if v.room < flushSize && v.outPart.Set(flushSize) {
		v.room = flushSize
	}
	if len(v.out)+n > v.room {
		v.flush()
	}
}

// emit appends a reply of a node. A large value is not copied.
func (v *visitor) emit(r protocol.Reply) {
	const header = 32
	switch {
	case r.Kind == '*' && !r.Null:
		v.reserve(header)
		v.out = protocol.AppendArray(v.out, len(r.Array))
		for _, e := range r.Array {
			v.emit(e)
		}
	case r.Kind == '$' && len(r.Bytes) >= flushSize/2:
		v.reserve(header)
		v.out = fmt.Appendf(v.out, "$%d\r\n", len(r.Bytes))
		v.flush()
		v.write(r.Bytes)
		v.out = append(v.out, "\r\n"...)
	default:
		v.reserve(len(r.Bytes) + header)
		v.out = appendReply(v.out, r)
	}
}

// flush sends the replies.
func (v *visitor) flush() {
	v.write(v.out)
	if v.out = v.out[:0]; cap(v.out) > 2*v.room {
		v.out = nil
	}
}

func (v *visitor) write(b []byte) {
	for len(b) > 0 && !v.broke {
		v.status.mark(v.gw.clock, writing)
		n, err := v.nc.Write(b[:min(len(b), writeChunk)])
		if err != nil {
			v.broke, v.closing = true, true
		}
		v.gw.stats.bytesOut.Add(uint64(n))
		b = b[n:]
	}
	v.status.mark(v.gw.clock, running)
}

func (v *visitor) sweep() {
	g := v.gw
	switch p, since := v.status.read(); {
	case p == writing && g.clock.overdue(since, g.times.Write):
		g.stats.cutSlowReader.Add(1)
		g.log.Info("cut off a client that does not take its replies", "client", v.nc.RemoteAddr().String())
		v.cutOff()
	case p <= idleLarge && g.clock.overdue(since, g.times.RedisIdle):
		g.stats.cutIdle.Add(1)
		v.cutOff()
	case p <= partial && v.overstays() != nil:
		_ = v.nc.SetReadDeadline(time.Unix(1, 0))
	case p == idleLarge && g.clock.overdue(since, shrinkIdle), p == partial && g.clock.overdue(since, g.times.Request):
		_ = v.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

func (v *visitor) drain() { _ = v.nc.SetReadDeadline(time.Now().Add(drainGrace)) }

func (v *visitor) cutOff() {
	v.cancel()
	_ = tlsconf.Cut(v.nc)
}
