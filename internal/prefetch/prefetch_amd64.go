package prefetch

import "unsafe"

// Line asks for the cache line at p.
//
//go:noescape
func Line(p unsafe.Pointer)

// Lines asks for the about hundred bytes from p on.
//
//go:noescape
func Lines(p unsafe.Pointer)
