package manager

import "slices"

// The fail points of the manager, in about the order in which it passes them.
const (
	pointFound        = "manager.found"         // before the first document is written
	pointFounded      = "manager.founded"       // it is there
	pointRegister     = "manager.register"      // a node asks to be noted
	pointSwap         = "manager.swap"          // before changes of the document are swapped in
	pointSwapped      = "manager.swapped"       // they are, and nobody has been told
	pointReconcile    = "manager.reconcile"     // before the document is compared with what was asked for
	pointMigrate      = "manager.migrate"       // before a source is asked to send a range
	pointCommitBefore = "manager.commit.before" // a source asks for a commit
	pointCommitAfter  = "manager.commit.after"  // it is in the document, the source not told
	pointDone         = "manager.done"          // one end of a move says that it is done
)

// Points returns the names of all fail points of this package.
func Points() []string { return slices.Clone(points[:]) }

var points = [...]string{
	pointFound, pointFounded, pointRegister, pointSwap, pointSwapped, pointReconcile,
	pointMigrate, pointCommitBefore, pointCommitAfter, pointDone,
}
