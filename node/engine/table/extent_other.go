//go:build !unix

package table

// extent is a piece of memory taken from the heap at once.
type extent struct{ mem []byte }

func mapExtent(size int) extent { return extent{mem: make([]byte, size)} }

func (e extent) unmap() error { return nil }

// discard lets the system take the memory behind b. The heap cannot.
func discard([]byte) bool { return false }
