package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/snapshot"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// RefusedError says why a node does not start from what there is, and what can be
// done about it.
type RefusedError struct {
	Reason string
	Hint   string
	Err    error
}

// Error is one sentence for each.
func (e *RefusedError) Error() string {
	if e.Err == nil {
		return e.Reason + ": " + e.Hint
	}
	return fmt.Sprintf("%s (%v): %s", e.Reason, e.Err, e.Hint)
}

// Unwrap returns what was met.
func (e *RefusedError) Unwrap() error { return e.Err }

// Local returns the snapshot in a node's own folder: nil if there is none, a
// *DamageError if it cannot be used. Its parts are checked when they are read.
func Local(fsys vfs.FS, dir string) (*Base, error) {
	f := folder{fsys, dir}
	m, err := f.manifest()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := baseOf(m)
	if err != nil {
		return nil, &DamageError{f.path(manifestName), err}
	}
	b.Local, b.open = true, f.open
	return b, nil
}

// Search says what to look for in the bucket.
type Search struct {
	Store *snapshot.Store
	// Have is what the node's own log holds, nil if it has none.
	Have *Extent
	// Older allows a snapshot that lacks something that is known to have been there.
	Older bool
	// Snapshots says that nothing was archived but what snapshots need: what came
	// after the newest one was never meant to be there.
	Snapshots bool
}

// Extent is what a log holds: everything from Start on.
type Extent struct{ Start wal.LSN }

// jump is added to the last position known where a log begins anew and nobody can
// tell how far the old one went: positions must never mean two things.
const jump = 1 << 40

// Beginning is where the log of a node has to begin that starts with nothing under
// an address that has a past in the bucket, 0 if it has none.
func Beginning(ctx context.Context, s *snapshot.Store) (wal.LSN, error) {
	h, err := s.Head(ctx)
	if errors.Is(err, snapshot.ErrNoSnapshot) {
		return 0, nil
	}
	if err != nil || len(h.Snapshots) == 0 && len(h.Log) == 0 {
		return 0, err
	}
	p := past{head: h}
	if err := p.read(ctx, s); err != nil {
		return 0, err
	}
	return aligned(p.end() + jump), nil
}

// Empty is a base without anything, for a log that begins at start.
func Empty(start wal.LSN) *Base {
	return &Base{
		State: &engine.State{}, Start: start,
		archive: func(wal.LSN, func([]byte, wal.LSN) error) (wal.LSN, error) { return start, nil },
	}
}

// Find returns the bases that the bucket has for a node, best first. It fails with
// a *RefusedError when there is none that may be used, and with what the bucket
// says when it cannot be read: then asking again may help.
func Find(ctx context.Context, s Search) ([]*Base, error) {
	h, err := s.Store.Head(ctx)
	if errors.Is(err, snapshot.ErrNoSnapshot) {
		return nil, nothing(err)
	}
	if err != nil {
		return nil, err
	}
	if len(h.Snapshots) == 0 && len(h.Log) == 0 {
		return nil, nothing(snapshot.ErrNoSnapshot)
	}
	p := past{head: h}
	if err := p.read(ctx, s.Store); err != nil {
		return nil, err
	}
	var bases []*Base
	for i := len(p.manifests) - 1; i >= 0; i-- {
		if b := p.base(s, i); b != nil {
			bases = append(bases, b)
		}
	}
	if len(h.Snapshots) == 0 {
		if b := p.fromLogAlone(s); b != nil {
			bases = append(bases, b)
		}
	}
	if len(bases) == 0 {
		return nil, p.refusal(s)
	}
	return bases, nil
}

func nothing(err error) error {
	return &RefusedError{
		Reason: "there is no snapshot of this node in the bucket, and no log", Err: err,
		Hint: "set QUOIT_BUCKET to the bucket that has them, or QUOIT_ALLOW_EMPTY=true to go on without what the node held",
	}
}

// past is what the bucket knows of a node.
type past struct {
	head      snapshot.Head
	manifests []*snapshot.Manifest // by snapshot of the head; nil where it cannot be used
	damage    []error
}

