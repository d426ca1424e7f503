package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	// s3Tries is how often a call is made that can be made again without harm.
	s3Tries = 4
	// s3ConflictTries is how often a conditional write is made that the store answers
	// with "somebody else is just writing" (409).
	s3ConflictTries = 6
	// s3FirstPause and s3LongestPause bound the wait between two tries, on top of the
	// 0 to 0.2 s that the library waits after a failure.
	s3FirstPause   = 50 * time.Millisecond
	s3LongestPause = 2 * time.Second
)

// sumHeader is the metadata in which an object that was written in one piece
// carries the SHA-256 of its body.
const sumHeader = "Quoit-Sha256"

// S3 is a bucket, or the part of one below a prefix, in an object store that
// speaks the S3 protocol. Open one with [OpenS3], or by its URL with [Open].
//
// A conditional write is one request with one condition, made once: it is never
// sent in parts, for whose last request no store has to look at the condition.
// Whether the store decides such a request atomically is for [Probe] to find out.
//
// Every body is signed with its SHA-256, which the store verifies, so what was
// damaged on its way up is refused. On the way down Get verifies the same sum;
// GetRange verifies the length only: who reads ranges brings checksums of their
// own.
//
// Put, Delete and all reads are repeated a few times by themselves when they
// fail. A write of Put that the network held back can therefore land after a
// later one of the same key: Put belongs to names that are written once.
type S3 struct {
	core      *minio.Core
	transport *http.Transport
	bucket    string
	prefix    string // empty, or ends in a slash
	where     string // for errors: endpoint and bucket, without secrets
	parts     partSizes

	firstPause time.Duration
}

var _ Bucket = (*S3)(nil)

// Close lets go of idle connections.
func (s *S3) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// CreateBucket creates the bucket itself, unless it exists and is one's own, and says
// whether it did. No other method does: a name with a typing mistake must not become a
// new, empty home.
func (s *S3) CreateBucket(ctx context.Context) (created bool, err error) {
	err = s.again(ctx, func(ctx context.Context) error {
		if exists, err := s.core.BucketExists(ctx, s.bucket); exists || err != nil {
			return err
		}
		created = true // also when it is there at the next try: the reply was lost
		return s.core.MakeBucket(ctx, s.bucket, minio.MakeBucketOptions{})
	})
	// One that is there all of a sudden: a reply was lost, or somebody does the same.
	code := responseOf(err).Code
	switch {
	case err == nil, code == minio.BucketAlreadyOwnedByYou:
		return created, nil
	case code == minio.AccessDenied:
		const advice = "the key needs s3:CreateBucket, and s3:ListBucket to see whether it is there; or a bucket of this name belongs to somebody else: choose another"
		return false, &OpError{"create bucket", s.bucket, &s3Error{where: s.where, advice: advice, err: err}}
	}
	return false, &OpError{"create bucket", s.bucket, s.readError(ctx, err)}
}

// Get returns the object whole.
func (s *S3) Get(ctx context.Context, key string) (Object, error) {
	o, err := s.get(ctx, key)
	if err != nil {
		return Object{}, &OpError{"get", key, err}
	}
	return o, nil
}

func (s *S3) get(ctx context.Context, key string) (o Object, err error) {
	if err := errors.Join(ValidateKey(key), ctx.Err()); err != nil {
		return o, err
	}
	err = s.again(ctx, func(ctx context.Context) error {
		body, info, _, err := s.core.GetObject(ctx, s.bucket, s.prefix+key, minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		defer body.Close()
		switch {
		case info.ETag == "":
			return fmt.Errorf("%w: an object without an ETag", errNotS3)
		case info.Size > MaxConditional:
			return ErrTooLarge
		}
		if o.Body, err = readAnswer(body, info.Size); err != nil {
			return err
		}
		o.ETag = ETag(info.ETag)
		if want := info.UserMetadata[sumHeader]; want != "" && want != sumOf(o.Body) {
			return fmt.Errorf("%w: want SHA-256 %s, have %s", errDamaged, want, sumOf(o.Body))
		}
		return nil
	})
	if err != nil {
		return Object{}, s.readError(ctx, err)
	}
	return o, nil
}

// GetRange returns a part of the object.
func (s *S3) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	body, err := s.getRange(ctx, key, offset, length)
	if err != nil {
		return nil, &OpError{"get range", key, err}
	}
	return body, nil
}

