package buckettest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quoitdb/quoit/snapshot/bucket"
)

// Memory is a [bucket.Bucket] in memory, for tests that are not about the disk.
type Memory struct {
	mu      sync.Mutex
	objects map[string][]byte
}

var _ bucket.Bucket = (*Memory)(nil)

// NewMemory returns an empty bucket in memory.
func NewMemory() *Memory { return &Memory{objects: map[string][]byte{}} }

// Get returns a copy of the object.
func (m *Memory) Get(ctx context.Context, key string) (bucket.Object, error) {
	var o bucket.Object
	err := m.do(ctx, "get", key, func() error {
		body, ok := m.objects[key]
		switch {
		case !ok:
			return bucket.ErrNotFound
		case len(body) > bucket.MaxConditional:
			return bucket.ErrTooLarge
		}
		o = bucket.Object{Body: bytes.Clone(body), ETag: etagOf(body)}
		return nil
	})
	return o, err
}

// GetRange returns a copy of a part of the object.
func (m *Memory) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	var part []byte
	err := m.do(ctx, "get range", key, func() error {
		body, ok := m.objects[key]
		if !ok {
			return bucket.ErrNotFound
		}
		size := int64(len(body))
		if offset < 0 || length < 0 || offset > size || length > size-offset {
			return fmt.Errorf("%w: %d bytes from %d on of %d", bucket.ErrOutOfRange, length, offset, size)
		}
		part = bytes.Clone(body[offset : offset+length])
		return nil
	})
	return part, err
}

// Head describes the object.
func (m *Memory) Head(ctx context.Context, key string) (bucket.Info, error) {
	var info bucket.Info
	err := m.do(ctx, "head", key, func() error {
		body, ok := m.objects[key]
		if !ok {
			return bucket.ErrNotFound
		}
		info = bucket.Info{Key: key, Size: int64(len(body)), ETag: etagOf(body), Modified: time.Now()}
		return nil
	})
	return info, err
}

// Put writes the object whatever was there.
func (m *Memory) Put(ctx context.Context, key string, body io.Reader, size int64) (bucket.ETag, error) {
	b, err := io.ReadAll(io.LimitReader(body, max(size, 0)+1))
	if err == nil && int64(len(b)) != size {
		err = fmt.Errorf("%w: %d bytes or more instead of %d", bucket.ErrSize, len(b), size)
	}
	if err != nil {
		return "", &bucket.OpError{Op: "put", Key: key, Err: err}
	}
	return etagOf(b), m.do(ctx, "put", key, func() error {
		m.objects[key] = b
		return nil
	})
}

// PutIfAbsent creates the object.
func (m *Memory) PutIfAbsent(ctx context.Context, key string, body []byte) (bucket.ETag, error) {
	return m.swap(ctx, "put if absent", key, body, "")
}

// PutIfMatch replaces the object that has this ETag.
func (m *Memory) PutIfMatch(ctx context.Context, key string, body []byte, etag bucket.ETag) (bucket.ETag, error) {
	// No object has the ETag "none".
	return m.swap(ctx, "put if match", key, body, cmp.Or(etag, "none"))
}

func (m *Memory) swap(ctx context.Context, op, key string, body []byte, want bucket.ETag) (bucket.ETag, error) {
	var tag bucket.ETag
	err := m.do(ctx, op, key, func() error {
		if len(body) > bucket.MaxConditional {
			return bucket.ErrTooLarge
		}
		var have bucket.ETag
		if old, ok := m.objects[key]; ok {
			have = etagOf(old)
		}
		if have != want {
			return bucket.ErrConditionFailed
		}
		m.objects[key], tag = bytes.Clone(body), etagOf(body)
		return nil
	})
	return tag, err
}

// List yields what was there when it was called.
func (m *Memory) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		for _, info := range m.infos(prefix, after) {
			if err := ctx.Err(); err != nil {
				yield(bucket.Info{}, &bucket.OpError{Op: "list", Key: prefix, Err: err})
				return
			}
			if !yield(info, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(bucket.Info{}, &bucket.OpError{Op: "list", Key: prefix, Err: err})
		}
	}
}

func (m *Memory) infos(prefix, after string) []bucket.Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	var infos []bucket.Info
	for key, body := range m.objects {
		if strings.HasPrefix(key, prefix) && key > after {
			infos = append(infos, bucket.Info{Key: key, Size: int64(len(body)), Modified: time.Now()})
		}
	}
	slices.SortFunc(infos, func(a, b bucket.Info) int { return cmp.Compare(a.Key, b.Key) })
	return infos
}

// Delete removes the object.
func (m *Memory) Delete(ctx context.Context, key string) error {
	return m.do(ctx, "delete", key, func() error {
		delete(m.objects, key)
		return nil
	})
}

// Close does nothing: the objects are there as long as the Memory.
func (m *Memory) Close() error { return nil }

// do makes one call under the lock.
func (m *Memory) do(ctx context.Context, op, key string, call func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := errors.Join(bucket.ValidateKey(key), ctx.Err())
	if err == nil {
		err = call()
	}
	if err != nil {
		return &bucket.OpError{Op: op, Key: key, Err: err}
	}
	return nil
}

func etagOf(body []byte) bucket.ETag {
	sum := sha256.Sum256(body)
	return bucket.ETag(hex.EncodeToString(sum[:16]))
}
