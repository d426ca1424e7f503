package border

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/ring"
)

// dialer finds the way to a node: straight to the WebSocket that it publishes, or
// through the gateway.
type dialer struct {
	db       *database
	straight bool

	mu      sync.Mutex
	sockets map[*socket]struct{} // not ended
	nodes   map[string]*contact  // by address
}

// contact is what is known of the way to one node.
type contact struct {
	direct  bool      // the last connection went straight
	shunned time.Time // until then the straight way is not tried
	lost    time.Time // since when there is none, after there was one; zero: there is
}

const (
	// straightTime is how long the straight way may take before the gateway's is taken.
	straightTime = 2 * time.Second
	// shunTime is how long the straight way is left alone after it has failed.
	shunTime = time.Minute
)

func newDialer(db *database, straight bool) *dialer {
	return &dialer{db: db, straight: straight, sockets: make(map[*socket]struct{}), nodes: make(map[string]*contact)}
}

// way is for client.WithEndpoints: the node's name, and the URL of its own WebSocket
// after a space if there is one and it is wanted.
func (d *dialer) way(n ring.Node) string {
	if url := client.EndpointOfKind("ws")(n); d.straight && url != "" {
		return n.Address + " " + url
	}
	return n.Address
}

// dial is the client's Dialer.
func (d *dialer) dial(ctx context.Context, way string) (client.Conn, error) {
	address, url, _ := strings.Cut(way, " ")
	var failed error
	if url != "" && d.mayGoStraight(address) {
		s, err := d.try(ctx, address, url, true)
		if err == nil {
			return s, nil
		}
		failed = err
		d.shun(address)
	}
	s, err := d.try(ctx, address, d.db.feed.gateway()+"v1/node/"+escape(address), false)
	if err == nil {
		return s, nil
	}
	if ctx.Err() != nil {
		d.db.feed.suspect()
	}
	return nil, errors.Join(err, failed)
}

func (d *dialer) try(ctx context.Context, address, url string, direct bool) (client.Conn, error) {
	if direct {
		limited, cancel := context.WithTimeout(ctx, straightTime)
		defer cancel()
		ctx = limited
	}
	raw, err := d.db.border.connect(ctx, url)
	if err != nil {
		return nil, err
	}
	s := &socket{Socket: raw, address: address, direct: direct}
	d.opened(s)
	return s, nil
}

func (d *dialer) mayGoStraight(address string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().After(d.contact(address).shunned)
}

func (d *dialer) shun(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.contact(address).shunned = time.Now().Add(shunTime)
}

func (d *dialer) isDirect(address string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.nodes[address]
	return c != nil && c.direct
}

// contact is called with mu held.
func (d *dialer) contact(address string) *contact {
	c := d.nodes[address]
	if c == nil {
		c = &contact{}
		d.nodes[address] = c
	}
	return c
}

func (d *dialer) opened(s *socket) {
	d.mu.Lock()
	d.sockets[s] = struct{}{}
	c := d.contact(s.address)
	c.direct = s.direct
	lost := c.lost
	c.lost = time.Time{}
	d.mu.Unlock()
	if !lost.IsZero() {
		d.db.emit(EventReconnect, appendF64(appendFlag(appendBytes(nil, s.address), s.direct), sinceMillis(lost)))
	}
	d.db.spawn(func() { d.watchEnd(s) })
}

// watchEnd waits for the end of a socket, and tells of one that nobody here wanted.
func (d *dialer) watchEnd(s *socket) {
	select {
	case <-s.Ended():
	case <-d.db.ctx.Done():
		d.drop(s)
		return
	}
	d.drop(s)
	end := s.End()
	if s.isClosed() || end == nil || d.db.ctx.Err() != nil {
		return
	}
	d.mu.Lock()
	c := d.contact(s.address)
	first := c.lost.IsZero()
	if first {
		c.lost = time.Now()
	}
	d.mu.Unlock()
	if first {
		d.db.emit(EventDisconnect, appendDisconnect(s.address, s.direct, end))
	}
}

func appendDisconnect(node string, direct bool, end *CloseError) []byte {
	return appendBytes(appendU32(appendFlag(appendBytes(nil, node), direct), uint32(end.Code)), end.Reason)
}

func sinceMillis(t time.Time) float64 { return float64(time.Since(t)) / float64(time.Millisecond) }

// drop forgets a socket when it has ended; one that has not yet is still waited for.
func (d *dialer) drop(s *socket) {
	select {
	case <-s.Ended():
		d.mu.Lock()
		delete(d.sockets, s)
		d.mu.Unlock()
	default:
	}
}

// dropAll ends all connections; the client looks for others by itself.
func (d *dialer) dropAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for s := range d.sockets {
		_ = s.Close()
	}
}

// open counts the sockets that have not ended.
func (d *dialer) open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sockets)
}

// waitEnded waits until the browser has seen the end of all sockets, or for a while.
func (d *dialer) waitEnded(patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	d.mu.Lock()
	left := make([]*socket, 0, len(d.sockets))
	for s := range d.sockets {
		left = append(left, s)
	}
	d.mu.Unlock()
	for _, s := range left {
		select {
		case <-s.Ended():
			d.drop(s)
		case <-timer.C:
			return
		}
	}
}

// socket is a connection to a node, and remembers which side has ended it.
type socket struct {
	Socket
	address string
	direct  bool

	mu     sync.Mutex
	closed bool // by this side
}

// Close is this side's end, unless it has ended before.
func (s *socket) Close() error {
	s.mu.Lock()
	s.closed = s.closed || s.End() == nil
	s.mu.Unlock()
	return s.Socket.Close()
}

func (s *socket) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}
