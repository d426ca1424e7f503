//go:build unix

package table

import "golang.org/x/sys/unix"

// extent is a piece of address space taken from the system at once.
type extent struct {
	mem    []byte
	mapped bool
}

// mapExtent maps zeroed memory. Where the system refuses (a limit on address
// space), the heap serves: slower to scan past, but right.
func mapExtent(size int) extent {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return extent{mem: make([]byte, size)}
	}
	return extent{mem: mem, mapped: true}
}

func (e extent) unmap() error {
	if !e.mapped {
		return nil
	}
	return unix.Munmap(e.mem)
}

// discard lets the system take the memory behind b; the address stays valid and
// its content is lost. It reports whether it did.
func discard(b []byte) bool { return unix.Madvise(b, unix.MADV_DONTNEED) == nil }
