package restore

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/ring"
)

// claim is a segment that a view's node had, or nothing where no record says who did.
type claim struct {
	segment
	view *view
}

// plan decides for every position from which view its keys are taken. The rules are
// in DESIGN.md: the claim that began last wins, whether or not it has ended since.
type plan struct {
	at    int64
	views []*view
	// documented says that the cluster document tells who has a range now.
	documented bool
	owners     []claim // the whole ring, in order; those without a view are holes
}

func newPlan(at int64, documented bool, views []*view) *plan {
	p := &plan{at: at, views: views, documented: documented}
	p.owners = winners(p.claims())
	return p
}

// claims returns every segment that counts.
func (p *plan) claims() []claim {
	complete, unsealed := map[string]engine.Version{}, map[string]bool{}
	for _, v := range p.views {
		for move, hlc := range v.ledger.complete {
			complete[move] = hlc
		}
		for move := range v.ledger.unsealed {
			unsealed[move] = true
		}
	}
	var claims []claim
	for _, v := range p.views {
		for _, g := range slices.Concat(v.ledger.open, v.ledger.closed) {
			// A snapshot that was taken while the range was sealed says nothing of the time
			// after the move had brought everything.
			if hlc, ok := complete[g.sealed]; ok && g.begin >= hlc {
				g.begin = hlc - 1
			}
			counts := g.standing == served || g.standing == received && !unsealed[g.move]
			if counts && g.begin.Millis() <= p.at {
				claims = append(claims, claim{g, v})
			}
		}
	}
	return claims
}

