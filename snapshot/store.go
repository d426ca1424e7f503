package snapshot

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"golang.org/x/time/rate"
)

// StoreOptions says how a [Store] works; the zero value is what servers use.
type StoreOptions struct {
	// Limiter bounds uploads, in bytes; nil does not. It may be shared.
	Limiter *rate.Limiter
	// Nonce returns a nonce never returned before, anywhere, of lower-case letters
	// and digits; nil means 128 random bits.
	Nonce func() string
	// Wait returns after d or when the context ends; nil means the machine's clock.
	Wait func(ctx context.Context, d time.Duration) error
}

// Store has the snapshots of one node in a bucket. Reading needs nothing; writing
// needs [Store.Claim] or [Store.Attach] first.
//
// Calls that the bucket refuses for the moment are made again for some seconds;
// [bucket.IsRetryable] then says whether coming back later may help.
type Store struct {
	bucket bucket.Bucket
	node   string
	keys   keys
	o      StoreOptions
	turn   chan struct{} // held by the change under way: those of one process need not race

	mu          sync.Mutex
	seen        Head // the newest
	claimed     bool
	incarnation uint64
	fenced      *FencedError
	known       map[string]Manifest // by SHA-256: the current one
}

// NewStore returns the store of the node with this address; the bucket stays the caller's.
func NewStore(b bucket.Bucket, node string, o StoreOptions) (*Store, error) {
	k, err := keysOf(node)
	if err != nil {
		return nil, err
	}
	if o.Nonce == nil {
		o.Nonce = func() string { return strings.ToLower(rand.Text()) }
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	return &Store{bucket: b, node: node, keys: k, o: o, turn: make(chan struct{}, 1), known: map[string]Manifest{}}, nil
}

// Head returns the head, [ErrNoSnapshot] if the node has none.
func (s *Store) Head(ctx context.Context) (Head, error) {
	h, _, err := s.load(ctx)
	return h, err
}

// List returns the snapshots kept, oldest first.
func (s *Store) List(ctx context.Context) ([]Kept, error) {
	h, err := s.Head(ctx)
	return h.Snapshots, err
}

// Current returns the manifest of the newest snapshot, [ErrNoSnapshot] if there is none.
func (s *Store) Current(ctx context.Context) (Manifest, error) {
	h, err := s.Head(ctx)
	if err != nil {
		return Manifest{}, err
	}
	k, ok := h.Current()
	if !ok {
		return Manifest{}, fmt.Errorf("%w: %s has none", ErrNoSnapshot, s.node)
	}
	return s.manifest(ctx, k)
}

// Manifest returns the manifest of a snapshot that is kept.
func (s *Store) Manifest(ctx context.Context, sequence uint64) (Manifest, error) {
	h, err := s.Head(ctx)
	if err != nil {
		return Manifest{}, err
	}
	i := slices.IndexFunc(h.Snapshots, func(k Kept) bool { return k.Sequence == sequence })
	if i < 0 {
		return Manifest{}, fmt.Errorf("%w: %s keeps no snapshot %d", ErrNoSnapshot, s.node, sequence)
	}
	return s.manifest(ctx, h.Snapshots[i])
}

// manifest reads the manifest that the head refers to.
func (s *Store) manifest(ctx context.Context, k Kept) (Manifest, error) {
	s.mu.Lock()
	m, ok := s.known[k.SHA256]
	s.mu.Unlock()
	if ok {
		return m.clone(), nil
	}
	o, err := again(ctx, s.o.Wait, func() (bucket.Object, error) { return s.bucket.Get(ctx, k.Manifest) })
	if errors.Is(err, bucket.ErrNotFound) {
		return Manifest{}, fmt.Errorf("%w: %s", ErrMissing, k.Manifest)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest of snapshot %d: %w", k.Sequence, err)
	}
	if sum := hashOf(o.Body); sum != k.SHA256 {
		return Manifest{}, &CorruptionError{
			Object: k.Manifest, Section: SectionFile, Block: -1, Length: int64(len(o.Body)), Last: ring.MaxPosition,
			Reason: fmt.Sprintf("its SHA-256 is %s, and the head says %s", sum, k.SHA256),
		}
	}
	m, err = DecodeManifest(o.Body)
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", k.Manifest, err)
	}
	if m.Node != s.node || m.Sequence != k.Sequence || m.Snapshot != k.Snapshot {
		return Manifest{}, fmt.Errorf("%s: %w", k.Manifest, &FormatError{"manifest", "it is that of another snapshot"})
	}
	s.remember(k.SHA256, m)
	return m.clone(), nil
}

