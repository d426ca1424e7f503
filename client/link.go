package client

import (
	"cmp"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

// link is one connection to a node, shared by all callers.
//
// Callers append their requests to one buffer and their calls to one queue,
// under one short lock. A writer goroutine takes the whole buffer and sends it
// in one write while the next one fills; a reader goroutine takes the replies,
// which come in the order of the requests, and hands each to the call at the
// head of the queue. A caller waits on its own call only, so it can leave at
// any time: the reply of an abandoned call is read and dropped.
//
// Invariants, under mu: answered <= taken <= accepted; the calls in queue are
// the youngest of accepted, in order; once err is set nothing is accepted or
// taken any more.
type link struct {
	stream Conn
	parser protocol.ReplyParser
	opened uint64 // its place among the connections that were opened

	mu       sync.Mutex
	out      []byte        // accepted and not yet taken by the writer
	queue    []*call       // accepted and not yet taken by the reader
	accepted uint64        // calls that were ever accepted
	taken    uint64        // calls whose requests the writer has taken
	err      error         // why the link is dead
	leaving  bool          // nothing more is accepted; what was is still answered
	room     chan struct{} // closed when the writer has made room; nil when nobody waits
	asleep   bool          // the writer waits for wake
	late     *time.Timer   // fails the link in the reader's place; nil while the writer can write

	wake chan struct{} // capacity 1
	dead atomic.Bool   // err is set, or leaving; for a look without the lock

	// reader only
	pending []*call // taken from queue; the ones before head are answered
	head    int

	answered atomic.Uint64 // calls that the reader has finished
	progress atomic.Uint64 // counts reads and writes that moved bytes

	// writer only
	company int // writes for which to expect more than one caller

	// lookAfter only (one goroutine of the client)
	seenProgress uint64
	silentTicks  int
}

const (
	// maxOut is how many bytes may wait for the writer before callers do.
	maxOut = 1 << 20
	// writeChunk is the largest single write; each counts as progress.
	writeChunk = 256 << 10
	// companyLasts is for how many writes after one for several callers the
	// writer waits for others to join.
	companyLasts = 16
	// readBuffer is the size of the read buffer while replies fit into it,
	// and keepReadBuffer the size above which it is given back.
	readBuffer     = 32 << 10
	keepReadBuffer = 1 << 20
	// lastWords is how long the reader may take to the end of a connection that
	// cannot be written to. Where that is broken, it takes no time.
	lastWords = time.Second
)

var (
	errSilent     = errors.New("client: the node owes replies and is silent")
	errUnasked    = errors.New("client: the node sent a reply that nobody asked for")
	errLinkClosed = errors.New("client: the node closed the connection")
)

func newLink(stream Conn, limits protocol.Limits) *link {
	return &link{stream: stream, parser: protocol.ReplyParser{Limits: limits}, wake: make(chan struct{}, 1)}
}

// send accepts a call, whose body, if it has one, is copied. An error means
// that nothing of it was or will be sent and the call is still the caller's.
func (l *link) send(ctx context.Context, k *call, body []byte) error {
	l.mu.Lock()
	for len(l.out) >= maxOut && l.err == nil && !l.leaving {
		if err := l.waitForRoom(ctx); err != nil {
			l.mu.Unlock()
			return err
		}
	}
	if l.err != nil || l.leaving {
		defer l.mu.Unlock()
		return cmp.Or(l.err, errLeft)
	}
	k.link, k.seq = l, l.accepted
	l.accepted++
	l.out = append(l.out, k.buf[:k.cut]...)
	l.out = append(l.out, body...)
	l.out = append(l.out, k.buf[k.cut:]...)
	l.queue = append(l.queue, k)
	asleep := l.asleep
	l.asleep = false
	l.mu.Unlock()
	if asleep {
		l.wake <- struct{}{}
	}
	return nil
}

// waitForRoom is called and returns with mu held.
func (l *link) waitForRoom(ctx context.Context) error {
	if l.room == nil {
		l.room = make(chan struct{})
	}
	room := l.room
	l.mu.Unlock()
	defer l.mu.Lock()
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeLoop runs in its own goroutine until the link dies.
func (l *link) writeLoop() {
	var buf []byte
	for {
		buf = l.take(buf)
		if buf == nil {
			return
		}
		if err := l.write(buf); err != nil {
			l.broken(err)
			return
		}
	}
}

// take exchanges the writer's empty buffer for the full one, waiting until
// there is something in it. nil means that the link is dead.
func (l *link) take(empty []byte) []byte {
	l.mu.Lock()
	if len(l.out) == 0 && l.err == nil {
		l.asleep = true
		l.mu.Unlock()
		<-l.wake
		if l.company > 0 {
			// Several callers are about. Let those that can run add their
			// requests to this write before it costs a system call.
			l.company--
			runtime.Gosched()
		}
		l.mu.Lock()
	}
	defer l.mu.Unlock()
	if l.err != nil {
		return nil
	}
	full := l.out
	if cap(empty) > maxOut {
		empty = nil
	}
	l.out = empty[:0]
	if l.accepted-l.taken > 1 {
		l.company = companyLasts
	}
	l.taken = l.accepted
	l.makeRoom()
	return full
}

func (l *link) makeRoom() {
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
}

func (l *link) write(buf []byte) error {
	for len(buf) > 0 {
		n, err := l.stream.Write(buf[:min(len(buf), writeChunk)])
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		l.progress.Add(1)
		buf = buf[n:]
	}
	return nil
}

// broken is called when nothing can be written any more. Who closes a connection may have
// said why before, so the reader comes to the end of that, and fails the link.
func (l *link) broken(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.late = time.AfterFunc(lastWords, func() { l.fail(err) })
	}
}

// readLoop runs in its own goroutine until the link dies, and then finishes
// every call that is left.
func (l *link) readLoop() {
	l.fail(l.readReplies())
	l.drain()
}

func (l *link) readReplies() error {
	buf := make([]byte, readBuffer)
	start, end := 0, 0 // what is not parsed yet
	for {
		n, err := l.stream.Read(buf[end:])
		end += n
		if n > 0 {
			l.progress.Add(1)
			took, perr := l.parse(buf[start:end])
			if perr != nil {
				return perr
			}
			start += took
		}
		if errors.Is(err, io.EOF) {
			return errLinkClosed
		}
		if err != nil {
			return err
		}
		buf, start, end = makeSpace(buf, start, end, l.parser.Need())
	}
}

// parse hands out the replies that are complete and returns their length.
func (l *link) parse(buf []byte) (took int, err error) {
	for took < len(buf) {
		r, n, err := l.parser.Next(buf[took:])
		if err != nil {
			return took, err
		}
		if n == 0 {
			break
		}
		took += n
		if err := l.deliver(r); err != nil {
			return took, err
		}
	}
	return took, nil
}

func (l *link) deliver(r protocol.Reply) error {
	k := l.oldest()
	if k == nil {
		return errUnasked
	}
	if r.Kind == '-' && r.Err().Code == protocol.NOPROTO {
		return r.Err() // such as a port that speaks TLS; it closes the connection
	}
	if k.add(r) {
		l.pending[l.head] = nil
		l.head++
		l.answered.Add(1)
		k.finish()
	}
	return nil
}

// oldest is the call that the next reply belongs to, nil if there is none. The
// lock is taken once for all the calls that were queued since the last time.
func (l *link) oldest() *call {
	if l.head == len(l.pending) {
		l.mu.Lock()
		l.pending, l.queue = l.queue, l.pending[:0]
		l.mu.Unlock()
		l.head = 0
		if len(l.pending) == 0 {
			return nil
		}
	}
	return l.pending[l.head]
}

// makeSpace gives a buffer that has room for more behind end. need is what the
// parser asks for; it is trusted only as far as bytes have come, so that a
// length that a node merely claims allocates at most three times what it sent.
func makeSpace(buf []byte, start, end, need int) (bigger []byte, newStart, newEnd int) {
	if start == end {
		start, end = 0, 0
		if len(buf) > keepReadBuffer {
			buf = make([]byte, readBuffer)
		}
	}
	held := end - start
	want := min(max(need, readBuffer/8), max(held, readBuffer/2))
	if len(buf)-end >= want {
		return buf, start, end
	}
	bigger = buf
	if len(buf)-held < want {
		bigger = make([]byte, max(held+want, len(buf)+len(buf)/2))
	}
	copy(bigger, buf[start:end])
	return bigger, 0, held
}

// fail declares the link dead, once. The reader then finishes the calls.
func (l *link) fail(err error) {
	l.mu.Lock()
	first := l.err == nil
	if first {
		l.err = err
		l.dead.Store(true)
		l.makeRoom()
		if l.late != nil {
			l.late.Stop()
		}
		if l.asleep {
			l.asleep = false
			l.wake <- struct{}{}
		}
	}
	l.mu.Unlock()
	if first {
		l.stream.Close() // makes Read and Write return; it has no news for anyone
	}
}

// leave accepts nothing from now on, and reports whether it did before.
func (l *link) leave() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || l.leaving {
		return false
	}
	l.leaving = true
	l.dead.Store(true)
	l.makeRoom()
	return true
}

