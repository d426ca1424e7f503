package engine

import (
	"unsafe"

	"github.com/quoitdb/quoit/internal/prefetch"
	"github.com/quoitdb/quoit/ring"
)

// Prefetch tells the session which positions its next operations are about, so
// that the processor fetches their memory all at once and not one after the
// other: at a million keys an operation is mostly waiting for memory. It
// changes nothing and reveals nothing.
func (s *Session) Prefetch(positions []ring.Position) {
	for _, pos := range positions {
		p := s.e.part(pos)
		prefetch.Line(unsafe.Pointer(&p.seen[seenSlot(pos)])) //nolint:gosec // Asked for, never read through.
		p.mu.Lock()
		p.table.PrefetchIndex(pos)
		p.mu.Unlock()
	}
	for _, pos := range positions {
		p := s.e.part(pos)
		p.mu.Lock()
		p.table.PrefetchEntry(pos)
		p.mu.Unlock()
	}
}