func (s *S3) getRange(ctx context.Context, key string, offset, length int64) (part []byte, err error) {
	if err := errors.Join(ValidateKey(key), ctx.Err()); err != nil {
		return nil, err
	}
	if offset < 0 || length < 0 || length > math.MaxInt64-offset {
		return nil, fmt.Errorf("%w: %d bytes from %d on", ErrOutOfRange, length, offset)
	}
	if length == 0 { // The protocol has no word for it.
		info, err := s.head(ctx, key)
		if err == nil && offset > info.Size {
			err = fmt.Errorf("%w: no bytes from %d on of %d", ErrOutOfRange, offset, info.Size)
		}
		return []byte{}, err
	}
	var opts minio.GetObjectOptions
	if err := opts.SetRange(offset, offset+length-1); err != nil {
		return nil, err
	}
	err = s.again(ctx, func(ctx context.Context) error {
		body, _, header, err := s.core.GetObject(ctx, s.bucket, s.prefix+key, opts)
		if err != nil {
			return err
		}
		defer body.Close()
		if err := checkRange(header.Get("Content-Range"), offset, length); err != nil {
			return err
		}
		part, err = readAnswer(body, length)
		return err
	})
	if err != nil {
		return nil, s.readError(ctx, err)
	}
	return part, nil
}

// checkRange compares the range that an answer holds with the one asked for. A
// store cuts a range that goes past the end, and a bad one sends the whole object.
func checkRange(have string, offset, length int64) error {
	span, total, ok := strings.Cut(strings.TrimPrefix(have, "bytes "), "/")
	size, err := strconv.ParseInt(total, 10, 64)
	if !ok || err != nil {
		return fmt.Errorf("%w: asked for a range, answered with Content-Range %.80q", errNotS3, have)
	}
	if length > size-offset {
		return fmt.Errorf("%w: %d bytes from %d on of %d", ErrOutOfRange, length, offset, size)
	}
	if want := fmt.Sprintf("%d-%d", offset, offset+length-1); span != want {
		return fmt.Errorf("%w: asked for bytes %s, answered with %.80q", errNotS3, want, have)
	}
	return nil
}

// readAnswer reads a body of exactly size bytes. No memory is set aside before an
// answer has said that there is so much.
func readAnswer(body io.Reader, size int64) ([]byte, error) {
	if size < 0 {
		return nil, fmt.Errorf("%w: answer without a Content-Length", errNotS3)
	}
	b := make([]byte, size)
	if n, err := io.ReadFull(body, b); err != nil {
		return nil, fmt.Errorf("answer broke off after %d of %d bytes: %w", n, size, err)
	}
	return b, nil
}

// Head returns size and ETag.
func (s *S3) Head(ctx context.Context, key string) (Info, error) {
	info, err := s.head(ctx, key)
	if err != nil {
		return Info{}, &OpError{"head", key, err}
	}
	return info, nil
}

func (s *S3) head(ctx context.Context, key string) (info Info, err error) {
	if err := errors.Join(ValidateKey(key), ctx.Err()); err != nil {
		return info, err
	}
	err = s.again(ctx, func(ctx context.Context) error {
		o, err := s.core.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
		info = Info{Key: key, Size: o.Size, ETag: ETag(o.ETag), Modified: o.LastModified}
		return err
	})
	if responseOf(err).StatusCode == http.StatusNotFound {
		// An answer to HEAD has no body that would tell a missing object from a missing
		// bucket, and the second must not pass for the first.
		if _, getErr := s.getRange(ctx, key, 0, 1); getErr != nil && !errors.Is(getErr, ErrOutOfRange) {
			return Info{}, getErr
		}
		return Info{}, ErrNotFound
	}
	if err != nil {
		return Info{}, s.readError(ctx, err)
	}
	return info, nil
}

// PutIfAbsent creates the object.
func (s *S3) PutIfAbsent(ctx context.Context, key string, body []byte) (ETag, error) {
	var opts minio.PutObjectOptions
	opts.SetMatchETagExcept("*")
	tag, err := s.swap(ctx, key, body, opts)
	if err != nil {
		return "", &OpError{"put if absent", key, err}
	}
	return tag, nil
}

// PutIfMatch replaces the object that has this ETag.
func (s *S3) PutIfMatch(ctx context.Context, key string, body []byte, etag ETag) (ETag, error) {
	var opts minio.PutObjectOptions
	opts.SetMatchETag(string(etag))
	tag, err := s.swapMatching(ctx, key, body, etag, opts)
	if err != nil {
		return "", &OpError{"put if match", key, err}
	}
	return tag, nil
}

func (s *S3) swapMatching(ctx context.Context, key string, body []byte, etag ETag, opts minio.PutObjectOptions) (ETag, error) {
	if !isETag(etag) { // "*" would match anything.
		return "", errors.Join(ErrConditionFailed, ValidateKey(key), ctx.Err())
	}
	tag, err := s.swap(ctx, key, body, opts)
	if r := responseOf(err); r.StatusCode == http.StatusNotFound && r.Code == minio.NoSuchKey && spoken(r) {
		return "", ErrConditionFailed // The other way to say that nothing matches.
	}
	return tag, err
}

