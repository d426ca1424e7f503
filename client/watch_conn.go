package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/quoitdb/quoit/protocol"
)

// watchConn is the connection over which one node tells one watch. A goroutine
// dials and reads, and hands over what it has read in batches: while nobody
// takes the last batch nothing is read. Another one writes.
type watchConn struct {
	node   *node
	events chan<- watchEvent
	watch  context.Context // ends with the watch
	ctx    context.Context // ends with the connection, too
	cancel context.CancelFunc

	mu     sync.Mutex
	stream Conn          // nil before it is dialled
	out    []byte        // not yet taken by the writer
	err    error         // why it was closed
	wake   chan struct{} // of capacity 1: there is something in out, or in err

	reading atomic.Bool   // the reader waits for the node, not for the consumer
	reads   atomic.Uint64 // that brought something

	// watcher only
	catching uint64 // positions that it was asked for and that are not live
	unsure   bool   // it has told a state, and deletes before that perhaps not

	// tick only (one goroutine of the client)
	seen   uint64
	silent int
}

// watchEvent is what a connection hands to its watcher.
type watchEvent struct {
	from   *watchConn
	pushes []push
	err    error // it has ended; the last event
}

// push is a protocol.Push that owns its bytes, its key as a string.
type push struct {
	protocol.Push
	key string
}

const (
	// watchRead is the read buffer of a watch while little comes, and
	// maxWatchRead that of one on which much does.
	watchRead    = 4 << 10
	maxWatchRead = 64 << 10
)

func newWatchConn(watch context.Context, n *node, events chan<- watchEvent) *watchConn {
	k := &watchConn{node: n, events: events, watch: watch, wake: make(chan struct{}, 1)}
	k.ctx, k.cancel = context.WithCancel(watch)
	return k
}

// run is the connection's goroutine.
func (k *watchConn) run() {
	err := k.serve()
	k.close(err)
	select {
	case k.events <- watchEvent{from: k, err: err}:
	case <-k.watch.Done():
	}
}

func (k *watchConn) serve() error {
	stream, err := k.node.dialStream(k.ctx)
	if err != nil {
		return err
	}
	if err := k.begin(stream); err != nil {
		stream.Close()
		return err
	}
	var writer sync.WaitGroup
	writer.Go(func() { k.writeLoop(stream) })
	err = k.readLoop(stream)
	k.close(err)
	writer.Wait()
	return err
}

// begin makes close responsible for the stream.
func (k *watchConn) begin(stream Conn) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.err != nil:
		return k.err
	case k.node.env.ctx.Err() != nil: // and perhaps Close does not know of this connection
		return ErrClosed
	}
	k.stream = stream
	return nil
}

// open says whether the node has let the connection in.
func (k *watchConn) open() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stream != nil
}

// close ends the connection, the first time for the given reason.
func (k *watchConn) close(why error) {
	k.mu.Lock()
	first := k.err == nil
	if first {
		k.err = why
	}
	stream := k.stream
	k.mu.Unlock()
	if !first {
		return
	}
	k.cancel()
	k.nudge()
	if stream != nil {
		stream.Close() // makes Read and Write return; it has no news for anyone
	}
}

// hand gives pushes to the watcher. That may take as long as the consumer likes.
func (k *watchConn) hand(pushes []push) {
	select {
	case k.events <- watchEvent{from: k, pushes: pushes}:
	case <-k.ctx.Done():
	}
}

// send queues a request.
func (k *watchConn) send(request []byte) {
	k.mu.Lock()
	k.out = append(k.out, request...)
	k.mu.Unlock()
	k.nudge()
}

func (k *watchConn) nudge() {
	select {
	case k.wake <- struct{}{}:
	default: // it will look anyway
	}
}

func (k *watchConn) writeLoop(stream Conn) {
	for range k.wake {
		k.mu.Lock()
		out, err := k.out, k.err
		k.out = nil
		k.mu.Unlock()
		if err != nil {
			return
		}
		if len(out) == 0 {
			continue
		}
		if _, err := stream.Write(out); err != nil {
			k.close(&linkError{node: k.node.address, err: err})
			return
		}
	}
}

// readLoop returns why it ended.
func (k *watchConn) readLoop(stream Conn) error {
	buf := make([]byte, watchRead)
	start, end := 0, 0 // what is not parsed yet
	parser := protocol.ReplyParser{Limits: k.node.env.limits}
	size := 0 // of the last batch
	for {
		k.reading.Store(true)
		n, err := stream.Read(buf[end:])
		k.reading.Store(false)
		end += n
		if n > 0 {
			k.reads.Add(1)
			took, perr := k.parse(&parser, buf[start:end], &size)
			if perr != nil {
				return perr
			}
			start += took
		}
		if errors.Is(err, io.EOF) {
			return k.why(errLinkClosed)
		}
		if err != nil {
			return k.why(err)
		}
		full := end == len(buf) && len(buf) < maxWatchRead
		buf, start, end = makeSpace(buf, start, end, parser.Need())
		if full && len(buf) < maxWatchRead { // much comes: take more at once
			bigger := make([]byte, 2*len(buf))
			buf, start, end = bigger, 0, copy(bigger, buf[start:end])
		}
	}
}

// why is the reason for which the connection was closed on this side, or else
// the one given.
func (k *watchConn) why(otherwise error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	return &linkError{node: k.node.address, err: otherwise}
}

// parse hands over the pushes that are complete and returns their length. There
// are likely to be as many as the last time.
func (k *watchConn) parse(parser *protocol.ReplyParser, buf []byte, size *int) (took int, err error) {
	pushes := make([]push, 0, *size)
	for err == nil {
		var p push
		var n int
		if p, n, err = k.next(parser, buf[took:]); n == 0 || err != nil {
			break
		}
		took += n
		pushes = append(pushes, p)
	}
	if *size = len(pushes); *size > 0 {
		k.hand(pushes)
	}
	return took, err
}

func (k *watchConn) next(parser *protocol.ReplyParser, buf []byte) (p push, n int, err error) {
	r, n, err := parser.Next(buf)
	if n == 0 && err == nil {
		return push{}, 0, nil
	}
	if err == nil && r.Kind == '-' {
		return push{}, 0, serverError(k.node, r.Err())
	}
	if err == nil {
		p.Push, err = protocol.ParsePush(r)
	}
	if err != nil {
		return push{}, 0, notAPush(k.node, err)
	}
	p.key, p.Key = string(p.Key), nil
	p.Value, p.Address, p.Message = bytes.Clone(p.Value), bytes.Clone(p.Address), bytes.Clone(p.Message)
	return p, n, nil
}

// notAPush is the error of a node that breaks the protocol.
func notAPush(n *node, err error) error {
	return &ReplyError{Node: n.address, Command: "WATCH", Err: err}
}

// tick looks after the connection; it is called twice in a health interval. One
// that is silent is asked for a sign of life, and closed if none comes. Silence
// counts only while the consumer is waiting, too.
func (k *watchConn) tick() {
	if reads := k.reads.Load(); reads != k.seen || !k.reading.Load() {
		k.seen, k.silent = reads, 0
		return
	}
	const interval = 2 // ticks
	switch k.silent++; k.silent {
	case interval:
		k.send(protocol.AppendRequest(nil, "PING"))
	case 2 * interval:
		k.close(&linkError{node: k.node.address, err: errNoPong})
	}
}

var errNoPong = errors.New("client: the node gives no sign of life")
