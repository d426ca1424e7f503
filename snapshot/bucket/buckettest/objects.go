package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing/iotest"

	"github.com/quoitdb/quoit/snapshot/bucket"
)

func (s *suite) missing() {
	_, err := s.b.Get(s.ctx, "a/missing")
	s.want(err, bucket.ErrNotFound, "Get")
	_, err = s.b.GetRange(s.ctx, "a/missing", 0, 1)
	s.want(err, bucket.ErrNotFound, "GetRange")
	_, err = s.b.Head(s.ctx, "a/missing")
	s.want(err, bucket.ErrNotFound, "Head")
	_, err = s.b.PutIfMatch(s.ctx, "a/missing", []byte("x"), "0123456789abcdef0123456789abcdef")
	s.want(err, bucket.ErrConditionFailed, "PutIfMatch")
	_, err = s.b.PutIfMatch(s.ctx, "a/missing", []byte("x"), "")
	s.want(err, bucket.ErrConditionFailed, "PutIfMatch without an ETag")
	s.absent("a/missing")
	if err := s.b.Delete(s.ctx, "a/missing"); err != nil {
		s.Errorf("Delete: %v", err)
	}
	if keys := s.keys("", ""); len(keys) > 0 {
		s.Errorf("List of an empty bucket: %q", keys)
	}
}

func (s *suite) create() {
	tag := s.created("a/object", "first")
	if got := s.holds("a/object", "first"); got != tag {
		s.Errorf("ETag is %q after PutIfAbsent returned %q", got, tag)
	}
	_, err := s.b.PutIfAbsent(s.ctx, "a/object", []byte("second"))
	s.want(err, bucket.ErrConditionFailed, "PutIfAbsent of an object that is there")
	s.holds("a/object", "first")
	s.absent("a")
	s.absent("a/object/below")
}

func (s *suite) swap() {
	first := s.created("object", "first")
	second, err := s.b.PutIfMatch(s.ctx, "object", []byte("second"), first)
	if err != nil {
		s.Fatalf("PutIfMatch: %v", err)
	}
	if second == first {
		s.Errorf("different bodies have the same ETag %q", first)
	}
	if got := s.holds("object", "second"); got != second {
		s.Errorf("ETag is %q after PutIfMatch returned %q", got, second)
	}
	for _, stale := range []bucket.ETag{first, "", "*", bucket.ETag(strings.ToUpper(string(second)))} {
		_, err = s.b.PutIfMatch(s.ctx, "object", []byte("third"), stale)
		s.want(err, bucket.ErrConditionFailed, fmt.Sprintf("PutIfMatch with ETag %q", stale))
	}
	s.holds("object", "second")
}

// aba shows why a body that is swapped carries a nonce. A store may refuse the
// stale ETag; none has to.
func (s *suite) aba() {
	first := s.created("object", "A")
	second, err := s.b.PutIfMatch(s.ctx, "object", []byte("B"), first)
	if err != nil {
		s.Fatalf("A to B: %v", err)
	}
	third, err := s.b.PutIfMatch(s.ctx, "object", []byte("A"), second)
	if err != nil {
		s.Fatalf("B to A: %v", err)
	}
	_, err = s.b.PutIfMatch(s.ctx, "object", []byte("C"), first)
	if (err == nil) != (first == third) {
		s.Errorf("the first ETag is %q, the third %q, and a swap with the first returned %v", first, third, err)
	}
	s.Logf("A -> B -> A: the old ETag matches again: %v", first == third)
}

func (s *suite) put() {
	for _, body := range []string{"first", "", "a longer one than before", "short"} {
		// A reader that gives one byte at a time, as a slow network does.
		tag, err := s.b.Put(s.ctx, "a/b/c", iotest.OneByteReader(strings.NewReader(body)), int64(len(body)))
		if err != nil {
			s.Fatalf("Put(%q): %v", body, err)
		}
		if got := s.holds("a/b/c", body); got != tag {
			s.Errorf("ETag is %q after Put returned %q", got, tag)
		}
	}
}