// later orders claims by when they began. Of one and the same, the one that ends later.
func later(a, b claim) int {
	open := func(c claim) int {
		if c.stop == 0 {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(open(a), open(b)), cmp.Compare(a.stop, b.stop),
		cmp.Compare(a.standing, b.standing))
}

// winners returns the ring cut into stretches, each with the latest of the claims on it.
func winners(claims []claim) []claim {
	slices.SortFunc(claims, func(a, b claim) int { return cmp.Compare(a.lo, b.lo) })
	var all, active []claim
	next := 0
	for lo := uint64(0); lo <= uint64(ring.MaxPosition); {
		active = slices.DeleteFunc(active, func(c claim) bool { return uint64(c.hi) < lo })
		for next < len(claims) && uint64(claims[next].lo) <= lo {
			active = append(active, claims[next])
			next++
		}
		end := uint64(ring.MaxPosition) // of the stretch where the same claims are active
		for _, c := range active {
			end = min(end, uint64(c.hi))
		}
		if next < len(claims) {
			end = min(end, uint64(claims[next].lo)-1)
		}
		var best claim
		if len(active) > 0 {
			best = slices.MaxFunc(active, later)
		}
		best.lo, best.hi = ring.Position(lo), ring.Position(end)
		all = joined(all, best)
		lo = end + 1
	}
	return all
}

// joined adds a stretch, to the last one if it only continues that.
func joined(all []claim, c claim) []claim {
	if n := len(all); n > 0 {
		last := all[n-1]
		last.hi = c.hi
		whole := c
		whole.lo = last.lo
		if last == whole {
			all[n-1] = whole
			return all
		}
	}
	return append(all, c)
}

// holes returns the stretches of which no record says who had them.
func (p *plan) holes() []segment {
	var holes []segment
	for _, c := range p.owners {
		if c.view == nil {
			holes = append(holes, c.segment)
		}
	}
	return holes
}

func (g segment) ring() ring.Range { return ring.Range{Start: g.lo - 1, End: g.hi} }

// gaps says what is not exact about the plan for a moment in the past.
func (p *plan) gaps() []Gap {
	var gaps []Gap
	used := map[*view]bool{}
	for _, c := range p.owners {
		if c.view == nil {
			continue
		}
		if c.stop == 0 {
			used[c.view] = true
		}
		if p.mayHaveLeft(c) {
			gaps = append(gaps, Gap{
				Kind: GapOwner, Node: c.view.node, Range: c.ring(), From: c.end.Millis(), To: p.at,
				Reason: fmt.Sprintf("it handed the range over%s, and the records of whoever took it do not reach to this moment", byMove(c.sealed)),
			})
		}
	}
	for _, c := range p.owners {
		if c.view != nil && c.standing == received && p.mayHaveStayed(c) {
			gaps = append(gaps, Gap{
				Kind: GapOwner, Node: c.view.node, Range: c.ring(), From: c.begin.Millis(), To: p.at,
				Reason: "it had received the range by move " + c.move + ", and no record says whether it or the node before served it then",
			})
		}
	}
	unclaimed := len(p.holes()) > 0
	for _, v := range p.views {
		gaps = append(gaps, v.gaps...)
		first := v.manifest == nil && len(v.pieces) > 0 && v.pieces[0].From == 0
		if p.at != forever && (used[v] || unclaimed && first) && !v.whole && v.until < p.at && len(v.gaps) == 0 {
			gaps = append(gaps, Gap{
				Kind: GapEnd, Node: v.node, From: max(v.until, v.completeUntil()), To: p.at,
				Reason: "what the bucket has of its log ends there; if it wrote nothing in between, nothing is missing; a node that runs says so when it is told to take a snapshot",
			})
		}
	}
	return gaps
}

func byMove(move string) string {
	if move == "" {
		return ""
	}
	return " by move " + move
}

// mayHaveLeft says that somebody else may have served a range at the moment, although
// this claim is the latest. A range that is sealed and not handed over yet is left to
// the document, where there is one and the moment is now.
func (p *plan) mayHaveLeft(c claim) bool {
	if c.sealed == "" && c.stop == 0 || c.late {
		return false
	}
	for _, v := range p.views {
		if hlc, ok := v.ledger.complete[c.sealed]; ok && c.sealed != "" {
			return hlc.Millis() <= p.at
		}
	}
	return c.stop != 0 || p.at != forever || !p.documented
}

// mayHaveStayed says that the source of a range that had been received whole may have gone
// on serving it by the moment: its records do not say that it was sealed until then. Now
// the document knows.
func (p *plan) mayHaveStayed(c claim) bool {
	if p.at == forever && p.documented {
		return false
	}
	for _, v := range p.views {
		sealed := func(g segment) bool { return g.sealed == c.move && g.lo <= c.lo && c.hi <= g.hi }
		if slices.ContainsFunc(v.ledger.closed, sealed) || v.whole && slices.ContainsFunc(v.ledger.open, sealed) {
			return false
		}
	}
	return true
}

// against compares the plan for the newest state with the cluster document: where the
// document names another owner, that one's records lag, or begin with nothing because
// the node before was forgotten.
func (p *plan) against(d *cluster.Document) ([]Gap, error) {
	owners, err := d.Ownership()
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, v := range p.views {
		known[v.node] = true
	}
	var gaps []Gap
	for _, arc := range owners.Arcs() {
		for _, s := range spanOf(arc.Range) {
			for _, c := range p.owners {
				if c.hi < s.lo || c.lo > s.hi {
					continue
				}
				c.lo, c.hi = max(c.lo, s.lo), min(c.hi, s.hi)
				if g, ok := lagOf(c, arc.Owner, known, d); ok {
					gaps = append(gaps, g)
				}
			}
		}
	}
	return merged(gaps), nil
}

func lagOf(c claim, owner string, known map[string]bool, d *cluster.Document) (Gap, bool) {
	g := Gap{Kind: GapOwner, Node: owner, Range: c.ring()}
	switch {
	case c.view == nil && known[owner]:
		return g, false // Owned from the beginning, and nothing has had to say so.
	case c.view == nil:
		g.Kind, g.Reason = GapNothing, "the node owns it, and has neither a snapshot nor any log in the bucket"
		return g, true
	case c.view.node == owner || c.stop != 0: // The latter is told by gaps.
		return g, false
	}
	if m, ok := d.Move(cluster.MoveID(c.move)); ok && m.Phase == cluster.Planned && c.standing == received {
		return g, false // The source is sealed: both have the same.
	}
	g.From = c.view.until
	g.Reason = fmt.Sprintf("the node owns it, and its records do not say since when; taken is what %s had", c.view.node)
	if _, member := d.Member(c.view.node); !member {
		g.Reason += ", which is not a member any more (if it was forgotten, its keys had been given up)"
	}
	return g, true
}

// merged joins gaps of neighbouring ranges.
func merged(gaps []Gap) []Gap {
	var all []Gap
	slices.SortStableFunc(gaps, func(a, b Gap) int { return cmp.Compare(a.Range.Start+1, b.Range.Start+1) })
	for _, g := range gaps {
		if n := len(all); n > 0 {
			last := all[n-1]
			joined := ring.Range{Start: last.Range.Start, End: g.Range.End}
			same := g
			same.Range = last.Range
			if last == same && last.Range.End == g.Range.Start {
				all[n-1].Range = joined
				continue
			}
		}
		all = append(all, g)
	}
	return all
}
