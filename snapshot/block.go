package snapshot

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/quoitdb/quoit/ring"
)

// A stored block is a payload and a trailer:
//
//	payload, codec u8, 3 zeros, raw length u32, crc u32
//
// The checksum covers payload, codec, zeros and raw length, and goes on from the
// seed of its part and number.
const (
	codecRaw  = 0
	codecZstd = 1
)

// worthwhile: a payload that zstd makes smaller by less than 1/8 is stored raw,
// because writer and readers would pay many times for little. Neighbours on the
// ring have nothing in common but what all values have, so the next unpromising
// blocks are not even tried.
const (
	worthwhile  = 8
	unpromising = 7
)

// maxRatio is more than zstd can do: four bytes stand for at most 128 KiB. It
// bounds what a forged raw length makes a reader allocate.
const maxRatio = 64 << 10

// compressor and decompressor are shared: both only keep scratch memory, one set
// for each processor.
var (
	compressor = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false),
			zstd.WithSingleSegment(true), zstd.WithWindowSize(1<<20), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
		if err != nil {
			panic("snapshot: zstd encoder: " + err.Error()) // The options above are constants.
		}
		return e
	})
	decompressor = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(maxRaw))
		if err != nil {
			panic("snapshot: zstd decoder: " + err.Error()) // Likewise.
		}
		return d
	})
)

// sealBlock appends the trailer to a payload of a block that had size raw bytes,
// and returns both and the checksum.
func sealBlock(payload []byte, codec byte, size int, id identity, number uint32) (stored []byte, crc uint32) {
	stored = append(payload, codec, 0, 0, 0)
	stored = le.AppendUint32(stored, uint32(size))
	crc = crc32.Update(id.seed(number), castagnoli, stored)
	return le.AppendUint32(stored, crc), crc
}

// openBlock returns the raw bytes of a stored block: a part of stored, or to,
// grown where it is too small. The fault is empty if they can be trusted.
func openBlock(stored, to []byte, b Block, id identity, number uint32) (raw []byte, fault string) {
	end := len(stored) - trailerSize
	payload, trailer := stored[:end], stored[end:]
	crc := crc32.Update(id.seed(number), castagnoli, stored[:len(stored)-4])
	if crc != le.Uint32(trailer[8:]) || crc != b.crc {
		return nil, "checksum does not match"
	}
	if le.Uint32(trailer[4:]) != b.Raw {
		return nil, "raw size differs from that in the index"
	}
	switch trailer[0] {
	case codecRaw:
		if len(payload) != int(b.Raw) {
			return nil, "raw size differs from the stored size"
		}
		return payload, ""
	case codecZstd:
		return inflate(payload, to, int(b.Raw))
	default:
		return nil, "codec is unknown"
	}
}

func inflate(payload, to []byte, size int) ([]byte, string) {
	if size/maxRatio > len(payload) {
		return nil, "raw size is impossible"
	}
	if cap(to) < size {
		to = make([]byte, 0, size+size/8)
	}
	raw, err := decompressor().DecodeAll(payload, to[:0:size])
	if err != nil {
		return nil, err.Error()
	}
	if len(raw) != size {
		return nil, "it does not unpack to its raw size"
	}
	return raw, ""
}

// An entry in a raw block:
//
//	uvarint  position, less that of the entry before (0 before the first)
//	uvarint  2 * key length, + 1 if the entry expires
//	uvarint  value length
//	varint   version, less that of the entry before
//	varint   expiry, less the last one in the block; only if the entry expires
//	key, value
//
// coder is what the deltas of the next entry refer to.
type coder struct {
	position ring.Position
	version  uint64
	expire   int64
}

// put appends an entry, which comes after the one before.
func (c *coder) put(to []byte, e *Entry) []byte {
	to = binary.AppendUvarint(to, uint64(e.Position-c.position))
	expires := uint64(0)
	if e.ExpireAt != 0 {
		expires = 1
	}
	to = binary.AppendUvarint(to, uint64(len(e.Key))<<1|expires)
	to = binary.AppendUvarint(to, uint64(len(e.Value)))
	to = binary.AppendVarint(to, int64(e.Version-c.version))
	if expires == 1 {
		to = binary.AppendVarint(to, e.ExpireAt-c.expire)
		c.expire = e.ExpireAt
	}
	c.position, c.version = e.Position, e.Version
	to = append(to, e.Key...)
	return append(to, e.Value...)
}

// entries reads the entries of one raw block.
type entries struct {
	coder
	block Block
	rest  []byte
	left  uint32 // entries still to come
	key   []byte // of the entry before
	fault string // why next has stopped too soon
}

func newEntries(raw []byte, b Block) entries {
	return entries{block: b, rest: raw, left: b.Entries}
}

// next reads the next entry into e. It reports false behind the last one, or at a
// fault: the checksum has vouched for the bytes by then, so that a fault is one
// of the program that wrote them.
func (s *entries) next(e *Entry) bool {
	if s.left == 0 {
		s.end()
		return false
	}
	delta, n1 := uvarint(s.rest)
	klen, n2 := uvarint(s.rest[n1:])
	vlen, n3 := uvarint(s.rest[n1+n2:])
	version, n4 := uvarint(s.rest[n1+n2+n3:])
	if n1 == 0 || n2 == 0 || n3 == 0 || n4 == 0 {
		return s.stop("an entry is cut off")
	}
	rest := s.rest[n1+n2+n3+n4:]
	if delta > uint64(ring.MaxPosition-s.position) {
		return s.stop("an entry lies beyond the end of the ring")
	}
	s.position += ring.Position(delta)
	s.version += uint64(unzigzag(version))
	e.Position, e.Version, e.ExpireAt = s.position, s.version, 0
	if klen&1 != 0 {
		expire, n := uvarint(rest)
		if n == 0 {
			return s.stop("an entry is cut off")
		}
		rest = rest[n:]
		s.expire += unzigzag(expire)
		if s.expire <= 0 {
			return s.stop("an entry has an impossible expiry")
		}
		e.ExpireAt = s.expire
	}
	klen >>= 1
	if klen > MaxKey || vlen > MaxValue || klen+vlen > uint64(len(rest)) {
		return s.stop("an entry is cut off")
	}
	e.Key, e.Value = rest[:klen:klen], rest[klen:klen+vlen:klen+vlen]
	if s.left == s.block.Entries {
		if s.position != s.block.First {
			return s.stop("its first position differs from that in the index")
		}
	} else if delta == 0 && bytes.Compare(s.key, e.Key) >= 0 {
		return s.stop("entries are out of order")
	}
	s.rest, s.key = rest[klen+vlen:], e.Key
	s.left--
	return true
}

// end looks at what is left behind the last entry.
func (s *entries) end() {
	switch {
	case s.fault != "":
	case len(s.rest) > 0:
		s.fault = "something follows the last entry"
	case s.position != s.block.Last:
		s.fault = "its last position differs from that in the index"
	}
}

func (s *entries) stop(fault string) bool {
	s.fault, s.left = fault, 0
	return false
}

// uvarint is binary.Uvarint with the one-byte case in front, and 0 bytes read for
// every fault.
func uvarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	v, n := binary.Uvarint(b)
	return v, max(n, 0)
}

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// fits says whether an entry may be written.
func (e *Entry) fits() bool {
	return len(e.Key) <= MaxKey && len(e.Value) <= MaxValue && e.ExpireAt >= 0 && e.ExpireAt < math.MaxInt64
}
