package snapshot

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/quoitdb/quoit/ring"
)

// The bytes of a part file, drawn in docs/snapshot-format.md. This file and
// block.go are the only places that know them. All numbers are little-endian.
const (
	// FormatVersion is the version of the part files that this build writes, and the newest that it reads.
	FormatVersion = 1

	headerMagic = "QUOITPRT"
	footerMagic = "QUOITEND"

	headerSize     = 64
	trailerSize    = 12 // behind each block
	indexEntrySize = 32
	footerSize     = 96
	minFile        = headerSize + footerSize

	maxRaw    = MaxKey + MaxValue + 64 // of a block: one entry of the largest size
	maxStored = maxRaw + trailerSize
	// MaxPart bounds a part file, in bytes.
	MaxPart = 1 << 40
	// maxIndex bounds the index, which a reader holds as a whole.
	maxIndex = 64 << 20
)

// What a block's checksum is bound to in place of a block number.
const indexNumber = math.MaxUint32

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

// identity is what all pieces of one part file are bound to.
type identity struct {
	snapshot ID
	part     uint32
}

// seed returns the state from which the checksum of a piece goes on.
func (i identity) seed(number uint32) uint32 {
	var b [24]byte
	copy(b[:], i.snapshot[:])
	le.PutUint32(b[16:], i.part)
	le.PutUint32(b[20:], number)
	return crc32.Checksum(b[:], castagnoli)
}

