package snapshot

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"golang.org/x/sync/errgroup"
)

// Level says how deep a verification looks.
type Level int

// The levels, each including those before.
const (
	// LevelManifest: the manifest is the one in the head, and every object that it
	// names is there, as large as it should be, with its own header, index and footer.
	// A few small requests for each part.
	LevelManifest Level = iota
	// LevelBlocks: every byte of every object has been read and is right.
	LevelBlocks
)

// VerifyOptions says how a verification works.
type VerifyOptions struct {
	Level    Level
	Workers  int               // objects at once: 2 if 0
	Progress func(bytes int64) // called from several goroutines with bytes read since the last call; nil for none
}

// maxDamage bounds how many damages a report lists.
const maxDamage = 1000

// VerifyReport says what a verification has seen.
type VerifyReport struct {
	Parts, Pieces int
	Blocks        int
	Entries       uint64
	Bytes         int64
	// Damage has everything that is missing or wrong, without particular order: of
	// type [*CorruptionError], or [ErrMissing]. Nothing means that the snapshot passed.
	Damage []error
}

// Verify checks a snapshot. The error is one of reading: of damage the report
// tells. It changes nothing; see [Store.MarkVerified].
func (s *Store) Verify(ctx context.Context, m Manifest, o VerifyOptions) (VerifyReport, error) {
	v := verifier{store: s, o: o, report: VerifyReport{Parts: len(m.Parts), Pieces: len(m.Log)}}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, o.Workers))
	if o.Workers == 0 {
		g.SetLimit(2)
	}
	for _, p := range m.Parts {
		g.Go(func() error { return v.note(v.part(ctx, p)) })
	}
	for _, p := range m.Log {
		g.Go(func() error { return v.note(v.piece(ctx, p)) })
	}
	err := g.Wait()
	return v.report, err
}

type verifier struct {
	store *Store
	o     VerifyOptions

	mu     sync.Mutex
	report VerifyReport
}

// note keeps damage for the report and returns every other error.
func (v *verifier) note(err error) error {
	if err == nil || !damaged(err) && !errors.Is(err, ErrMissing) {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.report.Damage) < maxDamage {
		v.report.Damage = append(v.report.Damage, err)
	}
	return nil
}

func (v *verifier) count(blocks int, entries uint64, size int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Blocks += blocks
	v.report.Entries += entries
	v.report.Bytes += size
}

func (v *verifier) part(ctx context.Context, p Part) error {
	r, err := v.store.Open(ctx, p)
	if err != nil {
		return err
	}
	v.count(r.Blocks(), p.Entries, p.Size)
	if v.o.Level < LevelBlocks {
		return nil
	}
	listed := false
	err = r.Verify(ctx, v.o.Progress, func(c *CorruptionError) bool {
		listed = true
		return v.note(c) == nil
	})
	if listed && damaged(err) {
		return nil
	}
	return err
}

func (v *verifier) piece(ctx context.Context, p LogPiece) error {
	v.count(0, 0, p.Size)
	if v.o.Level < LevelBlocks {
		return v.store.expectSize(ctx, p.Key, p.Size)
	}
	_, err := v.store.ReadLog(ctx, p)
	if err == nil && v.o.Progress != nil {
		v.o.Progress(p.Size)
	}
	return err
}

// Open opens a part of a manifest. One that is not there is [ErrMissing].
func (s *Store) Open(ctx context.Context, p Part) (*Reader, error) {
	r, err := OpenReader(ctx, s.object(p.Key), ReaderOptions{Object: p.Key, Size: p.Size, Expect: &p.PartInfo})
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrMissing, p.Key)
	}
	return r, err
}

// Scan calls fn for each entry of a snapshot in some ranges of the ring, whole
// parts side by side in the given number of goroutines: fn gets the number of
// its goroutine, and for each part the entries in order. It stops at the first
// error.
func (s *Store) Scan(ctx context.Context, m Manifest, in []ring.Range, workers int, fn func(worker int, e Entry) error) error {
	work := make(chan Part)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		for _, p := range m.Parts {
			if p.Entries == 0 || !overlapsAny(in, p.Slice) {
				continue
			}
			select {
			case work <- p:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for worker := range max(1, workers) {
		g.Go(func() error {
			for p := range work {
				if err := s.scanPart(ctx, p, in, func(e Entry) error { return fn(worker, e) }); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (s *Store) scanPart(ctx context.Context, p Part, in []ring.Range, fn func(Entry) error) error {
	r, err := s.Open(ctx, p)
	if err != nil {
		return err
	}
	for e, err := range r.Ranges(ctx, in) {
		if err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

func overlapsAny(in []ring.Range, s Slice) bool {
	for _, r := range in {
		if r.Overlaps(s.Range()) {
			return true
		}
	}
	return false
}
