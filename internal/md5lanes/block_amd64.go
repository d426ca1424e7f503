package md5lanes

import "golang.org/x/sys/cpu"

var vectors = cpu.X86.HasAVX2

// block computes the first word of the MD5 of each column of words.
//
//go:noescape
func block(first *[lanes]uint32, words *[16][lanes]uint32)
