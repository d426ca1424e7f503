package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/discreet"
	"github.com/quoitdb/quoit/internal/inbox"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// batch is what has been parsed and waits to be asked for at once.
type batch struct {
	steps    []step
	requests []client.Request
	wire     []byte // requests that had to be written anew
	spans    []span // for each request, where it is in wire; from < 0: elsewhere
	text     []byte // replies of the gateway's own
	values   int    // requests that change something and answer a value
	bytes    int    // of requests
	held     int64  // of the budget, for requests beyond what every batch has
}

type span struct{ from, to int }

// step is one command of the client: a reply of the gateway's own, or what comes of
// some requests.
type step struct {
	merge merge // nil: own
	span  span  // into text, or into requests
	keys  [][]byte
}

// merge makes one reply of those of several requests, none of which failed.
type merge func(v *visitor, parts []client.Request)

const (
	// A batch is asked for when it has so many requests, or bytes.
	batchRequests = 1024
	batchBytes    = 1 << 20
	// batchValues bounds the answers that have to be kept whatever the budget says.
	batchValues = 8
	// requestCost is about what a request takes beside its own bytes, in the batch and in
	// the client that asks for it: a key of one byte costs hundreds.
	requestCost = 384
	keepText    = 16 << 10
)

func (b *batch) reset() {
	clear(b.requests)
	clear(b.steps)
	b.steps, b.requests, b.spans = b.steps[:0], b.requests[:0], b.spans[:0]
	b.wire, b.text = b.wire[:0], b.text[:0]
	b.values, b.bytes = 0, 0
	if cap(b.wire) > keepText || cap(b.text) > keepText || cap(b.requests) > batchRequests/8 {
		*b = batch{}
	}
}

// hold makes sure of the memory for so many more requests than every batch may have.
func (b *batch) hold(budget *inbox.Budget, requests int) bool {
	if requests <= batchRequests {
		return true
	}
	cost := int64(requests) * requestCost
	if !budget.Take(cost) {
		return false
	}
	b.held += cost
	return true
}

// release gives that back.
func (b *batch) release(budget *inbox.Budget) {
	budget.Give(b.held)
	b.held = 0
}

func (b *batch) full() bool {
	return len(b.requests) >= batchRequests || b.bytes >= batchBytes || len(b.text) >= keepText || b.values >= batchValues
}

// request adds one to the last step. wire is nil when it is what was just written
// behind b.wire[from:].
func (b *batch) request(key, wire []byte, from int, reads bool) {
	where := span{from: -1}
	if wire == nil {
		where = span{from, len(b.wire)}
	}
	b.bytes += len(wire) + where.to - max(where.from, 0)
	b.spans = append(b.spans, where)
	b.requests = append(b.requests, client.Request{Position: ring.PositionOf(key), Wire: wire, Reads: reads})
}

// own ends a step whose reply was appended to text from a position on.
func (b *batch) own(from int) {
	b.steps = append(b.steps, step{span: span{from, len(b.text)}})
}

// add takes one request of the client. wire is how it came, nil when it was a line;
// all of it stays where it is until the batch is performed.
func (v *visitor) add(args [][]byte, wire []byte) {
	b := &v.batch
	cmd, refusal := v.gw.look(args)
	if cmd == protocol.CmdWatch || cmd == protocol.CmdUnwatch {
		refusal = notHere(cmd)
	}
	if refusal = v.mayNot(cmd, refusal, args); refusal != nil {
		v.deny(refusal)
		return
	}
	if changesWho(cmd) {
		v.perform() // what came before is for who it was then
	}
	spec := cmd.Spec()
	switch {
	case cmd == protocol.CmdScan || cmd == protocol.CmdDBSize:
		v.perform()
		v.whole(cmd, args)
	case spec.Flags&(protocol.Write|protocol.Readonly) == 0:
		from := len(b.text)
		if err := v.session(cmd, args); err != nil {
			b.text = b.text[:from]
			v.deny(protocol.AsError(err))
			return
		}
		b.own(from)
	case spreads(cmd):
		v.spread(cmd, args)
	default:
		v.single(cmd, args, wire)
	}
	if b.full() {
		v.perform()
	}
}

