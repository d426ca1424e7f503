package manager

import (
	"context"

	"github.com/quoitdb/quoit/internal/cluster"
)

// admit lets known nodes into the ring: the first ones when enough have come, and
// later ones by themselves where joining is automatic.
func (m *Manager) admit(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.doors:
		}
		let := func(d cluster.Document) []string {
			return admissible(d, m.nodes.heardOf, m.config.InitialNodes, m.config.Join)
		}
		if len(let(m.document())) == 0 {
			continue
		}
		var joined []string
		_, err := m.change(ctx, func(d cluster.Document) (cluster.Document, error) {
			if joined = let(d); len(joined) == 0 {
				return d, nil
			}
			return d.Join(joined...)
		})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			// They are looked at again when the next document or heartbeat comes.
			m.log.Warn("cannot let nodes into the ring", "error", err)
		case len(joined) > 0:
			m.log.Info("nodes join the ring", "nodes", joined)
		}
	}
}

// admissible returns the nodes to let into the ring now. One that has registered
// and is silent is not among them: it would be given a part of the ring, and
// nobody would answer there.
func admissible(d cluster.Document, heardOf func(cluster.Member) bool, initial int, mode JoinMode) []string {
	var waiting []string
	for _, n := range d.Nodes {
		if n.State == cluster.Known && heardOf(n) {
			waiting = append(waiting, n.Address)
		}
	}
	if formed(d) && mode != JoinAuto || !formed(d) && len(waiting) < initial {
		return nil
	}
	return waiting
}

// formed says whether there is a ring.
func formed(d cluster.Document) bool {
	for _, n := range d.Nodes {
		if n.State != cluster.Known {
			return true
		}
	}
	return false
}
