package vfs

import (
	"bytes"
	"slices"
)

// content is the bytes of a file in blocks, of which nil ones are zeros. A block is never
// changed once it is there, but replaced, so that files and their copies share those that
// are equal: most of a log is space that is reserved and not written.
type content struct {
	size   int
	blocks []*block // as many as size needs; behind size there are zeros
}

type block [BlockSize]byte

func (c *content) clone() content { return content{c.size, slices.Clone(c.blocks)} }

// resize cuts, or adds zeros.
func (c *content) resize(size int) {
	n := (size + BlockSize - 1) / BlockSize
	if size < c.size {
		clear(c.blocks[n:])
		c.blocks = c.blocks[:n]
		if rest := size % BlockSize; rest > 0 && c.blocks[n-1] != nil {
			cut := new(block)
			copy(cut[:rest], c.blocks[n-1][:])
			c.blocks[n-1] = cut
		}
	} else if n > len(c.blocks) {
		c.blocks = append(c.blocks, make([]*block, n-len(c.blocks))...)
	}
	c.size = size
}

// read fills p from off on, which must lie in the file, and returns how much there was.
func (c *content) read(p []byte, off int) int {
	p = p[:min(len(p), c.size-off)]
	for done := 0; done < len(p); {
		at := off + done
		part := p[done:min(len(p), done+BlockSize-at%BlockSize)]
		if b := c.blocks[at/BlockSize]; b != nil {
			copy(part, b[at%BlockSize:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	return len(p)
}

// write replaces what lies from off on, as far as the file goes, and returns how much that
// was.
func (c *content) write(p []byte, off int) int {
	p = p[:min(len(p), c.size-off)]
	for done := 0; done < len(p); {
		at := off + done
		part := p[done:min(len(p), done+BlockSize-at%BlockSize)]
		c.put(at/BlockSize, at%BlockSize, part)
		done += len(part)
	}
	return len(p)
}

// put replaces a part of one block.
func (c *content) put(i, from int, part []byte) {
	was := c.blocks[i]
	if (was == nil || len(part) == BlockSize) && allZero(part) {
		c.blocks[i] = nil
		return
	}
	b := new(block)
	if was != nil {
		*b = *was
	}
	copy(b[from:], part)
	c.blocks[i] = b
}

// take makes block i, as far as to, what it is in other.
func (c *content) take(other *content, i, to int) {
	n := to - i*BlockSize
	switch b := other.blocks[i]; {
	case n == BlockSize || to == c.size:
		c.blocks[i] = b
	case b != nil:
		c.put(i, 0, b[:n])
	default:
		c.put(i, 0, make([]byte, n))
	}
}

// noBytes is what a block holds that is not there.
var noBytes block

func allZero(p []byte) bool { return bytes.Equal(p, noBytes[:len(p)]) }
