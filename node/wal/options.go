package wal

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/internal/vfs"
)

// SyncMode says when records become durable.
type SyncMode uint8

const (
	// SyncAlways makes Wait return only after an fsync. Nothing acknowledged
	// after Wait is lost, whatever stops the machine.
	SyncAlways SyncMode = iota
	// SyncInterval writes in the background within a few milliseconds and
	// syncs every Options.Interval. A power failure loses at most that much,
	// the death of the process at most the milliseconds.
	SyncInterval
	// SyncNever writes in the background within a few milliseconds and leaves
	// syncing to the operating system, except at the end of each segment.
	SyncNever
)

// String returns "always", "interval" or "never".
func (m SyncMode) String() string {
	switch m {
	case SyncAlways:
		return "always"
	case SyncInterval:
		return "interval"
	default:
		return "never"
	}
}

// ParseSyncMode is the inverse of String.
func ParseSyncMode(s string) (SyncMode, error) {
	for _, m := range []SyncMode{SyncAlways, SyncInterval, SyncNever} {
		if m.String() == s {
			return m, nil
		}
	}
	return 0, fmt.Errorf("wal: sync mode %q is none of always, interval, never", s)
}

// Options configure a Log. The zero value of each field means its default.
type Options struct {
	FS          vfs.FS        // default vfs.OS()
	Dir         string        // required; made if missing, and used by nothing else
	SegmentSize int64         // default 64 MiB, at most 1 GiB
	Sync        SyncMode      // default SyncAlways
	Interval    time.Duration // SyncInterval only; default 1 s
	MaxPending  int           // bytes buffered before Append waits; default 8 MiB
	MaxRecord   int           // default: what fits a segment; a larger value raises SegmentSize
	Recycle     int           // dropped segments kept for reuse; default 2, negative: none
	OnPoison    func(error)   // called once, in a goroutine of its own, when the log is poisoned

	Points *failpoint.Set // default none

	// Start is where a log begins that does not exist yet, rounded up to a multiple
	// of 8: the end of what a node that has lost its disk got back from elsewhere. A
	// log that exists keeps its positions.
	Start LSN
}

const (
	defaultSegment = 64 << 20
	minSegment     = headerSize + 1024

	// urgentFloor is what a small first segment keeps for AppendUrgent where the
	// disk has that much: hundreds of range records.
	urgentFloor = 64 << 10

	// markRoom is kept free at the end of each segment for the log's own
	// marks, so that closing and truncating work on a full disk.
	markRoom = 256
)

// reserve is how much of a segment is kept for AppendUrgent while there is no
// next one.
func reserve(segmentSize int64) int64 { return segmentSize / 64 &^ (frameAlign - 1) }

// overhead is what a segment holds besides its single largest record.
func overhead(segmentSize int64) int64 {
	return headerSize + markRoom + reserve(segmentSize) + frameHeader + 2*frameAlign
}

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = defaultSegment
	}
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
	if o.MaxPending <= 0 {
		o.MaxPending = 8 << 20
	}
	if o.Recycle == 0 {
		o.Recycle = 2
	}
	o.SegmentSize = roundSegment(max(o.SegmentSize, minSegment))
	if fits := int(o.SegmentSize - overhead(o.SegmentSize)); o.MaxRecord <= 0 {
		o.MaxRecord = fits
	} else if o.MaxRecord > fits {
		o.SegmentSize = roundSegment((int64(o.MaxRecord) + overhead(0)) * 64 / 63)
	}
	switch {
	case o.Dir == "":
		return o, errors.New("wal: Options.Dir is empty")
	case o.SegmentSize > maxSegment:
		return o, fmt.Errorf("wal: a segment of %d bytes is larger than the largest possible, %d", o.SegmentSize, maxSegment)
	}
	return o, nil
}

// roundSegment makes a size a multiple of a disk sector.
func roundSegment(n int64) int64 { return (n + 511) &^ 511 }