func (s *suite) brokenPut() {
	cause := errors.New("cable cut")
	text := func() io.Reader { return strings.NewReader("12345") }
	failing := func(err error) func() io.Reader {
		return func() io.Reader { return io.MultiReader(text(), iotest.ErrReader(err)) }
	}
	s.created("there", "old")
	for _, c := range []struct {
		name string
		body func() io.Reader
		size int64
		want error
	}{
		{"too short", text, 6, bucket.ErrSize},
		{"too long", text, 4, bucket.ErrSize},
		{"negative size", text, -1, bucket.ErrSize},
		{"fails half-way", failing(cause), 10, cause},
		{"fails at the end", failing(cause), 5, cause},
		{"an end that was not to be expected", failing(io.ErrUnexpectedEOF), 10, io.ErrUnexpectedEOF},
	} {
		for _, key := range []string{"there", "not-there"} {
			_, err := s.b.Put(s.ctx, key, c.body(), c.size)
			s.want(err, c.want, c.name)
		}
		s.holds("there", "old")
		s.absent("not-there")
	}
}

func (s *suite) empty() {
	tag := s.created("empty", "")
	s.holds("empty", "")
	b, err := s.b.GetRange(s.ctx, "empty", 0, 0)
	if err != nil || len(b) != 0 {
		s.Errorf("GetRange of nothing = %q, %v", b, err)
	}
	_, err = s.b.PutIfAbsent(s.ctx, "empty", []byte("x"))
	s.want(err, bucket.ErrConditionFailed, "PutIfAbsent of an empty object that is there")
	if _, err := s.b.PutIfMatch(s.ctx, "empty", []byte("x"), tag); err != nil {
		s.Errorf("PutIfMatch: %v", err)
	}
}

func (s *suite) large() {
	body := pattern(bucket.MaxConditional + 1)
	size := int64(len(body))
	tag, err := s.b.Put(s.ctx, "large", bytes.NewReader(body), size)
	if err != nil {
		s.Fatalf("Put: %v", err)
	}
	info, err := s.b.Head(s.ctx, "large")
	if err != nil || info.Size != size || info.ETag != tag {
		s.Errorf("Head = %+v, %v; want size %d, ETag %q", info, err, size, tag)
	}
	_, err = s.b.Get(s.ctx, "large")
	s.want(err, bucket.ErrTooLarge, "Get")
	_, err = s.b.PutIfAbsent(s.ctx, "large-too", body)
	s.want(err, bucket.ErrTooLarge, "PutIfAbsent")
	_, err = s.b.PutIfMatch(s.ctx, "large", body, tag)
	s.want(err, bucket.ErrTooLarge, "PutIfMatch")
	part, err := s.b.GetRange(s.ctx, "large", size-70000, 70000)
	if err != nil || !bytes.Equal(part, body[size-70000:]) {
		s.Errorf("GetRange of the last 70000 bytes: %d bytes, %v", len(part), err)
	}
	// An object as large as can be swapped, can be.
	if tag, err = s.b.PutIfMatch(s.ctx, "large", body[1:], tag); err != nil {
		s.Fatalf("PutIfMatch of %d bytes: %v", len(body)-1, err)
	}
	o, err := s.b.Get(s.ctx, "large")
	if err != nil || !bytes.Equal(o.Body, body[1:]) || o.ETag != tag {
		s.Errorf("Get: %d bytes, %v", len(o.Body), err)
	}
}

// pattern returns n bytes that differ from place to place.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * i >> 8)
	}
	return b
}

func (s *suite) ranges() {
	const whole = "0123456789"
	s.created("object", whole)
	for _, c := range []struct{ offset, length int64 }{
		{0, 10}, {0, 0}, {10, 0}, {9, 1}, {3, 4}, {0, 1},
	} {
		got, err := s.b.GetRange(s.ctx, "object", c.offset, c.length)
		if want := whole[c.offset : c.offset+c.length]; err != nil || string(got) != want {
			s.Errorf("GetRange(%d, %d) = %q, %v; want %q", c.offset, c.length, got, err, want)
		}
	}
	const most = 1<<63 - 1
	for _, c := range []struct{ offset, length int64 }{
		{0, 11}, {10, 1}, {11, 0}, {-1, 1}, {0, -1}, {5, 6}, {most, 1}, {1, most}, {most, most},
	} {
		_, err := s.b.GetRange(s.ctx, "object", c.offset, c.length)
		s.want(err, bucket.ErrOutOfRange, fmt.Sprintf("GetRange(%d, %d)", c.offset, c.length))
	}
}

