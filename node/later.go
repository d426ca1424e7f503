package node

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quoitdb/quoit/node/wal"
)

// maxLater bounds the replies that are handed over: what fits the kernel's buffer of
// an idle connection.
const maxLater = 16 << 10

// later is how replies leave without their connection's goroutine: it hands them to
// the log, which sends them when they are durable, and goes back to reading. With
// many clients that write one request at a time, waking a goroutine for each reply
// and putting it to sleep again costs as much as the request.
//
// From handOver to await, the replies belong to the log's goroutine.
type later struct {
	c      *conn
	raw    syscall.RawConn // nil: never hand over
	notice wal.Notice
	try    func(fd uintptr) bool // made once, it sends what it can
	handed bool                  // of the connection's goroutine
	owing  atomic.Bool           // the log has not come to it yet, for the sweeper

	busy sync.Mutex // held from the hand-over until the log is through; guards the rest
	sent int        // bytes of c.out
	lost bool       // the rest must not, or cannot, be sent
}

func (l *later) bind(c *conn) {
	l.c, l.raw = c, rawConn(c.nc)
	l.notice.Durable = l.durable
	l.try = func(fd uintptr) bool {
		l.sent, l.lost = sendNow(fd, c.out)
		return true
	}
}

// rawConn returns nil where writing cannot be tried without waiting.
func rawConn(nc net.Conn) syscall.RawConn {
	tcp, ok := nc.(*net.TCPConn)
	if !ok || !canSendNow {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// durable runs in a goroutine of the log's, and others wait behind it: it sends what
// the kernel takes at once. The rest it leaves to the connection's own goroutine.
func (l *later) durable(err error) {
	c := l.c
	if l.sent, l.lost = 0, err != nil; err != nil {
		c.srv.fail(err)
	} else if l.raw.Write(l.try) != nil {
		l.lost = true
	}
	rest := l.lost || l.sent < len(c.out)
	c.tally.out.Add(uint64(l.sent))
	c.markAnswered()
	l.owing.Store(false)
	l.busy.Unlock()
	if rest {
		_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // the reader comes and looks, see poked
	}
}

// over says whether replies that were handed over can be reclaimed without waiting.
func (l *later) over() bool {
	if !l.handed || !l.busy.TryLock() {
		return false
	}
	l.busy.Unlock()
	return true
}

// await waits until the log's goroutine is through.
func (l *later) await() {
	if l.handed {
		l.busy.Lock()
		l.handed = false
		l.busy.Unlock()
	}
}

// handOver leaves the replies of a batch to the log, if there is something to wait for.
// Nothing may touch them before reclaim.
func (c *conn) handOver() bool {
	l := &c.later
	if l.raw == nil || c.session == nil || c.durable != 0 || c.closing || len(c.out) == 0 || len(c.out) > maxLater {
		return false
	}
	c.tally.fold()
	l.busy.Lock()
	l.owing.Store(true)
	later, err := c.session.WaitLater(&l.notice)
	if l.handed = later && err == nil; !l.handed {
		l.owing.Store(false)
		l.busy.Unlock() // flush asks again, and has the error then
	}
	return l.handed
}

// reclaim takes the replies back, and sends what is left of them. It says whether the
// connection lives on.
func (c *conn) reclaim() bool {
	l := &c.later
	if !l.handed {
		return true
	}
	l.await()
	switch {
	case l.lost:
		return false
	case l.sent < len(c.out):
		return c.send(c.out[l.sent:])
	}
	c.recycle()
	return true
}
