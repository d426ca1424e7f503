package restore

import (
	"fmt"
	"time"

	"github.com/quoitdb/quoit/ring"
)

// GapKind says what is not exact.
type GapKind string

// The kinds of a [Gap].
const (
	// GapEnd: the node's records end before the moment asked for. If it acknowledged
	// anything in between, that is not in the bucket.
	GapEnd GapKind = "archive-ends"
	// GapLog: a piece of the node's log is missing or damaged; what follows it was not used.
	GapLog GapKind = "log-broken"
	// GapSnapshot: a snapshot is missing or damaged; an older one took its place.
	GapSnapshot GapKind = "snapshot-unusable"
	// GapTorn: the log that makes a snapshot one of a single moment is not there.
	GapTorn GapKind = "snapshot-torn"
	// GapOwner: whoever took the range over has nothing of it in the bucket yet; what is
	// there is what the node before handed over.
	GapOwner GapKind = "owner-lags"
	// GapNothing: nothing in the bucket reaches back to the moment for this node.
	GapNothing GapKind = "nothing-kept"
)

// Gap is something that could not be had exactly: where, from when until when, and why.
type Gap struct {
	Kind GapKind `json:"kind"`
	Node string  `json:"node"`
	// Range is the part of the ring concerned; the zero Range (all of it) where it
	// concerns everything that the node had.
	Range ring.Range `json:"range"`
	// From and To are Unix milliseconds: what was acknowledged between them may be
	// missing. 0 is the node's beginning, or now.
	From int64 `json:"from_ms"`
	To   int64 `json:"to_ms"`
	// Of GapSnapshot: which one, and of which moment.
	Sequence uint64 `json:"snapshot,omitempty"`
	At       int64  `json:"at_ms,omitempty"`
	Reason   string `json:"reason"`
}

// Harmless says that nothing is missing because of it: it is worth knowing, no more.
func (g Gap) Harmless() bool { return g.Kind == GapSnapshot }

// String tells it to a person, on one line.
func (g Gap) String() string {
	where := "node " + g.Node
	if g.Range != (ring.Range{}) {
		where += ", range " + g.Range.String()
	}
	if g.Kind == GapSnapshot {
		return fmt.Sprintf("%s: snapshot %d cannot be used: %s", where, g.Sequence, g.Reason)
	}
	until := "now"
	if g.To != 0 {
		until = stamp(g.To)
	}
	from := "its beginning"
	if g.From != 0 {
		from = stamp(g.From)
	}
	return fmt.Sprintf("%s: what was written from %s to %s may be missing: %s", where, from, until, g.Reason)
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }
