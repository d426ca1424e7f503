package protocol

const (
	// DefaultScanCount is the COUNT of a SCAN that gives none.
	DefaultScanCount = 10

	// MaxScanCount bounds the COUNT of one SCAN; a greater one is taken for it,
	// as COUNT is a hint and the cursor goes on.
	MaxScanCount = 10_000

	// MaxPattern is the longest pattern that SCAN takes: Match needs time in
	// proportion to the lengths of pattern and key, and a key may be long.
	MaxPattern = 1 << 10
)

// ScanArgs is SCAN taken apart.
type ScanArgs struct {
	Cursor uint64
	Match  []byte // nil: every key
	Count  int    // 1 to MaxScanCount
}

// ParseScan parses SCAN.
func ParseScan(args [][]byte) (ScanArgs, error) {
	if !CmdScan.takes(args) {
		return ScanArgs{}, WrongArity(CmdScan)
	}
	cursor, ok := ParseUint(args[1])
	if !ok {
		return ScanArgs{}, &Error{Code: ERR, Message: "invalid cursor; begin with 0 and go on with what SCAN answered"}
	}
	scan := ScanArgs{Cursor: cursor, Count: DefaultScanCount}
	for rest := args[2:]; len(rest) > 0; rest = rest[2:] {
		if len(rest) < 2 {
			return ScanArgs{}, syntaxError(CmdScan)
		}
		if err := scan.option(rest[0], rest[1]); err != nil {
			return ScanArgs{}, err
		}
	}
	return scan, nil
}

func (scan *ScanArgs) option(word, value []byte) error {
	switch {
	case isWord(word, "match"):
		if len(value) > MaxPattern {
			return tooLarge("pattern", len(value), MaxPattern)
		}
		scan.Match = value
		if string(value) == "*" {
			scan.Match = nil
		}
	case isWord(word, "count"):
		count, ok := ParseUint(value)
		if !ok {
			return notInteger()
		}
		if count == 0 {
			return syntaxError(CmdScan)
		}
		scan.Count = int(min(count, MaxScanCount))
	default:
		return syntaxError(CmdScan)
	}
	return nil
}
