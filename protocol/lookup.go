package protocol

// A command name of 2 to 16 bytes is two words: its first eight bytes (or what
// there is of them) and its last eight, in lower case. Two names of one length
// are the same if and only if their words are, so a name is found by one hash
// and three comparisons, without a loop over its bytes.

const (
	minName = 2
	maxName = 16

	indexBits = 8
	indexSize = 1 << indexBits
)

// nameWords is a name as Lookup compares it.
type nameWords struct {
	head, tail uint64
	size       int
}

type indexSlot struct {
	name    nameWords
	command Command // 0: the slot is free
}

// index is an open addressing table of all names and aliases, built once from
// specs and never changed. It is sparse, so a search for any name ends.
var index = buildIndex()

func buildIndex() *[indexSize]indexSlot {
	table := new([indexSize]indexSlot)
	for _, c := range Commands() {
		add(table, c, specs[c].Name)
		for _, alias := range specs[c].Aliases {
			add(table, c, alias)
		}
	}
	return table
}

func add(table *[indexSize]indexSlot, c Command, name string) {
	words := wordsOf([]byte(name))
	at := words.slot()
	for table[at].command != 0 {
		at = (at + 1) % indexSize
	}
	table[at] = indexSlot{words, c}
}

// Lookup finds a command by its name or an alias, in any case.
func Lookup(name []byte) (Command, bool) {
	if len(name) < minName || len(name) > maxName {
		return 0, false
	}
	words := wordsOf(name)
	for at := words.slot(); ; at = (at + 1) % indexSize {
		slot := &index[at]
		if slot.name == words && slot.command != 0 {
			return slot.command, true
		}
		if slot.command == 0 {
			return 0, false
		}
	}
}

// slot is where the search for a name begins: Fibonacci hashing, the top bits
// of a product with 2^64 divided by the golden ratio.
func (w nameWords) slot() uint64 {
	return (w.head ^ w.tail<<1) * 0x9e3779b97f4a7c15 >> (64 - indexBits)
}

// wordsOf splits a name of minName to maxName bytes.
func wordsOf(b []byte) nameWords {
	n := len(b)
	switch {
	case n >= 8:
		return nameWords{lower(load64(b)), lower(load64(b[n-8:])), n}
	case n >= 4:
		return nameWords{lower(load32(b) | load32(b[n-4:])<<32), 0, n}
	default:
		return nameWords{lower(uint64(b[0]) | uint64(b[1])<<8 | uint64(b[n-1])<<16), 0, n}
	}
}

// lower makes the letters A-Z among eight bytes lower case, and leaves every
// other byte as it is: "_" must not meet DEL. The sums cannot carry from one
// byte into the next, for the top bits are taken out before.
func lower(w uint64) uint64 {
	const (
		ones = 0x0101010101010101
		tops = 0x80 * ones
	)
	low := w &^ tops
	fromA := low + (0x80-'A')*ones     // top bit: the byte is at least 'A'
	pastZ := low + (0x80-('Z'+1))*ones // top bit: it is more than 'Z'
	letters := (fromA &^ pastZ) &^ w & tops
	return w | letters>>2
}

// load64 and load32 are little-endian loads; the compiler makes each a single one.
func load64(b []byte) uint64 {
	b = b[:8]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

func load32(b []byte) uint64 {
	b = b[:4]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24
}

// isWord says whether b is a keyword, given in lower case, in any case.
func isWord(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != word[i] {
			return false
		}
	}
	return true
}
