package wal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// hintArchive is for the person who reads that a piece of an archive is damaged.
const hintArchive = "use another copy of this piece, or restore to a moment before it"

// ArchiveReader reads pieces that CopyPiece has written, one after the other, and
// refuses a gap between them. Pieces may overlap: each record is delivered once. It
// is for one goroutine.
type ArchiveReader struct{ next LSN }

// NewArchiveReader returns a reader of the records behind from.
func NewArchiveReader(from LSN) *ArchiveReader { return &ArchiveReader{next: from} }

// End returns up to where all has been delivered.
func (a *ArchiveReader) End() LSN { return a.next }

// Read reads the next piece, to its end, and calls fn as [Log.Replay] does for
// each group of records that ends behind what was read before (the first may begin
// before it). fn keeps the payload. name is for errors: damage, a piece that was cut
// short and one with something behind it are a *CorruptionError with the place in
// it, a piece that begins too late is a *GapError. Memory is that of the largest
// group.
func (a *ArchiveReader) Read(name string, r io.Reader, fn func(payload []byte, end LSN) error) error {
	head := make([]byte, pieceHeader)
	if err := readPart(name, r, head, 0); err != nil {
		return err
	}
	p, err := decodePiece(head)
	if err != nil {
		return &CorruptionError{File: name, Reason: err.Error(), Hint: hintArchive}
	}
	if p.From > a.next {
		return fmt.Errorf("wal: %s: %w", name, &GapError{From: a.next, Start: p.From})
	}
	f := pieceReader{Piece: p, name: name, r: r, seed: header{log: p.log, number: p.number}.seed(), at: p.From}
	for f.at < p.To {
		payload, err := f.frame()
		if err != nil {
			return err
		}
		if f.at <= a.next {
			continue
		}
		if payload != nil {
			if err := fn(payload, f.at); err != nil {
				return err
			}
		}
		a.next = f.at
	}
	return f.end()
}

// pieceReader reads the frames of one piece.
type pieceReader struct {
	Piece
	name string
	r    io.Reader
	seed uint32
	at   LSN // of the next frame
}

// place is where in the piece the next frame begins.
func (r *pieceReader) place() int64 { return pieceHeader + int64(r.at-r.From) }

func (r *pieceReader) bad(reason string) error {
	return &CorruptionError{File: r.name, Offset: r.place(), Reason: reason, Hint: hintArchive}
}

// frame returns the payload of the next frame, nil for a mark, and moves on.
func (r *pieceReader) frame() ([]byte, error) {
	var head [frameHeader]byte
	if r.To-r.at < frameHeader {
		return nil, r.bad("a frame does not fit in what is left of the piece")
	}
	if err := readPart(r.name, r.r, head[:], r.place()); err != nil {
		return nil, err
	}
	f, ok := decodeFrame(head[:], r.seed, r.offset(r.at), int64(r.To-r.at))
	if !ok || f.size() > int64(r.To-r.at) {
		return nil, r.bad("a bad frame")
	}
	body, err := readBody(r.r, int(f.size())-frameHeader)
	if err != nil {
		return nil, readFailed(r.name, r.place()+frameHeader+int64(len(body)), err)
	}
	payload := body[:f.length:f.length]
	if crc32.Checksum(payload, castagnoli) != f.payload {
		return nil, r.bad("the checksum of a frame's payload is wrong")
	}
	if len(bytes.Trim(body[f.length:], "\x00")) > 0 {
		return nil, r.bad("something lies between two frames")
	}
	r.at += LSN(f.size())
	if f.mark {
		return nil, nil
	}
	return payload, nil
}

// end makes sure that nothing follows.
func (r *pieceReader) end() error {
	n, err := io.ReadFull(r.r, make([]byte, 1))
	switch {
	case n > 0:
		return r.bad("something follows the piece")
	case !errors.Is(err, io.EOF):
		return readFailed(r.name, r.place(), err)
	}
	return nil
}

// readBody reads n bytes. It allocates as they come, so that a length alone, however
// well its checksum fits, takes no memory.
func readBody(r io.Reader, n int) ([]byte, error) {
	body := make([]byte, 0, min(n, readChunk))
	for len(body) < n {
		from := len(body)
		body = append(body, make([]byte, min(n-from, readChunk))...)
		got, err := io.ReadFull(r, body[from:])
		if err != nil {
			return body[:from+got], err
		}
	}
	return body, nil
}

func readPart(name string, r io.Reader, b []byte, at int64) error {
	if n, err := io.ReadFull(r, b); err != nil {
		return readFailed(name, at+int64(n), err)
	}
	return nil
}

// readFailed tells an early end, which is damage, from a reader that failed.
func readFailed(name string, at int64, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &CorruptionError{File: name, Offset: at, Reason: "the piece ends too early", Hint: hintArchive}
	}
	return fmt.Errorf("wal: read %s, offset %d: %w", name, at, err)
}