// read reads the manifests. Damage is noted; a bucket that is away is an error.
func (p *past) read(ctx context.Context, s *snapshot.Store) error {
	var away error
	for _, k := range p.head.Snapshots {
		m, err := s.Manifest(ctx, k.Sequence)
		switch {
		case err == nil:
			p.manifests = append(p.manifests, &m)
			continue
		case bucket.IsRetryable(err) || ctx.Err() != nil:
			away = errors.Join(away, err)
		}
		p.manifests = append(p.manifests, nil)
		p.damage = append(p.damage, err)
	}
	return away
}

// end is the last position that anything in the bucket speaks of.
func (p *past) end() (end wal.LSN) {
	for _, m := range p.manifests {
		if m != nil {
			end = max(end, wal.LSN(m.LedgerLSN), lastOf(m.Log))
		}
	}
	return max(end, lastOf(p.head.Log))
}

func lastOf(pieces []snapshot.LogPiece) (end wal.LSN) {
	for _, p := range pieces {
		end = max(end, wal.LSN(p.To))
	}
	return end
}

// pieces are those of the log from snapshot i on.
func (p *past) pieces(i int) []snapshot.LogPiece {
	var all []snapshot.LogPiece
	for _, m := range p.manifests[i:] {
		if m != nil {
			all = append(all, m.Log...)
		}
	}
	all = append(all, p.head.Log...)
	sortPieces(all)
	return slices.Compact(all)
}

// sortPieces puts pieces in the order of their positions.
func sortPieces(pieces []snapshot.LogPiece) {
	slices.SortFunc(pieces, func(a, b snapshot.LogPiece) int {
		switch {
		case a.From != b.From:
			return int(int64(a.From - b.From))
		case a.To != b.To:
			return int(int64(a.To - b.To))
		}
		return int(int64(a.Incarnation - b.Incarnation))
	})
}

// joined returns up to where pieces hold everything behind from.
func joined(pieces []snapshot.LogPiece, from wal.LSN) (wal.LSN, error) {
	end := from
	for _, p := range pieces {
		if wal.LSN(p.To) <= end {
			continue
		}
		if wal.LSN(p.From) > end {
			return end, &wal.GapError{From: end, Start: wal.LSN(p.From)}
		}
		end = wal.LSN(p.To)
	}
	return end, nil
}

// base is snapshot i of the head with the log behind it, nil if it cannot be used.
func (p *past) base(s Search, i int) *Base {
	m := p.manifests[i]
	if m == nil {
		return nil
	}
	b, err := baseOf(*m)
	if err != nil {
		p.damage = append(p.damage, fmt.Errorf("snapshot %d: %w", m.Sequence, err))
		return nil
	}
	b.open = func(ctx context.Context, part snapshot.Part) (*snapshot.Reader, io.Closer, error) {
		r, err := s.Store.Open(ctx, part)
		if err != nil && !bucket.IsRetryable(err) {
			err = &DamageError{part.Key, err}
		}
		return r, nil, err
	}
	return p.join(s, b, p.pieces(i), slices.Contains(p.manifests[i:], nil))
}

// fromLogAlone is for a node that has archived its log from its beginning, and has
// published nothing yet.
func (p *past) fromLogAlone(s Search) *Base {
	return p.join(s, &Base{State: &engine.State{}}, p.pieces(0), false)
}

// join sees how the log goes on behind a base: in the node's own log, in the
// archive, in both. unknown says that a newer snapshot cannot be read.
func (p *past) join(s Search, b *Base, pieces []snapshot.LogPiece, unknown bool) *Base {
	from := b.State.MinCut()
	end, gap := joined(pieces, from)
	b.archive = reader(s.Store, pieces, end)
	if s.Have != nil {
		return p.joinOwn(s, b, pieces, end)
	}
	if end < b.State.LSN {
		p.damage = append(p.damage, fmt.Errorf("snapshot %d: the log from position %d to %d, which belongs to it, is not in the archive", b.Manifest.Sequence, end, b.State.LSN))
		return nil
	}
	whole := gap == nil && end >= p.end()
	if s.Snapshots && b.Manifest.Sequence == p.head.Sequence() {
		whole = true
	}
	if !whole || unknown {
		b.Missing = p.missing(b, pieces, end)
	}
	if b.Missing != "" && !s.Older {
		p.damage = append(p.damage, fmt.Errorf("snapshot %d: %s", b.Manifest.Sequence, b.Missing))
		return nil
	}
	b.Start = p.start()
	b.archive = claiming(b.archive, b.Start)
	return b
}

