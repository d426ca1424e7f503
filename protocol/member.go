package protocol

import "math"

// The messages between members, but REGISTER and HEARTBEAT: their one argument
// is a document that concerns only its two ends. Each other is a struct with a Parse function and an
// Append method that are each other's inverse. The bytes of a parsed message
// alias the request. A range is (Start, End] in ring positions; names are
// printable ASCII without spaces.

// Refresh is REFRESH counter: the cluster document is at least this new, so
// that whoever has an older one goes and reads it.
type Refresh struct{ Counter uint64 }

// ParseRefresh parses REFRESH.
func ParseRefresh(args [][]byte) (Refresh, error) {
	f := fieldsOf(CmdRefresh, args)
	m := Refresh{Counter: f.uint("counter", math.MaxUint64)}
	return m, f.result()
}

// Append appends the request.
func (m Refresh) Append(b []byte) []byte {
	return AppendBulkUint(appendMember(b, CmdRefresh, 1), m.Counter)
}

// MigrateRange is MIGRATE_RANGE start end target move: the manager asks the
// source to send a range to target.
type MigrateRange struct {
	Start, End uint32
	Target     []byte
	Move       []byte
}

// ParseMigrateRange parses MIGRATE_RANGE.
func ParseMigrateRange(args [][]byte) (MigrateRange, error) {
	f := fieldsOf(CmdMigrateRange, args)
	m := MigrateRange{Start: f.position("start"), End: f.position("end"), Target: f.name("target"), Move: f.name("move")}
	return m, f.result()
}

// Append appends the request.
func (m MigrateRange) Append(b []byte) []byte {
	b = appendMember(b, CmdMigrateRange, 4)
	b = AppendBulkUint(b, uint64(m.Start))
	b = AppendBulkUint(b, uint64(m.End))
	b = AppendBulk(b, m.Target)
	return AppendBulk(b, m.Move)
}

// CommitMove is COMMIT_MOVE move: all is durable at the target, and the source
// asks the manager to make it the owner.
type CommitMove struct{ Move []byte }

// ParseCommitMove parses COMMIT_MOVE.
func ParseCommitMove(args [][]byte) (CommitMove, error) {
	f := fieldsOf(CmdCommitMove, args)
	m := CommitMove{Move: f.name("move")}
	return m, f.result()
}

// Append appends the request.
func (m CommitMove) Append(b []byte) []byte {
	return AppendBulk(appendMember(b, CmdCommitMove, 1), m.Move)
}

// MoveDone is MOVE_DONE dropped|active move [move ...]: the source has dropped its
// copies, or the target serves the ranges.
type MoveDone struct {
	Active bool // false: dropped
	Moves  [][]byte
}

// ParseMoveDone parses MOVE_DONE.
func ParseMoveDone(args [][]byte) (MoveDone, error) {
	f := fieldsOf(CmdMoveDone, args)
	m := MoveDone{}
	switch end := f.name("end"); {
	case isWord(end, "active"):
		m.Active = true
	case !isWord(end, "dropped"):
		f.fail("end is neither dropped nor active")
	}
	for f.more() {
		m.Moves = append(m.Moves, f.name("move"))
	}
	return m, f.result()
}

// Append appends the request.
func (m MoveDone) Append(b []byte) []byte {
	b = appendMember(b, CmdMoveDone, 1+len(m.Moves))
	if m.Active {
		b = AppendBulkString(b, "active")
	} else {
		b = AppendBulkString(b, "dropped")
	}
	for _, move := range m.Moves {
		b = AppendBulk(b, move)
	}
	return b
}
