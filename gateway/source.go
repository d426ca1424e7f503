package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// source is what the gateway knows of the cluster: a client, and the topology
// that it uses, as a text for those who follow it.
type source struct {
	seeds  []string
	only   string // the address of the only member that is reached; "": all are
	limits protocol.Limits
	times  TimeConfig
	log    *slog.Logger
	token  config.Secret
	dialer client.Dialer // nil: that of the client

	db   atomic.Pointer[client.Client] // nil until somebody has answered
	view atomic.Pointer[view]          // never nil
	ask  chan chan struct{}            // somebody wants the topology fetched now
	why  atomic.Pointer[error]         // why the last fetch failed, nil if it did not
}

// view is a topology. It never changes; when a newer one takes its place, next is
// closed.
type view struct {
	text    []byte // empty until there is one
	epoch   ring.Epoch
	members map[string]bool
	policy  string // for the pages that are served meanwhile
	next    chan struct{}
}

func newSource(c *Config, log *slog.Logger) *source {
	s := &source{
		seeds: append([]string{c.ManagerAddr}, c.Seeds...), limits: c.limits(), times: c.Times, log: log, token: c.Token,
		ask: make(chan chan struct{}), only: c.only.Address,
	}
	s.view.Store(&view{policy: policyFor(nil), next: make(chan struct{})})
	return s
}

// run opens the client, however long that takes, and follows the topology until
// ctx ends.
func (s *source) run(ctx context.Context) {
	db := s.open(ctx)
	if db == nil {
		return
	}
	s.db.Store(db)
	s.publish(db)
	s.log.Info("the cluster answers", "epoch", s.view.Load().epoch, "nodes", len(s.view.Load().members))
	const looks = 4 // the client learns of a move by itself, and then at once
	ticker := time.NewTicker(s.times.Poll / looks)
	defer ticker.Stop()
	last := time.Now()
	for i := 1; ; i++ {
		var asked chan struct{}
		select {
		case <-ticker.C:
		case asked = <-s.ask:
		case <-ctx.Done():
			return
		}
		if asked != nil && time.Since(last) > s.times.Poll/looks || asked == nil && i%looks == 0 {
			s.refresh(ctx, db)
			last = time.Now()
		}
		s.publish(db)
		if asked != nil {
			close(asked)
		}
	}
}

func (s *source) open(ctx context.Context) *client.Client {
	for said := false; ; said = true {
		db, err := client.Open(ctx, s.seeds, s.ownOptions()...)
		if err == nil {
			return db
		}
		if ctx.Err() != nil {
			return nil
		}
		s.failed(err)
		if !said {
			s.log.Warn("no manager and no node answers; trying on", "seeds", s.seeds, "err", err)
		}
		select {
		case <-time.After(s.times.Poll):
		case <-ctx.Done():
			return nil
		}
	}
}

// options are those of every client of the gateway.
func (s *source) options() []client.Option {
	all := []client.Option{client.WithLimits(s.limits), client.WithRetryBudget(s.times.Retry)}
	if s.dialer != nil {
		all = append(all, client.WithDialer(s.dialer))
	}
	return all
}

// ownOptions are those of the one that learns the topology. The gateway's own token is
// for nothing else.
func (s *source) ownOptions() []client.Option {
	all := s.options()
	if s.token.IsSet() {
		all = append(all, client.WithToken(func(context.Context) (string, error) { return s.token.Latest() }))
	}
	return all
}

func (s *source) refresh(ctx context.Context, db *client.Client) {
	ctx, cancel := context.WithTimeout(ctx, max(s.times.Poll, time.Second))
	defer cancel()
	if err := db.RefreshTopology(ctx); err != nil {
		s.failed(err)
		return
	}
	s.why.Store(nil)
}

func (s *source) failed(err error) {
	s.why.Store(&err)
}

// publish makes what the client uses the view, if it is not.
func (s *source) publish(db *client.Client) {
	t := db.Topology()
	text, err := t.MarshalText()
	old := s.view.Load()
	if err != nil || bytes.Equal(text, old.text) {
		return // it was parsed from a text, so it has one
	}
	v := &view{text: text, epoch: t.Epoch, members: make(map[string]bool, len(t.Nodes)), policy: policyFor(t.Nodes), next: make(chan struct{})}
	for _, n := range t.Nodes {
		v.members[n.Address] = true
	}
	s.view.Store(v)
	close(old.next)
}

// member says whether an address is a node of the topology. One that is not known
// may have joined a moment ago: then the cluster is asked, once for all who wait.
func (s *source) member(ctx context.Context, address string) bool {
	if s.only != "" {
		return s.only == address // it says itself when it serves nothing yet
	}
	if s.view.Load().members[address] || s.db.Load() == nil || ring.ValidateAddress(address) != nil {
		return s.view.Load().members[address]
	}
	ctx, cancel := context.WithTimeout(ctx, s.times.Poll)
	defer cancel()
	done := make(chan struct{})
	select {
	case s.ask <- done:
	case <-s.view.Load().next:
	case <-ctx.Done():
	}
	select {
	case <-done:
	case <-ctx.Done():
	case <-s.view.Load().next:
	}
	return s.view.Load().members[address]
}

// ready says why the gateway cannot serve.
func (s *source) ready() error {
	why := s.why.Load()
	switch {
	case s.db.Load() != nil && why == nil:
		return nil
	case why == nil:
		return errors.New("the cluster has not been asked yet")
	}
	return fmt.Errorf("the cluster does not answer: %w", *why)
}

func (s *source) close() error {
	if db := s.db.Load(); db != nil {
		return db.Close()
	}
	return nil
}
