package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"golang.org/x/time/rate"
)

// errChanged: what is uploaded is not what was said.
var errChanged = errors.New("the bytes to be uploaded are not those that were described")

// UploadPart puts a part file into the bucket and returns its key. body has the
// file that a [Writer] has described by info; other bytes are refused. progress,
// if not nil, is called with the bytes that have been sent since the last call,
// and with less than 0 when they have to be sent again.
//
// The object counts for nothing before a manifest that names it is published.
func (s *Store) UploadPart(ctx context.Context, info PartInfo, body io.ReaderAt, progress func(bytes int64)) (string, error) {
	key := s.keys.part(info.Snapshot, info.Number)
	if fault := info.layoutFault(); fault != "" {
		return key, &FormatError{"part", fault}
	}
	if err := s.upload(ctx, key, info.Size, info.CRC, body, progress); err != nil {
		return key, fmt.Errorf("uploading %s: %w", key, err)
	}
	return key, s.expectPart(ctx, Part{Key: key, PartInfo: info})
}

// upload puts an object under a key that only this content has. A write whose
// outcome is not known is simply made again.
func (s *Store) upload(ctx context.Context, key string, size int64, crc uint32, body io.ReaderAt, progress func(int64)) error {
	for pace := (pacer{wait: s.o.Wait}); ; {
		if _, err := s.mayWrite(); err != nil {
			return err
		}
		r := &uploadReader{ctx: ctx, body: body, size: size, want: crc, limit: s.o.Limiter, progress: progress}
		_, err := s.bucket.Put(ctx, key, r, size)
		if err == nil {
			return nil
		}
		if errors.Is(err, errChanged) || !bucket.IsUndecided(err) || !pace.pause(ctx) {
			return errors.Join(err, ctx.Err())
		}
		if progress != nil && r.at > 0 {
			progress(-r.at)
		}
	}
}

// uploadReader reads what is uploaded, no faster than allowed, and fails instead
// of giving its last byte if the checksum is not the one wanted: so the object
// never comes to be.
type uploadReader struct {
	ctx      context.Context
	body     io.ReaderAt
	size, at int64
	crc      uint32
	want     uint32
	limit    *rate.Limiter
	progress func(int64)
}

func (r *uploadReader) Read(p []byte) (int, error) {
	if r.at == r.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.size-r.at)]
	if r.limit != nil {
		p = p[:max(1, min(len(p), r.limit.Burst()))]
		if err := r.limit.WaitN(r.ctx, len(p)); err != nil {
			return 0, err
		}
	}
	n, err := r.body.ReadAt(p, r.at)
	if n < len(p) {
		if err == nil || errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: %d bytes instead of %d", errChanged, r.at+int64(n), r.size)
		}
		return 0, err
	}
	r.at += int64(n)
	r.crc = crc32.Update(r.crc, castagnoli, p)
	if r.at == r.size && r.crc != r.want {
		return 0, fmt.Errorf("%w: checksum %08x instead of %08x", errChanged, r.crc, r.want)
	}
	if r.progress != nil {
		r.progress(int64(n))
	}
	return n, nil
}

// expectPart reads the footer of a part: it proves by one small read that the
// object is there with its size, and that it is that part of that snapshot.
func (s *Store) expectPart(ctx context.Context, p Part) error {
	at := p.Size - footerSize
	b, err := s.object(p.Key).ReadRange(ctx, at, footerSize, nil)
	switch {
	case errors.Is(err, bucket.ErrNotFound), errors.Is(err, bucket.ErrOutOfRange):
		return fmt.Errorf("%w: %s, want %d bytes: %w", ErrMissing, p.Key, p.Size, err)
	case err != nil:
		return fmt.Errorf("checking %s: %w", p.Key, err)
	}
	f, fault := decodeFooter(b, p.Size)
	f.CRC = p.CRC // The footer does not know it.
	if fault == "" && f.PartInfo != p.PartInfo {
		fault = "it is the footer of another part"
	}
	if fault != "" {
		return &CorruptionError{
			Object: p.Key, Section: SectionFooter, Block: -1, Offset: at, Length: footerSize,
			First: p.Slice.First, Last: p.Slice.Last, Reason: fault,
		}
	}
	return nil
}

