package node

import (
	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

const (
	// scanStep is how many entries one look into the engine walks: it bounds how
	// long a scan keeps a partition from its writers.
	scanStep = 128
	// scanBytes ends a page of long keys early.
	scanBytes = 256 << 10
	// scanWork ends a page whose keys are slow to match: some ten milliseconds of
	// the worst kind. One key more than that is always matched.
	scanWork = 16 << 20
)

// scanPage gathers the keys of one reply, already as bulk strings, because their
// number has to stand before them.
type scanPage struct {
	keys    []byte
	number  int
	pattern []byte
	work    int // what matching may still cost, in bytes of pattern times bytes of key

	// What one step gave, to be matched when the engine's lock is free again: a
	// pattern and a key of the worst kind take milliseconds.
	raw  []byte
	ends []int // where each key ends in raw

	reader *auth.Principal // only keys that it may read; nil: any
	read   int             // keys that the reader may, shown or not
	passed uint64          // the position behind the last of them
}

// add is called by the engine for each key of a step.
func (p *scanPage) add(key []byte) {
	if p.reader != nil && !p.reader.MayRead(key) {
		return
	}
	if p.pattern == nil && p.reader == nil {
		p.take(key)
		return
	}
	p.raw = append(p.raw, key...)
	p.ends = append(p.ends, len(p.raw))
}

func (p *scanPage) take(key []byte) {
	p.keys = protocol.AppendBulk(p.keys, key)
	p.number++
}

// match takes what fits the pattern from the last step, which began at from. When
// the page's work is done, or stop says so, it leaves the rest and returns where to
// go on: behind from, so that every page gets on, and at a whole position.
func (p *scanPage) match(from uint64, stop func() bool) (next uint64, ended bool) {
	start := 0
	for i, end := range p.ends {
		key := p.raw[start:end]
		if i > 0 && (p.work <= 0 || stop()) {
			if at := uint64(ring.PositionOf(key)); at > from {
				next, ended = at, true
				break
			}
		}
		if p.work -= len(p.pattern) * len(key); p.pattern == nil || protocol.Match(p.pattern, key) {
			p.take(key)
		}
		start = end
	}
	if p.reader != nil && start > 0 {
		p.read += len(p.ends)
		p.passed = uint64(ring.PositionOf(p.raw[p.lastBegins():])) + 1
	}
	p.raw, p.ends = p.raw[:0], p.ends[:0]
	return next, ended
}

// lastBegins is where the last key of the step begins in raw.
func (p *scanPage) lastBegins() int {
	if n := len(p.ends); n > 1 {
		return p.ends[n-2]
	}
	return 0
}

// reset makes the page ready for the next request, and gives back what a rare
// large one needed.
func (p *scanPage) reset(pattern []byte, reader *auth.Principal) {
	if cap(p.keys) > keepBuffer || cap(p.raw) > keepBuffer {
		*p = scanPage{}
	}
	p.keys, p.number, p.pattern, p.work = p.keys[:0], 0, pattern, scanWork
	p.reader, p.read, p.passed = reader, 0, 0
}

// scan walks this node's keys in ring order, and shows those that the client may read.
// COUNT is how many entries are looked at, not how many match. A held range ends the page where it begins, so that
// only a page that would begin there has to wait.
func scan(c *conn, args [][]byte) error {
	in, err := protocol.ParseScan(args)
	if err != nil {
		return err
	}
	page := &c.scratch.page
	page.reset(in.Match, c.reader())
	fill := c.scanPage
	if page.reader != nil {
		fill = c.scanScoped
	}
	cursor, err := fill(in)
	if err != nil {
		return err
	}
	c.out = protocol.AppendArray(c.out, 2)
	c.out = protocol.AppendBulkUint(c.out, cursor)
	c.out = protocol.AppendArray(c.out, page.number)
	c.out = append(c.out, page.keys...)
	page.reset(nil, nil)
	return nil
}

// reader is who a page of keys is filtered for, nil where every key may be read.
func (c *conn) reader() *auth.Principal {
	if c.guest.Who().ReadsAll() {
		return nil
	}
	return c.guest.Who()
}

// scanPage fills the page in small steps and returns the next cursor. An error
// after the first step only ends the page; so does a view that changes, since what
// is served changes with it, and the end of the node.
func (c *conn) scanPage(in protocol.ScanArgs) (cursor uint64, err error) {
	cursor = in.Cursor
	page := &c.scratch.page
	var began *view
	for left := in.Count; left > 0 && len(page.keys) < scanBytes && page.work > 0; left -= scanStep {
		v, next, err := c.scanStep(cursor, min(left, scanStep), began)
		if began != nil && (err != nil || v != began) {
			return cursor, nil //nolint:nilerr // the page ends here; the next one meets the error itself
		}
		began = v
		if at, ended := page.match(cursor, c.srv.draining); ended {
			return at, nil
		}
		if err != nil || next == 0 || c.srv.draining() {
			return next, err
		}
		cursor = next
	}
	return cursor, nil
}

const (
	// scopedStretch is about how many keys a page for a client that may not read all of
	// them passes over, and scopedMost how many at most, where keys lie closer together
	// than a hash puts them.
	scopedStretch = 4096
	scopedMost    = 16 * scopedStretch
)

// scanScoped is scanPage for a client that may not read every key. Where its page ends
// must tell nothing of the others: a cursor behind a key is the hash of its name, and
// would confirm a guess. So it ends behind a key that the client may read, or at a border
// on the ring that follows from nothing but about how many keys the node has. COUNT is
// how many keys are looked at that it may read.
func (c *conn) scanScoped(in protocol.ScanArgs) (cursor uint64, err error) {
	page, end := &c.scratch.page, c.scopedEnd(in.Cursor)
	var began *view
	cursor = in.Cursor
	for looked := 0; cursor < end && page.read < in.Count && len(page.keys) < scanBytes && page.work > 0; looked += scanStep {
		v, next, err := c.scanStep(cursor, scanStep, began)
		switch {
		case began == nil && err != nil:
			return 0, err
		case err != nil: // a held range begins here
			return cursor, nil //nolint:nilerr // the page ends here; the next one meets the error itself
		case began != nil && v != began, c.srv.draining():
			return onRing(max(in.Cursor, page.passed)), nil
		}
		began = v
		if at, ended := page.match(cursor, c.srv.draining); ended {
			return at, nil
		}
		if next == 0 {
			return 0, nil
		}
		if cursor = next; looked >= scopedMost {
			return cursor, nil
		}
	}
	if cursor >= end {
		page.passed = max(end, page.passed)
	}
	return onRing(page.passed), nil
}

// onRing is the cursor for a position, 0 behind the last one.
func onRing(at uint64) uint64 {
	if at > uint64(ring.MaxPosition) {
		return 0
	}
	return at
}

// scopedEnd is the border on the ring at which a page that begins at cursor ends. Borders
// are so far apart that there are about scopedStretch keys between them.
func (c *conn) scopedEnd(cursor uint64) uint64 {
	size := uint64(1) << 32
	for n := c.session.Count(); n > scopedStretch; n /= 2 {
		size /= 2
	}
	return (cursor/size + 1) * size
}

// scanStep looks once into the engine, unless the view is no longer the one that the
// page began with. Only this holds off who changes what is served.
func (c *conn) scanStep(cursor uint64, count int, began *view) (v *view, next uint64, err error) {
	c.srv.state.settling.RLock()
	defer c.srv.state.settling.RUnlock()
	if v = c.srv.state.view(); began != nil && v != began {
		return v, cursor, nil
	}
	next, err = c.session.Scan(cursor, count, c.scratch.key)
	return v, next, err
}

func dbsize(c *conn, _ [][]byte) error {
	c.srv.state.settling.RLock()
	defer c.srv.state.settling.RUnlock()
	c.out = protocol.AppendInt(c.out, int64(c.session.Count()))
	return nil
}
