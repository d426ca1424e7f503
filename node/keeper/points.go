package keeper

import "slices"

// The fail points of a snapshot, in about the order in which it passes them; DESIGN.md
// says what a power cut leaves at each.
const (
	pointWrite     = "keeper.write"     // before a part file is begun
	pointWritten   = "keeper.written"   // it is synced
	pointUpload    = "keeper.upload"    // before a part is sent
	pointUploaded  = "keeper.uploaded"  // the bucket has it
	pointArchive   = "keeper.archive"   // before a piece of the log is sent
	pointArchived  = "keeper.archived"  // the head names it
	pointPublish   = "keeper.publish"   // before the manifest is written
	pointPublished = "keeper.published" // the head names it
	pointAdopt     = "keeper.adopt"     // before it becomes the local one
	pointAdopted   = "keeper.adopted"   // it is
	pointTruncate  = "keeper.truncate"  // before the log is shortened
	pointTruncated = "keeper.truncated" // it is shorter
)

// Points returns the names of all fail points of this package.
func Points() []string { return slices.Clone(points[:]) }

var points = [...]string{
	pointWrite, pointWritten, pointUpload, pointUploaded, pointArchive, pointArchived,
	pointPublish, pointPublished, pointAdopt, pointAdopted, pointTruncate, pointTruncated,
}
