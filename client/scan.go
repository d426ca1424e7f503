package client

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// ScanOptions says what to walk over. The zero value is every key.
type ScanOptions struct {
	Prefix string        // keys that begin so
	Match  string        // keys that match this glob, as in Redis
	Count  int           // about how many keys a node looks at for one page; 0: 1000
	Start  ring.Position // where on the ring to begin, to go on after an interruption
	Values bool          // fetch the values and versions too
}

// Entry is a key that Scan found.
type Entry struct {
	Key      string
	Position ring.Position
	Value    []byte  // with ScanOptions.Values
	Version  Version // with ScanOptions.Values
}

const (
	defaultScanCount = 1000
	// valueBatch is how many values are fetched at once with Values.
	valueBatch = 64
	// ringSize is the position after the last.
	ringSize = uint64(ring.MaxPosition) + 1
)

// Scan walks over the keys of the whole cluster in ring order. Each key that
// exists all the time is given exactly once, whatever moves, joins or leaves
// meanwhile; one that is written or deleted during the walk may or may not be
// given. An error ends the walk. All keys of one position follow each other, so
// that a later walk can start at the position of the last entry that was given.
func (c *Client) Scan(ctx context.Context, o ScanOptions) iter.Seq2[Entry, error] {
	if o.Count <= 0 {
		o.Count = defaultScanCount
	}
	o.Count = min(o.Count, protocol.MaxScanCount)
	walk := func(yield func(Entry, error) bool) {
		s := &scanner{c: c, ctx: ctx, options: o, pages: make(map[*node]*page)}
		s.walk(yield)
	}
	if o.Values {
		return c.withValues(ctx, walk)
	}
	return walk
}

// withValues adds the values to the keys that a walk gives. Keys that are gone
// by then are left out.
func (c *Client) withValues(ctx context.Context, keys iter.Seq2[Entry, error]) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		batch := make([]Entry, 0, valueBatch)
		for e, err := range keys {
			if err == nil {
				batch = append(batch, e)
			}
			if err == nil && len(batch) < valueBatch {
				continue
			}
			if (err == nil || ctx.Err() == nil) && !c.yieldValues(ctx, batch, yield) {
				return
			}
			if err != nil {
				yield(Entry{}, err)
				return
			}
			batch = batch[:0]
		}
		c.yieldValues(ctx, batch, yield)
	}
}

// yieldValues reports whether the walk goes on.
func (c *Client) yieldValues(ctx context.Context, entries []Entry, yield func(Entry, error) bool) bool {
	b := c.newBatch(len(entries), func(i int) string { return entries[i].Key })
	b.harmless = true
	b.encode = func(k *call, i int) {
		k.begin("GETV", 2)
		k.word(entries[i].Key)
	}
	b.accept = func(n *node, i int, r protocol.Reply) (err error) {
		entries[i].Value, entries[i].Version, err = decodeVersioned(n, r)
		return err
	}
	b.run(ctx)
	for i, err := range b.errs {
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			yield(Entry{}, &KeyError{Key: entries[i].Key, Err: err})
			return false
		}
		if !yield(entries[i], nil) {
			return false
		}
	}
	return true
}

// scanner walks the ring from one position to the next, and for each stretch
// takes the keys from a page of a node that owned it when it made the page.
//
// A page of a node reaches over everything that the node owns from some
// position on, so most of it lies behind arcs of other nodes; it is kept until
// the walk has come past it. Which node owned what is not what this client
// believes, but what the node itself said beside the page (see sighting). So it
// does not matter when a range moves: either its keys were in a page of the old
// owner, made while that owned them, or the walk asks the new one.
type scanner struct {
	c       *Client
	ctx     context.Context
	options ScanOptions
	pages   map[*node]*page
}

// page is what a node said of the positions from up to, not including, to.
type page struct {
	from, to uint64
	owned    *ownership
	keys     []Entry // in ring order; the ones that were given are cut off
}

// ownership is the part of the ring that a node owned by its own account.
type ownership struct {
	text   []byte // the topology that says so
	ranges []ring.Range
}

// until returns the end of the range that contains a position, exclusive; 0
// when the node does not own it.
func (o *ownership) until(at uint64) uint64 {
	p := ring.Position(at)
	i, _ := slices.BinarySearchFunc(o.ranges, p, func(r ring.Range, p ring.Position) int {
		if r.End < p {
			return -1
		}
		return 1
	})
	if i == len(o.ranges) {
		i = 0 // the range over the top, if there is one, is the first
	}
	switch {
	case len(o.ranges) == 0 || !o.ranges[i].Contains(p):
		return 0
	case p > o.ranges[i].End:
		return ringSize
	}
	return uint64(o.ranges[i].End) + 1
}

// until returns how far from a position on the page tells, exclusive; 0 when
// it does not tell about the position.
func (p *page) until(at uint64) uint64 {
	if at < p.from || at >= p.to {
		return 0
	}
	return min(p.to, p.owned.until(at))
}

