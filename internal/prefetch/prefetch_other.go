//go:build !amd64

package prefetch

import "unsafe"

// Line asks for the cache line at p.
func Line(unsafe.Pointer) {}

// Lines asks for the about hundred bytes from p on.
func Lines(unsafe.Pointer) {}
