package wal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/quoitdb/quoit/internal/vfs"
)

// A Piece is a run of whole frames of one segment, all of them durable: what an
// archive keeps of the log.
type Piece struct {
	// From and To are positions: the piece holds the records with From < LSN <= To.
	From, To LSN
	// Closed says that the segment is full: the next piece lies in another one.
	Closed bool

	log, number uint64
	start       LSN // of the segment
}

// Size returns how many bytes CopyPiece writes.
func (p Piece) Size() int64 { return pieceHeader + int64(p.To-p.From) }

// readers counts, by segment number, who has a segment's file open.
type readers map[uint64]int

// GapError says that records are missing: those between From, up to where all is
// there, and Start, where it goes on.
type GapError struct{ From, Start LSN }

// Error names both positions.
func (e *GapError) Error() string {
	return fmt.Sprintf("wal: the records from position %d to %d are missing", e.From, e.Start)
}

// Pieces returns what is durable behind from, one piece for each segment, oldest
// first; nothing when nothing is. The last piece may end in the middle of its
// segment: go on from its To. A from inside a frame is taken back to where the
// frame begins. A *GapError says that Truncate has given up what is asked for.
func (l *Log) Pieces(from LSN) ([]Piece, error) {
	durable := l.Durable()
	l.mu.Lock()
	refuse, segs, pieces := l.refuse, l.segs, []Piece(nil)
	for i, seg := range segs {
		p := Piece{From: max(from, seg.start), To: durable, log: l.id, number: seg.number, start: seg.start}
		if i+1 < len(segs) && segs[i+1].start <= durable {
			p.To, p.Closed = segs[i+1].start, true
		}
		if p.From < p.To {
			pieces = append(pieces, p)
		}
	}
	l.mu.Unlock()
	switch {
	case errors.Is(refuse, ErrClosed):
		return nil, refuse
	case from < l.Start():
		return nil, &GapError{From: from, Start: l.Start()}
	case len(pieces) == 0:
		return nil, nil
	}
	first := &pieces[0]
	err := l.withPiece(*first, func(r *frameReader, _ string) error {
		at, err := frameBefore(r, first.offset(first.From))
		first.From = first.start + LSN(at-headerSize)
		return err
	})
	return pieces, err
}

// offset is where in the file the byte at n lies.
func (p Piece) offset(n LSN) int64 { return headerSize + int64(n-p.start) }

// withPiece calls fn with a reader of the piece's file, which stays as it is
// meanwhile, whatever Truncate does.
func (l *Log) withPiece(p Piece, fn func(r *frameReader, name string) error) error {
	l.mu.Lock()
	if !slices.ContainsFunc(l.segs, func(s *segment) bool { return s.number == p.number && s.start == p.start }) {
		l.mu.Unlock()
		return &GapError{From: p.From, Start: l.Start()}
	}
	if l.reading == nil {
		l.reading = readers{}
	}
	l.reading[p.number]++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.reading[p.number]--; l.reading[p.number] == 0 {
			delete(l.reading, p.number)
		}
	}()
	return readPieceFile(l.o.FS, filepath.Join(l.o.Dir, segmentName(p.number)), p, fn)
}

func readPieceFile(fs vfs.FS, name string, p Piece, fn func(r *frameReader, name string) error) error {
	file, err := fs.Open(name)
	if err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	seed := header{log: p.log, number: p.number}.seed()
	err = fn(&frameReader{file: file, seed: seed, off: headerSize, end: p.offset(p.To)}, name)
	return errors.Join(err, file.Close())
}

// frameBefore returns where the frame begins that holds the byte at off: off itself
// as a rule, which one look tells.
func frameBefore(r *frameReader, off int64) (int64, error) {
	if off%frameAlign == 0 {
		if _, ok, err := r.peek(off); ok || err != nil {
			return off, err
		}
	}
	at := int64(headerSize)
	for at < off {
		f, ok, err := r.peek(at)
		if err != nil || !ok || at+f.size() > off {
			return at, err // A bad frame is for CopyPiece to report.
		}
		at += f.size()
	}
	return at, nil
}

// CopyPiece writes a piece of [Log.Pieces] to w, Size bytes, in a form that
// [ArchiveReader] reads without the log. Every frame is checked on the way:
// damage is a *CorruptionError, and what was written is to be thrown away. It
// needs memory for one frame, and Truncate does not disturb it once it has begun;
// before that it gets a *GapError.
func (l *Log) CopyPiece(w io.Writer, p Piece) error {
	return l.withPiece(p, func(r *frameReader, name string) error {
		b := bufio.NewWriterSize(w, int(min(64<<10, p.Size())))
		if _, err := b.Write(p.encode()); err != nil {
			return fmt.Errorf("wal: copy a piece: %w", err)
		}
		r.off = p.offset(p.From)
		for r.off < r.end {
			if err := copyRaw(b, r, name); err != nil {
				return err
			}
		}
		if err := b.Flush(); err != nil {
			return fmt.Errorf("wal: copy a piece: %w", err)
		}
		return nil
	})
}

// copyRaw copies the next frame with its header and padding.
func copyRaw(w io.Writer, r *frameReader, name string) error {
	at := r.off
	f, _, ok, err := r.next()
	if err == nil && !ok {
		return &CorruptionError{
			File: name, Offset: at, Hint: hintRestore,
			Reason: fmt.Sprintf("a bad frame; the log goes on to offset %d", r.end),
		}
	}
	var raw []byte
	if err == nil {
		raw, err = r.bytes(at, int(f.size()))
	}
	if err != nil {
		return fmt.Errorf("wal: read %s, offset %d: %w", name, at, err)
	}
	if _, err := w.Write(raw); err != nil {
		return fmt.Errorf("wal: copy a piece: %w", err)
	}
	return nil
}
