// Package buckettest holds what tests of and with buckets share: the conformance
// suite that every [bucket.Bucket] passes, a bucket in memory, and a decorator
// that loses replies, delays and fails.
package buckettest

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/quoitdb/quoit/snapshot/bucket"
)

// Test checks that a bucket keeps the contract of package bucket. Each call of
// open returns another handle on one and the same bucket, empty at the start of
// the test that calls it; the suite closes the handles.
func Test(t *testing.T, open func(t *testing.T) func() bucket.Bucket) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(s *suite)
	}{
		{"an object that is not there", (*suite).missing},
		{"create", (*suite).create},
		{"swap", (*suite).swap},
		{"equal bodies may have equal ETags", (*suite).aba},
		{"put replaces", (*suite).put},
		{"put that breaks off changes nothing", (*suite).brokenPut},
		{"empty object", (*suite).empty},
		{"large object", (*suite).large},
		{"ranges", (*suite).ranges},
		{"list", (*suite).list},
		{"list in pages", (*suite).pages},
		{"delete", (*suite).remove},
		{"keys that are none", (*suite).badKeys},
		{"a context that has ended", (*suite).ended},
		{"racing creations", (*suite).racingCreations},
		{"racing swaps", (*suite).racingSwaps},
		{"racing writes of every kind", (*suite).racingWrites},
		{"probe", (*suite).probe},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{T: t, ctx: t.Context(), open: open(t)}
			s.b = s.handle()
			c.test(s)
		})
	}
}

// suite is one test of the conformance suite, with the words to write it in.
type suite struct {
	*testing.T
	ctx  context.Context
	open func() bucket.Bucket
	b    bucket.Bucket
}

// handle opens another handle on the bucket.
func (s *suite) handle() bucket.Bucket {
	b := s.open()
	s.Cleanup(func() {
		if err := b.Close(); err != nil {
			s.Errorf("Close: %v", err)
		}
	})
	return b
}

// created writes an object that must not be there yet.
func (s *suite) created(key, body string) bucket.ETag {
	s.Helper()
	tag, err := s.b.PutIfAbsent(s.ctx, key, []byte(body))
	if err != nil {
		s.Fatalf("PutIfAbsent(%q): %v", key, err)
	}
	if tag == "" {
		s.Fatalf("PutIfAbsent(%q) returned no ETag", key)
	}
	return tag
}

// holds checks that every way to read agrees on what the key holds.
func (s *suite) holds(key, body string) bucket.ETag {
	s.Helper()
	o, err := s.handle().Get(s.ctx, key)
	if err != nil {
		s.Fatalf("Get(%q): %v", key, err)
	}
	if string(o.Body) != body {
		s.Fatalf("Get(%q) = %.60q, want %.60q", key, o.Body, body)
	}
	info, err := s.b.Head(s.ctx, key)
	if err != nil {
		s.Fatalf("Head(%q): %v", key, err)
	}
	if info.Key != key || info.Size != int64(len(body)) || info.ETag != o.ETag || info.Modified.IsZero() {
		s.Fatalf("Head(%q) = %+v, want size %d and ETag %q", key, info, len(body), o.ETag)
	}
	return o.ETag
}

// absent checks that the key holds nothing.
func (s *suite) absent(key string) {
	s.Helper()
	if o, err := s.b.Get(s.ctx, key); !errors.Is(err, bucket.ErrNotFound) {
		s.Fatalf("Get(%q) = %.60q, %v; want ErrNotFound", key, o.Body, err)
	}
}

// want checks the kind of an error.
func (s *suite) want(err, kind error, what string) {
	s.Helper()
	if !errors.Is(err, kind) {
		s.Errorf("%s: error is %v, want %v", what, err, kind)
	}
}

// keys lists, and fails on an error.
func (s *suite) keys(prefix, after string) []string {
	s.Helper()
	var keys []string
	for info, err := range s.b.List(s.ctx, prefix, after) {
		if err != nil {
			s.Fatalf("List(%q, %q): %v", prefix, after, err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

// calls returns one call of every method, to see each of them refuse something.
func calls(ctx context.Context, b bucket.Bucket, key string) map[string]func() error {
	return map[string]func() error{
		"Get":         func() error { _, err := b.Get(ctx, key); return err },
		"GetRange":    func() error { _, err := b.GetRange(ctx, key, 0, 0); return err },
		"Head":        func() error { _, err := b.Head(ctx, key); return err },
		"Put":         func() error { _, err := b.Put(ctx, key, &io.LimitedReader{}, 0); return err },
		"PutIfAbsent": func() error { _, err := b.PutIfAbsent(ctx, key, nil); return err },
		"PutIfMatch":  func() error { _, err := b.PutIfMatch(ctx, key, nil, "0"); return err },
		"Delete":      func() error { return b.Delete(ctx, key) },
	}
}