// isETag says whether a string can be an ETag, and not a list or a pattern.
func isETag(etag ETag) bool {
	for _, c := range []byte(etag) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '*' || c == ',' {
			return false
		}
	}
	return etag != ""
}

// swap makes a conditional write: once, unless the store says that nothing
// happened because it was busy with another write of the same key.
func (s *S3) swap(ctx context.Context, key string, body []byte, opts minio.PutObjectOptions) (ETag, error) {
	if err := errors.Join(ValidateKey(key), ctx.Err()); err != nil {
		return "", err
	}
	if len(body) > MaxConditional {
		return "", ErrTooLarge
	}
	for try := 0; ; try++ {
		var w watch
		tag, err := s.putOnce(w.over(ctx), key, body, opts)
		switch responseOf(err).StatusCode {
		case http.StatusPreconditionFailed:
			return "", ErrConditionFailed
		case http.StatusConflict:
			if try+1 < s3ConflictTries && s.pause(ctx, try) {
				continue
			}
			return "", fmt.Errorf("%w: %d times another write of the key was under way: %w", ErrUnavailable, try+1, s.explain(err))
		}
		return tag, s.writeError(ctx, err, w.sent())
	}
}

// putOnce sends a body in one request.
func (s *S3) putOnce(ctx context.Context, key string, body []byte, opts minio.PutObjectOptions) (ETag, error) {
	opts.DisableMultipart, opts.DisableContentSha256 = true, true // The sum is given, not streamed.
	sum := sumOf(body)
	opts.UserMetadata = map[string]string{sumHeader: sum}
	info, err := s.core.PutObject(ctx, s.bucket, s.prefix+key, bytes.NewReader(body), int64(len(body)), "", sum, opts)
	if err == nil && info.ETag == "" {
		err = fmt.Errorf("%w: a write was answered without an ETag", errNotS3)
	}
	return ETag(info.ETag), err
}

// Delete removes the object.
func (s *S3) Delete(ctx context.Context, key string) error {
	if err := errors.Join(ValidateKey(key), ctx.Err()); err != nil {
		return &OpError{"delete", key, err}
	}
	var w watch
	err := s.again(w.over(ctx), func(ctx context.Context) error {
		return s.core.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{})
	})
	if responseOf(err).Code == minio.NoSuchKey {
		return nil
	}
	if err := s.writeError(ctx, err, w.sent()); err != nil {
		return &OpError{"delete", key, err}
	}
	return nil
}

// List yields the objects in the order of their keys, a page of the store at a
// time. What cannot have been written through a Bucket is passed over.
func (s *S3) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		last, failed := after, 0
		for {
			before := last
			done, err := s.listFrom(ctx, prefix, &last, yield)
			if done {
				return
			}
			if last != before {
				failed = 0
			}
			if failed++; failed == s3Tries || !canPass(err) || !s.pause(ctx, failed) {
				yield(Info{}, &OpError{"list", prefix, s.readError(ctx, err)})
				return
			}
		}
	}
}

// listFrom lists what comes after *last, which it moves on. It returns true when
// everything was listed or nobody listens any more.
func (s *S3) listFrom(ctx context.Context, prefix string, last *string, yield func(Info, error) bool) (bool, error) {
	opts := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, FetchOwner: new(bool)}
	if *last != "" {
		opts.StartAfter = s.prefix + *last
	}
	for o := range s.core.ListObjectsIter(ctx, s.bucket, opts) {
		if o.Err != nil {
			return false, o.Err
		}
		key, ours := strings.CutPrefix(o.Key, s.prefix)
		if !ours || key <= *last || ValidateKey(key) != nil {
			continue
		}
		*last = key
		if !yield(Info{Key: key, Size: o.Size, Modified: o.LastModified}, nil) {
			return true, nil
		}
	}
	// The library ends a listing whose context has ended like one that is complete.
	return ctx.Err() == nil, ctx.Err()
}

// again makes a call up to s3Tries times, as long as what it failed of can pass.
func (s *S3) again(ctx context.Context, call func(context.Context) error) error {
	for try := 0; ; try++ {
		err := call(ctx)
		if err == nil || !canPass(err) || try+1 == s3Tries || !s.pause(ctx, try) {
			return err
		}
	}
}

// pause waits before the next try, longer each time and never in step with others.
// It returns false when the context has ended.
func (s *S3) pause(ctx context.Context, try int) bool {
	most := min(s.firstPause<<try, s3LongestPause)
	timer := time.NewTimer(most/2 + rand.N(most/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func sumOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
