package gateway

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/quoitdb/quoit/internal/contain"
	"github.com/quoitdb/quoit/protocol"
)

// stats counts what happens.
type stats struct {
	accepted, refusedFull, refusedAddress    atomic.Uint64
	wrongHost, wrongOrigin, wrongProtocol    atomic.Uint64
	notMember, unreachable                   atomic.Uint64
	channels, watching, feeds, redis         atomic.Int64
	commands                                 [256]atomic.Uint64 // by protocol.Command
	denied, errors, messagesIn, messagesOut  atomic.Uint64
	noAuth, noPerm, cutUnproved, cutTLS      atomic.Uint64
	bytesIn, bytesOut                        atomic.Uint64
	cutIdle, cutSlowReader, cutSlowRequest   atomic.Uint64
	cutProtocol, cutHTTP, cutBudget, cutPing atomic.Uint64
	cutNode, cutUnknown, drained, aborted    atomic.Uint64
	panics                                   contain.Panics
}

func (s *stats) refused(why error) {
	if errors.Is(why, errFull) {
		s.refusedFull.Add(1)
		return
	}
	s.refusedAddress.Add(1)
}

// WriteMetrics writes the gateway's part of /metrics.
func (g *Gateway) WriteMetrics(w io.Writer) {
	s := &g.stats
	ready := uint64(0)
	if g.Ready() == nil {
		ready = 1
	}
	for _, m := range []struct {
		name  string
		value uint64
	}{
		{"quoit_gateway_ready", ready},
		{"quoit_gateway_epoch", uint64(g.source.view.Load().epoch)},
		{"quoit_gateway_connections", uint64(g.gate.count())},
		{`quoit_gateway_clients{door="node"}`, uint64(s.channels.Load())},
		{"quoit_gateway_watching", uint64(s.watching.Load())},
		{`quoit_gateway_clients{door="cluster"}`, uint64(s.feeds.Load())},
		{`quoit_gateway_clients{door="redis"}`, uint64(s.redis.Load())},
		{"quoit_gateway_buffer_bytes", uint64(g.budget.Used())},
		{"quoit_gateway_tenants", uint64(g.tenants.count())},
	} {
		metrics.WriteGaugeUint64(w, m.name, m.value)
	}
	for _, cmd := range protocol.Commands() {
		if calls := s.commands[cmd].Load(); calls > 0 {
			metrics.WriteCounterUint64(w, `quoit_gateway_commands_total{command="`+cmd.String()+`"}`, calls)
		}
	}
	for _, c := range s.counters() {
		metrics.WriteCounterUint64(w, c.name, c.value.Load())
	}
	g.writeTokens(w)
	if db := g.source.db.Load(); db != nil {
		c := db.Stats()
		metrics.WriteCounterUint64(w, "quoit_gateway_client_dials_total", c.Dials)
		metrics.WriteCounterUint64(w, "quoit_gateway_client_redirects_total", c.Redirects)
		metrics.WriteCounterUint64(w, "quoit_gateway_client_retries_total", c.Retries)
		metrics.WriteCounterUint64(w, "quoit_gateway_client_refreshes_total", c.Refreshes)
	}
}

// writeTokens is what became of the tokens that were shown.
func (g *Gateway) writeTokens(w io.Writer) {
	f, refused := g.tokens.Figures(), uint64(0)
	for _, n := range f.NotTaken {
		refused += n
	}
	metrics.WriteCounterUint64(w, `quoit_gateway_tokens_total{result="taken"}`, f.Taken)
	metrics.WriteCounterUint64(w, `quoit_gateway_tokens_total{result="refused"}`, refused)
	metrics.WriteCounterUint64(w, `quoit_gateway_tokens_total{result="too_many_connections"}`, f.Denied["connections"])
	metrics.WriteCounterUint64(w, "quoit_gateway_token_keys_errors_total", f.KeyErrors)
}

type counter struct {
	name  string
	value interface{ Load() uint64 }
}

func (s *stats) counters() []counter {
	return []counter{
		{"quoit_gateway_connections_accepted_total", &s.accepted},
		{`quoit_gateway_connections_refused_total{why="full"}`, &s.refusedFull},
		{`quoit_gateway_connections_refused_total{why="address"}`, &s.refusedAddress},
		{`quoit_gateway_requests_refused_total{why="host"}`, &s.wrongHost},
		{`quoit_gateway_requests_refused_total{why="origin"}`, &s.wrongOrigin},
		{`quoit_gateway_requests_refused_total{why="subprotocol"}`, &s.wrongProtocol},
		{`quoit_gateway_requests_refused_total{why="not_member"}`, &s.notMember},
		{`quoit_gateway_requests_refused_total{why="unreachable"}`, &s.unreachable},
		{"quoit_gateway_commands_denied_total", &s.denied},
		{`quoit_gateway_unauthorized_total{code="NOAUTH"}`, &s.noAuth},
		{`quoit_gateway_unauthorized_total{code="NOPERM"}`, &s.noPerm},
		{"quoit_gateway_error_replies_total", &s.errors},
		{"quoit_gateway_messages_received_total", &s.messagesIn},
		{"quoit_gateway_messages_sent_total", &s.messagesOut},
		{"quoit_gateway_received_bytes_total", &s.bytesIn},
		{"quoit_gateway_sent_bytes_total", &s.bytesOut},
		{`quoit_gateway_connections_cut_total{why="idle"}`, &s.cutIdle},
		{`quoit_gateway_connections_cut_total{why="slow_reader"}`, &s.cutSlowReader},
		{`quoit_gateway_connections_cut_total{why="slow_request"}`, &s.cutSlowRequest},
		{`quoit_gateway_connections_cut_total{why="protocol"}`, &s.cutProtocol},
		{`quoit_gateway_connections_cut_total{why="http"}`, &s.cutHTTP},
		{`quoit_gateway_connections_cut_total{why="unauthenticated"}`, &s.cutUnproved},
		{`quoit_gateway_connections_cut_total{why="tls"}`, &s.cutTLS},
		{`quoit_gateway_connections_cut_total{why="budget"}`, &s.cutBudget},
		{`quoit_gateway_connections_cut_total{why="no_pong"}`, &s.cutPing},
		{`quoit_gateway_connections_cut_total{why="node"}`, &s.cutNode},
		{`quoit_gateway_connections_cut_total{why="outcome_unknown"}`, &s.cutUnknown},
		{`quoit_gateway_connections_cut_total{why="panic"}`, &s.panics},
		{`quoit_gateway_connections_cut_total{why="drain"}`, &s.drained},
		{`quoit_gateway_connections_cut_total{why="aborted"}`, &s.aborted},
	}
}
