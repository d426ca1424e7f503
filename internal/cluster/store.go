package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/quoitdb/quoit/snapshot/bucket"
)

// DefaultKey is where the document lives in the bucket.
const DefaultKey = "cluster/document.json"

// StoreOptions says how a [Store] works; the zero value is what servers use.
type StoreOptions struct {
	Key string // DefaultKey if empty
	// Nonce returns a nonce never returned before, anywhere; nil means 128 random bits.
	Nonce func() string
	// Wait returns after d or when the context ends; nil means the machine's clock.
	Wait func(ctx context.Context, d time.Duration) error
}

// Store reads and swaps the document in a bucket. It remembers the newest document
// that it has seen, and refuses an older one.
type Store struct {
	bucket bucket.Bucket
	o      StoreOptions
	turn   chan struct{} // held by the update under way: those of one process need not race

	mu   sync.Mutex
	seen Document // the newest
}

// NewStore returns a store; the bucket stays the caller's.
func NewStore(b bucket.Bucket, o StoreOptions) *Store {
	if o.Key == "" {
		o.Key = DefaultKey
	}
	if o.Nonce == nil {
		o.Nonce = rand.Text
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	return &Store{bucket: b, o: o, turn: make(chan struct{}, 1)}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Load returns the document and its ETag, [ErrNoDocument] when there is none. It
// asks once; [bucket.IsRetryable] says whether asking again may help.
func (s *Store) Load(ctx context.Context) (Document, bucket.ETag, error) {
	s.mu.Lock()
	seen := s.seen
	s.mu.Unlock()
	o, err := s.bucket.Get(ctx, s.o.Key)
	if errors.Is(err, bucket.ErrNotFound) {
		if seen.Counter > 0 {
			return Document{}, "", fmt.Errorf("%w: %s is gone, and was at %d", ErrRolledBack, s.o.Key, seen.Counter)
		}
		return Document{}, "", fmt.Errorf("%w at %s", ErrNoDocument, s.o.Key)
	}
	if err != nil {
		return Document{}, "", fmt.Errorf("cluster document: %w", err)
	}
	d, err := Decode(o.Body)
	if err != nil {
		return Document{}, "", fmt.Errorf("%s: %w", s.o.Key, err)
	}
	if err := notBefore(d, seen); err != nil {
		return Document{}, "", err
	}
	s.note(d)
	return d, o.ETag, nil
}

// notBefore compares a document with one that had been seen before it was read.
func notBefore(d, seen Document) error {
	switch {
	case seen.Counter == 0:
		return nil
	case d.Cluster != seen.Cluster:
		return fmt.Errorf("%w: it is of cluster %q, and was of %q", ErrRolledBack, d.Cluster, seen.Cluster)
	case d.Counter < seen.Counter, d.Counter == seen.Counter && d.Nonce != seen.Nonce:
		return fmt.Errorf("%w: its counter is %d, and was %d", ErrRolledBack, d.Counter, seen.Counter)
	}
	return nil
}

// note remembers a document if it is the newest.
func (s *Store) note(d Document) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.Counter > s.seen.Counter {
		s.seen = d
	}
}

// Create writes the first document, or fails with [ErrExists]; then it returns the
// one that exists.
func (s *Store) Create(ctx context.Context, d Document) (Document, error) {
	d.Counter, d.Nonce, d.Recent = d.Counter+1, s.o.Nonce(), nil
	body, err := d.Encode()
	if err != nil {
		return Document{}, err
	}
	doubt := false
	for pace := (pacer{}); ; {
		_, err := s.bucket.PutIfAbsent(ctx, s.o.Key, body)
		if err == nil {
			s.note(d)
			return d, nil
		}
		if !bucket.IsUndecided(err) {
			return Document{}, fmt.Errorf("creating the cluster document: %w", err)
		}
		doubt = doubt || !bucket.IsRetryable(err)
		// Someone's document is there, perhaps this one, or none yet. All attempts have
		// the same body, and one at most can succeed.
		found, _, err := s.Load(ctx)
		switch {
		case err == nil && found.has(d.Nonce):
			return d, nil
		case err == nil:
			return found, ErrExists
		case !errors.Is(err, ErrNoDocument) && !bucket.IsRetryable(err):
			return Document{}, inDoubt(doubt, err)
		}
		if err := pace.wait(ctx, s.o.Wait); err != nil {
			return Document{}, inDoubt(doubt, err)
		}
	}
}

// Update applies fn to the newest document and swaps the result in. fn must be
// pure: it is called again when another writer was faster, and, where more swaps
// than [MaxRecent] came between a lost reply and the next look, on a document that
// holds its change already. A result equal to what is there is not written.
//
// It returns the document that holds the change, which others may have changed
// since; or, with the error of fn, the document that fn refused.
//
// It tries until the context ends. [ErrInDoubt] then means that a write was sent
// and its fate not learnt: it may have happened, or may still happen.
func (s *Store) Update(ctx context.Context, fn func(Document) (Document, error)) (Document, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return Document{}, ctx.Err()
	}
	u := update{store: s, fn: fn}
	for {
		d, done, err := u.try(ctx)
		if done {
			return d, err
		}
		if err := u.pace.wait(ctx, s.o.Wait); err != nil {
			return d, inDoubt(len(u.open) > 0, errors.Join(err, u.last))
		}
	}
}

