package migrate

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/quoitdb/quoit/protocol"
)

// pipeBytes is what one direction of a test's connection holds, as a socket would.
const pipeBytes = 256 << 10

// pipe returns two ends of a connection with a buffer in each direction. Unlike
// net.Pipe it lets a reply leave that nobody reads, as a socket does.
func pipe() (net.Conn, net.Conn) {
	a, b := newFlow(), newFlow()
	return &pipeEnd{in: a, out: b}, &pipeEnd{in: b, out: a}
}

type pipeEnd struct{ in, out *flow }

func (p *pipeEnd) Read(b []byte) (int, error)         { return p.in.read(b) }
func (p *pipeEnd) Write(b []byte) (int, error)        { return p.out.write(b) }
func (p *pipeEnd) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (p *pipeEnd) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (p *pipeEnd) SetReadDeadline(t time.Time) error  { p.in.expire(&p.in.readBy, t); return nil }
func (p *pipeEnd) SetWriteDeadline(t time.Time) error { p.out.expire(&p.out.writeBy, t); return nil }

func (p *pipeEnd) SetDeadline(t time.Time) error {
	_ = p.SetReadDeadline(t)
	return p.SetWriteDeadline(t)
}

func (p *pipeEnd) Close() error {
	p.in.close(net.ErrClosed)
	p.out.close(io.EOF)
	return nil
}

// flow is one direction.
type flow struct {
	mu              sync.Mutex
	wake            sync.Cond
	data            []byte
	err             error // for the reader when data is empty; writers get ErrClosed
	readBy, writeBy deadline
}

type deadline struct {
	timer  *time.Timer
	at     time.Time
	passed bool
}

func newFlow() *flow {
	f := &flow{}
	f.wake.L = &f.mu
	return f
}

func (f *flow) read(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.data) == 0 || errors.Is(f.err, net.ErrClosed) {
		switch {
		case f.err != nil:
			return 0, f.err
		case f.readBy.passed:
			return 0, os.ErrDeadlineExceeded
		}
		f.wake.Wait()
	}
	n := copy(b, f.data)
	f.data = f.data[n:]
	f.wake.Broadcast()
	return n, nil
}

func (f *flow) write(b []byte) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n < len(b) {
		room := pipeBytes - len(f.data)
		switch {
		case f.err != nil:
			return n, io.ErrClosedPipe
		case f.writeBy.passed:
			return n, os.ErrDeadlineExceeded
		case room == 0:
			f.wake.Wait()
			continue
		}
		part := b[n:min(len(b), n+room)]
		f.data = append(f.data, part...)
		n += len(part)
		f.wake.Broadcast()
	}
	return n, nil
}

func (f *flow) expire(d *deadline, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.passed, d.at = false, at
	if at.IsZero() {
		return
	}
	d.timer = time.AfterFunc(time.Until(at), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if d.at.Equal(at) {
			d.passed = true
			f.wake.Broadcast()
		}
	})
}

func (f *flow) close(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range []*deadline{&f.readBy, &f.writeBy} {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
	if f.err == nil || errors.Is(err, net.ErrClosed) {
		f.err = err
	}
	f.wake.Broadcast()
}

// fate is what a proxy does to one message.
type fate int

const (
	deliver fate = iota
	lose
	twice
	late // behind the message after it
	cut  // the connection breaks instead
	cutAfter
)

func (f fate) String() string {
	return [...]string{"delivered", "lost", "twice", "late", "cut before", "cut after"}[f]
}

// proxy stands between two members and sees whole messages: requests are counted
// from 1 over all connections, and so are replies. decide chooses what becomes of one.
type proxy struct {
	mu       sync.Mutex
	requests int
	replies  int
	decide   func(reply bool, n int, name string) fate
}

func (p *proxy) next(reply bool, name string) fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := &p.requests
	if reply {
		n = &p.replies
	}
	*n++
	if p.decide == nil {
		return deliver
	}
	return p.decide(reply, *n, name)
}

