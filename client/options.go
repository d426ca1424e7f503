package client

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// Conn is a stream of bytes to one node. One goroutine reads while another
// writes; Close, from a third, must make both return with an error.
type Conn interface {
	io.ReadWriteCloser
}

// Dialer opens a Conn to a node. The address is what the endpoint selection
// gave: "host:port", or the URL of an endpoint.
type Dialer func(ctx context.Context, address string) (Conn, error)

// Option changes how Open builds a client.
type Option func(*options)

type options struct {
	dialer      Dialer
	dialTimeout time.Duration
	connections int
	budget      time.Duration
	health      time.Duration
	jitter      time.Duration
	endpoint    func(ring.Node) string
	limits      protocol.Limits
	source      func(ctx context.Context) (ring.Topology, error) // nil: none
	token       func(ctx context.Context) (string, error)        // nil: none
}

const maxConnections = 64

// validate names the first option that cannot be used.
func (o *options) validate(seeds []string) error {
	switch {
	case len(seeds) == 0 && o.source == nil:
		return errors.New("client: no seeds: give the address of a node or of the manager")
	case o.dialer == nil:
		return errors.New("client: no dialer: a browser needs WithDialer")
	case o.endpoint == nil:
		return errors.New("client: WithEndpoints needs a function")
	case o.connections < 1 || o.connections > maxConnections:
		return errors.New("client: WithConnections takes 1 to " + strconv.Itoa(maxConnections))
	case o.dialTimeout <= 0 || o.health <= 0 || o.budget < 0:
		return errors.New("client: timeouts and intervals must be positive")
	}
	return nil
}

func defaultOptions() options {
	return options{
		dialer:      nativeDialer(),
		dialTimeout: 5 * time.Second,
		connections: 1,
		budget:      10 * time.Second,
		health:      10 * time.Second,
		jitter:      20 * time.Millisecond,
		endpoint:    func(n ring.Node) string { return n.Address },
		limits:      protocol.DefaultLimits(),
	}
}

// WithDialer sets how connections are opened. The default is plain TCP; in a
// browser there is no default.
func WithDialer(d Dialer) Option { return func(o *options) { o.dialer = d } }

// WithDialTimeout bounds one attempt to open a connection, until it is authenticated
// where there is a token (default 5 s).
func WithDialTimeout(d time.Duration) Option { return func(o *options) { o.dialTimeout = d } }

// WithConnections sets how many connections to each node are shared by all
// callers, 1 to 64. They are opened when they are first needed.
func WithConnections(n int) Option { return func(o *options) { o.connections = n } }

// WithRetryBudget bounds, from the first failure on, how long a call without a
// deadline keeps trying (default 10 s). 0 means that no such call tries twice;
// redirects are followed all the same.
func WithRetryBudget(d time.Duration) Option { return func(o *options) { o.budget = d } }

// WithHealthInterval sets how long a connection may be silent (default 10 s).
// An idle one is asked for a sign of life that often; one that owes replies and
// neither sends nor takes a byte for that long is closed.
func WithHealthInterval(d time.Duration) Option { return func(o *options) { o.health = d } }

// WithEndpoints sets which of the addresses of a node is dialled, for clients
// that cannot reach the one that names it. The default is that one. An empty
// answer means that the node cannot be reached.
func WithEndpoints(choose func(ring.Node) string) Option {
	return func(o *options) { o.endpoint = choose }
}

// WithLimits sets what a node may make this client read, for clusters whose
// nodes take larger values than they do by default.
func WithLimits(l protocol.Limits) Option { return func(o *options) { o.limits = l } }

// EndpointOfKind is for WithEndpoints: the first endpoint of the kind, such as
// "ws", and nothing for a node that has none.
func EndpointOfKind(kind string) func(ring.Node) string {
	return func(n ring.Node) string {
		for _, e := range n.Endpoints {
			if e.Kind == kind {
				return e.URL
			}
		}
		return ""
	}
}
