package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/quoitdb/quoit/snapshot/bucket"
)

// Source is where a [Reader] reads a part file: an object of a bucket, or a file.
type Source interface {
	// ReadRange returns exactly length bytes from offset on. It may use the memory of
	// buf for them; whatever it returns is the caller's until it passes it as buf to
	// another call. A range that does not lie in the object is [bucket.ErrOutOfRange].
	ReadRange(ctx context.Context, offset, length int64, buf []byte) ([]byte, error)
}

// InBucket returns the object of a bucket as a Source. Reads that a bucket refuses
// for the moment are made again, for some seconds.
func InBucket(b bucket.Bucket, key string) Source { return objectSource{b, key, wait} }

// object is InBucket with the store's way of waiting.
func (s *Store) object(key string) Source { return objectSource{s.bucket, key, s.o.Wait} }

type objectSource struct {
	bucket bucket.Bucket
	key    string
	wait   func(context.Context, time.Duration) error
}

func (s objectSource) ReadRange(ctx context.Context, offset, length int64, _ []byte) ([]byte, error) {
	b, err := again(ctx, s.wait, func() ([]byte, error) { return s.bucket.GetRange(ctx, s.key, offset, length) })
	if err == nil && int64(len(b)) != length {
		return nil, fmt.Errorf("%s: asked for %d bytes from %d on, got %d: %w", s.key, length, offset, len(b), io.ErrUnexpectedEOF)
	}
	return b, err
}

// InFile returns a file as a Source.
func InFile(f io.ReaderAt) Source { return fileSource{f} }

type fileSource struct{ file io.ReaderAt }

func (s fileSource) ReadRange(ctx context.Context, offset, length int64, buf []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if int64(cap(buf)) < length {
		buf = make([]byte, length)
	}
	buf = buf[:length]
	n, err := s.file.ReadAt(buf, offset)
	switch {
	case int64(n) == length:
		return buf, nil
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: %d bytes from %d on", bucket.ErrOutOfRange, length, offset)
	default:
		return nil, err
	}
}
