package wal

import "slices"

// The fail points of the log, in about the order in which it passes them.
const (
	pointRecover   = "wal.recover"   // the segment that a start goes on in is filled, and has no name yet
	pointRecovered = "wal.recovered" // it has its name; what lies before it is not tidied up
	pointWrite     = "wal.write"     // before a group is written
	pointWritten   = "wal.written"   // written, not synced
	pointSynced    = "wal.synced"    // durable, nobody has been told
	pointReserve   = "wal.reserve"   // before space is reserved for the next segment
	pointSegment   = "wal.segment"   // a segment is full; before the next one gets its name
	pointSegmented = "wal.segmented" // it has its name and nothing in it
	pointTruncate  = "wal.truncate"  // the mark that gives segments up is durable, none of them is gone
	pointTruncated = "wal.truncated" // they are gone
	pointClose     = "wal.close"     // everything is durable, before the mark of an orderly end
)

// Points returns the names of all fail points of this package.
func Points() []string { return slices.Clone(points[:]) }

var points = [...]string{
	pointRecover, pointRecovered, pointWrite, pointWritten, pointSynced, pointReserve,
	pointSegment, pointSegmented, pointTruncate, pointTruncated, pointClose,
}
