//go:build js

package main

import (
	"context"
	"errors"
	"sync"
	"syscall/js"
	"time"

	"github.com/quoitdb/quoit/wasmclient/border"
)

// browser has what is needed of the page's globals.
type browser struct {
	uint8Array js.Value
	webSocket  js.Value
}

func newBrowser() *browser {
	return &browser{uint8Array: js.Global().Get("Uint8Array"), webSocket: js.Global().Get("WebSocket")}
}

// toJS copies bytes out; nothing is undefined.
func (w *browser) toJS(b []byte) js.Value {
	if len(b) == 0 {
		return js.Undefined()
	}
	array := w.uint8Array.New(len(b))
	js.CopyBytesToJS(array, b)
	return array
}

// toGo copies a Uint8Array in; undefined is nothing.
func (w *browser) toGo(array js.Value) []byte {
	if array.IsUndefined() {
		return nil
	}
	b := make([]byte, array.Get("byteLength").Int())
	js.CopyBytesToGo(b, array)
	return b
}

const (
	subprotocol = "quoit.v1"
	// mostBuffered is how much may lie in the browser unsent before a writer waits.
	mostBuffered = 1 << 20
	// mostUnread is how much may have come that nobody has taken. A browser cannot be
	// told to stop reading, so who lets more pile up loses the connection instead.
	mostUnread = 64 << 20

	// Why this side ends a connection. Browsers take 1000 and 3000 to 4999 only.
	closeNormal    = 1000
	closeText      = 4004 // as the gateway says of a text message
	closeUnread    = 4100
	statusOpen     = 1    // of readyState
	closedAbnormal = 1006 // what browsers say when there was no close
)

// webSocket is a browser's WebSocket as a border.Socket. What the browser has to say
// comes in one js.Func, which is released with the close event, the last there is.
type webSocket struct {
	web    *browser
	value  js.Value
	handle js.Func

	opened  chan struct{} // closed when it is open
	ended   chan struct{} // closed with the close event
	arrived chan struct{} // capacity 1: there is something to read, or the end

	mu     sync.Mutex
	queue  []message          // that nobody has read
	unread int                // bytes in it
	end    *border.CloseError // nil while it is open

	scratch js.Value // what Write sends from; writer only
	room    int      // its size
}

// message is a Uint8Array, or what is left of it.
type message struct {
	array js.Value
	size  int
	taken int
}

// dial is a border.Network.
func (w *browser) dial(ctx context.Context, url string) (border.Socket, error) {
	s, err := w.open(url)
	if err != nil {
		return nil, err
	}
	select {
	case <-s.opened:
		return s, nil
	case <-s.ended:
		return nil, s.ending()
	case <-ctx.Done():
		_ = s.Close()
		return nil, ctx.Err()
	}
}

// open begins to connect. What the browser throws, for a URL that the page's policy or
// its https forbid, is an error.
func (w *browser) open(url string) (s *webSocket, err error) {
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, errors.New("the browser refuses to connect to "+url)
			if thrown, ok := p.(js.Error); ok {
				err = errors.New("the browser refuses to connect to " + url + ": " + thrown.Error())
			}
		}
	}()
	value := w.webSocket.New(url, subprotocol)
	value.Set("binaryType", "arraybuffer")
	s = &webSocket{web: w, value: value, opened: make(chan struct{}), ended: make(chan struct{}), arrived: make(chan struct{}, 1)}
	s.handle = js.FuncOf(s.event)
	for _, name := range []string{"onopen", "onmessage", "onclose"} { // onerror tells nothing, and onclose follows it
		value.Set(name, s.handle)
	}
	return s, nil
}

// event runs on the page's event loop and must not block.
func (s *webSocket) event(_ js.Value, args []js.Value) any {
	event := args[0]
	switch event.Get("type").String() {
	case "open":
		close(s.opened)
	case "message":
		s.arrive(event.Get("data"))
	case "close":
		s.finish(&border.CloseError{Code: event.Get("code").Int(), Reason: event.Get("reason").String()})
		s.handle.Release()
		close(s.ended)
	}
	return nil
}

