package gateway

import (
	"sync"

	"github.com/coder/websocket"
)

// due is what a client is still owed on a channel, in order: so many replies by
// the node, then one of the gateway's own, and so on.
//
// Who has called begin, or was told by own to do so, delivers: nobody else writes
// to the client until ready has said that there is nothing to write.
//
// Once the node has accepted a WATCH it owes nothing any more: it pushes. What the
// gateway has to say then goes between two pushes.
type due struct {
	mu         sync.Mutex
	changed    *sync.Cond
	list       []debt     // guarded by mu
	waiting    int        // entries of list that are own replies; guarded by mu
	delivering bool       // guarded by mu
	inside     bool       // what was delivered last ends within a reply or a push; guarded by mu
	watch      watchState // guarded by mu
	verdictOf  byte       // the first byte of the answer that was waited for, 0: none yet; guarded by mu
	leave      *parting   // go when nothing is owed any more; guarded by mu
	closed     bool       // guarded by mu
}

// debt is a number of replies that the node owes, the last of which may be one that
// somebody waits for; or a reply of the gateway's own.
type debt struct {
	node    int
	awaited awaited
	own     []byte
}

// awaited is a request whose answer decides how the channel goes on, so that nothing is
// read from the client before it has come.
type awaited uint8

const (
	awaitsNothing awaited = iota
	awaitsWatch           // the first WATCH: whether pushes come from now on
	awaitsAuth            // AUTH: whether the node takes the token
)

// watchState is what has become of the first WATCH.
type watchState uint8

const (
	watchNone     watchState = iota // none was sent, or it was refused
	watchAccepted                   // from now on there are pushes, and no replies
)

// parting is how a channel ends.
type parting struct {
	code   websocket.StatusCode
	reason string
}

// maxOwn bounds the own replies that wait for the node's: whoever sends one refused
// request after another has to wait for their answers.
const maxOwn = 256

func (d *due) init() { d.changed = sync.NewCond(&d.mu) }

// expect notes that the node is going to be asked. False means that the channel
// ends, and nothing more is to be asked.
func (d *due) expect(n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.owe(n)
}

// owe is expect with mu held.
func (d *due) owe(n int) bool {
	if d.closed || d.leave != nil {
		return false
	}
	switch last := len(d.list) - 1; {
	case d.watch == watchAccepted: // what comes is not counted
	case last >= 0 && d.list[last].own == nil:
		d.list[last].node += n
	default:
		d.list = append(d.list, debt{node: n})
	}
	return true
}

// await notes that the node is going to be asked something whose answer is waited for.
func (d *due) await(what awaited) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.owe(1) {
		return false
	}
	d.list[len(d.list)-1].awaited = what
	d.verdictOf = 0
	return true
}

// verdict waits for the first byte of what the node says to it. 0 means that the channel
// ends.
func (d *due) verdict() byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.verdictOf == 0 && !d.closed {
		d.changed.Wait()
	}
	if d.closed {
		return 0
	}
	return d.verdictOf
}

// own queues a reply of the gateway's own. deliver says that the caller must call
// ready and write what it gives; open is false when the channel ends.
func (d *due) own(reply []byte) (deliver, open bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.waiting >= maxOwn && !d.closed {
		d.changed.Wait()
	}
	if d.closed || d.leave != nil {
		return false, false
	}
	d.list = append(d.list, debt{own: reply})
	d.waiting++
	if d.delivering || d.inside || len(d.list) > 1 {
		return false, true
	}
	d.delivering = true
	return true, true
}

// begin waits for the right to deliver.
func (d *due) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.delivering && !d.closed {
		d.changed.Wait()
	}
	d.delivering = true
}

// arrived notes a reply of the node, whose first byte is kind, or a push, and returns
// the own ones that follow it. A reply that nobody asked for is none of the gateway's
// business.
func (d *due) arrived(kind byte) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.watch == watchAccepted:
		return d.take()
	case len(d.list) == 0 || d.list[0].own != nil:
		return nil
	}
	if d.list[0].node--; d.list[0].node > 0 {
		return nil
	}
	if d.list[0].awaited != awaitsNothing {
		d.decide(d.list[0].awaited, kind)
	}
	d.pop()
	return d.take()
}

// decide takes the answer that is waited for. To the first WATCH a push is an array, and
// a plain error leaves everything as it was. Called with mu held.
func (d *due) decide(what awaited, kind byte) {
	d.verdictOf = kind
	if what == awaitsWatch && kind == '*' {
		d.watch = watchAccepted
	}
	d.changed.Broadcast()
}

// ready returns the own replies whose turn it is. When there are none the right to
// deliver is given up, and leave is how to end the channel if all is said. inside says
// that what was delivered ends within a reply or a push of the node: nothing of the
// gateway's can follow it yet.
func (d *due) ready(inside bool) (own []byte, leave *parting) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside = inside
	if !inside {
		own = d.take()
	}
	if len(own) > 0 {
		return own, nil
	}
	d.delivering = false
	d.changed.Broadcast()
	if d.settled() {
		leave = d.leave
	}
	return nil, leave
}

// take removes own replies from the head. Called with mu held.
func (d *due) take() (own []byte) {
	for len(d.list) > 0 && d.list[0].own != nil {
		own = append(own, d.list[0].own...)
		d.waiting--
		d.pop()
		d.changed.Broadcast()
	}
	return own
}

func (d *due) pop() {
	if d.list = d.list[1:]; len(d.list) == 0 {
		d.list = nil
	}
}

// last says that nothing more is asked. It returns whether all is answered, and
// the channel can end at once; otherwise ready will say so.
func (d *due) last(p *parting) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.leave == nil {
		d.leave = p
	}
	return d.settled() && !d.delivering
}

// settled says that nobody waits for anything. Nobody waits for the rest of a push:
// whoever watches goes on elsewhere, from what it was told. Called with mu held.
func (d *due) settled() bool { return len(d.list) == 0 || d.watch == watchAccepted && d.inside }

// owes says whether the client waits for something.
func (d *due) owes() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.list) > 0
}

// close wakes everybody: nothing is delivered any more.
func (d *due) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.changed.Broadcast()
}
