package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// The bytes on disk. docs/wal-format.md draws them; everything that encodes or
// decodes them is in this file. All numbers are little-endian.
//
// A segment is a file of a fixed size, reserved before its first use:
//
//	0      header, 72 bytes, in a block of its own
//	4096   frames, one after the other, each at a multiple of 8
//	size
//
// The byte of the log at LSN n lies in the segment with start <= n, at offset
// 4096 + n - start.
const (
	formatVersion = 1
	magic         = "QUOITWAL"

	headerLen  = 72   // bytes of header that mean something
	headerSize = 4096 // where the frames begin; a sector that data never shares

	frameHeader = 16
	frameAlign  = 8
	markFlag    = 1 << 31 // in a frame's length: not records but a mark
	lengthMask  = 1<<30 - 1

	// maxSegment keeps every length and distance within 30 bits.
	maxSegment = 1 << 30
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

// A header opens every segment. It is durable before the segment gets its
// name, and never changes afterwards.
type header struct {
	version uint32
	log     uint64 // random, the same in all segments of one log
	number  uint64 // the segment's own, also in its name
	start   LSN    // where the segment before ended
	synced  LSN    // everything below was durable when this was written
	oldest  LSN    // the log begins here; segments that end at or before it may be gone
	size    int64  // of the file
}

// encode returns the first headerLen bytes of the segment.
func (h header) encode() []byte {
	b := make([]byte, 0, headerLen)
	b = append(b, magic...)
	b = le.AppendUint32(b, h.version)
	b = le.AppendUint32(b, 0) // reserved
	b = le.AppendUint64(b, h.log)
	b = le.AppendUint64(b, h.number)
	b = le.AppendUint64(b, uint64(h.start))
	b = le.AppendUint64(b, uint64(h.synced))
	b = le.AppendUint64(b, uint64(h.oldest))
	b = le.AppendUint64(b, uint64(h.size))
	b = le.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return le.AppendUint32(b, 0) // reserved
}

// Reasons why a header is refused. A future version keeps the magic, the
// version and the checksum where they are, so that it is told from damage.
var (
	errNotSegment     = errors.New("not a segment of a quoit log")
	errHeaderChecksum = errors.New("the header's checksum is wrong")
	errHeaderValues   = errors.New("the header's values contradict each other")
	errFutureVersion  = errors.New("future format version")
)

func decodeHeader(b []byte) (header, error) {
	if len(b) < headerLen || string(b[:len(magic)]) != magic {
		return header{}, errNotSegment
	}
	if crc32.Checksum(b[:64], castagnoli) != le.Uint32(b[64:]) {
		return header{}, errHeaderChecksum
	}
	h := header{
		version: le.Uint32(b[8:]),
		log:     le.Uint64(b[16:]),
		number:  le.Uint64(b[24:]),
		start:   LSN(le.Uint64(b[32:])),
		synced:  LSN(le.Uint64(b[40:])),
		oldest:  LSN(le.Uint64(b[48:])),
		size:    int64(le.Uint64(b[56:])),
	}
	if h.version != formatVersion {
		return h, errFutureVersion
	}
	if h.size < headerSize || h.size > maxSegment || h.start > h.synced || h.oldest > h.start ||
		h.start%frameAlign != 0 || h.synced-h.start > LSN(h.size) {
		return h, errHeaderValues
	}
	return h, nil
}

// seed starts the checksum of every frame in the segment. CRC-32C maps
// different seeds to different sums of the same bytes, and different numbers
// of one log below 2^32 to different seeds. So a frame that an earlier life of
// a recycled file left at this very offset is never taken for one of ours:
// that is certain, not just likely.
func (h header) seed() uint32 {
	var b [16]byte
	le.PutUint64(b[0:], h.log)
	le.PutUint64(b[8:], h.number)
	return crc32.Checksum(b[:], castagnoli)
}

// A frame is what one write puts into the log:
//
//	0   sum       CRC-32C: segment seed, file offset, bytes 4-16 of this header
//	4   payload   CRC-32C of the payload
//	8   length    of the payload, 30 bits; bit 31 set: a mark, not records
//	12  unsynced  how far before this frame the durable log ended when it was
//	              written: the promise that tells damage from a torn tail
//	16  payload, then zeros up to a multiple of 8
type frame struct {
	payload  uint32
	length   int
	mark     bool
	unsynced uint32
}

// encodeFrame fills in the header of b, whose payload from byte frameHeader to
// its end is already there.
func encodeFrame(b []byte, seed uint32, offset int64, mark bool, unsynced uint32) {
	length := uint32(len(b) - frameHeader)
	if mark {
		length |= markFlag
	}
	le.PutUint32(b[4:], crc32.Checksum(b[frameHeader:], castagnoli))
	le.PutUint32(b[8:], length)
	le.PutUint32(b[12:], unsynced)
	le.PutUint32(b[0:], frameSum(b, seed, offset))
}

func frameSum(b []byte, seed uint32, offset int64) uint32 {
	var at [8]byte
	le.PutUint64(at[:], uint64(offset))
	sum := crc32.Update(seed, castagnoli, at[:])
	return crc32.Update(sum, castagnoli, b[4:frameHeader])
}

// decodeFrame reads the frame header at b and checks everything but the
// payload. room is how many bytes the segment has from the header on.
func decodeFrame(b []byte, seed uint32, offset, room int64) (frame, bool) {
	length := le.Uint32(b[8:])
	f := frame{
		payload:  le.Uint32(b[4:]),
		length:   int(length & lengthMask),
		mark:     length&markFlag != 0,
		unsynced: le.Uint32(b[12:]),
	}
	ok := length&^(lengthMask|markFlag) == 0 &&
		(f.length > 0 || f.mark) &&
		int64(f.length) <= room-frameHeader &&
		int64(f.unsynced) <= offset-headerSize &&
		le.Uint32(b) == frameSum(b, seed, offset)
	return f, ok
}

// size is the number of bytes the frame takes in the segment.
func (f frame) size() int64 { return alignUp(frameHeader + int64(f.length)) }

func alignUp[T int | int64 | LSN](n T) T { return (n + frameAlign - 1) &^ (frameAlign - 1) }

// Marks are frames for the log's own use. An empty one closes the log; one
// with a position gives up everything before it.
const truncateMarkLen = 8

func decodeTruncateMark(payload []byte) (LSN, bool) {
	if len(payload) != truncateMarkLen {
		return 0, false
	}
	return LSN(le.Uint64(payload)), true
}

// Records follow each other in a payload, each behind its length.

var errBadRecord = errors.New("wal: payload holds no whole number of records")

func appendRecord(b, rec []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(rec)))
	return append(b, rec...)
}

