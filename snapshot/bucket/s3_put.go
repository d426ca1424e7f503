package bucket

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"
)

// partSizes is how large bodies are cut.
type partSizes struct {
	size int64 // of a part; the protocol wants at least 5 MiB
	most int64 // number of parts
}

// partsAtOnce is how many parts of one Put are in memory: two on their way while
// one is being read.
const partsAtOnce = 3

// abortTime bounds the clearing up after a failed upload.
const abortTime = 30 * time.Second

func defaultParts() partSizes { return partSizes{size: 16 << 20, most: 10_000} }

// of returns the size of the parts of a body: larger ones where there would be too many.
func (p partSizes) of(size int64) int64 {
	const mib = 1 << 20
	if least := (size + p.most - 1) / p.most; least > p.size {
		return (least + mib - 1) / mib * mib
	}
	return p.size
}

// Put writes the object whatever was there. Up to 16 MiB go in one request, more
// in parts of 16 MiB of which at most three are in memory; the object appears
// when all of them are there. What a Put leaves behind that was killed half-way
// is no object, but takes space: have the store abort old incomplete uploads.
func (s *S3) Put(ctx context.Context, key string, body io.Reader, size int64) (ETag, error) {
	tag, err := s.put(ctx, key, contextReader{ctx, body}, size)
	if err != nil {
		return "", &OpError{"put", key, err}
	}
	return tag, nil
}

func (s *S3) put(ctx context.Context, key string, body io.Reader, size int64) (ETag, error) {
	if err := errors.Join(ValidateKey(key), ctx.Err()); err != nil {
		return "", err
	}
	if size < 0 {
		return "", fmt.Errorf("%w: want %d bytes", ErrSize, size)
	}
	if size > s.parts.size {
		return s.putInParts(ctx, key, body, size)
	}
	whole := make([]byte, size)
	if err := errors.Join(fill(body, whole, 0, size), atEnd(body, size)); err != nil {
		return "", err
	}
	var (
		w   watch
		tag ETag
	)
	err := s.again(w.over(ctx), func(ctx context.Context) (err error) {
		tag, err = s.putOnce(ctx, key, whole, minio.PutObjectOptions{})
		return err
	})
	return tag, s.writeError(ctx, err, w.sent())
}

// fill reads the next part of a body of size bytes, of which so many came before.
func fill(body io.Reader, part []byte, before, size int64) error {
	n := 0
	for empty := 0; n < len(part); {
		m, err := body.Read(part[n:])
		n += m
		switch {
		case n == len(part): // An error that came with the last byte comes again.
			return nil
		case err == io.EOF:
			return fmt.Errorf("%w: %d bytes instead of %d", ErrSize, before+int64(n), size)
		case err != nil:
			return err
		}
		if empty++; m > 0 {
			empty = 0
		} else if empty == 100 {
			return io.ErrNoProgress
		}
	}
	return nil
}

// atEnd makes sure that no more would come.
func atEnd(body io.Reader, size int64) error {
	switch _, err := io.ReadFull(body, make([]byte, 1)); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("%w: more than %d bytes", ErrSize, size)
	default:
		return err
	}
}

// uploadHeader is the metadata in which an object that was written in parts carries
// the nonce of its upload, so that the one who lost the answer knows it again.
const uploadHeader = "Quoit-Upload"

// upload is one object on its way up in parts.
type upload struct {
	s        *S3
	key, id  string
	nonce    string
	size     int64
	partSize int64
	parts    []minio.CompletePart
}

func (s *S3) putInParts(ctx context.Context, key string, body io.Reader, size int64) (ETag, error) {
	u := &upload{s: s, key: key, nonce: rand.Text(), size: size, partSize: s.parts.of(size)}
	u.parts = make([]minio.CompletePart, (size+u.partSize-1)/u.partSize)
	opts := minio.PutObjectOptions{UserMetadata: map[string]string{uploadHeader: u.nonce}}
	err := s.again(ctx, func(ctx context.Context) (err error) {
		u.id, err = s.core.NewMultipartUpload(ctx, s.bucket, s.prefix+key, opts)
		if err == nil && u.id == "" {
			err = fmt.Errorf("%w: an upload was begun and has no id", errNotS3)
		}
		return err
	})
	if err != nil {
		return "", s.writeError(ctx, err, false) // No object comes of it, whatever happened.
	}
	tag, err := u.run(ctx, body)
	if err != nil {
		return "", errors.Join(err, u.abort(ctx))
	}
	return tag, nil
}

