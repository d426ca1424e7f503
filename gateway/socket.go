package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
)

// Subprotocol is what a client must ask for: the version of the transport.
const Subprotocol = "quoit.v1"

// The codes with which the gateway closes a WebSocket. Those of RFC 6455 below 3000
// are for the protocol itself (1002: broken frames, 1009: message too large), and
// browsers do not let pages use them.
const (
	CloseDone       websocket.StatusCode = 1000 // as asked, by QUIT
	CloseDraining   websocket.StatusCode = 4000 // the gateway stops: connect again, to another one if there is
	CloseNode       websocket.StatusCode = 4001 // the node is gone or silent: look at the topology, connect again
	CloseSlow       websocket.StatusCode = 4002 // replies were not taken
	CloseIdle       websocket.StatusCode = 4003 // nothing was asked for a long time
	CloseProtocol   websocket.StatusCode = 4004 // what came is no request: do not send it again
	CloseOverloaded websocket.StatusCode = 4005 // no memory left for this request: try again later

	CloseUnauthenticated websocket.StatusCode = 4006 // no token, or none that is good: get another one
)

// closeFor is the code for who is refused because of a token.
func closeFor(refusal *protocol.Error) websocket.StatusCode {
	if refusal.Code == protocol.OVERLOADED {
		return CloseOverloaded
	}
	return CloseUnauthenticated
}

// short is a refusal as the reason of a close, which has no more room.
func short(refusal *protocol.Error) string {
	const most = 123
	return strings.ToValidUTF8(refusal.Message[:min(len(refusal.Message), most)], "")
}

// messageLimit is how long a message may be: a stranger's is short.
func (g *Gateway) messageLimit(most int64) int64 {
	if g.asks() {
		return min(most, strangerMessage)
	}
	return most
}

// socket is what both kinds of WebSocket share: its end, and the signs of life.
type socket struct {
	gw *Gateway
	ws *websocket.Conn
	nc net.Conn // under ws

	heard   atomic.Int64 // when the client was last heard, coarse
	writer  stamp        // what the goroutine that writes does
	pinging atomic.Bool

	ending sync.Once
	ended  chan struct{} // closed when the end has begun
	tasks  sync.WaitGroup
	mu     sync.Mutex
	sealed bool // no more tasks; guarded by mu
}

// accept upgrades a request, or answers why not.
func (g *Gateway) accept(w http.ResponseWriter, r *http.Request, limit int64) *socket {
	ws, err := websocket.Accept(lean{w}, r, &websocket.AcceptOptions{
		Subprotocols:       []string{Subprotocol},
		InsecureSkipVerify: true, // guard has checked, and more strictly
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return nil // it has answered
	}
	ws.SetReadLimit(limit)
	nc, _ := r.Context().Value(connKey{}).(net.Conn)
	s := &socket{gw: g, ws: ws, nc: nc, ended: make(chan struct{})}
	s.heard.Store(g.clock.coarse())
	s.writer.mark(g.clock, idle)
	return s
}

// lean is a ResponseWriter whose connection is taken over with small buffers. The
// server's have 4 KiB each, which most WebSockets never fill, and long messages go
// past them.
type lean struct{ http.ResponseWriter }

// What a WebSocket reads frames into and writes them from. A message that is longer
// than the second takes one more system call.
const (
	leanRead  = 512
	leanWrite = 1 << 10
)

// Hijack is http.Hijacker.
func (l lean) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(l.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	ahead, err := rw.Reader.Peek(rw.Reader.Buffered()) // what the client has sent already
	if err != nil {
		return nil, nil, errors.Join(err, nc.Close())
	}
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(ahead), nc), max(leanRead, len(ahead)))
	if _, err := r.Peek(len(ahead)); err != nil { // that it is in the buffer is what the library counts on
		return nil, nil, errors.Join(err, nc.Close())
	}
	return nc, bufio.NewReadWriter(r, bufio.NewWriterSize(nc, leanWrite)), nil
}