// mayNot says why a request is not done: what is wrong with it, or with who sends it.
func (v *visitor) mayNot(cmd protocol.Command, wrong *protocol.Error, args [][]byte) *protocol.Error {
	if wrong != nil {
		return v.orStranger(wrong)
	}
	refusal := auth.Authorize(v.who(), v.gw.clock.coarse(), cmd, args)
	switch {
	case refusal == nil:
	case refusal.Code == protocol.NOAUTH:
		v.gw.stats.noAuth.Add(1)
	case refusal.Code == protocol.NOPERM:
		v.gw.stats.noPerm.Add(1)
	}
	return refusal
}

// changesWho is about requests after which the connection may be somebody else's.
func changesWho(cmd protocol.Command) bool {
	return cmd == protocol.CmdAuth || cmd == protocol.CmdHello || cmd == protocol.CmdReset
}

// deny answers with an error in the request's place.
func (v *visitor) deny(e *protocol.Error) {
	v.gw.stats.errors.Add(1)
	from := len(v.batch.text)
	v.batch.text = protocol.AppendError(v.batch.text, e)
	v.batch.own(from)
	if v.batch.full() {
		v.perform()
	}
}

// notHere is the answer to watching: the pushes of several nodes, each with its own
// versions, do not make one conversation that a Redis client would understand.
func notHere(cmd protocol.Command) *protocol.Error {
	return &protocol.Error{Code: protocol.ERR, Message: cmd.String() + " is for a connection to one node, and does not go through this door: use client.Watch in Go, `quoit watch PREFIX` on the command line, watch in quoit.js, or a channel of the gateway; Redis's WATCH of transactions does not exist here, PUT with IFVERSION does what it is for"}
}

// single is a request for one key: it goes to the owner as it came.
func (v *visitor) single(cmd protocol.Command, args [][]byte, wire []byte) {
	b := &v.batch
	from := len(b.wire)
	if wire == nil {
		b.wire = protocol.AppendCommandHeader(b.wire, len(args))
		for _, arg := range args {
			b.wire = protocol.AppendBulk(b.wire, arg)
		}
	}
	first := len(b.requests)
	spec := cmd.Spec()
	b.request(spec.Key(args, 0), wire, from, spec.Has(protocol.Readonly))
	b.steps = append(b.steps, step{merge: same, span: span{first, first + 1}})
	if cmd == protocol.CmdGetDel || cmd == protocol.CmdGetSet || cmd == protocol.CmdPut && len(args) > 3 {
		b.values++
	}
}

// same is the reply of the one node that was asked.
func same(v *visitor, parts []client.Request) { v.emit(parts[0].Reply) }

// spreads says that a command's keys may belong to several nodes.
func spreads(cmd protocol.Command) bool {
	switch cmd {
	case protocol.CmdMGet, protocol.CmdMSet, protocol.CmdDel, protocol.CmdExists:
		return true
	}
	return false
}

// spread makes a request for each key of one with several.
func (v *visitor) spread(cmd protocol.Command, args [][]byte) {
	one, width, reads, merge := "GET", 1, true, list
	switch cmd {
	case protocol.CmdMSet:
		if _, err := protocol.ParseMSet(args); err != nil {
			v.deny(protocol.AsError(err))
			return
		}
		one, width, reads, merge = "PUT", 2, false, fine
	case protocol.CmdDel:
		one, reads, merge = "DEL", false, sum
	case protocol.CmdExists:
		one, merge = "EXISTS", sum
	}
	b := &v.batch
	if !b.hold(&v.gw.budget, len(args)/width) {
		v.deny(overloaded())
		return
	}
	first := len(b.requests)
	for i := 1; i < len(args); i += width {
		from := len(b.wire)
		b.wire = protocol.AppendCommandHeader(b.wire, 1+width)
		b.wire = protocol.AppendBulkString(b.wire, one)
		for _, arg := range args[i : i+width] {
			b.wire = protocol.AppendBulk(b.wire, arg)
		}
		b.request(args[i], nil, from, reads)
	}
	s := step{merge: merge, span: span{first, len(b.requests)}}
	if len(b.requests) > first+1 {
		for i := 1; i < len(args); i += width {
			s.keys = append(s.keys, args[i]) // the bytes stay in the inbox
		}
	}
	b.steps = append(b.steps, s)
}

func list(v *visitor, parts []client.Request) {
	v.reserve(32)
	v.out = protocol.AppendArray(v.out, len(parts))
	for i := range parts {
		v.emit(parts[i].Reply)
	}
}