// Archive uploads a piece of log and enters it in the head. It fills in key,
// incarnation, size and checksum; log positions and times are the caller's.
// Archiving the same piece again changes nothing.
func (s *Store) Archive(ctx context.Context, p LogPiece, body []byte) (LogPiece, error) {
	return s.ArchiveUntil(ctx, p, body, Complete{})
}

// Vouch enters in the head as of when the archive is complete, unless it is known to be
// so as of a later moment.
func (s *Store) Vouch(ctx context.Context, c Complete) error {
	_, err := s.update(ctx, func(h Head) (Head, error) {
		if c.At <= h.Complete.At {
			return h, errNothing
		}
		h.Complete = c
		return h, nil
	})
	return err
}

// Retract takes back what was said of moments after one: the archive is complete as of
// that one at most.
func (s *Store) Retract(ctx context.Context, after int64) error {
	_, err := s.update(ctx, func(h Head) (Head, error) {
		switch {
		case h.Complete.At <= after:
			return h, errNothing
		case after <= 0:
			h.Complete = Complete{}
		default:
			h.Complete.At = after
		}
		return h, nil
	})
	return err
}

// ArchiveUntil is Archive and, in one and the same change of the head, Vouch.
func (s *Store) ArchiveUntil(ctx context.Context, p LogPiece, body []byte, c Complete) (LogPiece, error) {
	own, err := s.mayWrite()
	if err != nil {
		return p, err
	}
	p.Incarnation, p.Key = own, s.keys.log(own, p.From, p.To)
	p.Size, p.CRC = int64(len(body)), crc32.Checksum(body, castagnoli)
	if fault := logFault(s.keys, []LogPiece{p}); fault != "" {
		return p, &FormatError{"piece of log", fault}
	}
	if err := s.upload(ctx, p.Key, p.Size, p.CRC, bytes.NewReader(body), nil); err != nil {
		return p, fmt.Errorf("archiving %s: %w", p.Key, err)
	}
	if err := s.expectSize(ctx, p.Key, p.Size); err != nil {
		return p, err
	}
	_, err = s.update(ctx, func(h Head) (Head, error) {
		i, found := slices.BinarySearchFunc(h.Log, p, comparePieces)
		switch {
		case found && h.Log[i] == p:
			return h, errNothing
		case found:
			return h, fmt.Errorf("%w: %s has been archived with other bytes", errChanged, p.Key)
		case len(h.Log) >= MaxTail:
			return h, fmt.Errorf("%w: %d pieces of log since the last snapshot; publish a snapshot before archiving more", ErrLimit, len(h.Log))
		}
		h.Log = slices.Insert(h.Log, i, p)
		if c.At > h.Complete.At {
			h.Complete = c
		}
		return h, nil
	})
	return p, err
}

func (s *Store) expectSize(ctx context.Context, key string, size int64) error {
	info, err := again(ctx, s.o.Wait, func() (bucket.Info, error) { return s.bucket.Head(ctx, key) })
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		return fmt.Errorf("%w: %s", ErrMissing, key)
	case err != nil:
		return fmt.Errorf("checking %s: %w", key, err)
	case info.Size != size:
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrMissing, key, info.Size, size)
	}
	return nil
}

// ReadLog returns a piece of log, checked.
func (s *Store) ReadLog(ctx context.Context, p LogPiece) ([]byte, error) {
	b, err := s.object(p.Key).ReadRange(ctx, 0, p.Size, nil)
	if errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrOutOfRange) {
		return nil, fmt.Errorf("%w: %s, want %d bytes: %w", ErrMissing, p.Key, p.Size, err)
	}
	if err != nil {
		return nil, err
	}
	if crc := crc32.Checksum(b, castagnoli); crc != p.CRC {
		return nil, &CorruptionError{
			Object: p.Key, Section: SectionFile, Block: -1, Length: p.Size, Last: ring.MaxPosition,
			Reason: fmt.Sprintf("its checksum is %08x, and %08x was expected", crc, p.CRC),
		}
	}
	return b, nil
}