func (s *webSocket) arrive(data js.Value) {
	if data.Type() != js.TypeObject {
		s.abandon(closeText, "messages are binary")
		return
	}
	array := s.web.uint8Array.New(data)
	size := array.Get("byteLength").Int()
	s.mu.Lock()
	tooMuch := s.unread+size > mostUnread
	if !tooMuch && s.end == nil {
		s.queue = append(s.queue, message{array: array, size: size})
		s.unread += size
	}
	s.mu.Unlock()
	s.wake()
	if tooMuch {
		s.abandon(closeUnread, "the page does not read what comes")
	}
}

func (s *webSocket) wake() {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// finish notes the end, the first of several that are told.
func (s *webSocket) finish(end *border.CloseError) {
	s.mu.Lock()
	if s.end == nil {
		s.end = end
	}
	s.mu.Unlock()
	s.wake()
}

// End is how it has ended; nil while it is open.
func (s *webSocket) End() *border.CloseError {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// ending is the error of who finds it not open.
func (s *webSocket) ending() error {
	if end := s.End(); end != nil {
		return end
	}
	return &border.CloseError{Code: closedAbnormal}
}

// abandon ends the connection from this side.
func (s *webSocket) abandon(code int, reason string) {
	s.finish(&border.CloseError{Code: code, Reason: reason})
	s.value.Call("close", code, reason)
}

// Close ends the connection; Read and Write return. To close twice does no harm.
func (s *webSocket) Close() error {
	s.mu.Lock()
	s.queue = nil
	s.mu.Unlock()
	s.abandon(closeNormal, "")
	return nil
}

// Ended is closed when the browser is done with it.
func (s *webSocket) Ended() <-chan struct{} { return s.ended }

// wait returns when there is a message, with the queue locked, or the end.
func (s *webSocket) wait() error {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			return nil
		}
		end := s.end
		s.mu.Unlock()
		if end != nil {
			s.wake() // for who comes next
			return end
		}
		<-s.arrived
	}
}

// Read copies out of the browser's memory straight into p.
func (s *webSocket) Read(p []byte) (int, error) {
	if err := s.wait(); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	m := &s.queue[0]
	array := m.array
	if m.taken > 0 {
		array = array.Call("subarray", m.taken)
	}
	n := js.CopyBytesToGo(p, array)
	m.taken += n
	s.unread -= n
	if m.taken == m.size {
		s.drop()
	}
	return n, nil
}

// drop forgets the oldest message. Called with mu held.
func (s *webSocket) drop() {
	s.queue[0] = message{}
	s.queue = s.queue[1:]
}

// Message returns the next message whole.
func (s *webSocket) Message() ([]byte, error) {
	if err := s.wait(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	m := s.queue[0]
	b := make([]byte, m.size)
	js.CopyBytesToGo(b, m.array)
	s.unread -= m.size
	s.drop()
	return b, nil
}

// Write waits while much lies unsent: the browser takes everything, and would grow.
func (s *webSocket) Write(p []byte) (int, error) {
	if err := s.waitForRoom(); err != nil {
		return 0, err
	}
	if len(p) > s.room {
		s.room = max(len(p), 64<<10)
		s.scratch = s.web.uint8Array.New(s.room)
	}
	js.CopyBytesToJS(s.scratch, p)
	s.value.Call("send", s.scratch.Call("subarray", 0, len(p))) // which copies it
	return len(p), nil
}

// waitForRoom looks again and again: there is no event for it.
func (s *webSocket) waitForRoom() error {
	const first, longest = time.Millisecond, 50 * time.Millisecond
	for pause := first; ; pause = min(2*pause, longest) {
		if s.value.Get("readyState").Int() != statusOpen {
			return s.ending()
		}
		if s.value.Get("bufferedAmount").Int() < mostBuffered {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-s.ended:
			return s.ending()
		}
	}
}
