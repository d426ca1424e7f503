package migrate

import "slices"

// The fail points of a move, in the order in which it passes them. What is named
// like a phase comes before the step, what is named like its end after it.
const (
	pointSourcePlan      = "migrate.source.plan"      // before the handshake
	pointSourceCopy      = "migrate.source.copy"      // before each step of the copy
	pointSourceCopied    = "migrate.source.copied"    // the copy is through, changes still stream
	pointSourceSeal      = "migrate.source.seal"      // before the seal
	pointSourceSealing   = "migrate.source.sealing"   // sealed, but the seal is not durable
	pointSourceSealed    = "migrate.source.sealed"    // the seal is durable, the target not told
	pointSourceComplete  = "migrate.source.complete"  // the target has everything, and said so
	pointSourceCommit    = "migrate.source.commit"    // before the manager is asked
	pointSourceCommitted = "migrate.source.committed" // the manager has said yes
	pointSourceAbort     = "migrate.source.abort"     // before the source itself swaps an abort
	pointSourceActivate  = "migrate.source.activate"  // before the target is told to read the document
	pointSourceDrop      = "migrate.source.drop"      // a document says committed, the node drops next
	pointSourceDropped   = "migrate.source.dropped"   // requests are let go
	pointSourceUnseal    = "migrate.source.unseal"    // a document says aborted, the node unseals next

	pointTargetPlan      = "migrate.target.plan"      // a handshake came, before reading the document
	pointTargetStage     = "migrate.target.stage"     // before what is left in the range is wiped
	pointTargetStaged    = "migrate.target.staged"    // ready, the source not told
	pointTargetCopy      = "migrate.target.copy"      // before a batch is applied
	pointTargetCopied    = "migrate.target.copied"    // applied, not durable
	pointTargetSeal      = "migrate.target.seal"      // before the completion is logged
	pointTargetSealing   = "migrate.target.sealing"   // logged, not durable
	pointTargetSealed    = "migrate.target.sealed"    // durable, the source not told
	pointTargetCommit    = "migrate.target.commit"    // before each look at the document for a decision
	pointTargetActivate  = "migrate.target.activate"  // a document says committed, the node activates next
	pointTargetActivated = "migrate.target.activated" // it serves
	pointTargetUnstage   = "migrate.target.unstage"   // a document says aborted, the node unstages next
)

var points = [...]string{
	pointSourcePlan, pointTargetPlan, pointTargetStage, pointTargetStaged,
	pointSourceCopy, pointTargetCopy, pointTargetCopied, pointSourceCopied,
	pointSourceSeal, pointSourceSealing, pointSourceSealed,
	pointTargetSeal, pointTargetSealing, pointTargetSealed,
	pointSourceComplete, pointSourceCommit, pointTargetCommit, pointSourceCommitted,
	pointSourceActivate, pointSourceDrop, pointTargetActivate, pointTargetActivated, pointSourceDropped,
	pointSourceAbort, pointSourceUnseal, pointTargetUnstage,
}

// Points returns the names of all fail points of this package: first those of a
// move that succeeds, in about the order in which it passes them, then those of
// one that is aborted.
func Points() []string { return slices.Clone(points[:]) }
