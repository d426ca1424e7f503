package table

import (
	"errors"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	chunkSize  = 64 << 10
	extentSize = 4 << 20
	// keepFree is how many bytes of free memory a pool keeps resident however
	// little is in use: what one burst of deletions and insertions passes back
	// and forth should not go through the system each time.
	keepFree = 4 << 20
)

// chunk is the unit in which tables take memory for entries.
type chunk [chunkSize]byte

// Slabs hands out memory that the garbage collector does not look at: chunks for
// entries and pages for indexes. It takes it from the system 4 MiB at a time,
// keeps what tables give back for the next one that asks, and lets the system
// have the pages of what nobody has asked for. It is shared by many tables and
// safe for concurrent use.
type Slabs struct {
	mu      sync.Mutex
	chunks  pool[chunk] // guarded by mu
	pages   pool[page]  // guarded by mu
	extents []extent    // guarded by mu

	used atomic.Int64 // bytes handed out, and of entries on the heap; read without mu
}

// SlabStats counts the memory of a [Slabs] in bytes.
type SlabStats struct {
	InUse    int64 // handed out to tables
	Free     int64 // kept for the next table, resident
	Returned int64 // address space kept, memory given back or never touched
}

// pool holds the free pieces of one size.
type pool[T any] struct {
	dirty []*T // resident; the one freed last is handed out first, it is warm
	clean []*T // not resident
	inUse int
}

// NewSlabs returns an empty allocator; it takes memory when the first table asks.
func NewSlabs() *Slabs { return &Slabs{} }

// Stats returns the memory figures.
func (s *Slabs) Stats() SlabStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chunks.stats().plus(s.pages.stats())
}

// Used is how many bytes all tables hold, entries that are on the heap among them. It
// costs one load: a writer may ask before each write.
func (s *Slabs) Used() int64 { return s.used.Load() }

// Close gives all memory back to the system. Every table must have been released
// before, and no Entry may be used afterwards.
func (s *Slabs) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.chunks.inUse + s.pages.inUse; n > 0 {
		return errors.New("table: close slabs: a table still holds memory")
	}
	// The pools go first: a pointer into unmapped memory must not be left where
	// the garbage collector could find it when Go maps the same place.
	s.chunks, s.pages = pool[chunk]{}, pool[page]{}
	var errs []error
	for _, e := range s.extents {
		errs = append(errs, e.unmap())
	}
	s.extents = nil
	return errors.Join(errs...)
}

func (s *Slabs) takeChunk() *chunk { return take(s, &s.chunks) }

func (s *Slabs) giveChunk(c *chunk) { give(s, &s.chunks, c) }

func (s *Slabs) takePage() *page { return take(s, &s.pages) }

func (s *Slabs) givePage(p *page) { give(s, &s.pages, p) }

// take returns a piece with unspecified content.
func take[T any](s *Slabs, p *pool[T]) *T {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.inUse++
	s.used.Add(int64(unsafe.Sizeof(*new(T))))
	if len(p.dirty) > 0 {
		return pop(&p.dirty)
	}
	if len(p.clean) == 0 {
		e := mapExtent(extentSize)
		s.extents = append(s.extents, e)
		p.clean = cut(p.clean, e.mem)
	}
	return pop(&p.clean)
}

// give takes a piece back, and lets the system have one when many are free.
func give[T any](s *Slabs, p *pool[T], piece *T) {
	s.mu.Lock()
	p.inUse--
	s.used.Add(-int64(unsafe.Sizeof(*piece)))
	p.dirty = append(p.dirty, piece)
	surplus := p.takeSurplus()
	s.mu.Unlock()
	if surplus == nil {
		return
	}
	// Outside the lock: the call takes microseconds.
	discarded := discard(bytesOf(surplus))
	s.mu.Lock()
	defer s.mu.Unlock()
	if discarded {
		p.clean = append(p.clean, surplus)
	} else {
		p.dirty = append(p.dirty, surplus)
	}
}

// takeSurplus removes one resident free piece if there are more than the pool
// should keep. One for each piece given back is enough to keep up.
func (p *pool[T]) takeSurplus() *T {
	var t T
	if len(p.dirty) <= max(keepFree/int(unsafe.Sizeof(t)), p.inUse/8) {
		return nil
	}
	return pop(&p.dirty)
}

func (p *pool[T]) stats() SlabStats {
	var t T
	size := int64(unsafe.Sizeof(t))
	return SlabStats{
		InUse:    size * int64(p.inUse),
		Free:     size * int64(len(p.dirty)),
		Returned: size * int64(len(p.clean)),
	}
}

func (a SlabStats) plus(b SlabStats) SlabStats {
	return SlabStats{InUse: a.InUse + b.InUse, Free: a.Free + b.Free, Returned: a.Returned + b.Returned}
}

// cut divides an extent into pieces, so that the lowest is popped first.
func cut[T any](free []*T, mem []byte) []*T {
	var t T
	n := len(mem) / int(unsafe.Sizeof(t))
	pieces := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(mem))), n) //nolint:gosec // mem is page-aligned.
	for i := n - 1; i >= 0; i-- {
		free = append(free, &pieces[i])
	}
	return free
}

func bytesOf[T any](piece *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(piece)), unsafe.Sizeof(*piece)) //nolint:gosec // The same memory.
}

func pop[T any](list *[]*T) *T {
	last := len(*list) - 1
	piece := (*list)[last]
	(*list)[last] = nil
	*list = (*list)[:last]
	return piece
}
