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
type due struct {
	mu         sync.Mutex
	changed    *sync.Cond
	list       []debt   // guarded by mu
	waiting    int      // entries of list that are own replies; guarded by mu
	delivering bool     // guarded by mu
	leave      *parting // go when nothing is owed any more; guarded by mu
	closed     bool     // guarded by mu
}

// debt is a number of replies that the node owes, or a reply of the gateway's own.
type debt struct {
	node int
	own  []byte
}

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
	if d.closed || d.leave != nil {
		return false
	}
	if last := len(d.list) - 1; last >= 0 && d.list[last].own == nil {
		d.list[last].node += n
		return true
	}
	d.list = append(d.list, debt{node: n})
	return true
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
	if d.delivering || len(d.list) > 1 {
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

// arrived notes a reply of the node and returns the own ones that follow it. A
// reply that nobody asked for is none of the gateway's business.
func (d *due) arrived() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.list) == 0 || d.list[0].own != nil {
		return nil
	}
	if d.list[0].node--; d.list[0].node > 0 {
		return nil
	}
	d.pop()
	return d.take()
}

// ready returns the own replies whose turn it is. When there are none the right to
// deliver is given up, and leave is how to end the channel if all is said.
func (d *due) ready() (own []byte, leave *parting) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if own = d.take(); len(own) > 0 {
		return own, nil
	}
	d.delivering = false
	d.changed.Broadcast()
	if len(d.list) == 0 {
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
	return len(d.list) == 0 && !d.delivering
}

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
