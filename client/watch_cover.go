package client

import (
	"cmp"
	"slices"
	"time"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// stretch is a part of the ring that is watched, low to high, and how far.
type stretch struct {
	low, high ring.Position
	version   Version    // all changes up to it have been told
	from      *watchConn // who tells; nil: nobody, it is to be given to its owner
	wait      *waiting   // for what, if nobody tells; never changed, only replaced
	state     uint32     // the number of the state that from is telling, 0: none
	live      bool       // from has told all that was, and tells what comes
	synced    bool       // it was live once
}

// waiting is what a stretch has been through since it was last live.
type waiting struct {
	tries  int        // nodes that have sent it on
	hint   *node      // whom the last of them named
	epoch  ring.Epoch // or: as soon as there is a topology as new as this
	before time.Time  // or: not before then
}

func (s *stretch) size() uint64 { return uint64(s.high-s.low) + 1 }

// asked is the stretch as WATCH names it.
func (s *stretch) asked() protocol.WatchRange {
	return protocol.WatchRange{Start: uint32(s.low - 1), End: uint32(s.high), Version: uint64(s.version)}
}

// give lets a connection tell a stretch.
func (s *stretch) give(to *watchConn) {
	s.from = to
	to.catching += s.size()
}

// catchUp notes that what was live is not any more, or that a state begins.
func (s *stretch) catchUp(state uint32) {
	if s.live {
		s.from.catching += s.size()
	}
	s.live, s.state = false, state
}

// caughtUp notes that all up to a version has been told. It may be lower than
// what was there: the node would not tell of what it gives versions in between.
// 0 would mean that nothing has been told.
func (s *stretch) caughtUp(version Version) {
	if !s.live {
		s.from.catching -= s.size()
	}
	s.version, s.live, s.synced, s.state, s.wait = max(version, 1), true, true, 0, nil
}

// free takes a stretch from who told it. It keeps the version.
func (s *stretch) free(why *waiting) {
	if !s.live {
		s.from.catching -= s.size()
	}
	s.from, s.live, s.state, s.wait = nil, false, 0, why
}

// like says that two neighbours need not be told apart.
func (s *stretch) like(o *stretch) bool {
	return s.high+1 == o.low && s.version == o.version && s.from == o.from && s.wait == o.wait &&
		s.state == o.state && s.live == o.live && s.synced == o.synced
}

// cover is what is watched: stretches in ring order that do not overlap. None
// runs over the top.
type cover struct{ all []stretch }

// maxStretches bounds what a node can make of a cover by naming ever smaller
// ranges: as many as a ring has tokens, cut in two.
const maxStretches = 2 * ring.MaxRingTokens

// newCover covers the ring.
func newCover() cover { return cover{[]stretch{{low: 0, high: ring.MaxPosition}}} }

// newCoverOf covers one position.
func newCoverOf(p ring.Position) cover { return cover{[]stretch{{low: p, high: p}}} }

// find is the index of the first stretch that ends at or after p.
func (c *cover) find(p ring.Position) int {
	i, _ := slices.BinarySearchFunc(c.all, p, func(s stretch, p ring.Position) int { return cmp.Compare(s.high, p) })
	return i
}

// at is the stretch of a position, nil if that is not watched.
func (c *cover) at(p ring.Position) *stretch {
	if i := c.find(p); i < len(c.all) && c.all[i].low <= p {
		return &c.all[i]
	}
	return nil
}

// each calls do for each stretch that from tells, nil for those that nobody does.
func (c *cover) each(from *watchConn, do func(*stretch)) {
	for i := range c.all {
		if c.all[i].from == from {
			do(&c.all[i])
		}
	}
}

// within calls do for what from tells of a range, and reports whether that is
// anything. Stretches that the range covers in part are cut.
func (c *cover) within(start, end uint32, from *watchConn, do func(*stretch)) (some bool) {
	low, high := ring.Position(start)+1, ring.Position(end)
	if low-1 >= high { // over the top, or the whole ring
		if low != 0 {
			some = c.between(low, ring.MaxPosition, from, do)
		}
		if ring.Position(start) == high {
			high = low - 1
		}
		low = 0
	}
	return c.between(low, high, from, do) || some
}

func (c *cover) between(low, high ring.Position, from *watchConn, do func(*stretch)) (some bool) {
	for i := c.find(low); i < len(c.all) && c.all[i].low <= high; i++ {
		if c.all[i].from != from {
			continue
		}
		if c.all[i].low < low {
			c.split(i, low-1)
			continue
		}
		if c.all[i].high > high {
			c.split(i, high)
		}
		do(&c.all[i])
		some = true
	}
	return some
}

// split makes stretch i end at high, and the rest of it one of its own.
func (c *cover) split(i int, high ring.Position) {
	rest := c.all[i]
	rest.low = high + 1
	c.all[i].high = high
	c.all = slices.Insert(c.all, i+1, rest)
}

// cut divides the stretches that nobody tells at the given positions, and joins
// neighbours that are alike, first.
func (c *cover) cut(ends []ring.Position) {
	joined := c.all[:0]
	for _, s := range c.all {
		if n := len(joined); n > 0 && joined[n-1].like(&s) {
			joined[n-1].high = s.high
			continue
		}
		joined = append(joined, s)
	}
	parts := make([]stretch, 0, len(joined)+len(ends))
	next := 0
	for _, s := range joined {
		for next < len(ends) && ends[next] < s.low {
			next++
		}
		for ; s.from == nil && next < len(ends) && ends[next] < s.high; next++ {
			part := s
			part.high = ends[next]
			parts = append(parts, part)
			s.low = part.high + 1
		}
		parts = append(parts, s)
	}
	c.all = parts
}
