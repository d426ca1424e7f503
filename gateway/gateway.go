package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/admin"
	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/inbox"
	"github.com/quoitdb/quoit/internal/seldom"
	"github.com/quoitdb/quoit/internal/tlsconf"
	"github.com/quoitdb/quoit/protocol"
)

// Seams are what a program or a test puts in the place of the real world. The zero
// value is the real world.
type Seams struct {
	// Logger; nil logs nothing.
	Logger *slog.Logger
	// Version is what HELLO and INFO say.
	Version string
	// Assets are the files that are served beside the WebSockets; nil has none.
	Assets fs.FS
	// Listener and RedisListener are used instead of opening the addresses.
	Listener, RedisListener net.Listener
	// Keys verify tokens, in the place of the file of the settings.
	Keys *auth.Keys
	// Dial opens connections of channels to nodes, and of the console to the manager; nil
	// is TCP, or TLS where the settings say so.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// DialClient opens those of the clients by which the Redis door asks nodes and the
	// gateway learns the topology; nil as with Dial.
	DialClient client.Dialer
	// Now is the time of day; nil is the machine's.
	Now func() time.Time
	// Ready is called by Run once it listens.
	Ready func(g *Gateway)
}

// Gateway is a running gateway. Its methods may be called by any goroutine.
type Gateway struct {
	config Config
	times  TimeConfig
	limits protocol.Limits
	log    *slog.Logger
	// foreign are clients of the door that speak another protocol.
	foreign seldom.Line
	dial    func(ctx context.Context, address string) (net.Conn, error)
	about   about

	tokens  *auth.Guard
	tenants tenants
	tls     *tlsconf.Server // of the public side; nil without TLS

	stats   stats
	clock   *clock
	budget  inbox.Budget
	roster  roster
	gate    *gate
	source  *source
	door    *door // nil without the Redis door
	lobby   *entrance
	http    *http.Server
	console *console
	admin   *admin.Server // nil without one

	stopping chan struct{} // closed when draining begins
	stop     sync.Once
	cancel   context.CancelFunc // of the goroutines in running
	running  sync.WaitGroup
	failed   chan error // a listener that must not end; of capacity 2
}

// about is what HELLO and INFO say.
type about struct {
	version string
	started time.Time
}

// Run serves until ctx ends, then drains. It returns nil after a clean end.
func Run(ctx context.Context, c Config, s Seams) error {
	g, err := Start(ctx, c, s)
	if err != nil {
		return err
	}
	if s.Ready != nil {
		s.Ready(g)
	}
	err = g.Wait(ctx)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Times.Drain)
	defer cancel()
	return errors.Join(err, g.Shutdown(drain))
}

// Start opens the listeners and returns. The cluster need not be there yet: until
// it answers, clients are told UNAVAILABLE, and Ready says why. ctx is not kept.
func Start(ctx context.Context, c Config, s Seams) (*Gateway, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	g := newGateway(c, s)
	err := g.openTLS(&s)
	if s.Keys == nil {
		err = errors.Join(g.openKeys(), err)
	}
	if err != nil {
		return nil, err
	}
	front, err := listen(s.Listener, c.Addr)
	if err != nil {
		return nil, err
	}
	var back net.Listener
	if c.hasDoor() || s.RedisListener != nil {
		if back, err = listen(s.RedisListener, c.RedisAddr); err != nil {
			return nil, errors.Join(err, front.Close())
		}
	}
	if at := config.AdminAddr(c.AdminAddr, c.Addr); at != "" {
		g.admin, err = admin.Listen(admin.Options{Addr: at, Hosts: c.AdminHosts, Ready: g.Ready, Metrics: g.WriteMetrics})
		if err != nil {
			return nil, errors.Join(err, front.Close(), closeOf(back))
		}
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	g.cancel = cancel
	if s.Keys == nil {
		g.running.Go(func() { g.tokens.Follow(run) })
	}
	if !g.silent() {
		g.running.Go(func() { g.source.run(run) })
	}
	g.running.Go(func() { g.sweep(run) })
	g.console = newConsole(g, front.Addr().String())
	g.running.Go(func() { g.console.run(run) })
	g.serveHTTP(front, s.Assets)
	if back != nil {
		g.door = newDoor(g, back)
		g.running.Go(g.door.accept)
	}
	if text := c.exposed(g.asks()); text != "" {
		g.log.Warn(text)
	}
	g.log.Info("serving", "addr", front.Addr().String(), "redis", g.RedisAddr())
	return g, nil
}

func newGateway(c Config, s Seams) *Gateway {
	g := &Gateway{
		config: c, times: c.Times, limits: c.limits(), log: s.Logger, dial: s.Dial,
		budget: inbox.Budget{Limit: int64(c.Limits.InFlight)}, stopping: make(chan struct{}), failed: make(chan error, 2),
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	g.clock = newClock(s.Now)
	g.tokens = auth.NewGuard("gateway", s.Keys, g.log)
	g.about = about{version: s.Version, started: s.Now()}
	g.gate = newGate(c.Limits, &g.stats)
	g.source = newSource(&c, g.log)
	g.tenants.gw = g
	return g
}

func listen(l net.Listener, addr string) (net.Listener, error) {
	if l != nil {
		return l, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("gateway listener: %w", err)
	}
	return l, nil
}

func closeOf(l net.Listener) error {
	if l == nil {
		return nil
	}
	return l.Close()
}

// connKey is where a request's context has its connection.
type connKey struct{}

const (
	// headerBytes bounds what comes with a request.
	headerBytes = 16 << 10
	// keepAlive is how long an HTTP connection may wait for its next request.
	keepAlive = 30 * time.Second
)

func (g *Gateway) serveHTTP(l net.Listener, files fs.FS) {
	g.lobby = &entrance{Listener: l, gate: g.gate, log: g.log, refusal: refusalHTTP, stopping: g.stopping}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/node/{address}", g.serveNode)
	mux.HandleFunc("GET /v1/cluster", g.serveCluster)
	mux.HandleFunc("GET /v1/status", g.console.serveStatus)
	mux.Handle(movesPath+"pause", g.console.change("PAUSE"))
	mux.Handle(movesPath+"resume", g.console.change("RESUME"))
	mux.Handle("/", g.console.pages(newAssets(files)))
	guard := newGuard(&g.config, l.Addr(), &g.stats)
	g.http = &http.Server{
		Handler:           harden(func() string { return g.source.view.Load().policy }, g.contained(guard.check(mux))),
		ReadHeaderTimeout: g.times.Handshake,
		ReadTimeout:       g.times.Handshake,
		WriteTimeout:      keepAlive,
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug), // every stranger can cause those
		ConnContext:       func(ctx context.Context, nc net.Conn) context.Context { return context.WithValue(ctx, connKey{}, nc) },
	}
	listener := g.public(g.lobby)
	g.running.Go(func() {
		if err := g.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) && !g.draining() {
			g.failed <- fmt.Errorf("gateway listener: %w", err)
		}
	})
}

