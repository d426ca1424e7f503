package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

const (
	testNode    = "10.0.0.1:7401"
	testCluster = "6f1c2d0e"
)

// noWait makes retries follow each other at once.
func noWait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

var testNonces atomic.Int64

// storeOn returns a store that does not wait and whose nonces are its own.
func storeOn(t tester, b bucket.Bucket) *Store {
	t.Helper()
	s, err := NewStore(b, testNode, StoreOptions{
		Wait:  noWait,
		Nonce: func() string { return fmt.Sprintf("nonce%d", testNonces.Add(1)) },
	})
	must(t, err)
	return s
}

// claimed returns a store that may write as an incarnation.
func claimed(t tester, b bucket.Bucket, incarnation uint64) *Store {
	t.Helper()
	s := storeOn(t, b)
	_, err := s.Claim(context.Background(), testCluster, incarnation)
	must(t, err)
	return s
}

// content is what a node holds, in two slices of the ring: a key and a value for each.
type content [2]string

// entriesOf returns the entries of one half of a content.
func (c content) entriesOf(half int) []Entry {
	return []Entry{{Position: ring.Position(half)<<31 + 5, Key: []byte("key"), Value: []byte(c[half]), Version: 7}}
}

// snapshotOf uploads what differs from the snapshot before, and returns the
// manifest of all of it.
func snapshotOf(ctx context.Context, s *Store, before Manifest, was, is content, created int64) (Manifest, error) {
	m := Manifest{
		Snapshot: NewID(), Created: created, HLC: 7, Cuts: []uint64{1, 2, 3}, State: []byte("ledger"),
		Owned: []ring.Range{{Start: 1, End: 2}}, Document: DocumentMark{testCluster, 3, 4},
	}
	for half, slice := range Slices(1) {
		if len(before.Parts) == 2 && was[half] == is[half] {
			m.Parts = append(m.Parts, before.Parts[half])
			continue
		}
		var file bytes.Buffer
		w, err := NewWriter(&file, WriterOptions{Snapshot: m.Snapshot, Part: uint32(half)})
		if err != nil {
			return m, err
		}
		for _, e := range is.entriesOf(half) {
			if err := w.Add(e); err != nil {
				return m, err
			}
		}
		info, err := w.Close()
		if err != nil {
			return m, err
		}
		key, err := s.UploadPart(ctx, info, bytes.NewReader(file.Bytes()), nil)
		if err != nil {
			return m, err
		}
		m.Parts = append(m.Parts, Part{key, slice, info})
	}
	return m, nil
}

// publish takes and publishes a snapshot after the current one.
func publish(ctx context.Context, s *Store, was, is content, created int64) (Manifest, error) {
	before, err := s.Current(ctx)
	if err != nil && !errors.Is(err, ErrNoSnapshot) {
		return before, err
	}
	m, err := snapshotOf(ctx, s, before, was, is, created)
	if err != nil {
		return m, err
	}
	return s.Publish(ctx, m)
}

// expectContent reads a snapshot in every way there is.
func expectContent(t tester, s *Store, m Manifest, want content) {
	t.Helper()
	ctx := context.Background()
	report, err := s.Verify(ctx, m, VerifyOptions{Level: LevelBlocks})
	must(t, err)
	if len(report.Damage) > 0 {
		t.Fatalf("snapshot %d is damaged: %v", m.Sequence, report.Damage)
	}
	var got [2]atomic.Value
	must(t, s.Scan(ctx, m, []ring.Range{{}}, 2, func(_ int, e Entry) error {
		got[e.Position>>31].Store(string(e.Value))
		return nil
	}))
	for half := range want {
		if got[half].Load() != want[half] {
			t.Fatalf("snapshot %d has %v in half %d, want %q", m.Sequence, got[half].Load(), half, want[half])
		}
	}
}

// objects returns the keys that a bucket holds.
func objects(t tester, b bucket.Bucket) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	for info, err := range b.List(context.Background(), "", "") {
		must(t, err)
		keys[info.Key] = true
	}
	return keys
}

func expectFenced(t *testing.T, what string, err error) {
	t.Helper()
	var f *FencedError
	if !errors.As(err, &f) {
		t.Errorf("%s by an older incarnation: got %v, want a FencedError", what, err)
	}
}