// sorted are keys in the order of their bytes, which is not the order in which a
// file system walk comes across them.
var sorted = [...]string{"a-b", "a.b", "a/b", "a/b-c/d", "a/c", "a0", "a_b", "ab", "b/c/d/e/f", "c"}

func (s *suite) list() {
	for _, key := range []int{3, 9, 0, 7, 5, 1, 8, 2, 6, 4} {
		s.created(sorted[key], strings.Repeat("x", key))
	}
	for _, c := range []struct {
		prefix, after string
		want          []string
	}{
		{"", "", sorted[:]},
		{"a/", "", []string{"a/b", "a/b-c/d", "a/c"}},
		{"a/b", "", []string{"a/b", "a/b-c/d"}},
		{"a", "a/b-c", []string{"a/b-c/d", "a/c", "a0", "a_b", "ab"}},
		{"", "b/c", []string{"b/c/d/e/f", "c"}},
		{"", "b/c/d/e/f", []string{"c"}},
		{"b/c/d/e/f", "", []string{"b/c/d/e/f"}},
		{"b/c/d/e/f/g", "", nil},
		{"zz", "", nil},
		{"a", "zz", nil},
	} {
		if got := s.keys(c.prefix, c.after); !slices.Equal(got, c.want) {
			s.Errorf("List(%q, %q) = %q, want %q", c.prefix, c.after, got, c.want)
		}
	}
	for info, err := range s.b.List(s.ctx, "b/", "") {
		if err != nil || info.Size != 8 || info.Modified.IsZero() {
			s.Errorf("List yields %+v, %v; want size 8 and a time", info, err)
		}
	}
}

func (s *suite) pages() {
	var want, got []string
	for i := range 57 {
		key := fmt.Sprintf("page/%02d", i)
		s.created(key, key)
		want = append(want, key)
	}
	for after := ""; ; {
		page := 0
		for info, err := range s.b.List(s.ctx, "page/", after) {
			if err != nil {
				s.Fatal(err)
			}
			got, after = append(got, info.Key), info.Key
			if page++; page == 10 {
				break
			}
		}
		if page < 10 {
			break
		}
	}
	if !slices.Equal(got, want) {
		s.Errorf("pages of 10 are %q", got)
	}
}

func (s *suite) remove() {
	tag := s.created("a/b", "old")
	s.created("a/c", "neighbour")
	for range 2 {
		if err := s.b.Delete(s.ctx, "a/b"); err != nil {
			s.Fatalf("Delete: %v", err)
		}
		s.absent("a/b")
	}
	_, err := s.b.PutIfMatch(s.ctx, "a/b", []byte("new"), tag)
	s.want(err, bucket.ErrConditionFailed, "PutIfMatch of a deleted object")
	s.created("a/b", "new")
	s.holds("a/c", "neighbour")
}

func (s *suite) badKeys() {
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.b", ".quoit/format", "A", "a b", "a\x00", "a\\b",
		"ä", "a:b", "a*", strings.Repeat("a", bucket.MaxSegmentLength+1), strings.Repeat("a/", bucket.MaxKeyLength/2) + "a",
	} {
		for method, call := range calls(s.ctx, s.b, key) {
			s.want(call(), bucket.ErrInvalidKey, fmt.Sprintf("%s(%q)", method, key))
		}
	}
	if keys := s.keys("", ""); len(keys) > 0 {
		s.Errorf("bad keys made objects: %q", keys)
	}
	s.created(strings.Repeat("a", bucket.MaxSegmentLength)+"/"+strings.Repeat("b", bucket.MaxSegmentLength), "as long as can be")
}

func (s *suite) ended() {
	s.created("object", "old")
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	for method, call := range calls(ctx, s.b, "object") {
		s.want(call(), context.Canceled, method)
	}
	for _, err := range s.b.List(ctx, "", "") {
		s.want(err, context.Canceled, "List")
	}
	s.holds("object", "old")
}