func fine(v *visitor, _ []client.Request) {
	v.reserve(32)
	v.out = protocol.AppendOK(v.out)
}

func sum(v *visitor, parts []client.Request) {
	total := int64(0)
	for i := range parts {
		total += parts[i].Reply.Int
	}
	v.reserve(32)
	v.out = protocol.AppendInt(v.out, total)
}

// perform asks the nodes for everything in the batch, and answers it in order.
func (v *visitor) perform() {
	b := &v.batch
	if len(b.steps) == 0 || v.broke {
		return
	}
	held := tab{of: &v.gw.budget}
	defer held.settle()
	v.exchange(&held)
	for _, s := range b.steps {
		if s.merge == nil {
			v.reserve(s.span.to - s.span.from)
			v.out = append(v.out, b.text[s.span.from:s.span.to]...)
			continue
		}
		parts := b.requests[s.span.from:s.span.to]
		if !v.answer(s, parts) {
			break
		}
		clear(parts) // what has been sent need not be held
	}
	b.release(&v.gw.budget)
	b.reset()
}

// exchange has the requests answered.
func (v *visitor) exchange(held *tab) {
	b := &v.batch
	for i, s := range b.spans {
		if s.from >= 0 {
			b.requests[i].Wire = b.wire[s.from:s.to]
		}
	}
	if len(b.requests) == 0 {
		return
	}
	db, refusal := v.db()
	switch {
	case refusal != nil:
	case !held.add(b.bytes):
		refusal = client.ErrNotAdmitted
	default:
		db.Exchange(v.ctx, b.requests, held.add)
		return
	}
	for i := range b.requests {
		b.requests[i].Err = refusal
	}
}

// db is who asks the nodes.
func (v *visitor) db() (db *client.Client, err error) {
	if v.gw.source.db.Load() == nil {
		return nil, &client.ServerError{Code: protocol.UNAVAILABLE, Message: "the gateway does not know the cluster yet: " + discreet.Text(v.gw.source.ready())}
	}
	if v.tenant == nil {
		return v.gw.source.db.Load(), nil
	}
	return v.tenant.client(v.ctx)
}

// answer is the reply to one command. When nobody knows whether a part of it was
// done, there is none, and the connection ends: an error would say that nothing was.
func (v *visitor) answer(s step, parts []client.Request) bool {
	failed, first := 0, -1
	for i := range parts {
		err := parts[i].Err
		if err == nil {
			continue
		}
		if errors.Is(err, client.ErrOutcomeUnknown) {
			v.gw.stats.cutUnknown.Add(1)
			v.gw.log.Info("closed a connection: whether its write was done is not known", "client", v.nc.RemoteAddr().String(), "err", err)
			v.closing = true
			return false
		}
		if failed++; first < 0 {
			first = i
		}
	}
	if failed == 0 {
		s.merge(v, parts)
		return true
	}
	e := refusalOf(parts[first].Err)
	if len(parts) > 1 {
		const most = 64
		key := s.keys[first]
		e = &protocol.Error{Code: e.Code, Message: fmt.Sprintf("%d of %d keys failed, the others are done; the first is %s: %s",
			failed, len(parts), strconv.QuoteToASCII(string(key[:min(len(key), most)])), e.Message)}
	}
	v.refuse(e)
	return true
}

// refusalOf is what a client is told about a request that was not executed.
func refusalOf(err error) *protocol.Error {
	var refused *client.ServerError
	var version *client.VersionError
	switch {
	case errors.Is(err, client.ErrNotAdmitted):
		return overloaded()
	case errors.As(err, &version):
		return protocol.VersionMismatch(uint64(version.Current))
	case errors.As(err, &refused) && refused.Code == protocol.MOVED:
		return &protocol.Error{Code: protocol.TRYAGAIN, Message: "the key's range is changing hands; try again in a moment"}
	case errors.As(err, &refused):
		return &protocol.Error{Code: refused.Code, Message: cmp.Or(refused.Message, "refused")}
	case errors.Is(err, client.ErrClosed):
		return &protocol.Error{Code: protocol.UNAVAILABLE, Message: "the gateway is stopping"}
	}
	return &protocol.Error{Code: protocol.UNAVAILABLE, Message: "the node that owns the key was not reached: " + discreet.Text(err)}
}
