package node

import (
	"runtime"
	"strconv"
	"strings"

	"github.com/quoitdb/quoit/protocol"
)

// infoSection is one headline of INFO with its lines.
type infoSection struct {
	name  string
	lines []infoLine
}

type infoLine struct{ name, value string }

func intLine(name string, n int64) infoLine   { return infoLine{name, strconv.FormatInt(n, 10)} }
func uintLine(name string, n uint64) infoLine { return infoLine{name, strconv.FormatUint(n, 10)} }

// info answers in the words of Redis where they fit, so that stock dashboards
// find what they look for.
func info(c *conn, args [][]byte) error {
	sections := []infoSection{{"Server", c.srv.infoPublic()}}
	if c.guest.Who().SeesServer() {
		sections = c.srv.infoSections()
	}
	var b strings.Builder
	for _, s := range sections {
		if !wanted(s.name, args[1:]) {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString("# " + s.name + "\r\n")
		for _, l := range s.lines {
			b.WriteString(l.name + ":" + l.value + "\r\n")
		}
	}
	c.out = protocol.AppendBulkString(c.out, b.String())
	return nil
}

// wanted says whether INFO with these arguments shows the section. Commandstats
// is long and, as in Redis, only shown when asked for.
func wanted(section string, args [][]byte) bool {
	if len(args) == 0 {
		return section != "Commandstats"
	}
	for _, arg := range args {
		switch word := strings.ToLower(string(arg)); word {
		case "all", "everything", strings.ToLower(section):
			return true
		case "default":
			if section != "Commandstats" {
				return true
			}
		}
	}
	return false
}

func (s *server) infoSections() []infoSection {
	t, connections := s.totals()
	return []infoSection{
		{"Server", s.infoServer()},
		{"Clients", []infoLine{intLine("connected_clients", int64(connections)), intLine("maxclients", int64(s.maxConns))}},
		{"Memory", s.infoMemory()},
		{"Persistence", s.infoPersistence()},
		{"Snapshot", s.infoSnapshot()},
		{"Stats", s.infoStats(&t)},
		{"Cluster", s.infoCluster()},
		{"Keyspace", s.infoKeyspace()},
		{"Commandstats", infoCommands(&t)},
	}
}

// infoServer is for those who see the server whole.
func (s *server) infoServer() []infoLine {
	return append(s.infoPublic(), intLine("process_id", int64(s.about.process)))
}

// infoPublic is for everyone.
func (s *server) infoPublic() []infoLine {
	_, port, _ := strings.Cut(s.listener.Addr().String(), ":")
	return []infoLine{
		{"quoit_version", s.about.version},
		{"redis_mode", "standalone"},
		{"os", runtime.GOOS + " " + runtime.GOARCH},
		{"tcp_port", port},
		intLine("uptime_in_seconds", (s.clock.coarse()-s.about.started.UnixMilli())/1000),
		{"address", s.about.address},
		{"instance", s.about.instance}, // of this process, never seen before or after
	}
}

func (s *server) infoMemory() []infoLine {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	lines := []infoLine{
		uintLine("go_heap_bytes", m.HeapAlloc),
		intLine("buffer_bytes", s.budget.Used()),
	}
	if st := s.state.store.Load(); st != nil {
		e := st.engine.Stats()
		lines = append(lines, intLine("used_memory", e.HeldBytes), intLine("maxmemory", e.MaxMemory), intLine("live_bytes", e.LiveBytes))
	}
	return lines
}

func (s *server) infoPersistence() []infoLine {
	lines := []infoLine{{"fsync", s.about.fsync.String()}}
	if st := s.state.store.Load(); st != nil {
		l := st.log.Stats()
		lines = append(lines,
			uintLine("log_records", l.Records), uintLine("log_groups", l.Groups), uintLine("log_syncs", l.Syncs),
			intLine("log_segments", int64(l.Segments)),
			uintLine("log_bytes", uint64(st.log.Written()-st.log.Start())), uintLine("log_durable", uint64(st.log.Durable())))
	}
	return lines
}

func (s *server) infoSnapshot() []infoLine {
	k := s.members.keeping()
	if k == nil {
		return []infoLine{{"snapshot_state", "the node does not serve yet"}}
	}
	st := k.Status()
	return []infoLine{
		{"snapshot_state", st.State},
		uintLine("snapshot_sequence", st.Sequence),
		intLine("snapshot_created_ms", st.Created),
		intLine("snapshot_age_ms", st.AgeMS),
		intLine("snapshot_bytes", st.Size),
		uintLine("snapshot_keys", st.Entries),
		intLine("snapshot_log_bytes_not_covered", st.Uncovered),
		intLine("archive_lag_bytes", st.ArchiveLag),
		{"snapshot_phase", st.Phase},
		uintLine("snapshots_published", st.Published),
		uintLine("snapshot_failures", st.Failures),
		intLine("snapshot_last_ms", st.Last.MS),
		intLine("snapshot_last_uploaded_bytes", st.Last.Uploaded),
		intLine("snapshot_last_longest_hold_us", st.Last.HoldUS),
	}
}

func (s *server) infoStats(t *totals) []infoLine {
	return []infoLine{
		uintLine("total_connections_received", s.stats.accepted.Load()),
		uintLine("rejected_connections", s.stats.refused.Load()),
		uintLine("total_commands_processed", t.requests()),
		uintLine("total_net_input_bytes", t.in),
		uintLine("total_net_output_bytes", t.out),
		uintLine("total_error_replies", s.stats.errors.Load()),
		uintLine("moved_replies", s.stats.moved.Load()),
		uintLine("tryagain_replies", s.stats.tryAgain.Load()),
		uintLine("slow_readers_closed", s.stats.slowReaders.Load()),
		uintLine("panics", s.stats.panics.Load()),
	}
}

func (s *server) infoCluster() []infoLine {
	v := s.state.view()
	state := v.why
	if state == "" {
		state = "serving"
	}
	return []infoLine{
		intLine("cluster_enabled", 0), // not Redis Cluster: its clients must not try CLUSTER SLOTS
		{"quoit_cluster", v.topology.Cluster},
		{"quoit_epoch", v.topology.Epoch.String()},
		uintLine("quoit_counter", v.counter),
		{"quoit_state", state},
		{"quoit_manager", s.about.manager},
	}
}

func (s *server) infoKeyspace() []infoLine {
	st := s.state.store.Load()
	if st == nil {
		return nil
	}
	e := st.engine.Stats()
	return []infoLine{
		{"db0", "keys=" + strconv.Itoa(e.Keys) + ",expires=0,avg_ttl=0"},
		intLine("staged_keys", int64(e.Staged)),
		uintLine("expired_keys", e.Expired),
	}
}

func infoCommands(t *totals) (lines []infoLine) {
	for _, cmd := range protocol.Commands() {
		if n := t.commands[cmd]; n > 0 {
			lines = append(lines, infoLine{"cmdstat_" + strings.ToLower(cmd.String()), "calls=" + strconv.FormatUint(n, 10)})
		}
	}
	return lines
}
