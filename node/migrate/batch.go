package migrate

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A batch is the payload of one STAGE_DATA: records of the engine, one after the
// other, behind a checksum of them.
//
//	+-------------------+---------------------------+
//	| CRC32C of records | records                   |
//	| u32 little-endian | as the engine wrote them  |
//	+-------------------+---------------------------+
//
// TCP's own checksum lets one wrong bit in some gigabytes pass, and what is staged
// is going to be the only copy.
const batchHeader = 4

var errBatch = errors.New("migrate: the batch's checksum is wrong, or it is cut short")

// startBatch appends the room for the checksum; records follow.
func startBatch(b []byte) []byte { return append(b, 0, 0, 0, 0) }

// sealBatch writes the checksum of a batch that is whole.
func sealBatch(b []byte) {
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[batchHeader:], castagnoli()))
}

// openBatch returns the records of a batch.
func openBatch(b []byte) (records []byte, err error) {
	if len(b) < batchHeader {
		return nil, errBatch
	}
	records = b[batchHeader:]
	if binary.LittleEndian.Uint32(b) != crc32.Checksum(records, castagnoli()) {
		return nil, errBatch
	}
	return records, nil
}

// castagnoli returns the table that the standard library keeps for the polynomial;
// asking for it costs a lock-free look.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
