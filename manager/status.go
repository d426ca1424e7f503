package manager

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/member"
	"github.com/quoitdb/quoit/ring"
)

// Status is the cluster at one moment, as quoit cluster status shows it.
type Status struct {
	Cluster string     `json:"cluster"`
	Epoch   ring.Epoch `json:"epoch"`
	Counter uint64     `json:"counter"`
	// Formed is false until the first nodes have come; WaitingFor more are needed.
	Formed     bool         `json:"formed"`
	WaitingFor int          `json:"waiting_for,omitempty"`
	Nodes      []NodeStatus `json:"nodes"`
	Moves      []MoveStatus `json:"moves"`
	Paused     bool         `json:"moves_paused"`
	Throttle   int64        `json:"move_bytes_per_second,omitempty"`
	// Trouble is why the manager can do nothing at present: the bucket is away, say.
	// All the rest is then what it knew last.
	Trouble string `json:"trouble,omitempty"`
}

// NodeStatus is one node in a [Status].
type NodeStatus struct {
	Address string        `json:"address"`
	State   cluster.State `json:"state"`
	Up      bool          `json:"up"`
	// SilentMS is how long ago the node was last heard of; -1 for never.
	SilentMS int64 `json:"silent_ms"`
	// Share of the ring that the node owns now, and when every move is done; 0 to 1.
	Share     float64 `json:"share"`
	GoalShare float64 `json:"goal_share"`
	Tokens    int     `json:"tokens"`
	// Endpoints are the other ways to the node, such as that of browsers: URLs by kind.
	Endpoints map[string]string `json:"endpoints,omitempty"`
	OpsPerSec float64           `json:"ops_per_second"`
	member.Heartbeat
}

// MoveStatus is one range on its way in a [Status].
type MoveStatus struct {
	ID     cluster.MoveID `json:"id"`
	Range  ring.Range     `json:"range"`
	Source string         `json:"source"`
	Target string         `json:"target"`
	// Phase is planned, copy, seal, commit, drop or committed.
	Phase string `json:"phase"`
	Keys  int64  `json:"keys"`
	Bytes int64  `json:"bytes"`
	// Share of the range that has been copied, 0 to 1.
	Share   float64 `json:"share"`
	PauseMS float64 `json:"pause_ms"`
	Reason  string  `json:"reason,omitempty"`
}

// Status returns the cluster as the manager sees it now.
func (m *Manager) Status() Status {
	s := statusOf(m.document(), m.nodes.all(), time.Now(), m.config.NodeTimeout, m.config.InitialNodes)
	if trouble := m.ready(); trouble != nil {
		s.Trouble = trouble.Error()
	}
	return s
}

// statusOf puts a status together. A node that was silent for timeout is down.
func statusOf(d cluster.Document, views map[string]view, now time.Time, timeout time.Duration, initial int) Status {
	s := Status{
		Cluster: d.Cluster, Epoch: d.Epoch, Counter: d.Counter, Formed: formed(d),
		Paused: d.Settings.MovesPaused, Throttle: d.Settings.MoveBytesPerSecond,
		Nodes: make([]NodeStatus, 0, len(d.Nodes)), Moves: make([]MoveStatus, 0, len(d.Moves)),
	}
	have, goal := sharesOf(d.Ownership()), sharesOf(d.Goal())
	up := 0
	for _, n := range d.Nodes {
		ns := nodeStatus(n, views[n.Address], now, timeout)
		ns.Share, ns.GoalShare = have[n.Address], goal[n.Address]
		s.Nodes = append(s.Nodes, ns)
		if ns.Up {
			up++
		}
	}
	if !s.Formed {
		s.WaitingFor = max(0, initial-up)
	}
	progress := make(map[cluster.MoveID]member.MoveProgress)
	for _, v := range views {
		for _, p := range v.Moves {
			progress[p.ID] = p
		}
	}
	for _, mv := range d.Moves {
		s.Moves = append(s.Moves, moveStatus(mv, progress))
	}
	return s
}

