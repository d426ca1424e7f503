package protocol

import "math"

// The messages from the source of a move to its target, over a connection of
// their own: STAGE_RANGE, then STAGE_DATA as often as it takes, then STAGE_SEAL.

// StageRange is STAGE_RANGE move start end source: the source opens a move at
// the target. The answer is READY or COMPLETE.
type StageRange struct {
	Move       []byte
	Start, End uint32
	Source     []byte
}

// ParseStageRange parses STAGE_RANGE.
func ParseStageRange(args [][]byte) (StageRange, error) {
	f := fieldsOf(CmdStageRange, args)
	m := StageRange{Move: f.name("move"), Start: f.position("start"), End: f.position("end"), Source: f.name("source")}
	return m, f.result()
}

// Append appends the request.
func (m StageRange) Append(b []byte) []byte {
	b = appendMember(b, CmdStageRange, 4)
	b = AppendBulk(b, m.Move)
	b = AppendBulkUint(b, uint64(m.Start))
	b = AppendBulkUint(b, uint64(m.End))
	return AppendBulk(b, m.Source)
}

// StageData is STAGE_DATA move seq payload: the next records of a move. What
// the payload is made of is between source and target.
type StageData struct {
	Move    []byte
	Seq     uint64
	Payload []byte
}

// ParseStageData parses STAGE_DATA.
func ParseStageData(args [][]byte) (StageData, error) {
	f := fieldsOf(CmdStageData, args)
	m := StageData{Move: f.name("move"), Seq: f.uint("seq", math.MaxInt64), Payload: f.next()}
	return m, f.result()
}

// Append appends the request.
func (m StageData) Append(b []byte) []byte {
	b = appendMember(b, CmdStageData, 3)
	b = AppendBulk(b, m.Move)
	b = AppendBulkUint(b, m.Seq)
	return AppendBulk(b, m.Payload)
}

// StageSeal is STAGE_SEAL move seq version count: that was all of it.
type StageSeal struct {
	Move  []byte
	Seq   uint64
	HLC   uint64 // the source's newest version: the target's clock goes on from there
	Count uint64 // the live keys that the target must now have in the range
}

// ParseStageSeal parses STAGE_SEAL.
func ParseStageSeal(args [][]byte) (StageSeal, error) {
	f := fieldsOf(CmdStageSeal, args)
	m := StageSeal{
		Move: f.name("move"), Seq: f.uint("seq", math.MaxInt64),
		HLC: f.uint("version", math.MaxInt64), Count: f.uint("count", math.MaxInt64),
	}
	return m, f.result()
}

// Append appends the request.
func (m StageSeal) Append(b []byte) []byte {
	b = appendMember(b, CmdStageSeal, 4)
	b = AppendBulk(b, m.Move)
	b = AppendBulkUint(b, m.Seq)
	b = AppendBulkUint(b, m.HLC)
	return AppendBulkUint(b, m.Count)
}
