package node

import (
	"io"

	"github.com/VictoriaMetrics/metrics"

	"github.com/quoitdb/quoit/node/keeper"
	"github.com/quoitdb/quoit/protocol"
)

// writeMetrics is the node's part of /metrics.
func (n *Node) writeMetrics(w io.Writer) {
	if n.gateway != nil {
		n.gateway.WriteMetrics(w)
	}
	t, connections := n.server.totals()
	ready := uint64(0)
	if n.Ready() == nil {
		ready = 1
	}
	metrics.WriteGaugeUint64(w, "quoit_node_ready", ready)
	metrics.WriteGaugeUint64(w, "quoit_node_connections", uint64(connections))
	metrics.WriteGaugeUint64(w, "quoit_node_buffer_bytes", uint64(n.server.budget.Used()))
	metrics.WriteCounterUint64(w, "quoit_node_received_bytes_total", t.in)
	metrics.WriteCounterUint64(w, "quoit_node_sent_bytes_total", t.out)
	for _, cmd := range protocol.Commands() {
		if calls := t.commands[cmd]; calls > 0 {
			metrics.WriteCounterUint64(w, `quoit_node_commands_total{command="`+cmd.String()+`"}`, calls)
		}
	}
	n.stats.write(w)
	n.trust.TLS().WriteMetrics(w)
	n.server.guard.WriteMetrics(w)
	v := n.state.view()
	metrics.WriteGaugeUint64(w, "quoit_node_epoch", uint64(v.topology.Epoch))
	metrics.WriteGaugeUint64(w, "quoit_node_document_counter", v.counter)
	if st := n.state.store.Load(); st != nil {
		st.writeMetrics(w)
	}
	if k := n.keeping(); k != nil {
		writeSnapshotMetrics(w, k.Status())
	}
}

func writeSnapshotMetrics(w io.Writer, s keeper.Status) {
	metrics.WriteGaugeUint64(w, "quoit_node_snapshot_sequence", s.Sequence)
	if s.AgeMS >= 0 {
		metrics.WriteGaugeFloat64(w, "quoit_node_snapshot_age_seconds", float64(s.AgeMS)/1000)
	}
	metrics.WriteGaugeUint64(w, "quoit_node_snapshot_bytes", uint64(s.Size))
	metrics.WriteGaugeUint64(w, "quoit_node_snapshot_log_bytes_not_covered", uint64(s.Uncovered))
	if s.ArchiveLag >= 0 {
		metrics.WriteGaugeUint64(w, "quoit_node_archive_lag_bytes", uint64(s.ArchiveLag))
	}
	metrics.WriteCounterUint64(w, "quoit_node_snapshots_published_total", s.Published)
	metrics.WriteCounterUint64(w, "quoit_node_snapshot_failures_total", s.Failures)
	metrics.WriteGaugeFloat64(w, "quoit_node_snapshot_last_seconds", float64(s.Last.MS)/1000)
	metrics.WriteGaugeUint64(w, "quoit_node_snapshot_last_uploaded_bytes", uint64(s.Last.Uploaded))
	fenced := uint64(0)
	if s.Fenced {
		fenced = 1
	}
	metrics.WriteGaugeUint64(w, "quoit_node_snapshot_fenced", fenced)
}

func (s *stats) write(w io.Writer) {
	for _, c := range []struct {
		name  string
		value uint64
	}{
		{"quoit_node_connections_accepted_total", s.accepted.Load()},
		{"quoit_node_connections_refused_total", s.refused.Load()},
		{`quoit_node_connections_cut_total{why="idle"}`, s.idleClosed.Load()},
		{`quoit_node_connections_cut_total{why="slow_reader"}`, s.slowReaders.Load()},
		{`quoit_node_connections_cut_total{why="slow_request"}`, s.slowRequests.Load()},
		{`quoit_node_connections_cut_total{why="unproved"}`, s.unproved.Load()},
		{`quoit_node_connections_cut_total{why="tls"}`, s.handshakes.Load()},
		{`quoit_node_connections_cut_total{why="no_member"}`, s.proofs.Load()},
		{`quoit_node_connections_cut_total{why="protocol"}`, s.protocolErrors.Load()},
		{`quoit_node_connections_cut_total{why="http"}`, s.crossProtocol.Load()},
		{`quoit_node_connections_cut_total{why="panic"}`, s.panics.Load()},
		{"quoit_node_error_replies_total", s.errors.Load()},
		{"quoit_node_moved_replies_total", s.moved.Load()},
		{"quoit_node_tryagain_replies_total", s.tryAgain.Load()},
		{"quoit_node_readonly_replies_total", s.readOnly.Load()},
		{"quoit_node_memory_full_replies_total", s.memoryFull.Load()},
		{"quoit_node_overloaded_replies_total", s.overloaded.Load()},
		{"quoit_node_parked_requests_total", s.parked.Load()},
		{"quoit_node_document_reads_total", s.documentReads.Load()},
		{"quoit_node_document_read_errors_total", s.documentErrors.Load()},
		{"quoit_node_documents_followed_total", s.documentsRead.Load()},
		{"quoit_node_heartbeats_total", s.heartbeats.Load()},
		{"quoit_node_heartbeat_errors_total", s.heartbeatErrors.Load()},
	} {
		metrics.WriteCounterUint64(w, c.name, c.value)
	}
}

func (st *store) writeMetrics(w io.Writer) {
	e, l := st.engine.Stats(), st.log.Stats()
	metrics.WriteGaugeUint64(w, "quoit_node_keys", uint64(e.Keys))
	metrics.WriteGaugeUint64(w, "quoit_node_staged_keys", uint64(e.Staged))
	metrics.WriteGaugeUint64(w, "quoit_node_live_bytes", uint64(e.LiveBytes))
	metrics.WriteGaugeUint64(w, "quoit_node_memory_bytes", uint64(e.HeldBytes))
	metrics.WriteGaugeUint64(w, "quoit_node_memory_used_bytes", uint64(e.UsedBytes))
	metrics.WriteGaugeUint64(w, "quoit_node_memory_limit_bytes", uint64(e.MaxMemory))
	metrics.WriteCounterUint64(w, "quoit_node_expired_keys_total", e.Expired)
	metrics.WriteGaugeUint64(w, "quoit_node_log_bytes", uint64(st.log.Written()-st.log.Start()))
	metrics.WriteGaugeUint64(w, "quoit_node_log_segments", uint64(l.Segments))
	metrics.WriteCounterUint64(w, "quoit_node_log_records_total", l.Records)
	metrics.WriteCounterUint64(w, "quoit_node_log_groups_total", l.Groups)
	metrics.WriteCounterUint64(w, "quoit_node_log_syncs_total", l.Syncs)
	s := st.engine.WatchStats()
	metrics.WriteGaugeUint64(w, "quoit_node_watch_connections", uint64(s.Watchers))
	metrics.WriteGaugeUint64(w, "quoit_node_watches", uint64(s.Watches))
	metrics.WriteGaugeUint64(w, `quoit_node_watch_history_bytes{of="changes"}`, uint64(s.RingBytes))
	metrics.WriteGaugeUint64(w, `quoit_node_watch_history_bytes{of="removals"}`, uint64(s.TombBytes))
	metrics.WriteCounterUint64(w, "quoit_node_watch_events_total", s.Events)
	metrics.WriteCounterUint64(w, "quoit_node_watch_behind_total", s.Behinds)
}