// header opens a part file.
//
//	0 magic, 8 version, 12 zero, 16 snapshot, 32 part, 36 zeros, 60 crc of 0 to 59
//
// Every future version keeps magic, version and crc where they are.
func (i identity) header() []byte {
	b := make([]byte, headerSize)
	copy(b, headerMagic)
	le.PutUint32(b[8:], FormatVersion)
	copy(b[16:], i.snapshot[:])
	le.PutUint32(b[32:], i.part)
	le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// decodeHeader reads a header of headerSize bytes. The fault is empty if it is
// one; version is then what it says, and only of version 1 is the rest known.
func decodeHeader(b []byte) (i identity, version uint32, fault string) {
	if string(b[:8]) != headerMagic {
		return i, 0, "it does not begin as a snapshot part does"
	}
	if crc32.Checksum(b[:60], castagnoli) != le.Uint32(b[60:]) {
		return i, 0, "checksum does not match"
	}
	copy(i.snapshot[:], b[16:])
	i.part = le.Uint32(b[32:])
	return i, le.Uint32(b[8:]), ""
}

// Block describes a block of a part file, as the index has it.
type Block struct {
	First, Last ring.Position // of its first and last entry
	Offset      int64         // in the file
	Stored      uint32        // bytes in the file, with the trailer
	Raw         uint32        // bytes of its entries before compression
	Entries     uint32
	crc         uint32 // of the trailer
}

// end returns the offset behind the block.
func (b Block) end() int64 { return b.Offset + int64(b.Stored) }

// span returns the positions of the block as a range of the ring.
func (b Block) span() ring.Range { return ring.Range{Start: b.First - 1, End: b.Last} }

// appendIndex appends the index of the blocks.
//
//	0 first, 4 last, 8 offset, 16 stored, 20 raw, 24 entries, 28 crc
func appendIndex(to []byte, blocks []Block) []byte {
	for _, b := range blocks {
		to = le.AppendUint32(to, uint32(b.First))
		to = le.AppendUint32(to, uint32(b.Last))
		to = le.AppendUint64(to, uint64(b.Offset))
		to = le.AppendUint32(to, b.Stored)
		to = le.AppendUint32(to, b.Raw)
		to = le.AppendUint32(to, b.Entries)
		to = le.AppendUint32(to, b.crc)
	}
	return to
}

// decodeIndex reads the index of a part and checks it against the footer f.
func decodeIndex(b []byte, f footer) (blocks []Block, fault string) {
	if crc32.Update(f.seed(indexNumber), castagnoli, b) != f.indexCRC {
		return nil, "checksum does not match"
	}
	blocks = make([]Block, 0, len(b)/indexEntrySize)
	sum := PartInfo{IndexOffset: headerSize}
	for ; len(b) >= indexEntrySize; b = b[indexEntrySize:] {
		block := Block{
			First: ring.Position(le.Uint32(b)), Last: ring.Position(le.Uint32(b[4:])), Offset: int64(le.Uint64(b[8:])),
			Stored: le.Uint32(b[16:]), Raw: le.Uint32(b[20:]), Entries: le.Uint32(b[24:]), crc: le.Uint32(b[28:]),
		}
		switch {
		case block.Offset != sum.IndexOffset, block.Stored <= trailerSize, block.Stored > maxStored:
			return nil, "blocks do not follow each other"
		case block.Raw == 0, block.Raw > maxRaw, block.Entries == 0, block.Entries > block.Raw:
			return nil, "a block has an impossible size"
		case block.First > block.Last, len(blocks) > 0 && block.First < sum.Last:
			return nil, "blocks are not in ring order"
		}
		if len(blocks) == 0 {
			sum.First = block.First
		}
		sum.Last, sum.IndexOffset = block.Last, block.end()
		sum.Entries += uint64(block.Entries)
		sum.Raw += uint64(block.Raw)
		blocks = append(blocks, block)
	}
	if sum.First != f.First || sum.Last != f.Last || sum.IndexOffset != f.IndexOffset || sum.Entries != f.Entries || sum.Raw != f.Raw {
		return nil, "sums differ from those of the footer"
	}
	return blocks, ""
}

// footer closes a part file. Size and CRC of its PartInfo are not in it.
type footer struct {
	PartInfo
	indexCRC uint32
}

func (f footer) seed(number uint32) uint32 { return identity{f.Snapshot, f.Number}.seed(number) }

// encode returns the footer.
//
//	 0 index offset, 8 index length, 16 entries, 24 raw bytes, 32 newest version,
//	40 snapshot, 56 part, 60 blocks, 64 first, 68 last, 72 index crc, 76 zero,
//	80 version, 84 crc of 0 to 83, 88 magic
//
// Every future version keeps the last 16 bytes.
func (f footer) encode() []byte {
	b := make([]byte, footerSize)
	le.PutUint64(b, uint64(f.IndexOffset))
	le.PutUint64(b[8:], uint64(f.IndexLength))
	le.PutUint64(b[16:], f.Entries)
	le.PutUint64(b[24:], f.Raw)
	le.PutUint64(b[32:], f.Newest)
	copy(b[40:], f.Snapshot[:])
	le.PutUint32(b[56:], f.Number)
	le.PutUint32(b[60:], f.Blocks)
	le.PutUint32(b[64:], uint32(f.First))
	le.PutUint32(b[68:], uint32(f.Last))
	le.PutUint32(b[72:], f.indexCRC)
	le.PutUint32(b[80:], FormatVersion)
	le.PutUint32(b[84:], crc32.Checksum(b[:84], castagnoli))
	copy(b[88:], footerMagic)
	return b
}

// decodeFooter reads the footer of a file of the given size.
func decodeFooter(b []byte, size int64) (f footer, fault string) {
	if string(b[88:]) != footerMagic {
		return f, "it does not end as a snapshot part does: its end is missing, or it is no such file"
	}
	if crc32.Checksum(b[:84], castagnoli) != le.Uint32(b[84:]) || le.Uint32(b[80:]) != FormatVersion {
		return f, "checksum does not match"
	}
	f.PartInfo = PartInfo{
		Number: le.Uint32(b[56:]), Size: size, Blocks: le.Uint32(b[60:]),
		Entries: le.Uint64(b[16:]), Raw: le.Uint64(b[24:]), Newest: le.Uint64(b[32:]),
		First: ring.Position(le.Uint32(b[64:])), Last: ring.Position(le.Uint32(b[68:])),
		IndexOffset: int64(le.Uint64(b)), IndexLength: int64(le.Uint64(b[8:])),
	}
	copy(f.Snapshot[:], b[40:])
	f.indexCRC = le.Uint32(b[72:])
	if fault := f.layoutFault(); fault != "" {
		return f, fault
	}
	return f, ""
}

// layoutFault says what is impossible about sizes and places, or nothing.
func (p PartInfo) layoutFault() string {
	switch {
	case p.Size < minFile || p.Size > MaxPart:
		return "it has an impossible size"
	case p.IndexLength < 0 || p.IndexLength > maxIndex || p.IndexLength != int64(p.Blocks)*indexEntrySize:
		return "its index has an impossible size"
	case p.IndexOffset != p.Size-footerSize-p.IndexLength:
		return "its index does not end at the footer: something is missing or too much"
	case p.First > p.Last || (p.Blocks == 0) != (p.Entries == 0):
		return "its sums contradict each other"
	}
	return ""
}
