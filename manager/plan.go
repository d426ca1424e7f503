package manager

import (
	"fmt"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/ring"
)

// Plan is what adding and removing nodes would do.
type Plan struct {
	Add    []string      `json:"add,omitempty"`
	Remove []string      `json:"remove,omitempty"`
	Nodes  []PlannedNode `json:"nodes"`
	Moves  []ring.Move   `json:"moves"`
	// Share of the ring that moves, and the least that any plan could move.
	Share float64 `json:"share"`
	Ideal float64 `json:"ideal"`
}

// PlannedNode is a node's share before and after a [Plan].
type PlannedNode struct {
	Address string  `json:"address"`
	Before  float64 `json:"before"`
	After   float64 `json:"after"`
}

// planFor does it to a copy of the document, so what would be refused is refused
// here too. A node that has not registered yet is planned with the default number
// of tokens. Moves that are under way already are taken to be done.
func planFor(d cluster.Document, add, remove []string) (Plan, error) {
	before, err := d.Goal()
	if err != nil {
		return Plan{}, err
	}
	for i, a := range add {
		if _, known := d.Member(a); known {
			continue
		}
		stranger := cluster.Registration{ID: cluster.NodeID(fmt.Sprintf("planned-and-not-registered-%d", i)), Address: a, Tokens: ring.DefaultTokens}
		if d, err = d.Register(stranger); err != nil {
			return Plan{}, err
		}
	}
	if d, err = d.Join(add...); err != nil {
		return Plan{}, err
	}
	if d, err = d.Leave(remove...); err != nil {
		return Plan{}, err
	}
	after, err := d.Goal()
	if err != nil {
		return Plan{}, err
	}
	p := comparePlan(before, after)
	p.Add, p.Remove = add, remove
	return p, nil
}

func comparePlan(before, after *ring.Map) Plan {
	p := Plan{Nodes: []PlannedNode{}, Moves: ring.Plan(before, after)}
	if p.Moves == nil {
		p.Moves = []ring.Move{}
	}
	for _, mv := range p.Moves {
		p.Share += share(mv.Range)
	}
	had, gets := sharesOf(before, nil), sharesOf(after, nil)
	note := func(address string) {
		n := PlannedNode{Address: address, Before: had[address], After: gets[address]}
		p.Nodes = append(p.Nodes, n)
		if len(had) > 0 { // the first nodes get theirs from nobody
			p.Ideal += max(0, n.After-n.Before)
		}
	}
	for _, a := range before.Owners() {
		note(a)
	}
	for _, a := range after.Owners() {
		if _, noted := had[a]; !noted {
			note(a)
		}
	}
	return p
}
