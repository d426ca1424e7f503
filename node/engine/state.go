package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/quoitdb/quoit/node/wal"
	"github.com/quoitdb/quoit/ring"
)

// State is what a [Checkpoint] is besides its entries.
type State struct {
	// LSN is the position as of which mark, holds and Owned are, at or behind every
	// cut. The log from MinCut to here belongs to the checkpoint: a copy without it
	// is as of no single moment.
	LSN wal.LSN
	// HLC is not older than the version of any record up to any cut.
	HLC Version
	// Mark is the newest document this node had acted on.
	Mark Mark
	// Sealed and Staged are the ranges that moves held, in the order of their names.
	Sealed, Staged []HeldRange
	// Owned are the ranges that were owned or sealed, from position 0 upwards. They
	// are no right to serve after a restart.
	Owned []ring.Range
	// Cuts are the cuts of the partitions.
	Cuts [Partitions]wal.LSN
}

// An encoded State, numbers little-endian, checksum CRC-32C of all before it:
//
//	magic "QUOITCKP", u32 version
//	u64 lsn, u64 hlc
//	u8 length, cluster; u64 epoch, u64 counter
//	256 times u64 cut
//	u32 count, owned ranges: u32 start, u32 end
//	u32 count, sealed holds, u32 count, staged holds:
//	    u8 length, move; u32 start, u32 end, u8 complete, u64 hlc, u64 count
//	u32 checksum
const (
	stateMagic   = "QUOITCKP"
	stateVersion = 1
)

var stateSum = crc32.MakeTable(crc32.Castagnoli)

// Encode returns the state as bytes for [Base].
func (s *State) Encode() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte(stateMagic), stateVersion)
	b = le.AppendUint64(b, uint64(s.LSN))
	b = le.AppendUint64(b, uint64(s.HLC))
	b = appendName(b, s.Mark.Cluster)
	b = le.AppendUint64(b, uint64(s.Mark.Epoch))
	b = le.AppendUint64(b, s.Mark.Counter)
	for _, cut := range s.Cuts {
		b = le.AppendUint64(b, uint64(cut))
	}
	b = le.AppendUint32(b, uint32(len(s.Owned)))
	for _, r := range s.Owned {
		b = appendRange(b, r)
	}
	b = appendHolds(b, s.Sealed)
	b = appendHolds(b, s.Staged)
	return le.AppendUint32(b, crc32.Checksum(b, stateSum))
}

func appendName(b []byte, name string) []byte { return append(append(b, byte(len(name))), name...) }

func appendRange(b []byte, r ring.Range) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Start))
	return binary.LittleEndian.AppendUint32(b, uint32(r.End))
}

func appendHolds(b []byte, holds []HeldRange) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(holds)))
	for _, h := range holds {
		b = appendRange(appendName(b, h.Move), h.Range)
		complete := byte(0)
		if h.Complete {
			complete = 1
		}
		b = le.AppendUint64(append(b, complete), uint64(h.HLC))
		b = le.AppendUint64(b, h.Count)
	}
	return b
}

// DecodeState is the inverse of Encode. It accepts nothing else: [ErrBase].
func DecodeState(b []byte) (*State, error) {
	const head = len(stateMagic) + 4
	if len(b) < head+4 || string(b[:len(stateMagic)]) != stateMagic {
		return nil, fmt.Errorf("%w: these %d bytes are not the state of a checkpoint", ErrBase, len(b))
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, stateSum) != sum {
		return nil, fmt.Errorf("%w: the checksum of its state is wrong", ErrBase)
	}
	if v := binary.LittleEndian.Uint32(b[len(stateMagic):]); v != stateVersion {
		return nil, fmt.Errorf("%w: its state has version %d; this build reads version %d", ErrBase, v, stateVersion)
	}
	d := stateDecoder{rest: body[head:]}
	s := d.state()
	if d.err == nil && len(d.rest) > 0 {
		d.err = fmt.Errorf("%d bytes follow", len(d.rest))
	}
	if d.err == nil {
		d.err = s.check()
	}
	if d.err != nil {
		return nil, fmt.Errorf("%w: its state: %w", ErrBase, d.err)
	}
	return s, nil
}

// check refuses what no checkpoint says.
func (s *State) check() error {
	if s.HLC > maxVersion {
		return errVersion
	}
	for i, cut := range s.Cuts {
		if cut > s.LSN {
			return fmt.Errorf("partition %d was cut at %d, behind the ledger's position %d", i, cut, s.LSN)
		}
	}
	for _, h := range s.Sealed {
		if h.Complete {
			return fmt.Errorf("the sealed range of %q is marked complete", h.Move)
		}
	}
	return nil
}

// stateDecoder reads from the front of rest. After an error all it reads is zero.
type stateDecoder struct {
	rest []byte
	err  error
}

var zeros [256]byte

func (d *stateDecoder) take(n int) []byte {
	if n > len(d.rest) {
		d.err, d.rest = errShort, nil
	}
	if d.err != nil {
		return zeros[:n]
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *stateDecoder) u8() int      { return int(d.take(1)[0]) }
func (d *stateDecoder) u64() uint64  { return binary.LittleEndian.Uint64(d.take(8)) }
func (d *stateDecoder) name() string { return string(d.take(d.u8())) }

func (d *stateDecoder) pos() ring.Position {
	return ring.Position(binary.LittleEndian.Uint32(d.take(4)))
}

// span reads a range: start, then end.
func (d *stateDecoder) span() ring.Range {
	start := d.pos()
	return ring.Range{Start: start, End: d.pos()}
}

// count reads how many things of at least size bytes follow.
func (d *stateDecoder) count(size int) int {
	n := uint64(binary.LittleEndian.Uint32(d.take(4)))
	if n > uint64(len(d.rest)/size) {
		d.err, n = errShort, 0
	}
	return int(n)
}

func (d *stateDecoder) state() *State {
	s := &State{LSN: wal.LSN(d.u64()), HLC: Version(d.u64())}
	s.Mark.Cluster = d.name()
	s.Mark.Epoch, s.Mark.Counter = ring.Epoch(d.u64()), d.u64()
	for i := range s.Cuts {
		s.Cuts[i] = wal.LSN(d.u64())
	}
	for range d.count(8) {
		s.Owned = append(s.Owned, d.span())
	}
	s.Sealed, s.Staged = d.holds(), d.holds()
	return s
}

var errHold = errors.New("a hold without a name, out of order, or with contradicting values")

func (d *stateDecoder) holds() []HeldRange {
	n := d.count(1 + 8 + 1 + 16)
	list := make([]HeldRange, 0, n)
	for i := range n {
		h := HeldRange{Move: d.name(), Range: d.span()}
		complete := d.u8()
		h.Complete, h.HLC, h.Count = complete == 1, Version(d.u64()), d.u64()
		if h.Move == "" || complete > 1 || h.HLC > maxVersion || !h.Complete && (h.HLC != 0 || h.Count != 0) ||
			i > 0 && list[i-1].Move >= h.Move {
			if d.err == nil {
				d.err = errHold
			}
			return list
		}
		list = append(list, h)
	}
	return list
}