// Wait returns when ctx ends, with nil; or when the gateway must not go on, with the
// reason.
func (g *Gateway) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-g.failed:
		return err
	}
}

// refusalHTTP is what a client reads that is not let in.
func refusalHTTP(why error) []byte {
	text := why.Error() + "\n"
	return fmt.Appendf(nil, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\nRetry-After: 1\r\n\r\n%s", len(text), text)
}

// Addr is the address of HTTP and WebSocket.
func (g *Gateway) Addr() string { return g.lobby.Addr().String() }

// RedisAddr is the address of the Redis door, "" without one.
func (g *Gateway) RedisAddr() string {
	if g.door == nil {
		return ""
	}
	return g.door.entrance.Addr().String()
}

// silent says that this is a node's own gateway without a token of its own: it leads to
// its node, and knows nothing of the cluster.
func (g *Gateway) silent() bool {
	return g.config.only.Address != "" && g.asks() && !g.config.Token.IsSet()
}

// Ready returns why no traffic should come, nil if it may.
func (g *Gateway) Ready() error {
	if g.draining() {
		return errors.New("the gateway is stopping")
	}
	if g.silent() {
		return nil
	}
	return g.source.ready()
}

// WaitReady returns when the cluster has answered.
func (g *Gateway) WaitReady(ctx context.Context) error {
	for {
		next := g.source.view.Load().next
		if g.silent() || g.Ready() == nil && len(g.source.view.Load().text) > 0 {
			return nil
		}
		select {
		case <-next:
		case <-g.stopping:
			return g.Ready()
		case <-time.After(g.times.Poll): // the cluster answers again, with the same topology
		case <-ctx.Done():
			return errors.Join(ctx.Err(), g.Ready())
		}
	}
}

func (g *Gateway) draining() bool {
	select {
	case <-g.stopping:
		return true
	default:
		return false
	}
}

// Shutdown lets nobody in any more, lets everybody finish what they have asked for
// and tells them to connect elsewhere. Who has not gone when ctx ends is cut off.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.stop.Do(func() { close(g.stopping) })
	if g.door != nil {
		_ = g.door.entrance.Close()
	}
	_ = g.lobby.Close()
	g.roster.end(guest.drain)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = g.http.Shutdown(ctx) // what is left is cut off below
		g.roster.busy.Wait()
		g.lobby.busy.Wait()
		if g.door != nil {
			g.door.entrance.busy.Wait()
		}
	}()
	select {
	case <-gone:
	case <-ctx.Done():
		_ = g.http.Close()
		g.roster.each(func(c guest) {
			g.stats.aborted.Add(1)
			c.cutOff()
		})
		<-gone
	}
	g.cancel()
	g.running.Wait()
	g.tenants.closing.Wait()
	err := g.source.close()
	if g.admin != nil {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		err = errors.Join(err, g.admin.Close(late))
	}
	return err
}

// sweep looks after all connections until ctx ends. One goroutine looking at a few
// numbers in each costs less than deadlines for each request.
func (g *Gateway) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery(g.times))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			g.clock.refresh()
			g.roster.each(guest.sweep)
		case <-ctx.Done():
			return
		}
	}
}

// look says which command a request is, and why it is not passed on; nil if it is.
func (g *Gateway) look(args [][]byte) (protocol.Command, *protocol.Error) {
	cmd, known := protocol.Lookup(args[0])
	if !known {
		return 0, protocol.UnknownCommand(args[0])
	}
	g.stats.commands[cmd].Add(1)
	if cmd.Spec().Flags&(protocol.Cluster|protocol.Admin) != 0 {
		g.stats.denied.Add(1)
		return cmd, &protocol.Error{Code: protocol.NOPERM, Message: cmd.String() + " is not for clients of a gateway: it is between the members of the cluster and those who run it"}
	}
	if err := g.limits.Check(cmd, args); err != nil {
		return cmd, protocol.AsError(err)
	}
	return cmd, nil
}