// remember keeps the one manifest that is asked for again and again; it is shared
// with nobody.
func (s *Store) remember(sum string, m Manifest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.seen.Current(); !ok || k.SHA256 == sum {
		clear(s.known)
		s.known[sum] = m
	}
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// load reads the head. It refuses one that is older than one seen before.
func (s *Store) load(ctx context.Context) (Head, bucket.ETag, error) {
	s.mu.Lock()
	seen := s.seen
	s.mu.Unlock()
	o, err := again(ctx, s.o.Wait, func() (bucket.Object, error) { return s.bucket.Get(ctx, s.keys.head()) })
	switch {
	case errors.Is(err, bucket.ErrNotFound) && seen.Counter > 0:
		return Head{}, "", fmt.Errorf("%w: %s is gone, and was at %d", ErrRolledBack, s.keys.head(), seen.Counter)
	case errors.Is(err, bucket.ErrNotFound):
		return Head{}, "", fmt.Errorf("%w: nothing at %s", ErrNoSnapshot, s.keys.head())
	case err != nil:
		return Head{}, "", fmt.Errorf("head of %s: %w", s.node, err)
	}
	h, err := DecodeHead(o.Body)
	if err != nil {
		return Head{}, "", fmt.Errorf("%s: %w", s.keys.head(), err)
	}
	switch {
	case h.Node != s.node:
		return Head{}, "", &IdentityError{"node", h.Node, s.node}
	case seen.Counter == 0:
	case h.Cluster != seen.Cluster || h.Incarnation < seen.Incarnation && h.Counter >= seen.Counter ||
		h.Counter < seen.Counter || h.Counter == seen.Counter && h.Nonce != seen.Nonce:
		return Head{}, "", fmt.Errorf("%w: %s is at %d, and was at %d", ErrRolledBack, s.keys.head(), h.Counter, seen.Counter)
	}
	s.note(h)
	return h, o.ETag, nil
}

// note remembers a head if it is the newest.
func (s *Store) note(h Head) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.Counter > s.seen.Counter {
		s.seen = h
	}
	if s.claimed && h.Incarnation > s.incarnation && s.fenced == nil {
		s.fenced = &FencedError{s.node, s.incarnation, h.Incarnation}
	}
}

// Claim makes this incarnation the one that may write, and every older one stop:
// its next change fails with a [*FencedError]. So does this one's if a higher
// incarnation has been here. Claiming twice is claiming once. Read what is there
// only after having claimed: from then on it cannot change any more.
func (s *Store) Claim(ctx context.Context, cluster string, incarnation uint64) (Head, error) {
	if !validCluster(cluster) {
		return Head{}, &FormatError{"head", fmt.Sprintf("%.80q cannot be a cluster's id", cluster)}
	}
	if err := s.unclaim(incarnation); err != nil {
		return Head{}, err
	}
	h, err := s.change(ctx, func(h Head) (Head, error) {
		switch {
		case h.Counter == 0:
			return Head{Cluster: cluster, Node: s.node, Incarnation: incarnation}, nil
		case h.Cluster != cluster:
			return h, &IdentityError{"cluster", h.Cluster, cluster}
		case h.Incarnation > incarnation:
			return h, &FencedError{s.node, incarnation, h.Incarnation}
		case h.Incarnation == incarnation:
			return h, errNothing
		}
		h.Incarnation = incarnation
		return h, nil
	})
	if err != nil {
		return Head{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claimed, s.incarnation = true, incarnation
	return h, nil
}

// unclaim says whether this incarnation may be claimed. Until it is, nothing is written.
func (s *Store) unclaim(incarnation uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fenced != nil:
		return s.fenced
	case s.incarnation > incarnation:
		return &FencedError{s.node, incarnation, s.incarnation}
	}
	s.claimed = false
	return nil
}

// Attach lets this store write as the incarnation that the head names, without
// taking it from anybody: for tools that prune beside a running node.
func (s *Store) Attach(ctx context.Context) (Head, error) {
	h, err := s.Head(ctx)
	if err != nil {
		return h, err
	}
	return s.Claim(ctx, h.Cluster, h.Incarnation)
}

// mayWrite returns the incarnation, or why nothing must be written.
func (s *Store) mayWrite() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fenced != nil:
		return 0, s.fenced
	case !s.claimed:
		return 0, ErrNotClaimed
	}
	return s.incarnation, nil
}

