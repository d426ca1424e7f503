package client

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"

	"github.com/quoitdb/quoit/protocol"
)

// call is one or more requests that travel together, and the place where their
// replies arrive. It is pooled: while a link has it, it belongs to the link,
// and finish hands it back to the caller or, when the caller has given up
// waiting, to the pool. That hand-over is the one field both touch, state.
type call struct {
	// The requests as they go on the wire: buf[:cut], then the body that was
	// given to send, then buf[cut:].
	buf  []byte
	cut  int
	want int // replies
	// admit is asked before reply i is kept; nil keeps all. It may still be
	// called when the caller has given up waiting.
	admit func(i, bytes int) bool
	lane  int    // over which of a node's connections to go; 0: any
	name  string // of the command, for an observer; the last one's of several

	state atomic.Uint32
	done  chan struct{} // capacity 1, one token for each finish that the caller waits for
	pool  *sync.Pool
	node  *node // whom it was last sent to
	link  *link // and over which connection

	// Written by the link up to finish, read by the caller after it.
	seq     uint64 // place in the link's order
	got     int
	reply   protocol.Reply   // when want is 1
	replies []protocol.Reply // when want is more
	err     error            // why the link could not answer
	sent    bool             // with err: some of it may have reached the node
}

const (
	callWaiting uint32 = iota
	callFinished
	callAbandoned
)

// keepBuffer is the largest request buffer that goes back into the pool.
const keepBuffer = 64 << 10

func newCallPool() *sync.Pool {
	pool := new(sync.Pool)
	pool.New = func() any { return &call{done: make(chan struct{}, 1), pool: pool} }
	return pool
}

// release gives a finished call back, and with it the right to touch it.
func (k *call) release() {
	if cap(k.buf) > keepBuffer {
		k.buf = nil
	}
	k.buf, k.cut = k.buf[:0], 0
	k.err, k.node, k.link, k.reply, k.replies, k.admit, k.lane, k.name = nil, nil, nil, protocol.Reply{}, nil, nil, 0, ""
	k.pool.Put(k)
}

// rearm makes a call that came back ready to be sent, for the first time or again.
func (k *call) rearm() {
	k.got, k.err, k.sent, k.reply = 0, nil, false, protocol.Reply{}
	if k.want > 1 {
		k.replies = make([]protocol.Reply, 0, k.want)
	}
	k.state.Store(callWaiting)
}

// add takes the next reply, of which it keeps a copy, and reports whether it
// was the last one.
func (k *call) add(r protocol.Reply) bool {
	k.got++
	if k.state.Load() != callAbandoned {
		if k.admit != nil && !k.admit(k.got-1, size(r)) {
			r = protocol.Reply{Kind: notKept}
		}
		if k.want == 1 {
			k.reply = own(r)
		} else {
			k.replies = append(k.replies, own(r))
		}
	}
	return k.got == k.want
}

// notKept is the kind of a reply that admit did not let in.
const notKept byte = 0

// size is about how much memory a reply needs once it is kept.
func size(r protocol.Reply) int {
	const one = 64
	n := one + len(r.Bytes)
	for _, e := range r.Array {
		n += size(e)
	}
	return n
}

// answer is reply i of the k.got that came.
func (k *call) answer(i int) protocol.Reply {
	if k.want == 1 {
		return k.reply
	}
	return k.replies[i]
}

// broken is the outcome of a call with an err.
func (k *call) broken() outcome {
	if k.sent {
		return lost
	}
	return unsent
}

// finish is the link's last touch.
func (k *call) finish() {
	if k.state.CompareAndSwap(callWaiting, callFinished) {
		k.done <- struct{}{}
		return
	}
	k.release()
}

// wait returns nil once the call is finished, or the error of ctx, after which
// the call is no longer the caller's.
func (k *call) wait(ctx context.Context) error {
	ended := ctx.Done()
	if ended == nil {
		<-k.done
		return nil
	}
	select {
	case <-k.done:
		return nil
	case <-ended:
	}
	if k.state.CompareAndSwap(callWaiting, callAbandoned) {
		return ctx.Err()
	}
	<-k.done // it was finished at this very moment
	return nil
}

// own copies what a parsed reply aliases. "+OK", the answer to most writes, is
// kept without its bytes: see text.
func own(r protocol.Reply) protocol.Reply {
	switch {
	case r.Kind == '+' && string(r.Bytes) == "OK":
		r.Bytes = nil
	case r.Kind == '*':
		r.Array = ownAll(r.Array)
	case r.Bytes != nil:
		r.Bytes = bytes.Clone(r.Bytes)
	}
	return r
}

func ownAll(rs []protocol.Reply) []protocol.Reply {
	all := make([]protocol.Reply, len(rs))
	for i, r := range rs {
		all[i] = own(r)
	}
	return all
}

// restore undoes what own leaves out, for replies that are shown as they are.
func restore(r protocol.Reply) protocol.Reply {
	if r.Kind == '+' && r.Bytes == nil {
		r.Bytes = []byte("OK")
	}
	for i := range r.Array {
		r.Array[i] = restore(r.Array[i])
	}
	return r
}
