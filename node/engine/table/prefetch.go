package table

import (
	"unsafe"

	"github.com/quoitdb/quoit/internal/prefetch"
	"github.com/quoitdb/quoit/ring"
)

// PrefetchIndex asks the processor for the part of the index where pos probably
// is, and PrefetchEntry for the entry that is there. Neither waits for the memory
// it asks for, so a caller that knows several keys ahead calls the one for all of
// them, then the other, and their misses overlap. They change nothing, and like
// [Table.Get] they may not run beside a change.
func (t *Table) PrefetchIndex(pos ring.Position) {
	if i := t.index.pageOf(pos); i >= 0 {
		at := hint(pos, t.index.firsts[i], t.index.width(i)) & (pageSlots - 1)
		prefetch.Line(unsafe.Pointer(&t.index.pages[i][at])) //nolint:gosec // Asked for, never read through.
	}
}

// PrefetchEntry is described at [Table.PrefetchIndex].
func (t *Table) PrefetchEntry(pos ring.Position) {
	i := t.index.pageOf(pos)
	if i < 0 {
		return
	}
	p, at := t.index.pages[i], t.index.lowerBound(i, pos)
	for ; at < pageSlots && p[at].pos() == pos; at++ {
		if r := p[at].ref(); r != 0 && r&bigBit == 0 {
			prefetch.Lines(unsafe.Pointer(&t.arena.at(r)[0])) //nolint:gosec // Asked for, never read through.
			return
		}
	}
}