// update changes the head as the incarnation that was claimed; see change.
func (s *Store) update(ctx context.Context, fn func(Head) (Head, error)) (Head, error) {
	own, err := s.mayWrite()
	if err != nil {
		return Head{}, err
	}
	return s.change(ctx, func(h Head) (Head, error) {
		switch {
		case h.Counter == 0:
			return h, fmt.Errorf("%w: %s is gone", ErrRolledBack, s.keys.head())
		case h.Incarnation != own:
			return h, &FencedError{s.node, own, h.Incarnation}
		}
		return fn(h)
	})
}

// errNothing: the head is as it should be.
var errNothing = errors.New("nothing to change")

// change applies fn to the newest head, the zero Head if there is none, and swaps
// the result in. fn must be pure: it is called again when another writer was
// faster. A write whose outcome is not known is decided by the next one on the
// same condition, never by not having been seen.
func (s *Store) change(ctx context.Context, fn func(Head) (Head, error)) (Head, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return Head{}, ctx.Err()
	}
	c := change{store: s, fn: fn}
	for pace := newPacer(s.o.Wait); ; {
		h, done, err := c.try(ctx)
		if done {
			return h, err
		}
		if !pace.pause(ctx) {
			return h, inDoubt(len(c.open) > 0, errors.Join(c.last, ctx.Err()))
		}
	}
}

// change is one call of Store.change.
type change struct {
	store *Store
	fn    func(Head) (Head, error)
	open  []attempt // writes that were sent and whose fate is not known
	last  error     // why the last try did not succeed
}

// attempt is a write of head on the condition that the object was still base.
type attempt struct {
	base bucket.ETag // empty: that there was none
	head Head
}

// try loads, applies and swaps once. It is done when the outcome is known.
func (c *change) try(ctx context.Context) (Head, bool, error) {
	h, etag, err := c.store.load(ctx)
	if err != nil && !errors.Is(err, ErrNoSnapshot) {
		return h, true, inDoubt(len(c.open) > 0, err)
	}
	if head, ok := c.settle(h, etag); ok {
		return head, true, nil
	}
	next, err := c.fn(h.clone())
	if errors.Is(err, errNothing) {
		return h, true, nil
	}
	if err != nil {
		return h, true, inDoubt(len(c.open) > 0, err)
	}
	next.Counter, next.Nonce = h.Counter+1, c.store.o.Nonce()
	if h.Counter > 0 {
		next.Recent = append([]string{h.Nonce}, h.Recent[:min(len(h.Recent), maxRecent-1)]...)
	}
	body, err := next.Encode()
	if err != nil {
		return h, true, err
	}
	err = c.swap(ctx, body, etag)
	switch {
	case err == nil:
		c.store.note(next)
		return next, true, nil
	case bucket.IsRetryable(err):
	case bucket.IsUndecided(err):
		c.open = append(c.open, attempt{etag, next})
	default:
		return h, true, inDoubt(len(c.open) > 0, fmt.Errorf("head of %s: %w", c.store.node, err))
	}
	c.last = err
	return h, false, nil
}

func (c *change) swap(ctx context.Context, body []byte, etag bucket.ETag) (err error) {
	if key := c.store.keys.head(); etag == "" {
		_, err = c.store.bucket.PutIfAbsent(ctx, key, body)
	} else {
		_, err = c.store.bucket.PutIfMatch(ctx, key, body, etag)
	}
	return err
}

// settle finds out what became of the open attempts, now that the head is h. One
// that is in h, or in what h came from, has happened. If the head is still what
// the attempt wanted to replace, it may yet happen: the next swap, on the same
// condition, decides between the two. Else its condition can never hold again, as
// no two heads are equal.
func (c *change) settle(h Head, etag bucket.ETag) (Head, bool) {
	for _, a := range c.open {
		if h.has(a.head.Nonce) {
			return a.head, true
		}
	}
	c.open = slices.DeleteFunc(c.open, func(a attempt) bool { return a.base != etag })
	return Head{}, false
}

// inDoubt adds to an error that a write may have happened or may yet happen.
func inDoubt(doubt bool, err error) error {
	if !doubt || err == nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrInDoubt, err)
}
