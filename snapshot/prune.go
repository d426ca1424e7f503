package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quoitdb/quoit/snapshot/bucket"
)

// PruneOptions says what [Store.Prune] keeps.
type PruneOptions struct {
	Keep    int           // at least so many of the newest, and one in any case
	KeepFor time.Duration // and what restores every moment of this time
	Now     time.Time
	// Grace is how long a snapshot stays in the bucket after it has left the head, for
	// those who are reading it. Longer than a restore takes.
	Grace  time.Duration
	DryRun bool // only say what would be done
}

// PruneReport says what was done, or would be.
type PruneReport struct {
	Kept      []Kept
	Condemned []Kept   // left the head now
	Waiting   int      // condemned, their grace not over yet
	Deleted   []string // keys
	Left      []string // why something was left in the bucket although it could have gone
}

// Prune lets old snapshots go. Those before the oldest that is kept leave the head
// by a swap; when their grace is over, a later call deletes the objects that no
// kept manifest names. Kept are the newest ones asked for, what it takes to go back
// in time as far as asked for, the newest one that passed verification, and
// everything newer than one of these, so that no piece of log is missing between.
// Of the kept and of those in their grace a head has so much room: of each the oldest
// go when there are more than half of [MaxKept], whatever the options say, or a node
// that publishes a snapshot a minute would soon publish none.
//
// Before it deletes it reads the head again: a higher incarnation there is a
// [*FencedError], and nothing is touched.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	if _, err := s.mayWrite(); err != nil {
		return PruneReport{}, err
	}
	h, err := s.condemn(ctx, o)
	report := PruneReport{Kept: h.Snapshots}
	if err != nil {
		return report, err
	}
	for _, c := range h.Condemned {
		if c.At == o.Now.UnixMilli() {
			report.Condemned = append(report.Condemned, c.Kept)
		}
	}
	due := h.due(o)
	report.Waiting = len(h.Condemned) - len(due)
	if len(due) == 0 {
		return report, nil
	}
	return report, s.bury(ctx, h, due, o.DryRun, &report)
}

// due returns those whose grace is over, or that are in the way of others.
func (h *Head) due(o PruneOptions) []Condemned {
	var due []Condemned
	crowd := len(h.Condemned) - MaxKept/2
	for i, c := range h.Condemned {
		if c.At <= o.Now.Add(-o.Grace).UnixMilli() || i < crowd {
			due = append(due, c)
		}
	}
	return due
}

// condemn takes from the head what is not kept, and returns the head after that.
func (s *Store) condemn(ctx context.Context, o PruneOptions) (Head, error) {
	change := func(h Head) (Head, error) {
		from := firstKept(h.Snapshots, o)
		from = min(from, MaxKept-len(h.Condemned)) // As many as the head has room for.
		if from == 0 {
			return h, errNothing
		}
		for _, k := range h.Snapshots[:from] {
			h.Condemned = append(h.Condemned, Condemned{k, o.Now.UnixMilli()})
		}
		h.Snapshots = h.Snapshots[from:]
		return h, nil
	}
	if !o.DryRun {
		return s.update(ctx, change)
	}
	h, err := s.Head(ctx)
	if err != nil {
		return h, err
	}
	next, err := change(h.clone())
	if errors.Is(err, errNothing) {
		return h, nil
	}
	return next, err
}

// firstKept returns the index of the oldest snapshot to keep.
func firstKept(list []Kept, o PruneOptions) int {
	return max(firstWanted(list, o), len(list)-MaxKept/2)
}

// firstWanted is firstKept in a head without an end.
func firstWanted(list []Kept, o PruneOptions) int {
	from := max(0, len(list)-max(1, o.Keep))
	oldest := o.Now.Add(-o.KeepFor).UnixMilli()
	if o.KeepFor > 0 {
		// The last one before that time restores the moments until the next.
		for from > 0 && list[from].Created > oldest {
			from--
		}
	}
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Verified {
			return min(from, i)
		}
	}
	return from
}

// references returns the keys that a manifest names, its own among them.
func (k Kept) references(m Manifest) []string {
	keys := make([]string, 0, 1+len(m.Parts)+len(m.Log))
	for _, p := range m.Parts {
		keys = append(keys, p.Key)
	}
	for _, p := range m.Log {
		keys = append(keys, p.Key)
	}
	return append(keys, k.Manifest) // Last: as long as it is there, the others can be found.
}

// referenced returns every key that the head refers to, directly or by the
// manifests of what it keeps and of those condemned that are not due. It fails
// rather than miss one.
func (s *Store) referenced(ctx context.Context, h Head, due []Condemned) (map[string]bool, error) {
	keys := map[string]bool{s.keys.head(): true}
	add := func(k Kept) error {
		m, err := s.manifest(ctx, k)
		if err != nil {
			return fmt.Errorf("what snapshot %d refers to is not known, so nothing is deleted: %w", k.Sequence, err)
		}
		for _, key := range k.references(m) {
			keys[key] = true
		}
		return nil
	}
	for _, k := range h.Snapshots {
		if err := add(k); err != nil {
			return nil, err
		}
	}
	for _, c := range h.Condemned {
		if slices.Contains(due, c) {
			continue
		}
		if err := add(c.Kept); err != nil {
			return nil, err
		}
	}
	for _, p := range h.Log {
		keys[p.Key] = true
	}
	return keys, nil
}

