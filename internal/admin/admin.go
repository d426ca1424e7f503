// Package admin is the second listener of every server, for operators and their
// machines: /healthz (the process works), /readyz (it wants traffic), /metrics
// (Prometheus text) and /debug/pprof. It never touches the data port.
//
// It carries no authentication, so it listens on loopback unless a person names
// another address, and it answers only GET and HEAD. Start it before a long
// recovery, so that a health check can tell "still reading the log" from "dead".
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
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Options say what the listener shows.
type Options struct {
	// Addr is the address to listen on, host:port. Ignored when Listener is set.
	Addr string
	// Listener is used instead of opening Addr (tests, socket activation).
	Listener net.Listener
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
}

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
			Handler:           Handler(o),
			ReadHeaderTimeout: 5 * time.Second,
			IdleTimeout:       time.Minute,
			MaxHeaderBytes:    16 << 10,
		},
	}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(l) // always ErrServerClosed or a listener that was closed under it
	}()
	return s, nil
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

// Handler is the listener's routes, for servers that have an HTTP listener already.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", check(o.Healthy))
	mux.HandleFunc("/readyz", check(o.Ready))
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		if o.Metrics != nil {
			o.Metrics(w)
		}
		metrics.WriteProcessMetrics(w)
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return readOnly(mux)
}

// readOnly refuses what a web page could send across sites with a body.
func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the admin listener only answers GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
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
