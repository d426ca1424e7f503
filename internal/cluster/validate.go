package cluster

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/quoitdb/quoit/ring"
)

// validate reports the first thing in which a document contradicts itself. What
// would need the whole ring (that planned moves lead to the goal) is left to the
// transitions, whose property it is.
func (d Document) validate() error {
	for _, check := range []func() error{d.checkHead, d.checkMembers, d.checkMoves, d.checkRanges} {
		if err := check(); err != nil {
			return &FormatError{err.Error()}
		}
	}
	return nil
}

func (d Document) checkHead() error {
	if len(d.Recent) > MaxRecent {
		return fmt.Errorf("%d recent nonces, want at most %d", len(d.Recent), MaxRecent)
	}
	for _, nonce := range append(d.Recent[:len(d.Recent):len(d.Recent)], d.Nonce) {
		if nonce == "" || len(nonce) > MaxNonce {
			return fmt.Errorf("nonce %.80q, want 1 to %d characters", nonce, MaxNonce)
		}
	}
	if d.Counter == 0 {
		return fmt.Errorf("counter 0")
	}
	if d.Settings.MoveBytesPerSecond < 0 {
		return fmt.Errorf("throttle %d", d.Settings.MoveBytesPerSecond)
	}
	return nil
}

func (d Document) checkMembers() error {
	nodes := make([]ring.Node, len(d.Nodes))
	ids := map[NodeID]bool{}
	for i, m := range d.Nodes {
		if i > 0 && d.Nodes[i-1].Address >= m.Address {
			return fmt.Errorf("node %q does not come after %q", m.Address, d.Nodes[i-1].Address)
		}
		if fault := idFault(m.ID); fault != "" || ids[m.ID] {
			return fmt.Errorf("node %q: id %.80q is taken, or malformed: %s", m.Address, m.ID, fault)
		}
		if m.State != Known && m.State != Active && m.State != Leaving {
			return fmt.Errorf("node %q: state %.20q", m.Address, m.State)
		}
		if m.Incarnation == 0 || m.Incarnation > d.Incarnations || m.Since == 0 || m.Since > d.Counter || m.Gained > d.Counter || m.Tokens < 1 {
			return fmt.Errorf("node %q: incarnation %d, since %d, gained %d, %d tokens", m.Address, m.Incarnation, m.Since, m.Gained, m.Tokens)
		}
		if m.State == Active && d.Epoch == 0 {
			return fmt.Errorf("node %q is active in epoch 0", m.Address)
		}
		ids[m.ID] = true
		nodes[i] = ring.Node{Address: m.Address, Tokens: m.Tokens, Endpoints: m.Endpoints}
	}
	return ring.Topology{Cluster: d.Cluster, Nodes: nodes}.Validate()
}

func (d Document) checkMoves() error {
	if len(d.Moves) > MaxMoves {
		return fmt.Errorf("%d moves, want at most %d", len(d.Moves), MaxMoves)
	}
	seen := map[MoveID]bool{}
	for _, m := range d.Moves {
		if n, ok := m.ID.number(); !ok || n > d.MoveCount || seen[m.ID] {
			return fmt.Errorf("move %.40q: id is malformed, from the future, or not the only one", m.ID)
		}
		seen[m.ID] = true
		if fault := d.moveFault(m); fault != "" {
			return fmt.Errorf("move %s: %s", m.ID, fault)
		}
	}
	return nil
}

// number returns n of the id "m<n>".
func (id MoveID) number() (uint64, bool) {
	digits, ok := strings.CutPrefix(string(id), "m")
	if !ok || digits == "" || digits[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

// moveFault returns what is wrong with one move, or nothing.
func (d Document) moveFault(m Move) string {
	source, hasSource := d.Member(m.Source)
	target, hasTarget := d.Member(m.Target)
	planned := m.Phase == Planned
	switch {
	case m.Source == m.Target || ring.ValidateAddress(m.Source) != nil:
		return "source and target are no two nodes"
	case !planned && m.Phase != Committed:
		return fmt.Sprintf("phase %.20q", m.Phase)
	case planned != (m.CommittedAt == 0) || m.CommittedAt > d.Counter:
		return fmt.Sprintf("is %s, and committed at %d", m.Phase, m.CommittedAt)
	case planned && (m.SourceDropped || m.TargetActive), m.SourceDropped && m.TargetActive, m.Lost && !m.SourceDropped:
		return "what is done does not fit its phase"
	case !hasTarget || target.State == Known || planned && target.State != Active:
		return "its target cannot own anything"
	case !m.SourceDropped && (!hasSource || source.State == Known):
		return "its source cannot own anything"
	}
	return ""
}

// checkRanges makes sure that a range takes part in one move at a time: one that
// is planned, and behind one that is committed.
func (d Document) checkRanges() error {
	ranges := map[Phase][]ring.Range{}
	for _, m := range d.Moves {
		ranges[m.Phase] = append(ranges[m.Phase], m.Range)
	}
	for phase, r := range ranges {
		if !disjoint(r) {
			return fmt.Errorf("two %s moves share a part of the ring", phase)
		}
	}
	return nil
}
