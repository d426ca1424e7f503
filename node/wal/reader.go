package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"

	"github.com/quoitdb/quoit/internal/vfs"
)

const readChunk = 1 << 20

// A frameReader walks over the frames of one segment. It believes nothing: no
// length leads to an allocation before its checksum and the file's end have
// agreed to it.
type frameReader struct {
	file vfs.File
	seed uint32
	off  int64 // of the next frame
	end  int64 // frames lie before this

	buf []byte // the file's bytes from at on
	at  int64
}

// next returns the frame at r.off and its payload, valid until the next call,
// and moves on. If there is no whole frame, ok is false and r.off stays.
// An err is the disk's, and says nothing about the frame.
func (r *frameReader) next() (f frame, payload []byte, ok bool, err error) {
	f, ok, err = r.peek(r.off)
	if !ok || err != nil {
		return f, nil, false, err
	}
	payload, ok, err = r.payload(r.off, f)
	if ok {
		r.off += f.size()
	}
	return f, payload, ok, err
}

// peek reads the frame header at off.
func (r *frameReader) peek(off int64) (f frame, ok bool, err error) {
	room := r.end - off
	if room < frameHeader {
		return frame{}, false, nil
	}
	b, err := r.bytes(off, frameHeader)
	if err != nil {
		return frame{}, false, err
	}
	if le.Uint64(b) == 0 {
		return frame{}, false, nil // nearly always zeros to the end; no need to sum them up
	}
	f, ok = decodeFrame(b, r.seed, off, room)
	return f, ok, nil
}

// payload reads and checks the payload of the frame at off.
func (r *frameReader) payload(off int64, f frame) (payload []byte, ok bool, err error) {
	payload, err = r.bytes(off+frameHeader, f.length)
	return payload, err == nil && crc32.Checksum(payload, castagnoli) == f.payload, err
}

// bytes returns n bytes of the file at off, which must lie before r.end.
func (r *frameReader) bytes(off int64, n int) ([]byte, error) {
	if from := off - r.at; from >= 0 && from+int64(n) <= int64(len(r.buf)) {
		return r.buf[from : from+int64(n)], nil
	}
	want := int(min(max(int64(n), readChunk), r.end-off))
	if cap(r.buf) < want {
		r.buf = make([]byte, want)
	}
	r.buf, r.at = r.buf[:want], off
	got, err := r.file.ReadAt(r.buf, off)
	r.buf = r.buf[:got]
	if got >= n {
		return r.buf[:n], nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return nil, err
}

// promiseBeyond looks for damage: a whole frame after off which promises that
// the log was durable beyond off. It also returns where the last whole header
// points, which is how far something had been written.
func (r *frameReader) promiseBeyond(off int64) (promised bool, reach int64, err error) {
	reach = off
	for at := off; at+frameHeader <= r.end; at += frameAlign {
		at = r.behindZeros(at)
		f, ok, err := r.peek(at)
		if err != nil {
			return false, 0, err
		}
		if !ok {
			continue
		}
		reach = max(reach, at+f.size())
		if at-int64(f.unsynced) <= off {
			continue
		}
		if _, ok, err = r.payload(at, f); ok || err != nil {
			return ok, reach, err
		}
	}
	return false, reach, nil
}

// behindZeros goes from at to the first multiple of frameAlign where something else than
// zeros is, but not beyond what has been read already nor where a last header would fit:
// most of a segment is zeros, and each of them asked for a header takes a start's time.
func (r *frameReader) behindZeros(at int64) int64 {
	for last := min(r.at+int64(len(r.buf)), r.end) - frameHeader; at >= r.at && at < last; at += frameAlign {
		if le.Uint64(r.buf[at-r.at:]) != 0 {
			break
		}
	}
	return at
}

// readHeader reads and checks the header of the segment with this number.
func readHeader(o Options, number uint64) (header, error) {
	name := filepath.Join(o.Dir, segmentName(number))
	file, err := o.FS.Open(name)
	if err != nil {
		return header{}, fmt.Errorf("wal: %w", err)
	}
	b := make([]byte, headerLen)
	n, err := file.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil // too short is for decodeHeader to say
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return header{}, fmt.Errorf("wal: read %s: %w", name, err)
	}
	h, err := decodeHeader(b[:n])
	switch {
	case errors.Is(err, errFutureVersion):
		return h, &VersionError{File: name, Version: h.version}
	case err == nil && h.number != number:
		err = fmt.Errorf("this is segment %d under another name", h.number)
	}
	if err != nil {
		return h, &CorruptionError{File: name, Reason: err.Error(), Hint: hintRestore}
	}
	return h, nil
}

// What to do, for the person who reads a CorruptionError.
const (
	hintRestore = "put an undamaged copy of the file in its place, or restore the node"
	hintMissing = "put the file back, or restore the node"
)
