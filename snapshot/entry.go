package snapshot

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/quoitdb/quoit/ring"
)

// Bounds of an entry, in bytes. They bound what a damaged or forged file can make
// a reader allocate; servers have tighter limits of their own.
const (
	MaxKey   = 1 << 20
	MaxValue = 1 << 30
)

// Entry is one key with what it held at the cut.
type Entry struct {
	Position ring.Position // where the key lies on the ring
	Key      []byte
	Value    []byte
	Version  uint64 // of the write that made it
	ExpireAt int64  // Unix time in milliseconds, 0 for never
}

// ID names a snapshot: 16 random bytes, which no other snapshot has.
type ID [16]byte

// NewID returns an ID never returned before, anywhere.
func NewID() ID {
	var id ID
	_, _ = rand.Read(id[:]) // Never fails: see crypto/rand.
	return id
}

// String returns 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is String.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what String returns, and nothing else.
func (id *ID) UnmarshalText(text []byte) error {
	var read ID
	n, err := hex.Decode(read[:], text[:min(len(text), 2*len(read))])
	if err != nil || n != len(read) || len(text) != 2*len(read) || read.String() != string(text) {
		return fmt.Errorf("%.40q is no snapshot id: want %d lower-case hexadecimal digits", text, 2*len(read))
	}
	*id = read
	return nil
}

// PartInfo describes a part file. Together with the object's key it is what a
// manifest has to know of it.
type PartInfo struct {
	Snapshot ID            `json:"snapshot"` // that the blocks are bound to
	Number   uint32        `json:"number"`   // of the part in that snapshot; bound likewise
	Size     int64         `json:"size"`     // bytes of the file
	CRC      uint32        `json:"crc"`      // CRC-32C of the file
	Blocks   uint32        `json:"blocks"`
	Entries  uint64        `json:"entries"`
	Raw      uint64        `json:"raw"`    // bytes of all blocks before compression
	First    ring.Position `json:"first"`  // position of the first entry, 0 without entries
	Last     ring.Position `json:"last"`   // position of the last entry, 0 without entries
	Newest   uint64        `json:"newest"` // highest version, 0 without entries
	// IndexOffset and IndexLength say where the index is; the footer follows it.
	IndexOffset int64 `json:"indexOffset"`
	IndexLength int64 `json:"indexLength"`
}