// speaks says whether a request asks for the subprotocol, and answers if not.
func (g *Gateway) speaks(w http.ResponseWriter, r *http.Request) bool {
	for _, header := range r.Header["Sec-Websocket-Protocol"] {
		if slices.ContainsFunc(strings.Split(header, ","), func(p string) bool { return strings.TrimSpace(p) == Subprotocol }) {
			return true
		}
	}
	g.stats.wrongProtocol.Add(1)
	http.Error(w, "this is for a WebSocket with the subprotocol "+Subprotocol, http.StatusBadRequest)
	return false
}

// end closes the socket with a code, once, without waiting. A client that takes no
// bytes is given a few seconds to come to the end of the message under way and
// read why, then it is cut off: a frame in the middle of another would be garbage.
func (s *socket) end(code websocket.StatusCode, reason string) {
	s.ending.Do(func() {
		close(s.ended)
		s.spawn(func() { _ = s.ws.Close(code, reason) })
	})
}

// spawn runs a task that finish waits for; none once it does.
func (s *socket) spawn(task func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sealed {
		s.tasks.Go(func() {
			defer s.contained()
			task()
		})
	}
}

// contained ends the socket when one of its goroutines has panicked: a bug that one
// client can trigger must not take the others down with it.
func (s *socket) contained() {
	if p := recover(); p != nil {
		s.gw.stats.panics.Caught(s.gw.log, "a WebSocket", p, "client", s.nc.RemoteAddr().String())
		s.cutOff()
	}
}

// gone is called when the client is: there is nobody to tell anything.
func (s *socket) gone() { s.ending.Do(func() { close(s.ended) }) }

// cutOff closes the connection under the socket, also while end is waiting.
func (s *socket) cutOff() {
	s.gone()
	_ = tlsconf.Cut(s.nc)
}

// over says that the end has begun.
func (s *socket) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// finish waits until nothing of the socket runs any more.
func (s *socket) finish() {
	s.gone()
	s.mu.Lock()
	s.sealed = true
	s.mu.Unlock()
	s.tasks.Wait()
	_ = s.ws.CloseNow()
}

// write sends a message. How long that may take is the sweeper's business.
func (s *socket) write(message []byte) bool {
	s.writer.mark(s.gw.clock, writing)
	err := s.ws.Write(context.Background(), websocket.MessageBinary, message)
	s.gw.clock.refresh()
	s.writer.mark(s.gw.clock, idle)
	s.gw.stats.messagesOut.Add(1)
	s.gw.stats.bytesOut.Add(uint64(len(message)))
	return err == nil
}

// leftOver reads on when nothing is done any more about what comes, so that the handshake
// of the end is seen.
func (s *socket) leftOver() {
	for {
		_, message, err := s.ws.Reader(context.Background())
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, message); err != nil {
			return
		}
	}
}

func (s *socket) listen() { s.heard.Store(s.gw.clock.coarse()) }

// sweepSocket looks for a client that does not read, or is not there any more.
// listening says that the gateway is reading from it, and so would see a pong.
func (s *socket) sweepSocket(listening bool) {
	g := s.gw
	if s.over() {
		return
	}
	if p, since := s.writer.read(); p == writing && g.clock.overdue(since, g.times.Write) {
		g.stats.cutSlowReader.Add(1)
		s.end(CloseSlow, "the replies were not taken for "+g.times.Write.String())
		return
	}
	if listening && g.clock.overdue(s.heard.Load(), g.times.Ping) && s.pinging.CompareAndSwap(false, true) {
		s.spawn(s.ping)
	}
}

// ping asks for a sign of life; without one the other side is gone.
func (s *socket) ping() {
	defer s.pinging.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), max(s.gw.times.Ping, time.Second))
	defer cancel()
	if err := s.ws.Ping(ctx); err != nil {
		if !s.over() {
			s.gw.stats.cutPing.Add(1)
			s.cutOff()
		}
		return
	}
	s.gw.clock.refresh()
	s.listen()
}