// update is one call of Update.
type update struct {
	store *Store
	fn    func(Document) (Document, error)
	pace  pacer
	open  []attempt // writes that were sent and whose fate is not known
	last  error     // why the last try did not succeed
}

// attempt is a write of doc on the condition that the document was still base.
type attempt struct {
	base bucket.ETag
	doc  Document
}

// try loads, applies and swaps once. It is done when the outcome is known.
func (u *update) try(ctx context.Context) (Document, bool, error) {
	d, etag, err := u.store.Load(ctx)
	if err != nil {
		u.last = err
		return d, !bucket.IsRetryable(err), inDoubt(len(u.open) > 0, err)
	}
	if doc, ok := u.settle(d, etag); ok {
		return doc, true, nil
	}
	next, err := u.fn(d)
	if err != nil {
		return d, true, inDoubt(len(u.open) > 0, err)
	}
	if next, err = u.seal(next, d); err != nil {
		return d, true, err
	}
	if sameState(next, d) {
		return d, true, nil
	}
	body, err := next.Encode()
	if err != nil {
		return d, true, err
	}
	_, err = u.store.bucket.PutIfMatch(ctx, u.store.o.Key, body, etag)
	switch {
	case err == nil:
		u.store.note(next)
		return next, true, nil
	case bucket.IsRetryable(err):
	case bucket.IsUndecided(err):
		u.open = append(u.open, attempt{etag, next})
	default:
		return d, true, inDoubt(len(u.open) > 0, fmt.Errorf("cluster document: %w", err))
	}
	u.last = err
	return d, false, nil
}

// settle finds out what became of the open attempts, now that the document is d.
// One that is in d, or in what d came from, has happened. If d is still what the
// attempt wanted to replace, it may yet happen: the next swap, on the same
// condition, decides between the two. Else its condition can never hold again, as
// no two documents are equal.
func (u *update) settle(d Document, etag bucket.ETag) (Document, bool) {
	for _, a := range u.open {
		if d.has(a.doc.Nonce) {
			return a.doc, true
		}
	}
	u.open = slices.DeleteFunc(u.open, func(a attempt) bool { return a.base != etag })
	return Document{}, false
}

// seal makes next the successor of d.
func (u *update) seal(next, d Document) (Document, error) {
	if next.Cluster != d.Cluster || next.Epoch < d.Epoch {
		return d, fmt.Errorf("%w: an update from cluster %q, epoch %d, to cluster %q, epoch %d",
			ErrRolledBack, d.Cluster, d.Epoch, next.Cluster, next.Epoch)
	}
	recent := append([]string{d.Nonce}, d.Recent...)
	next.Counter, next.Nonce = d.Counter+1, u.store.o.Nonce()
	next.Recent = recent[:min(len(recent), MaxRecent)]
	return next, nil
}

// has reports whether the document is, or comes from, the one with this nonce.
func (d Document) has(nonce string) bool { return d.Nonce == nonce || slices.Contains(d.Recent, nonce) }

// sameState reports whether two documents differ in nothing but who wrote them.
func sameState(a, b Document) bool {
	a.Counter, a.Nonce, a.Recent = b.Counter, b.Nonce, b.Recent
	return reflect.DeepEqual(a, b)
}

// inDoubt adds to an error that a write may have happened or may yet happen.
func inDoubt(doubt bool, err error) error {
	if !doubt || err == nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrInDoubt, err)
}

// pacer spreads retries, so that writers who met once do not meet for ever.
type pacer struct{ tries int }

func (p *pacer) wait(ctx context.Context, wait func(context.Context, time.Duration) error) error {
	const first, longest = time.Millisecond, 500 * time.Millisecond
	limit := min(first<<min(p.tries, 20), longest)
	p.tries++
	return wait(ctx, time.Duration(mathrand.Int64N(int64(limit))))
}