func (u *upload) run(ctx context.Context, body io.Reader) (ETag, error) {
	if err := u.send(ctx, body); err != nil {
		return "", err
	}
	return u.complete(ctx)
}

// send reads the body and sends its parts, and returns when all have arrived. The
// first failure stops the reading.
func (u *upload) send(ctx context.Context, body io.Reader) error {
	group, sending := errgroup.WithContext(ctx)
	free := make(chan []byte, partsAtOnce)
	for range min(partsAtOnce, len(u.parts)) {
		free <- nil // Made when it is first needed.
	}
	readErr := func() error {
		for i := range u.parts {
			var buffer []byte
			select {
			case buffer = <-free:
			case <-sending.Done():
				return nil // The group has the reason.
			}
			before := int64(i) * u.partSize
			part := sized(buffer, min(u.partSize, u.size-before))
			if err := fill(body, part, before, u.size); err != nil {
				return err
			}
			group.Go(func() error {
				defer func() { free <- part }()
				return u.sendPart(sending, i, part)
			})
		}
		return atEnd(body, u.size)
	}()
	return errors.Join(readErr, group.Wait())
}

// sized returns the buffer with another length, or a new one if it is too short.
func sized(buffer []byte, n int64) []byte {
	if int64(cap(buffer)) >= n {
		return buffer[:n]
	}
	return make([]byte, n)
}

// sendPart sends one part. Sent twice it is the same part, and until the upload is
// completed there is no object: nothing is in doubt here.
func (u *upload) sendPart(ctx context.Context, i int, part []byte) error {
	opts := minio.PutObjectPartOptions{Sha256Hex: sumOf(part), DisableContentSha256: true}
	err := u.s.again(ctx, func(ctx context.Context) error {
		done, err := u.s.core.PutObjectPart(ctx, u.s.bucket, u.s.prefix+u.key, u.id, i+1, bytes.NewReader(part), int64(len(part)), opts)
		if err == nil && done.ETag == "" {
			err = fmt.Errorf("%w: a part was answered without an ETag", errNotS3)
		}
		u.parts[i] = minio.CompletePart{PartNumber: i + 1, ETag: done.ETag}
		return err
	})
	if responseOf(err).Code == minio.NoSuchUpload {
		err = fmt.Errorf("%w: the upload was ended by somebody else: %w", ErrUnavailable, u.s.explain(err))
		return err
	}
	return u.s.writeError(ctx, err, false)
}

// complete makes the parts an object. A lost answer is found out about by looking
// for the nonce.
func (u *upload) complete(ctx context.Context) (ETag, error) {
	s := u.s
	var w watch
	for try := 0; ; try++ {
		info, err := s.core.CompleteMultipartUpload(w.over(ctx), s.bucket, s.prefix+u.key, u.id, u.parts, minio.PutObjectOptions{})
		if err == nil && info.ETag != "" {
			return ETag(info.ETag), nil
		}
		if err == nil {
			err = fmt.Errorf("%w: an upload was completed without an ETag", errNotS3)
		}
		if tag := u.landed(ctx); tag != "" {
			return tag, nil
		}
		if !canPass(err) || try+1 == s3Tries || !s.pause(ctx, try) {
			return "", s.writeError(ctx, err, w.sent())
		}
	}
}

// landed returns the ETag of the object if it is the one that was sent.
func (u *upload) landed(ctx context.Context) ETag {
	s := u.s
	o, err := s.core.StatObject(ctx, s.bucket, s.prefix+u.key, minio.StatObjectOptions{})
	if err != nil || o.Size != u.size || o.UserMetadata[uploadHeader] != u.nonce {
		return ""
	}
	return ETag(o.ETag)
}

// abort has the store drop the parts, also after the caller has gone. An upload
// that is not there any more is what is wanted.
func (u *upload) abort(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	err := u.s.again(ctx, func(ctx context.Context) error {
		return u.s.core.AbortMultipartUpload(ctx, u.s.bucket, u.s.prefix+u.key, u.id)
	})
	if err == nil || responseOf(err).Code == minio.NoSuchUpload {
		return nil
	}
	return fmt.Errorf("its parts stay until the store aborts old uploads: %w", u.s.explain(err))
}