// nodeStatus tells of one node. Its view is the zero one where it was never heard of.
func nodeStatus(n cluster.Member, v view, now time.Time, timeout time.Duration) NodeStatus {
	ns := NodeStatus{Address: n.Address, State: n.State, Tokens: n.Tokens, SilentMS: -1, Heartbeat: v.Heartbeat}
	for _, e := range n.Endpoints {
		if ns.Endpoints == nil {
			ns.Endpoints = make(map[string]string)
		}
		ns.Endpoints[e.Kind] = e.URL
	}
	ns.Heartbeat.ID, ns.Incarnation = n.ID, n.Incarnation
	ns.Heartbeat.Address, ns.Heartbeat.Moves = n.Address, nil
	if v.at.IsZero() {
		return ns
	}
	silent := now.Sub(v.at)
	ns.SilentMS = silent.Milliseconds()
	if ns.Up = silent < timeout; ns.Up {
		ns.OpsPerSec = v.opsPerSec
	} else {
		ns.Serving = false
	}
	return ns
}

func moveStatus(mv cluster.Move, progress map[cluster.MoveID]member.MoveProgress) MoveStatus {
	ms := MoveStatus{ID: mv.ID, Range: mv.Range, Source: mv.Source, Target: mv.Target, Phase: string(mv.Phase)}
	p, running := progress[mv.ID]
	if !running {
		return ms
	}
	ms.Keys, ms.Bytes, ms.Share, ms.PauseMS, ms.Reason = p.Keys, p.Bytes, p.Share, p.Pause, p.Reason
	if mv.Phase == cluster.Planned {
		ms.Phase = p.Phase
	}
	return ms
}

// sharesOf returns what part of the ring each node has, 0 to 1. A document that has
// no ring gives nothing to anyone.
func sharesOf(m *ring.Map, err error) map[string]float64 {
	shares := make(map[string]float64)
	if err != nil {
		return shares
	}
	for _, arc := range m.Arcs() {
		shares[arc.Owner] += share(arc.Range)
	}
	return shares
}

// share is the part of the ring that a range is.
func share(r ring.Range) float64 { return float64(r.Size()) / (1 << 32) }

// info is the reply to INFO, in the form that monitoring tools know.
// info is INFO, for those who see the server whole and for others.
func (m *Manager) info(whole bool) string {
	const server = "# Server\r\nserver_mode:manager\r\n"
	if !whole {
		return server
	}
	d := m.document()
	var b strings.Builder
	fmt.Fprintf(&b, server+"# Cluster\r\ncluster:%s\r\nepoch:%d\r\ncounter:%d\r\nnodes:%d\r\nmoves:%d\r\n",
		d.Cluster, d.Epoch, d.Counter, len(d.Nodes), len(d.Moves))
	return b.String()
}

func (m *Manager) writeMetrics(w io.Writer) {
	s := m.Status()
	fmt.Fprintf(w, "quoit_cluster_epoch %d\nquoit_cluster_document_counter %d\nquoit_cluster_document_readable %d\nquoit_cluster_moves %d\n",
		s.Epoch, s.Counter, number(s.Trouble == ""), len(s.Moves))
	m.guard.WriteMetrics(w)
	m.trust.TLS().WriteMetrics(w)
	fmt.Fprintf(w, "quoit_manager_connections_cut_total{why=\"no_member\"} %d\n", m.distrusted.Load())
	fmt.Fprintf(w, "quoit_manager_connections_cut_total{why=\"panic\"} %d\n", m.panics.Load())
	for _, n := range s.Nodes {
		fmt.Fprintf(w, "quoit_cluster_node_up{node=%q} %d\nquoit_cluster_node_share{node=%q} %g\n", n.Address, number(n.Up), n.Address, n.Share)
	}
}

func number(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
