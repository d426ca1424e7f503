package vfs

import (
	"io"
	"syscall"
)

// A memFile is an open file of a Mem. It keeps its inode after the name is
// gone, as POSIX files do.
type memFile struct {
	m    *Mem
	node *inode
	name string
}

func (f *memFile) enter() error {
	f.m.mu.Lock()
	if f.m.killed {
		return ErrKilled
	}
	return nil
}

// ReadAt implements File.
func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	err := f.enter()
	defer f.m.mu.Unlock()
	if err != nil {
		return 0, pathError("read", f.name, err)
	}
	if off >= int64(f.node.data.size) {
		return 0, io.EOF
	}
	n := f.node.data.read(p, int(off))
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements File.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.enter()
	defer f.m.mu.Unlock()
	if err != nil {
		return 0, pathError("write", f.name, err)
	}
	end, err := f.grow(off + int64(len(p)))
	if end <= off {
		return 0, err
	}
	n := f.node.data.write(p, int(off))
	for b := off / BlockSize; b*BlockSize < off+int64(n); b++ {
		f.node.dirty[int(b)] = true
	}
	return n, err
}

// grow makes the file at least size bytes long, or as long as the disk's
// capacity allows, and returns how many of the size bytes there are now.
func (f *memFile) grow(size int64) (int64, error) {
	have := int64(f.node.data.size)
	if size <= have {
		return size, nil
	}
	var err error
	if limit := f.m.capacity; limit > 0 && f.m.used()+size-have > limit {
		size = max(have, have+limit-f.m.used())
		err = pathError("write", f.name, syscall.ENOSPC)
	}
	f.resize(int(size))
	return size, err
}

// resize changes the size. Bytes that come back after a cut are zero and,
// where a synced block holds something else, not yet on disk.
func (f *memFile) resize(size int) {
	for b := f.node.data.size / BlockSize; b*BlockSize < min(size, f.node.stable.size); b++ {
		f.node.dirty[b] = true
	}
	f.node.data.resize(size)
}

// Sync implements File.
func (f *memFile) Sync() error {
	err := f.enter()
	defer f.m.mu.Unlock()
	if err != nil {
		return pathError("sync", f.name, err)
	}
	n := f.node
	n.stable.resize(n.data.size)
	for b := range n.dirty {
		if from, to := b*BlockSize, min((b+1)*BlockSize, n.data.size); from < to {
			n.stable.take(&n.data, b, to)
		}
	}
	clear(n.dirty)
	return nil
}

// failSync is what ext4, XFS and Btrfs do when writing back fails: the pages
// are marked clean and still read as written, but are not on disk, and no
// later sync will put them there.
func (f *memFile) failSync() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	clear(f.node.dirty)
}

// Allocate implements File.
func (f *memFile) Allocate(size int64) error {
	err := f.enter()
	defer f.m.mu.Unlock()
	if err != nil {
		return pathError("allocate", f.name, err)
	}
	_, err = f.grow(size)
	return err
}

// Truncate implements File.
func (f *memFile) Truncate(size int64) error {
	err := f.enter()
	defer f.m.mu.Unlock()
	if err != nil {
		return pathError("truncate", f.name, err)
	}
	if size > int64(f.node.data.size) {
		_, err = f.grow(size)
		return err
	}
	f.node.data.resize(int(size))
	return nil
}

// Size implements File.
func (f *memFile) Size() (int64, error) {
	err := f.enter()
	defer f.m.mu.Unlock()
	if err != nil {
		return 0, pathError("size", f.name, err)
	}
	return int64(f.node.data.size), nil
}

// Close implements File.
func (f *memFile) Close() error { return nil }
