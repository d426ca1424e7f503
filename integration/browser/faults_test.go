package browser

import (
	"context"
	"net"
	"sync"
)

// faults stands between the gateway and the nodes, and has what a network can have: no
// answers for a while, none at all, others than were asked for.
type faults struct {
	mu    sync.Mutex
	held  map[string]chan struct{} // by node: closed when its answers may pass
	lies  []byte                   // instead of answers, while not nil
	conns map[*faulty]struct{}
}

func newFaults() *faults {
	return &faults{held: map[string]chan struct{}{}, conns: map[*faulty]struct{}{}}
}

// dial is the gateway's.
func (f *faults) dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &faulty{Conn: conn, f: f, node: address, ended: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = struct{}{}
	return c, nil
}

// hold keeps back what a node answers, until the function that it returns is called.
func (f *faults) hold(node string) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gate := make(chan struct{})
	f.held[node] = gate
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		close(gate)
		delete(f.held, node)
	})
}

// lie has nodes answer this to everything; nil has them answer as they do.
func (f *faults) lie(answer []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lies = answer
}

// cut breaks the connections to a node.
func (f *faults) cut(node string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		if c.node == node {
			_ = c.Conn.Close()
		}
	}
}

// faulty is one connection to a node.
type faulty struct {
	net.Conn
	f     *faults
	node  string
	once  sync.Once
	ended chan struct{}
}

func (c *faulty) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.f.mu.Lock()
	gate, lies := c.f.held[c.node], c.f.lies
	c.f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-c.ended:
			return 0, net.ErrClosed
		}
	}
	if lies != nil && err == nil {
		n = copy(p, lies)
	}
	return n, err
}

func (c *faulty) Close() error {
	c.once.Do(func() {
		close(c.ended)
		c.f.mu.Lock()
		defer c.f.mu.Unlock()
		delete(c.f.conns, c)
	})
	return c.Conn.Close()
}
