// Package admin is the second listener of every server, for operators and their
// machines: /healthz (the process works), /readyz (it wants traffic), /metrics
// (Prometheus text) and /debug/pprof. It never touches the data port.
//
// It carries no authentication, so it listens on loopback unless a person names
// another address. Whoever comes from elsewhere then gets health and metrics, which
// containers and Prometheus need; profiles are served over loopback alone. Nothing
// changes by asking: it answers only GET and HEAD. A page in a browser of the machine
// cannot read it under a name that was rebound to it: the Host must be an IP address,
// localhost, a name without a dot (not over loopback), or one of Options.Hosts.
//
// Start it before a long recovery, so that a health check can tell "still reading the
// log" from "dead".
// All methods may be called from any goroutine.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Options say what the listener shows.
type Options struct {
	// Addr is the address to listen on, host:port. Ignored when Listener is set.
	Addr string
	// Listener is used instead of opening Addr (tests, socket activation).
	Listener net.Listener
	// Hosts are names, without ports, by which the listener is reached beside its IP
	// addresses.
	Hosts []string
	// Healthy returns why the process should be restarted; nil never says so.
	Healthy func() error
	// Ready returns why no traffic should come yet; nil is always ready.
	Ready func() error
	// Metrics writes the server's own metrics in Prometheus text format. Those of
	// the Go runtime and the process follow them.
	Metrics func(io.Writer)
}

// Server is a running admin listener.
type Server struct {
	listener net.Listener
	http     *http.Server
	served   chan struct{} // closed when the serving goroutine has ended
	open     atomic.Int64  // connections
}

const (
	// maxConnections is many times what watches a server; one more is closed at once, so
	// that nobody takes the descriptors here that clients need.
	maxConnections = 128
	// answerTime is how long asking for health or metrics may take, body and answer.
	answerTime = 10 * time.Second
)

// Listen opens the listener and serves until Close. The error names the address.
func Listen(o Options) (*Server, error) {
	l := o.Listener
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", o.Addr); err != nil {
			return nil, fmt.Errorf("admin listener: %w", err)
		}
	}
	s := &Server{
		listener: l,
		served:   make(chan struct{}),
		http: &http.Server{
			Handler:           handler(o),
			ReadHeaderTimeout: 5 * time.Second,
			IdleTimeout:       time.Minute,
			MaxHeaderBytes:    16 << 10,
		},
	}
	s.http.ConnState = s.count
	go func() {
		defer close(s.served)
		_ = s.http.Serve(l) // always ErrServerClosed or a listener that was closed under it
	}()
	return s, nil
}

// count keeps the number of connections, and ends those that are too many.
func (s *Server) count(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if s.open.Add(1) > maxConnections {
			_ = c.Close()
		}
	case http.StateClosed, http.StateHijacked:
		s.open.Add(-1)
	}
}

// Addr is the address that it listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close refuses new requests, lets running ones finish until ctx ends, and waits
// for the serving goroutine. It may be called twice.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.served
	return err
}

// handler is the listener's routes.
func handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", soon(check(o.Healthy)))
	mux.HandleFunc("/readyz", soon(check(o.Ready)))
	mux.HandleFunc("/metrics", soon(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		if o.Metrics != nil {
			o.Metrics(w)
		}
		metrics.WriteProcessMetrics(w)
	}))
	mux.HandleFunc("/debug/pprof/", onlyHere(pprof.Index))
	mux.HandleFunc("/debug/pprof/cmdline", onlyHere(pprof.Cmdline))
	mux.HandleFunc("/debug/pprof/profile", onlyHere(pprof.Profile))
	mux.HandleFunc("/debug/pprof/symbol", onlyHere(pprof.Symbol))
	mux.HandleFunc("/debug/pprof/trace", onlyHere(pprof.Trace))
	g := &guard{hosts: o.Hosts}
	return g.check(mux)
}

// soon cuts off who sends a body slowly, or does not take the answer.
func soon(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rc, deadline := http.NewResponseController(w), time.Now().Add(answerTime)
		_, _ = rc.SetReadDeadline(deadline), rc.SetWriteDeadline(deadline)
		next(w, r)
	}
}

func check(probe func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if probe != nil {
			if err := probe(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		_, _ = io.WriteString(w, "ok\n")
	}
}