// bury deletes the objects of those condemned that are due, and strikes them from the head.
func (s *Store) bury(ctx context.Context, h Head, due []Condemned, dryRun bool, report *PruneReport) error {
	keep, err := s.referenced(ctx, h, due)
	if err != nil {
		return err
	}
	var doomed []string
	var gone []Condemned
	for _, c := range due {
		m, err := s.manifest(ctx, c.Kept)
		switch {
		case errors.Is(err, ErrMissing): // Buried before; only the head did not learn of it.
		case damaged(err):
			report.Left = append(report.Left, fmt.Sprintf("parts of snapshot %d: %v", c.Sequence, err))
		case err != nil:
			return err
		default:
			doomed = append(doomed, s.deletable(c.references(m), keep)...)
		}
		gone = append(gone, c)
	}
	if dryRun {
		report.Deleted = doomed
		return nil
	}
	if err := s.confirm(ctx); err != nil {
		return err
	}
	for _, key := range doomed {
		if err := s.remove(ctx, key); err != nil {
			return err
		}
		report.Deleted = append(report.Deleted, key)
	}
	_, err = s.update(ctx, func(h Head) (Head, error) {
		before := len(h.Condemned)
		h.Condemned = slices.DeleteFunc(h.Condemned, func(c Condemned) bool { return slices.Contains(gone, c) })
		if len(h.Condemned) == before {
			return h, errNothing
		}
		return h, nil
	})
	return err
}

// deletable returns the keys that nothing refers to, each once: keep learns them.
func (s *Store) deletable(keys []string, keep map[string]bool) []string {
	return slices.DeleteFunc(keys, func(key string) bool {
		kept := keep[key]
		keep[key] = true
		return kept || !strings.HasPrefix(key, s.keys.prefix)
	})
}

// damaged reports whether an object is there and says nothing that can be used.
func damaged(err error) bool {
	var corrupt *CorruptionError
	var format *FormatError
	var version *VersionError
	return errors.As(err, &corrupt) || errors.As(err, &format) || errors.As(err, &version)
}

// confirm reads the head once more: is this incarnation still the one that may delete?
func (s *Store) confirm(ctx context.Context) error {
	own, err := s.mayWrite()
	if err != nil {
		return err
	}
	h, err := s.Head(ctx)
	if err != nil {
		return err
	}
	if h.Incarnation != own {
		return &FencedError{s.node, own, h.Incarnation}
	}
	return nil
}

// remove deletes an object that nothing can refer to any more. A deletion whose
// outcome is not known is made again.
func (s *Store) remove(ctx context.Context, key string) error {
	for pace := newPacer(s.o.Wait); ; {
		err := s.bucket.Delete(ctx, key)
		if err == nil {
			return nil
		}
		if !bucket.IsUndecided(err) || !pace.pause(ctx) {
			return fmt.Errorf("deleting %s: %w", key, errors.Join(err, ctx.Err()))
		}
	}
}

// SweepOptions says what [Store.Sweep] deletes.
type SweepOptions struct {
	Now time.Time
	// Grace is the age below which nothing is touched: longer than a snapshot takes
	// from its first upload to its publication. The store's clock and Now may differ.
	Grace  time.Duration
	DryRun bool
}

// SweepReport says what was done, or would be.
type SweepReport struct {
	Seen    int // objects
	Deleted []bucket.Info
	Young   int // orphans that the grace protects
}

// Sweep looks through all objects of the node for those that nothing refers to:
// what failed uploads, lost races and dead incarnations have left. It is slow, and
// nothing depends on it but the bill.
//
// The order is its safety: what is listed was there before the head was read for
// the last time, and the head then still had this incarnation. So nothing that a higher one has
// uploaded is among it, and nothing that was published since refers to it, unless
// it was uploaded within the grace.
func (s *Store) Sweep(ctx context.Context, o SweepOptions) (SweepReport, error) {
	var report SweepReport
	if _, err := s.mayWrite(); err != nil {
		return report, err
	}
	var old []bucket.Info
	for info, err := range s.bucket.List(ctx, s.keys.prefix, "") {
		if err != nil {
			return report, fmt.Errorf("looking for orphans of %s: %w", s.node, err)
		}
		report.Seen++
		old = append(old, info)
	}
	h, err := s.Head(ctx)
	if err != nil {
		return report, err
	}
	keep, err := s.referenced(ctx, h, nil)
	if err != nil {
		return report, err
	}
	old = slices.DeleteFunc(old, func(i bucket.Info) bool { return keep[i.Key] })
	if err := s.confirm(ctx); err != nil {
		return report, err
	}
	for _, info := range old {
		if o.Now.Sub(info.Modified) < o.Grace {
			report.Young++
			continue
		}
		if !o.DryRun {
			if err := s.remove(ctx, info.Key); err != nil {
				return report, err
			}
		}
		report.Deleted = append(report.Deleted, info)
	}
	return report, nil
}