// recordSize is how many bytes appendRecord appends.
func recordSize(n int) int {
	size := n + 1
	for n >= 0x80 {
		n >>= 7
		size++
	}
	return size
}

// NextRecord splits the first record off a payload that Replay delivered:
//
//	for len(payload) > 0 {
//		rec, rest, err := wal.NextRecord(payload)
//		...
//		payload = rest
//	}
//
// rec aliases the payload. At the end it is nil, without an error.
func NextRecord(payload []byte) (rec, rest []byte, err error) {
	if len(payload) == 0 {
		return nil, nil, nil
	}
	size, n := binary.Uvarint(payload)
	if n <= 0 || size > uint64(len(payload)-n) {
		return nil, nil, errBadRecord
	}
	end := n + int(size)
	return payload[n:end:end], payload[end:], nil
}

// PayloadStart returns the position before the first record of a payload that
// Replay delivered with this end. The LSN that Append had returned for a record is
// the position behind it:
//
//	lsn := wal.PayloadStart(payload, end) + wal.LSN(len(payload)-len(rest))
func PayloadStart(payload []byte, end LSN) LSN {
	return end - alignUp(frameHeader+LSN(len(payload))) + frameHeader
}

// A piece is a copy of neighbouring frames of one segment, for an archive. Its
// header says what the frames' checksums rest on:
//
//	0   magic "QUOITLOG", u32 version, u32 0
//	16  u64 log, u64 number, u64 start: of the segment
//	40  u64 from, u64 to: the frames lie from here to here
//	56  u32 crc of bytes 0 to 55, u32 0
//	64  the frames, as they lie in the segment
const (
	pieceMagic   = "QUOITLOG"
	pieceVersion = 1
	pieceHeader  = 64
)

// encode returns the header of a piece.
func (p Piece) encode() []byte {
	b := make([]byte, 0, pieceHeader)
	b = append(b, pieceMagic...)
	b = le.AppendUint32(b, pieceVersion)
	b = le.AppendUint32(b, 0) // reserved
	b = le.AppendUint64(b, p.log)
	b = le.AppendUint64(b, p.number)
	b = le.AppendUint64(b, uint64(p.start))
	b = le.AppendUint64(b, uint64(p.From))
	b = le.AppendUint64(b, uint64(p.To))
	b = le.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return le.AppendUint32(b, 0) // reserved
}

var (
	errNotPiece    = errors.New("not a piece of a quoit log")
	errPieceValues = errors.New("the values in the header of the piece contradict each other")
)

func decodePiece(b []byte) (Piece, error) {
	if len(b) < pieceHeader || string(b[:len(pieceMagic)]) != pieceMagic {
		return Piece{}, errNotPiece
	}
	if crc32.Checksum(b[:56], castagnoli) != le.Uint32(b[56:]) {
		return Piece{}, errHeaderChecksum
	}
	if version := le.Uint32(b[8:]); version != pieceVersion {
		return Piece{}, fmt.Errorf("%w %d; this build reads version %d", errFutureVersion, version, pieceVersion)
	}
	p := Piece{
		log: le.Uint64(b[16:]), number: le.Uint64(b[24:]), start: LSN(le.Uint64(b[32:])),
		From: LSN(le.Uint64(b[40:])), To: LSN(le.Uint64(b[48:])),
	}
	if p.start > p.From || p.From >= p.To || p.To-p.start > maxSegment ||
		p.start%frameAlign != 0 || p.From%frameAlign != 0 || p.To%frameAlign != 0 || le.Uint32(b[12:]) != 0 || le.Uint32(b[60:]) != 0 {
		return Piece{}, errPieceValues
	}
	return p, nil
}

// Names.

const (
	segmentSuffix = ".wal"
	sparePrefix   = "spare-"
	lockName      = "LOCK"
	numberDigits  = 16
)

func segmentName(number uint64) string {
	s := strconv.FormatUint(number, 10)
	return strings.Repeat("0", max(0, numberDigits-len(s))) + s + segmentSuffix
}

// parseSegmentName accepts exactly what segmentName makes.
func parseSegmentName(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, err == nil && segmentName(number) == name
}

func spareName(n int) string { return sparePrefix + strconv.Itoa(n) }