// walk gives every key from options.Start to the top of the ring.
func (s *scanner) walk(yield func(Entry, error) bool) {
	at := uint64(s.options.Start)
	for at < ringSize {
		p, err := s.pageAt(at)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		end := p.until(at)
		for len(p.keys) > 0 && uint64(p.keys[0].Position) < end {
			e := p.keys[0]
			p.keys = p.keys[1:]
			if uint64(e.Position) >= at && s.options.wanted(e.Key) && !yield(e, nil) {
				return
			}
		}
		at = end
	}
}

// pattern is what the nodes are asked to match. They take no longer ones, and
// one pattern only: the rest is for wanted.
func (o *ScanOptions) pattern() string {
	if o.Prefix == "" {
		return o.Match
	}
	if p := escapeGlob(o.Prefix) + "*"; len(p) <= protocol.MaxPattern {
		return p
	}
	return ""
}

// wanted says whether a key is one that the caller asked for.
func (o *ScanOptions) wanted(key string) bool {
	if !strings.HasPrefix(key, o.Prefix) {
		return false
	}
	return o.Match == "" || o.Prefix == "" || protocol.Match([]byte(o.Match), []byte(key))
}

// pageAt finds or fetches a page that tells about a position.
func (s *scanner) pageAt(at uint64) (*page, error) {
	for _, p := range s.pages {
		if p.until(at) > 0 {
			return p, nil
		}
	}
	var t trial
	for {
		n := s.c.routing.Load().owner(ring.Position(at))
		p, o, err := s.fetch(n, at, t.fresh)
		t.tries++
		switch {
		case o == answered && err != nil:
			return nil, err
		case o == answered && p.until(at) > 0:
			s.pages[n] = p
			return p, nil
		case o == answered: // the node does not own it yet, or its topology is being replaced
			o = behind
		case o == abandoned:
			return nil, giveUp(&t, s.ctx.Err(), false)
		}
		if err != nil && s.ctx.Err() == nil {
			t.last = err
		}
		if err := s.c.next(s.ctx, &t, o, n, true); err != nil {
			return nil, err
		}
	}
}

// fetch asks a node for its page from a position on. A topology that is newer
// than the one in use is put to use.
func (s *scanner) fetch(n *node, at, fresh uint64) (*page, outcome, error) {
	if n == nil {
		return nil, unowned, errNoOwner
	}
	sight, o, err := s.c.sight(s.ctx, n, s.request(at), fresh)
	if o != answered || err != nil {
		return nil, o, err
	}
	if sight.topology.Epoch > s.c.routing.Load().topology.Epoch {
		if err := s.c.install(sight.topology); err != nil {
			return nil, answered, err
		}
	}
	if !sight.steady {
		return &page{}, answered, nil
	}
	owned, err := s.ownership(n, &sight)
	if err != nil {
		return nil, answered, err
	}
	p, err := decodePage(n, sight.reply, at)
	p.owned = owned
	return &p, answered, err
}

// ownership works out what the node owns, unless its last page said the same.
func (s *scanner) ownership(n *node, sight *sighting) (*ownership, error) {
	if last := s.pages[n]; last != nil && bytes.Equal(last.owned.text, sight.text) {
		return last.owned, nil
	}
	owners, err := sight.topology.Map()
	if err != nil {
		return nil, &ReplyError{Node: n.address, Command: "TOPOLOGY", Err: err}
	}
	return &ownership{text: sight.text, ranges: owners.ArcsOf(n.address)}, nil
}

// request is SCAN from a position. A cursor is the next position to look at,
// and 0 both where a walk begins and where it has ended.
func (s *scanner) request(at uint64) []byte {
	match := s.options.pattern()
	n := 4
	if match != "" {
		n += 2
	}
	b := protocol.AppendCommandHeader(nil, n)
	b = protocol.AppendBulkString(b, "SCAN")
	b = protocol.AppendBulkUint(b, at)
	b = protocol.AppendBulkString(b, "COUNT")
	b = protocol.AppendBulkInt(b, int64(s.options.Count))
	if match != "" {
		b = protocol.AppendBulkString(b, "MATCH")
		b = protocol.AppendBulkString(b, match)
	}
	return b
}

// decodePage reads the answer to SCAN. Keys out of ring order would make the
// walk lose others without a word, so they are refused.
func decodePage(n *node, r protocol.Reply, at uint64) (page, error) {
	p := page{from: at, to: ringSize}
	if r.Kind != '*' || len(r.Array) != 2 || r.Array[0].Kind != '$' || r.Array[1].Kind != '*' {
		return p, unexpected(n, "SCAN")
	}
	cursor, ok := protocol.ParseUint(r.Array[0].Bytes)
	if !ok || cursor >= ringSize || cursor != 0 && cursor <= at {
		return p, unexpected(n, "SCAN")
	}
	if cursor != 0 {
		p.to = cursor
	}
	p.keys = make([]Entry, 0, len(r.Array[1].Array))
	low := at
	for _, k := range r.Array[1].Array {
		pos := ring.PositionOf(k.Bytes)
		if k.Kind != '$' || k.Null || uint64(pos) < low || uint64(pos) >= p.to {
			return p, unexpected(n, "SCAN")
		}
		low = uint64(pos)
		p.keys = append(p.keys, Entry{Key: string(k.Bytes), Position: pos})
	}
	return p, nil
}

// escapeGlob makes a pattern that matches s and nothing else.
func escapeGlob(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if strings.IndexByte(`*?[]\`, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
