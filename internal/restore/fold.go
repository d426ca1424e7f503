package restore

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
)

// change is what the log behind a base makes of one key.
type change struct {
	pos      ring.Position
	version  engine.Version
	expireAt int64
	value    []byte
	gone     bool
	// onBase: value is only what was added to the base's, and expireAt counts if touched.
	onBase, touched bool
	met             bool // the base's entry has been
}

// changes are those of one view in one unit, by key. Values may be views of the log.
type changes map[string]*change

// errOrphan: the log changes a key that nothing before it has written.
var errOrphan = errors.New("a record changes a key that is not there")

// add folds a record in; hasBase says that the base may have the key.
func (c changes) add(r engine.Record, hasBase bool) error {
	old := c[string(r.Key)]
	next := change{pos: r.Position, version: r.Version}
	switch r.Kind {
	case engine.RecordPut:
		next.value, next.expireAt = r.Value, r.ExpireAt
	case engine.RecordDelete:
		next.gone = true
	default:
		switch {
		case old != nil && !old.gone:
			next = *old
		case old == nil && hasBase:
			next.onBase = true
		default:
			return errOrphan
		}
		next.version = r.Version
		if r.Kind == engine.RecordTouch {
			next.expireAt, next.touched = r.ExpireAt, true
		} else {
			next.value = bytes.Join([][]byte{next.value, r.Value}, nil)
		}
	}
	if old != nil {
		*old = next
	} else {
		c[string(r.Key)] = &next
	}
	return nil
}

// over lays a change over the base's entry; false means that the key is gone, or that
// the change is complete without it.
func (c *change) over(e *snapshot.Entry) bool {
	c.met = true
	if !c.onBase {
		return false
	}
	e.Version = uint64(c.version)
	if len(c.value) > 0 {
		e.Value = bytes.Join([][]byte{e.Value, c.value}, nil)
	}
	if c.touched {
		e.ExpireAt = c.expireAt
	}
	return true
}

func (c *change) entry(key string) snapshot.Entry {
	return snapshot.Entry{Position: c.pos, Key: []byte(key), Value: c.value, Version: uint64(c.version), ExpireAt: c.expireAt}
}

// holds says whether a record lies in the segment.
func (g *segment) holds(at ring.Position, lsn wal.LSN) bool {
	return g.lo <= at && at <= g.hi && lsn > g.start && (g.stop == 0 || lsn < g.stop)
}

// stretchOf returns the segments of a list that lie in a stretch, clipped to it.
func stretchOf(all []segment, lo, hi ring.Position) []segment {
	var in []segment
	for _, g := range all {
		if g.hi < lo || g.lo > hi {
			continue
		}
		g.lo, g.hi = max(g.lo, lo), min(g.hi, hi)
		in = append(in, g)
	}
	return in
}

// folded returns what a view's log has in a stretch of the ring: under its claims, and
// where nothing says that it owned what it wrote.
func (v *view) folded(claimed, loose []segment, lo, hi ring.Position) (own, unclaimed changes, err error) {
	own, unclaimed = changes{}, changes{}
	for i := partitionOf(lo); i <= partitionOf(hi); i++ {
		cut := v.cut(i)
		for _, l := range v.tail[i] {
			r, err := engine.DecodeRecord(l.rec)
			if err != nil {
				return nil, nil, v.recordFault(l.lsn, err)
			}
			if r.Position < lo || r.Position > hi {
				continue
			}
			if g := find(claimed, r.Position, l.lsn); g != nil {
				err = own.add(r, v.state != nil && cut >= g.start)
			} else if find(loose, r.Position, l.lsn) != nil {
				err = unclaimed.add(r, false)
			}
			if err != nil {
				return nil, nil, v.recordFault(l.lsn, err)
			}
		}
	}
	return own, unclaimed, nil
}

// find returns the segment that a record lies in.
func find(segments []segment, at ring.Position, lsn wal.LSN) *segment {
	for i := range segments {
		if segments[i].holds(at, lsn) {
			return &segments[i]
		}
	}
	return nil
}

func (v *view) recordFault(lsn wal.LSN, err error) error {
	return fmt.Errorf("node %s, log position %d: %w", v.node, lsn, err)
}
