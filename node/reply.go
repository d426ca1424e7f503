package node

import (
	"github.com/quoitdb/quoit/internal/inbox"
	"github.com/quoitdb/quoit/node/engine"
)

// replyRoom is what a request finds free in the reply buffer before it runs: enough
// for every reply but values, lists and texts. So what has been done can be told.
const replyRoom = 512

// The reply buffer of a connection.
//
// Invariant: between two requests it is no larger than room, so all of it but the
// first size is in the budget's account.

// room is how large the reply buffer may be with what is charged already.
func (c *conn) room() int { return max(inbox.First, c.outPart.Held()) }

// reserve makes sure of replyRoom, and says whether the connection lives on. Where
// the budget allows no growth, the replies so far leave first.
func (c *conn) reserve() bool {
	need := len(c.out) + replyRoom
	if c.grow(need) {
		return true
	}
	c.closing = !c.flush()
	return !c.closing
}

// grow makes sure that the reply buffer may hold size bytes, if the budget allows
// that.
func (c *conn) grow(size int) bool {
	if size <= c.room() {
		return true
	}
	if twice := 2 * c.room(); size < twice && c.chargeOut(twice) {
		size = twice
	} else if !c.chargeOut(size) {
		return false
	}
	c.out = append(make([]byte, 0, size), c.out...)
	return true
}

// rewind takes back what was appended behind mark, and the growth that it brought.
func (c *conn) rewind(mark int) {
	c.out = c.out[:mark]
	if room := c.room(); cap(c.out) > room {
		c.out = append(make([]byte, 0, room), c.out...)
	}
}

// fit charges what the last reply, which begins at mark, made the buffer grow. Where
// the budget does not allow that, the replies before it leave first; false says that
// this was not enough, and the reply is gone.
func (c *conn) fit(mark int) bool {
	if cap(c.out) <= inbox.First || c.chargeOut(cap(c.out)) {
		return true
	}
	if len(c.out) <= c.room() {
		c.rewind(len(c.out)) // only spare capacity was too much
		return true
	}
	reply := c.out[mark:]
	c.rewind(mark)
	if mark > 0 && !c.flush() {
		c.closing = true
		return true // nobody is there to be told
	}
	if len(reply) > c.room() {
		return false
	}
	c.out = append(make([]byte, 0, c.room()), reply...)
	return true
}

// showOld appends the value that a write is about to replace or remove, or stops
// the write while nothing has happened: a value must not be lost for want of room.
func (c *conn) showOld(it engine.Item) error {
	if !c.grow(len(c.out) + len(it.Value) + replyRoom) {
		return inbox.ErrBudget
	}
	c.scratch.value(it)
	return nil
}