// ended says that the link has failed, and owes nothing.
func (l *link) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil
}

// drain finishes what the link will not answer any more. It runs in the
// reader, after fail, so nothing is added behind its back.
func (l *link) drain() {
	l.mu.Lock()
	rest, taken, err := l.queue, l.taken, l.err
	l.queue, l.out = nil, nil
	l.mu.Unlock()
	for _, list := range [][]*call{l.pending[l.head:], rest} {
		for _, k := range list {
			k.err, k.sent = err, k.seq < taken
			l.answered.Add(1)
			k.finish()
		}
	}
	l.pending = nil
}

// outstanding is the number of calls that are owed an answer.
func (l *link) outstanding() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted - l.answered.Load()
}

// health is what a look at a link from time to time shows.
type health uint8

const (
	healthy health = iota
	idle           // nothing moved for two ticks, nothing is owed
	silent         // nothing moved for two ticks, and replies are owed
)

// tick looks at the link; lookAfter calls it twice in each health interval.
func (l *link) tick() health {
	owed := l.outstanding()
	if p := l.progress.Load(); p != l.seenProgress {
		l.seenProgress, l.silentTicks = p, 0
		return healthy
	}
	l.silentTicks++
	switch {
	case l.silentTicks < 2:
		return healthy
	case owed > 0:
		return silent
	default:
		l.silentTicks = 0
		return idle
	}
}
