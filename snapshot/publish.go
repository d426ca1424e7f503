package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/quoitdb/quoit/snapshot/bucket"
	"golang.org/x/sync/errgroup"
)

// checksAtOnce bounds the small reads that Publish has under way.
const checksAtOnce = 8

// Publish makes a snapshot the node's newest. Its new parts have been uploaded;
// parts of older snapshots are allowed if the current one has them too, and pieces
// of log if they have been archived since, or if the current one has them. It
// fills in cluster, node, incarnation and sequence, and returns the manifest.
//
// Every part is seen in the bucket and the manifest is read back before the head
// is swapped, which is the one moment at which the snapshot begins to exist.
//
// [ErrSuperseded] means that another one was published since this one was begun;
// [ErrInDoubt] that it may have been published, or may yet be: ask [Store.Head]
// and look for the snapshot's id, and before publishing another one the answer
// that it is not there counts for nothing.
func (s *Store) Publish(ctx context.Context, m Manifest) (Manifest, error) {
	own, err := s.mayWrite()
	if err != nil {
		return m, err
	}
	h, err := s.Head(ctx)
	if err != nil {
		return m, err
	}
	if h.Incarnation != own {
		return m, &FencedError{s.node, own, h.Incarnation}
	}
	m.Cluster, m.Node, m.Incarnation, m.Sequence = h.Cluster, s.node, own, h.Sequence()+1
	if err := s.checkReferences(ctx, h, m); err != nil {
		return m, err
	}
	kept, err := s.putManifest(ctx, m)
	if err != nil {
		return m, err
	}
	_, err = s.update(ctx, func(h Head) (Head, error) {
		last, _ := h.Current()
		switch {
		case last.Manifest == kept.Manifest:
			return h, errNothing
		case h.Sequence()+1 != m.Sequence:
			return h, fmt.Errorf("%w: snapshot %d", ErrSuperseded, h.Sequence())
		case len(h.Snapshots) >= MaxKept:
			return h, fmt.Errorf("%w: %d snapshots are kept; prune them", ErrLimit, len(h.Snapshots))
		}
		h.Snapshots = append(h.Snapshots, kept)
		h.Log = slices.DeleteFunc(h.Log, func(p LogPiece) bool { return slices.Contains(m.Log, p) })
		return h, nil
	})
	if err != nil {
		return m, fmt.Errorf("publishing snapshot %d of %s: %w", m.Sequence, s.node, err)
	}
	s.remember(kept.SHA256, m.clone())
	return m, nil
}

// checkReferences refuses a manifest that names what may not be there for long.
// An object that no kept manifest names must never be named again: Prune relies
// on that.
func (s *Store) checkReferences(ctx context.Context, h Head, m Manifest) error {
	var current Manifest
	if k, ok := h.Current(); ok {
		var err error
		var newer *VersionError
		current, err = s.manifest(ctx, k)
		switch {
		case damaged(err) && !errors.As(err, &newer), errors.Is(err, ErrMissing):
			current = Manifest{} // Nothing can be shared with it: the new one has to have everything itself.
		case err != nil:
			return fmt.Errorf("the current snapshot, whose parts this one may share: %w", err)
		}
	}
	for _, p := range m.Parts {
		shared := slices.ContainsFunc(current.Parts, func(c Part) bool { return c.Key == p.Key && c.PartInfo == p.PartInfo })
		if p.Snapshot != m.Snapshot && !shared {
			return &FormatError{"manifest", fmt.Sprintf("part %s is neither new nor one of snapshot %d", p.Key, current.Sequence)}
		}
	}
	for _, p := range m.Log {
		if !slices.Contains(h.Log, p) && !slices.Contains(current.Log, p) {
			return &FormatError{"manifest", fmt.Sprintf("piece of log %s has not been archived since snapshot %d", p.Key, current.Sequence)}
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(checksAtOnce)
	for _, p := range m.Parts {
		g.Go(func() error { return s.expectPart(ctx, p) })
	}
	return g.Wait()
}

// putManifest writes the manifest under a name of its own and reads it back.
func (s *Store) putManifest(ctx context.Context, m Manifest) (Kept, error) {
	body, err := m.Encode()
	if err != nil {
		return Kept{}, err
	}
	k := Kept{
		Sequence: m.Sequence, Manifest: s.keys.manifest(m.Sequence, s.o.Nonce()), SHA256: hashOf(body), Snapshot: m.Snapshot,
		Incarnation: m.Incarnation, Created: m.Created, HLC: m.HLC, Entries: m.Entries(), Size: m.Size(),
	}
	for pace := newPacer(s.o.Wait); ; {
		_, err := s.bucket.PutIfAbsent(ctx, k.Manifest, body)
		if err != nil && !bucket.IsUndecided(err) {
			return k, fmt.Errorf("manifest %s: %w", k.Manifest, err)
		}
		// Nobody else writes this name: whatever became of the write, these bytes are there or nothing is.
		found, read := again(ctx, s.o.Wait, func() (bucket.Object, error) { return s.bucket.Get(ctx, k.Manifest) })
		switch {
		case read == nil && bytes.Equal(found.Body, body):
			return k, nil
		case read == nil:
			return k, fmt.Errorf("%w: %s was read back with other bytes", ErrMissing, k.Manifest)
		case !errors.Is(read, bucket.ErrNotFound):
			return k, fmt.Errorf("reading back manifest %s: %w", k.Manifest, read)
		case err == nil:
			return k, fmt.Errorf("%w: %s was written and is not there", ErrMissing, k.Manifest)
		case !pace.pause(ctx):
			return k, fmt.Errorf("manifest %s: %w", k.Manifest, errors.Join(err, ctx.Err()))
		}
	}
}

// MarkVerified notes in the head that a snapshot passed verification at a time in
// Unix milliseconds. Pruning spares the newest one that did. Anyone may note it:
// no claim is needed.
func (s *Store) MarkVerified(ctx context.Context, sequence uint64, at int64) error {
	_, err := s.change(ctx, func(h Head) (Head, error) {
		i := slices.IndexFunc(h.Snapshots, func(k Kept) bool { return k.Sequence == sequence })
		if i < 0 {
			return h, fmt.Errorf("%w: %s keeps no snapshot %d", ErrNoSnapshot, s.node, sequence)
		}
		if k := &h.Snapshots[i]; k.Verified && k.VerifiedAt >= at {
			return h, errNothing
		}
		h.Snapshots[i].Verified, h.Snapshots[i].VerifiedAt = true, at
		return h, nil
	})
	return err
}
