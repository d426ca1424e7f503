package node

import "slices"

// The fail points of a node beside its log, its snapshots and its moves, in about the
// order in which a start passes them.
const (
	pointIdentity   = "node.identity"   // before the folder's identity is replaced
	pointIdentified = "node.identified" // it is
	pointJoin       = "node.join"       // before the next incarnation is swapped in
	pointJoined     = "node.joined"     // it is, which ends what ran under the node's name before
	pointDocument   = "node.document"   // a document was read, before the node acts on it
	pointFollow     = "node.follow"     // it has acted on it, and that is not durable
	pointFollowed   = "node.followed"   // it is, and nobody has been told
	pointRestored   = "node.restored"   // a lost disk is restored, and the folder does not say so yet
)

// Points returns the names of all fail points of this package.
func Points() []string { return slices.Clone(points[:]) }

var points = [...]string{
	pointIdentity, pointIdentified, pointJoin, pointJoined,
	pointDocument, pointFollow, pointFollowed, pointRestored,
}
