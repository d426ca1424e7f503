package border

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/ring"
)

// Socket is a WebSocket: a stream of bytes, or of messages to who asks for those. Read,
// Message and Write return a *CloseError when it has ended.
type Socket interface {
	client.Conn
	// Message returns the next message whole. One goroutine uses either this or Read.
	Message() ([]byte, error)
	// Ended is closed when the browser is done with it.
	Ended() <-chan struct{}
	// End is how it has ended, or is ending; nil while it is open.
	End() *CloseError
}

// CloseError is the end of a WebSocket as the browser tells it.
type CloseError struct {
	Code   int
	Reason string
}

// Error is what a person can look up.
func (e *CloseError) Error() string {
	text := "the WebSocket was closed with code " + strconv.Itoa(e.Code)
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// Network opens a WebSocket and returns when it is open.
type Network func(ctx context.Context, url string) (Socket, error)

// Status is how a call ends.
type Status uint8

// What a call may come to.
const (
	OK      Status = iota // with what the operation gives
	Failed                // with an error
	Missing               // no such key
)

// Event is what concerns no single call.
type Event uint8

// The events, and their fields.
const (
	EventTopology   Event = iota + 1 // see appendTopology
	EventDisconnect                  // bytes node, flag direct, u32 code, bytes reason
	EventReconnect                   // bytes node, flag direct, f64 milliseconds
	EventError                       // see appendError
	EventRoute                       // see appendRoute
)

// Page is who gets answers and events. Its methods must not block, and must not call
// back.
type Page interface {
	Settle(call uint32, s Status, payload []byte)
	Emit(database uint32, e Event, payload []byte)
	// Token asks for a token; Border.Answer takes it under the number of the question.
	Token(source, ask uint32)
}

// Border has the databases of a page. Its methods return at once.
type Border struct {
	page    Page
	network Network

	mu        sync.Mutex
	calls     map[uint32]context.CancelFunc // under way
	databases map[uint32]*database
	asks      map[uint32]chan tokenAnswer // questions to the page
	lastOpen  uint32                      // the number of the newest database
	lastAsk   uint32                      // and that of the newest question
	awake     chan struct{}               // closed while the page is not put away
}

// New makes one without databases.
func New(page Page, network Network) *Border {
	b := &Border{page: page, network: network, calls: make(map[uint32]context.CancelFunc), databases: make(map[uint32]*database), asks: make(map[uint32]chan tokenAnswer), awake: make(chan struct{})}
	close(b.awake)
	return b
}

// connect opens a WebSocket, when the page is there.
func (b *Border) connect(ctx context.Context, url string) (Socket, error) {
	for {
		b.mu.Lock()
		awake := b.awake
		b.mu.Unlock()
		select {
		case <-awake:
			return b.network(ctx, url)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Sleep is called when the browser puts the page away and may bring it back as it is.
// Such a page runs nothing, and would hold its connections for nothing.
func (b *Border) Sleep() {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.awake:
		b.awake = make(chan struct{})
	default:
	}
	for _, db := range b.databases {
		db.feed.drop()
		db.dialer.dropAll()
	}
}

// Wake is called when it has brought it back.
func (b *Border) Wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.awake:
	default:
		close(b.awake)
	}
	for _, db := range b.databases {
		db.feed.hurry()
	}
}

// Call begins a call, which is settled later under the number that it is given here.
// The request and the body are the border's from now on.
func (b *Border) Call(id uint32, request, body []byte) {
	r := &reader{rest: request}
	op, handle, limit := operation(r.u8()), r.u32(), r.f64()
	ctx, cancel := context.WithCancel(context.Background())
	if limit > 0 {
		ctx, cancel = context.WithTimeout(ctx, millis(limit))
	}
	b.mu.Lock()
	b.calls[id] = cancel
	db := b.databases[handle]
	b.mu.Unlock()
	go func() {
		defer b.over(id)
		status, answer, err := b.guarded(ctx, &job{border: b, db: db, id: id, reader: r, body: body}, op)
		if err != nil {
			status, answer = Failed, appendError(nil, err)
		}
		b.page.Settle(id, status, answer)
	}()
}

// Calls begins many calls at once: u32 number, bytes request, bytes body, and so on. The
// error is about what is not even that; the calls before it have begun.
func (b *Border) Calls(batch []byte) error {
	for r := (&reader{rest: batch}); len(r.rest) > 0; {
		id, request, body := r.u32(), r.bytes(), r.bytes()
		if r.err != nil {
			return r.err
		}
		b.Call(id, request, body)
	}
	return nil
}

// over forgets a call.
func (b *Border) over(id uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cancel := b.calls[id]; cancel != nil {
		cancel()
		delete(b.calls, id)
	}
}

// Cancel ends a call's wait. One that has been settled is not there any more.
func (b *Border) Cancel(id uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cancel := b.calls[id]; cancel != nil {
		cancel()
	}
}

// guarded runs a call. A panic is its error.
func (b *Border) guarded(ctx context.Context, j *job, op operation) (s Status, answer []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			s, answer, err = Failed, nil, &crash{text: textOf(p)}
		}
	}()
	run := op.run()
	switch {
	case run == nil || j.reader.err != nil:
		return Failed, nil, errRequest
	case j.db == nil && op != opOpen:
		return Failed, nil, client.ErrClosed
	}
	answer, err = run(ctx, j)
	if errors.Is(err, errMissing) {
		return Missing, nil, nil
	}
	return OK, answer, err
}

// errMissing is the answer of a call whose key does not exist, where that is no error.
var errMissing = errors.New("no such key")

// textOf is what a panic says, without the means to print any value.
func textOf(p any) string {
	switch v := p.(type) {
	case error:
		return v.Error()
	case string:
		return v
	}
	return "panic with a value of another type"
}

// Place is where a key lies and who owns it; false when the database is not open.
func (b *Border) Place(handle uint32, key string) (p ring.Position, owner string, ok bool) {
	db := b.database(handle)
	if db == nil {
		return 0, "", false
	}
	return ring.PositionOfString(key), db.client.Owner(key), true
}

// Stats counts what a database has been through, and its sockets.
func (b *Border) Stats(handle uint32) (s client.Stats, sockets int) {
	if db := b.database(handle); db != nil {
		return db.client.Stats(), db.dialer.open()
	}
	return client.Stats{}, 0
}

// Online says that the machine has a network again: what waits to try again does so
// now.
func (b *Border) Online() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, db := range b.databases {
		db.feed.hurry()
	}
}

func (b *Border) database(handle uint32) *database {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.databases[handle]
}

// admit gives a database its number.
func (b *Border) admit(db *database) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lastOpen++
	db.handle = b.lastOpen
	b.databases[db.handle] = db
}

// forget takes a database's number away: from now on its calls find it closed.
func (b *Border) forget(db *database) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.databases, db.handle)
}

// millis is a time as JavaScript counts it, rounded up.
func millis(f float64) time.Duration {
	const longest = float64(1<<63-1) / float64(time.Millisecond) / 2
	d := time.Duration(min(f, longest) * float64(time.Millisecond))
	return max(d, 1)
}
