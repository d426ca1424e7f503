// Package vfs is the small seam between Quoit's log and the disk.
//
// An FS has exactly the calls that a crash-safe log needs and nothing else:
// create, open, rename, remove, list, lock, and the two calls on which every
// durability promise rests, File.Sync for the bytes of a file and FS.SyncDir
// for the names in a directory. A name that was created, renamed or removed is
// durable only after SyncDir of its directory; bytes are durable only after
// Sync of their file. Nothing else is promised, and Mem breaks everything else.
//
// There are three implementations, and one contract suite (package vfstest)
// that the first two pass:
//
//   - OS is the operating system's disk, and Within a folder of it that no name leads
//     out of, which a node's data folder is;
//   - Mem is a disk in memory that can be cloned as a power failure would leave
//     it: synced bytes, and any chosen subset of the rest;
//   - Inject wraps another FS and lets a test fail, cut short or observe any
//     single operation.
//
// All methods of an FS may be called from several goroutines. A File follows
// the rules of io.ReaderAt and io.WriterAt: parallel calls are allowed as long
// as they do not overlap, and Close comes last.
package vfs

import (
	"errors"
	"io"
)

// ErrLocked is returned by FS.Lock when someone else holds the lock.
var ErrLocked = errors.New("vfs: locked by another process")

// FS is a file system. Names are slash- or OS-separated paths. Errors for
// missing and existing names satisfy errors.Is with fs.ErrNotExist and
// fs.ErrExist; a full disk satisfies errors.Is with syscall.ENOSPC.
type FS interface {
	// Create makes a new, empty file and fails if the name exists.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// Remove deletes a file. Open files go on working.
	Remove(name string) error
	// Rename gives a file a new name, replacing what had that name before.
	Rename(oldName, newName string) error
	// MkdirAll makes a directory and its missing parents.
	MkdirAll(dir string) error
	// ReadDir lists the names in a directory, sorted.
	ReadDir(dir string) ([]string, error)
	// SyncDir makes earlier creations, renames and removals in dir durable.
	SyncDir(dir string) error
	// Lock takes an exclusive lock on a file, made if it is missing, without
	// waiting. It is released by Close, and by the death of the process.
	Lock(name string) (io.Closer, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes everything written so far durable. After it has failed, the
	// state on disk of anything written since the last success is unknown,
	// and a later success of Sync says nothing about it.
	Sync() error
	// Allocate extends the file to at least size bytes and reserves their
	// space, so that writing them cannot meet a full disk. The new bytes
	// read as zero. On failure the file's size is unspecified.
	Allocate(size int64) error
	// Truncate sets the file's size.
	Truncate(size int64) error
	// Size returns the file's size.
	Size() (int64, error)
}
