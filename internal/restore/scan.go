package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
)

// keysPerUnit is about how many keys a unit has, within bounds: many enough for the
// blocks at its ends not to matter, few enough to keep all workers busy.
const (
	keysPerUnit = 16 << 10
	minUnits    = 16
	maxUnits    = 4096
)

// Units returns how many units the keys come in. It is the same for the same moment of
// the same bucket.
func (m *Moment) Units() int {
	n := minUnits
	for n < maxUnits && int64(n)*keysPerUnit < m.About() {
		n *= 2
	}
	return n
}

// About returns about how many keys there are, for progress: keys of ranges that have
// moved count twice, deleted ones count.
func (m *Moment) About() int64 {
	n := int64(0)
	for _, v := range m.plan.views {
		if v.manifest != nil {
			n += int64(v.manifest.Entries())
		}
		for i := range v.tail {
			n += int64(len(v.tail[i]))
		}
	}
	return n
}

// Scan calls fn for every key that was there at the moment, once, units side by side in
// so many goroutines; fn gets the number of its goroutine. Key and value are valid until
// it returns. Scan stops at the first error: damage in a snapshot is a
// *snapshot.CorruptionError, and names the object and what it concerns.
func (m *Moment) Scan(ctx context.Context, workers int, fn func(worker int, e snapshot.Entry) error) error {
	g, ctx := errgroup.WithContext(ctx)
	next := make(chan int)
	g.Go(func() error {
		defer close(next)
		for unit := range m.Units() {
			select {
			case next <- unit:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for worker := range max(1, workers) {
		g.Go(func() error {
			for unit := range next {
				if err := m.ScanUnit(ctx, unit, func(e snapshot.Entry) error { return fn(worker, e) }); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// ScanUnit calls fn for every key of one unit, as Scan does.
func (m *Moment) ScanUnit(ctx context.Context, unit int, fn func(snapshot.Entry) error) error {
	size := uint64(1) << 32 / uint64(m.Units())
	lo := uint64(unit) * size
	return m.stretch(ctx, ring.Position(lo), ring.Position(lo+size-1), fn)
}

// ErrNoKey means that the key was not there.
var ErrNoKey = errors.New("the key was not there")

// Key returns what a key held, or ErrNoKey.
func (m *Moment) Key(ctx context.Context, key []byte) (snapshot.Entry, error) {
	var found snapshot.Entry
	at := ring.PositionOf(key)
	err := m.stretch(ctx, at, at, func(e snapshot.Entry) error {
		if string(e.Key) == string(key) {
			found = snapshot.Entry{Position: at, Key: key, Value: slices.Clone(e.Value), Version: e.Version, ExpireAt: e.ExpireAt}
		}
		return nil
	})
	if err == nil && found.Version == 0 {
		err = ErrNoKey
	}
	return found, err
}

// stretch merges what the nodes had in a stretch of the ring.
func (m *Moment) stretch(ctx context.Context, lo, hi ring.Position, fn func(snapshot.Entry) error) error {
	s := &stretch{m: m, lo: lo, hi: hi, loose: changes{}, fn: fn}
	for _, c := range m.plan.owners {
		if c.hi >= lo && c.lo <= hi {
			c.lo, c.hi = max(c.lo, lo), min(c.hi, hi)
			s.owners = append(s.owners, c)
		}
	}
	if err := s.fold(); err != nil {
		return err
	}
	for i := range s.own {
		if err := s.view(ctx, &s.own[i]); err != nil {
			return err
		}
	}
	for key, c := range s.loose {
		if !c.gone {
			if err := s.give(c.entry(key)); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// stretch is a part of the ring while it is merged.
type stretch struct {
	m      *Moment
	lo, hi ring.Position
	owners []claim
	own    []ownChanges
	loose  changes // what nodes wrote without a claim, and later than the one that counts
	fn     func(snapshot.Entry) error
}

// ownChanges are those of a view under its claims.
type ownChanges struct {
	view    *view
	claimed []segment
	changes changes
}

// fold gathers the changes of all views.
func (s *stretch) fold() error {
	for _, v := range s.m.plan.views {
		var claimed []segment
		for _, c := range s.owners {
			if c.view == v {
				claimed = append(claimed, c.segment)
			}
		}
		loose := slices.DeleteFunc(stretchOf(slices.Concat(v.ledger.open, v.ledger.closed), s.lo, s.hi),
			func(g segment) bool { return g.standing != unclaimed })
		own, unclaimed, err := v.folded(claimed, loose, s.lo, s.hi)
		if err != nil {
			return err
		}
		if len(claimed) > 0 {
			s.own = append(s.own, ownChanges{v, claimed, own})
		}
		for key, c := range unclaimed {
			if o := s.loose[key]; c.version > s.since(c.pos) && (o == nil || o.version < c.version) {
				s.loose[key] = c
			}
		}
	}
	return nil
}

// since returns when the claim on a position that counts began, 0 if there is none.
func (s *stretch) since(at ring.Position) engine.Version {
	for _, c := range s.owners {
		if c.lo <= at && at <= c.hi && c.view != nil {
			return c.begin
		}
	}
	return 0
}

// view gives what one view has under its claims: the base with the changes laid over it,
// then what only the log has.
func (s *stretch) view(ctx context.Context, o *ownChanges) error {
	err := o.view.scan(ctx, &s.m.parts, o.claimed, func(e snapshot.Entry) error {
		if len(o.changes) > 0 {
			if c := o.changes[string(e.Key)]; c != nil && !c.over(&e) {
				return nil
			}
		}
		return s.offer(e)
	})
	if err != nil {
		return err
	}
	for key, c := range o.changes {
		switch {
		case c.onBase && !c.met:
			return fmt.Errorf("node %s: key %.80q, version %s: %w", o.view.node, key, c.version, errOrphan)
		case c.onBase:
		case c.gone:
			if l := s.loose[key]; l != nil && l.version < c.version {
				delete(s.loose, key)
			}
		default:
			if err := s.offer(c.entry(key)); err != nil {
				return err
			}
		}
	}
	return nil
}

// offer gives an entry, unless somebody wrote the key later without a claim.
func (s *stretch) offer(e snapshot.Entry) error {
	if len(s.loose) > 0 {
		if l := s.loose[string(e.Key)]; l != nil {
			if uint64(l.version) > e.Version {
				return nil
			}
			delete(s.loose, string(e.Key))
		}
	}
	return s.give(e)
}

func (s *stretch) give(e snapshot.Entry) error {
	if e.ExpireAt != 0 && e.ExpireAt <= s.m.alive {
		return nil
	}
	return s.fn(e)
}

// scan calls fn for the base's entries under claims.
func (v *view) scan(ctx context.Context, readers *partReaders, claimed []segment, fn func(snapshot.Entry) error) error {
	if v.manifest == nil {
		return nil
	}
	ranges := v.inBase(claimed)
	if len(ranges) == 0 {
		return nil
	}
	for _, p := range v.manifest.Parts {
		if p.Entries == 0 || !slices.ContainsFunc(ranges, p.Slice.Range().Overlaps) {
			continue
		}
		r, err := readers.open(ctx, v.store, p)
		if err != nil {
			return v.partFault(err)
		}
		for e, err := range r.Ranges(ctx, ranges) {
			if err == nil {
				err = fn(e)
			} else {
				err = v.partFault(err)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *view) partFault(err error) error {
	return fmt.Errorf("snapshot %d of node %s: %w", v.manifest.Sequence, v.node, err)
}

// inBase returns the ranges of claims that the base has: those of partitions that were
// cut before a claim began hold what was there before it.
func (v *view) inBase(claimed []segment) []ring.Range {
	var ranges []ring.Range
	for _, g := range claimed {
		if g.start == 0 {
			ranges = append(ranges, g.ring())
			continue
		}
		for i := partitionOf(g.lo); i <= partitionOf(g.hi); i++ {
			if v.cut(i) >= g.start {
				ranges = append(ranges, engine.PartitionRange(i).Intersect(g.ring())...)
			}
		}
	}
	return ranges
}

// partReaders keeps the part files that have been opened.
type partReaders struct {
	mu    sync.Mutex
	parts map[string]*openPart
}

type openPart struct {
	mu     sync.Mutex
	reader *snapshot.Reader
}

func (p *partReaders) open(ctx context.Context, store *snapshot.Store, part snapshot.Part) (*snapshot.Reader, error) {
	p.mu.Lock()
	if p.parts == nil {
		p.parts = map[string]*openPart{}
	}
	o := p.parts[part.Key]
	if o == nil {
		o = &openPart{}
		p.parts[part.Key] = o
	}
	p.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.reader == nil {
		r, err := store.Open(ctx, part)
		if err != nil {
			return nil, err
		}
		o.reader = r
	}
	return o.reader, nil
}