// start is where a new log begins, whatever it goes on from: behind all positions
// that the bucket knows, so that none ever means two things.
func (p *past) start() wal.LSN {
	start := p.end()
	if n := len(p.manifests); n > 0 && p.manifests[n-1] == nil {
		start += jump // and nobody can tell how far the newest one went
	}
	return aligned(start)
}

// joinOwn is join for a node that has a log.
func (p *past) joinOwn(s Search, b *Base, pieces []snapshot.LogPiece, end wal.LSN) *Base {
	switch {
	case s.Have.Start <= b.State.MinCut():
		return b // the archive is not even looked at
	case end >= b.State.LSN && aligned(end) >= s.Have.Start:
		if end < s.Have.Start { // The log was begun behind this very end.
			b.archive = claiming(b.archive, s.Have.Start)
		}
		return b
	case s.Older && end >= b.State.LSN:
		b.Missing = p.missing(b, pieces, end)
		b.archive = claiming(b.archive, s.Have.Start)
		return b
	}
	p.damage = append(p.damage, fmt.Errorf("snapshot %d: the log between positions %d and %d is neither in the data folder nor in the archive",
		b.Manifest.Sequence, end, max(b.State.LSN, s.Have.Start)))
	return nil
}

// aligned is where a log begins that is told to begin there: what lies between is
// less than the smallest record.
func aligned(n wal.LSN) wal.LSN { return (n + 7) &^ 7 }

// missing says what is lost with a base that the archive follows up to end only.
func (p *past) missing(b *Base, pieces []snapshot.LogPiece, end wal.LSN) string {
	at := b.Manifest.Created
	for _, piece := range pieces {
		if wal.LSN(piece.To) <= end {
			at = max(at, piece.LastMS)
		}
	}
	return "what was written after " + time.UnixMilli(at).UTC().Format(time.RFC3339) + " is missing"
}

func (p *past) refusal(s Search) error {
	e := &RefusedError{Reason: "the snapshots of this node in the bucket cannot be used without losing something", Err: errors.Join(p.damage...)}
	e.Hint = "repair the bucket; or set QUOIT_ALLOW_OLDER_SNAPSHOT=true to go on from an older state, or QUOIT_ALLOW_EMPTY=true from an empty one"
	if s.Older {
		e.Reason = "no snapshot of this node in the bucket can be used"
		e.Hint = "repair the bucket, or set QUOIT_ALLOW_EMPTY=true to go on without what the node held"
	}
	if s.Have != nil {
		e.Hint = "repair the bucket or the data folder; or move the folder away, and the node is restored from the bucket as far as that goes"
	}
	return e
}

// reader delivers the records of pieces up to end.
func reader(s *snapshot.Store, pieces []snapshot.LogPiece, end wal.LSN) func(wal.LSN, func([]byte, wal.LSN) error) (wal.LSN, error) {
	return func(from wal.LSN, fn func([]byte, wal.LSN) error) (wal.LSN, error) {
		r := wal.NewArchiveReader(from)
		for _, p := range pieces {
			if wal.LSN(p.To) <= r.End() || r.End() >= end {
				continue
			}
			body, err := s.ReadLog(context.Background(), p)
			if err != nil && bucket.IsRetryable(err) {
				return r.End(), err
			}
			if err == nil {
				err = r.Read(p.Key, bytes.NewReader(body), fn)
			}
			if err != nil {
				return r.End(), &DamageError{p.Key, err}
			}
		}
		return r.End(), nil
	}
}

// claiming says of an archive that it reaches up to end: what lies between is nothing,
// or is given up.
func claiming(read func(wal.LSN, func([]byte, wal.LSN) error) (wal.LSN, error), end wal.LSN) func(wal.LSN, func([]byte, wal.LSN) error) (wal.LSN, error) {
	return func(from wal.LSN, fn func([]byte, wal.LSN) error) (wal.LSN, error) {
		got, err := read(from, fn)
		if err != nil {
			return got, err
		}
		return end, nil
	}
}
