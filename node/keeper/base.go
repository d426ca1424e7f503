package keeper

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"sync"

	"github.com/quoitdb/quoit/node/engine"
	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot"
)

// Base is a snapshot that an engine can be opened with.
type Base struct {
	// Manifest describes it; the zero one stands for an empty beginning.
	Manifest snapshot.Manifest
	// Local says that it is the one in the node's own folder.
	Local bool
	// State is the engine's part of it.
	State *engine.State

	// Start is where the log has to begin if there is none: the end of what the
	// archive has. Only a Base from the bucket has one.
	Start wal.LSN
	// Missing says what is given up with this base, empty if nothing.
	Missing string

	open    func(context.Context, snapshot.Part) (*snapshot.Reader, io.Closer, error)
	archive func(from wal.LSN, fn func([]byte, wal.LSN) error) (wal.LSN, error)
}

// With calls fn with what engine.Options.Base wants, and lets go of files
// afterwards. reaches says that the log holds everything behind the base, so that
// the archive need not be read.
func (b *Base) With(ctx context.Context, reaches bool, fn func(*engine.Base) error) error {
	l := loader{ctx: ctx, base: b, readers: make([]lazyReader, len(b.Manifest.Parts))}
	base := &engine.Base{State: b.State.Encode(), Load: l.load}
	if !reaches {
		base.Archive = b.archive
	}
	err := fn(base)
	return errors.Join(err, l.close())
}

// Reaches says whether a log has everything behind the base.
func (b *Base) Reaches(log *wal.Log) bool { return log.Start() <= b.State.MinCut() }

// smallPart is the size, in bytes of entries, up to which a part is read as a whole
// and not once for each partition in it, whose first and last blocks are others' too.
const smallPart = 8 << 20

// loader gives an engine the entries of a snapshot.
type loader struct {
	ctx     context.Context
	base    *Base
	readers []lazyReader // for each part
}

// lazyReader opens a part when it is first wanted.
type lazyReader struct {
	mu     sync.Mutex    // is not held while the part is read: that may take as long as the bucket does
	opened chan struct{} // nil: nobody has begun; closed: it is open; guarded by mu
	reader *snapshot.Reader
	file   io.Closer
	whole  []snapshot.Entry // of a small part, until every partition has had its own
	left   int              // partitions that still want the part
	err    error
}

// part returns a part, opened: a reader, or all entries.
func (l *loader) part(i int) (*snapshot.Reader, []snapshot.Entry, error) {
	r, p := &l.readers[i], l.base.Manifest.Parts[i]
	r.mu.Lock()
	opened := r.opened
	if opened == nil {
		r.opened = make(chan struct{})
	}
	r.mu.Unlock()
	if opened == nil {
		l.open(r, p)
	} else {
		<-opened
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reader, r.whole, r.err
}

// open opens a part for all who want it. It is called by the first of them.
func (l *loader) open(r *lazyReader, p snapshot.Part) {
	var whole []snapshot.Entry
	left := partitionsOf(p.Slice)
	reader, file, err := l.base.open(l.ctx, p)
	if err == nil && p.Raw <= smallPart && left > 1 {
		whole, err = wholePart(l.ctx, reader, p)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reader, r.file, r.whole, r.left, r.err = reader, file, whole, left, err
	close(r.opened)
}

// done notes that a partition has had its entries of a part.
func (l *loader) done(i int) {
	r := &l.readers[i]
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left--; r.left == 0 {
		r.whole = nil
	}
}

// partitionsOf is how many partitions a slice has a share in.
func partitionsOf(s snapshot.Slice) int {
	const span = (1 << 32) / engine.Partitions
	return int(s.Last/span) - int(s.First/span) + 1
}

// wholePart reads all entries of a part.
func wholePart(ctx context.Context, r *snapshot.Reader, p snapshot.Part) ([]snapshot.Entry, error) {
	entries, memory := make([]snapshot.Entry, 0, p.Entries), make([]byte, 0, p.Raw)
	for e, err := range r.All(ctx) {
		if err != nil {
			return nil, &DamageError{p.Key, err}
		}
		at := len(memory)
		memory = append(append(memory, e.Key...), e.Value...)
		e.Key, e.Value = memory[at:at+len(e.Key):at+len(e.Key)], memory[at+len(e.Key):]
		entries = append(entries, e)
	}
	return entries, nil
}

func (l *loader) close() error {
	var errs []error
	for i := range l.readers {
		if r := &l.readers[i]; r.file != nil {
			errs = append(errs, r.file.Close())
		}
	}
	return errors.Join(errs...)
}

// load yields the entries of one of the engine's partitions, which lies in one part,
// or in several that lie in it.
func (l *loader) load(partition int) iter.Seq2[engine.Entry, error] {
	in := engine.PartitionRange(partition)
	return func(yield func(engine.Entry, error) bool) {
		for i, p := range l.base.Manifest.Parts {
			if !p.Slice.Range().Overlaps(in) {
				continue
			}
			for e, err := range l.entries(i, in) {
				item := engine.Item{Key: e.Key, Value: e.Value, Version: engine.Version(e.Version), ExpireAt: e.ExpireAt}
				if !yield(engine.Entry{Position: e.Position, Item: item}, err) || err != nil {
					return
				}
			}
			l.done(i)
		}
	}
}

// entries yields those of a part that lie in a range.
func (l *loader) entries(i int, in ring.Range) iter.Seq2[snapshot.Entry, error] {
	return func(yield func(snapshot.Entry, error) bool) {
		r, whole, err := l.part(i)
		if err != nil {
			yield(snapshot.Entry{}, err)
			return
		}
		if whole != nil {
			at, _ := slices.BinarySearchFunc(whole, in.Start+1, func(e snapshot.Entry, p ring.Position) int { return cmp.Compare(e.Position, p) })
			for _, e := range whole[at:] {
				if e.Position > in.End || !yield(e, nil) {
					return
				}
			}
			return
		}
		for e, err := range r.Range(l.ctx, in) {
			if err != nil {
				err = &DamageError{l.base.Manifest.Parts[i].Key, err}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// baseOf checks what a manifest says of the engine's state.
func baseOf(m snapshot.Manifest) (*Base, error) {
	s, err := engine.DecodeState(m.State)
	if err != nil {
		return nil, err
	}
	if uint64(s.LSN) != m.LedgerLSN || !slices.Equal(cutsOf(s), m.Cuts) {
		return nil, errors.New("its cuts are not those of its state")
	}
	return &Base{Manifest: m, State: s}, nil
}

func cutsOf(s *engine.State) []uint64 {
	cuts := make([]uint64, len(s.Cuts))
	for i, c := range s.Cuts {
		cuts[i] = uint64(c)
	}
	return cuts
}