// splice joins two connections through the proxy; it returns when both are closed.
func (p *proxy) splice(client, server net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { p.pump(client, server, false, requestFrame()) })
	both.Go(func() { p.pump(server, client, true, replyFrame()) })
	both.Wait()
}

func (p *proxy) pump(from, to net.Conn, reply bool, frame func([]byte) (int, string, error)) {
	defer from.Close()
	defer to.Close()
	var in, held []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			_, _ = to.Write(held)
			return
		}
		in = append(in, buf[:n]...)
		for {
			size, name, err := frame(in)
			if err != nil {
				return
			}
			if size == 0 {
				break
			}
			message := append([]byte(nil), in[:size]...)
			in = in[size:]
			switch p.next(reply, name) {
			case lose:
				continue
			case twice:
				message = append(message, message...)
			case late:
				held = message
				continue
			case cut:
				return
			case cutAfter:
				_, _ = to.Write(message)
				return
			}
			if _, err := to.Write(append(message, held...)); err != nil {
				return
			}
			held = nil
		}
	}
}

func requestFrame() func([]byte) (int, string, error) {
	var parser protocol.RequestParser
	return func(b []byte) (int, string, error) {
		args, n, err := parser.Next(b)
		if len(args) == 0 {
			parser.Reset()
			return n, "", err
		}
		return n, string(args[0]), err
	}
}

func replyFrame() func([]byte) (int, string, error) {
	var parser protocol.ReplyParser
	return func(b []byte) (int, string, error) {
		reply, n, err := parser.Next(b)
		name := string(reply.Bytes)
		if n == 0 {
			parser.Reset()
		}
		return n, name, err
	}
}

// network connects members by address. Links that a test wants to disturb get a
// proxy; addresses that are down cannot be dialled.
type network struct {
	tcp     bool // over loopback instead of through memory
	mu      sync.Mutex
	servers map[string]func(net.Conn)
	proxies map[[2]string]*proxy // by from and to
	open    map[string][]net.Conn
	serving map[string]*sync.WaitGroup // by address
	running sync.WaitGroup
}

func newNetwork() *network {
	return &network{
		servers: map[string]func(net.Conn){},
		proxies: map[[2]string]*proxy{},
		open:    map[string][]net.Conn{},
		serving: map[string]*sync.WaitGroup{},
	}
}

var errDown = errors.New("connection refused")

// dial is the dialer of the member at from.
func (w *network) dial(from, to string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	serve := w.servers[to]
	if serve == nil || w.servers[from] == nil {
		return nil, errDown
	}
	mine, theirs := pipe()
	if w.tcp {
		var err error
		if mine, theirs, err = loopback(); err != nil {
			return nil, err
		}
	}
	w.open[from] = append(w.open[from], mine)
	w.open[to] = append(w.open[to], theirs)
	if p := w.proxies[[2]string{from, to}]; p != nil {
		client := theirs
		inner, outer := pipe()
		w.open[to] = append(w.open[to], outer)
		w.running.Go(func() { p.splice(client, inner) })
		theirs = outer
	}
	if w.serving[to] == nil {
		w.serving[to] = &sync.WaitGroup{}
	}
	w.serving[to].Go(func() { serve(theirs) })
	return mine, nil
}

func (w *network) up(address string, serve func(net.Conn)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.servers[address] = serve
}

// down cuts every connection of a member.
func (w *network) down(address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.servers, address)
	for _, c := range w.open[address] {
		_ = c.Close()
	}
	w.open[address] = nil
}

// quiet waits until the connections that a member served, and that are cut now, are
// through with what they were doing.
func (w *network) quiet(address string) {
	w.mu.Lock()
	serving := w.serving[address]
	w.mu.Unlock()
	if serving != nil {
		serving.Wait()
	}
}

func (w *network) proxy(from, to string) *proxy {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &proxy{}
	w.proxies[[2]string{from, to}] = p
	return p
}
