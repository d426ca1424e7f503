package vfs

import (
	"errors"
	"io"
	"strconv"
	"sync/atomic"
)

// OpKind is a kind of operation on an FS or a File.
type OpKind uint8

// The kinds of operations.
const (
	OpCreate OpKind = iota + 1
	OpOpen
	OpRemove
	OpRename
	OpMkdirAll
	OpReadDir
	OpSyncDir
	OpLock
	OpReadAt
	OpWriteAt
	OpSync
	OpAllocate
	OpTruncate
	OpSize
	OpClose
)

// String returns the name of the method.
func (k OpKind) String() string {
	names := [...]string{
		"?", "Create", "Open", "Remove", "Rename", "MkdirAll", "ReadDir", "SyncDir", "Lock",
		"ReadAt", "WriteAt", "Sync", "Allocate", "Truncate", "Size", "Close",
	}
	if int(k) >= len(names) {
		return "?"
	}
	return names[k]
}

// Op describes one operation that is about to run.
type Op struct {
	Seq  int // 1 for the first operation through this FS
	Kind OpKind
	Name string // the new name for a rename
	N    int64  // length of a read or write, size of an allocation or truncation
}

// String returns for example "7 WriteAt wal/1 512".
func (o Op) String() string {
	s := strconv.Itoa(o.Seq) + " " + o.Kind.String() + " " + o.Name
	if o.N > 0 {
		s += " " + strconv.FormatInt(o.N, 10)
	}
	return s
}

// ShortWrite is an error that, returned by the hook of Inject ahead of a WriteAt, makes the
// write stop after N bytes with Err.
type ShortWrite struct {
	N   int
	Err error
}

// Error returns the text of Err.
func (e *ShortWrite) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *ShortWrite) Unwrap() error { return e.Err }

// Inject returns fs with a hook: before is called ahead of each operation, and
// when it returns an error, the operation fails with it and does not run. Two
// failures are nastier than that: a ShortWrite writes a part first, and a
// failed Sync of a Mem file loses what it should have synced for good while
// reads still show it, as real page caches do. before is called from whichever
// goroutine operates.
func Inject(fs FS, before func(Op) error) FS {
	return &injectFS{fs: fs, before: before, seq: new(atomic.Int64)}
}

type injectFS struct {
	fs     FS
	before func(Op) error
	seq    *atomic.Int64
}

func (i *injectFS) hook(kind OpKind, name string, n int64) error {
	return i.before(Op{Seq: int(i.seq.Add(1)), Kind: kind, Name: name, N: n})
}

func (i *injectFS) file(kind OpKind, name string, open func(string) (File, error)) (File, error) {
	if err := i.hook(kind, name, 0); err != nil {
		return nil, err
	}
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	return &injectFile{i, f, name}, nil
}

func (i *injectFS) Create(name string) (File, error) { return i.file(OpCreate, name, i.fs.Create) }
func (i *injectFS) Open(name string) (File, error)   { return i.file(OpOpen, name, i.fs.Open) }

func (i *injectFS) Remove(name string) error {
	if err := i.hook(OpRemove, name, 0); err != nil {
		return err
	}
	return i.fs.Remove(name)
}

func (i *injectFS) Rename(oldName, newName string) error {
	if err := i.hook(OpRename, newName, 0); err != nil {
		return err
	}
	return i.fs.Rename(oldName, newName)
}

func (i *injectFS) MkdirAll(dir string) error {
	if err := i.hook(OpMkdirAll, dir, 0); err != nil {
		return err
	}
	return i.fs.MkdirAll(dir)
}

func (i *injectFS) ReadDir(dir string) ([]string, error) {
	if err := i.hook(OpReadDir, dir, 0); err != nil {
		return nil, err
	}
	return i.fs.ReadDir(dir)
}

func (i *injectFS) SyncDir(dir string) error {
	if err := i.hook(OpSyncDir, dir, 0); err != nil {
		return err
	}
	return i.fs.SyncDir(dir)
}

func (i *injectFS) Lock(name string) (io.Closer, error) {
	if err := i.hook(OpLock, name, 0); err != nil {
		return nil, err
	}
	return i.fs.Lock(name)
}

type injectFile struct {
	i    *injectFS
	f    File
	name string
}

func (f *injectFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.i.hook(OpReadAt, f.name, int64(len(p))); err != nil {
		return 0, err
	}
	return f.f.ReadAt(p, off)
}

func (f *injectFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.i.hook(OpWriteAt, f.name, int64(len(p)))
	if short := (*ShortWrite)(nil); errors.As(err, &short) {
		n, werr := f.f.WriteAt(p[:min(short.N, len(p))], off)
		return n, errors.Join(err, werr)
	}
	if err != nil {
		return 0, err
	}
	return f.f.WriteAt(p, off)
}

func (f *injectFile) Sync() error {
	if err := f.i.hook(OpSync, f.name, 0); err != nil {
		if lossy, ok := f.f.(interface{ failSync() }); ok {
			lossy.failSync()
		}
		return err
	}
	return f.f.Sync()
}

func (f *injectFile) Allocate(size int64) error {
	if err := f.i.hook(OpAllocate, f.name, size); err != nil {
		return err
	}
	return f.f.Allocate(size)
}

func (f *injectFile) Truncate(size int64) error {
	if err := f.i.hook(OpTruncate, f.name, size); err != nil {
		return err
	}
	return f.f.Truncate(size)
}

func (f *injectFile) Size() (int64, error) {
	if err := f.i.hook(OpSize, f.name, 0); err != nil {
		return 0, err
	}
	return f.f.Size()
}

// Close always closes: a failing close still releases the descriptor.
func (f *injectFile) Close() error {
	return errors.Join(f.i.hook(OpClose, f.name, 0), f.f.Close())
}
