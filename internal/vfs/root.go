package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// ErrOutside is why a name is refused that is not within the folder of Within, or
// that a symbolic link leads out of it.
var ErrOutside = errors.New("leads out of the folder, by a symbolic link or by its name; to have a part of it on another disk, mount that disk there")

// Within returns fsys as it is within dir, which exists: the same names, of dir and
// what is below it, and an error that wraps ErrOutside for all others. On the
// operating system's disk the folder is opened once, and every name is looked up from
// there: no symbolic link in it, and no dir that is put in its place later, leads
// anywhere else. What has no links (Mem) is returned itself. Close ends it; open files
// go on working.
func Within(fsys FS, dir string) (FS, io.Closer, error) {
	switch f := fsys.(type) {
	case osFS:
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, nil, err
		}
		return &rootFS{root, filepath.Clean(dir)}, root, nil
	case *injectFS:
		inner, closer, err := Within(f.fs, dir)
		if err != nil {
			return nil, nil, err
		}
		return &injectFS{fs: inner, before: f.before, seq: f.seq}, closer, nil
	}
	return fsys, noRoot{}, nil
}

type noRoot struct{}

func (noRoot) Close() error { return nil }

// rootFS is osFS through an open folder.
type rootFS struct {
	root *os.Root
	dir  string
}

// within is a name as the root has it.
func (r *rootFS) within(op, name string) (string, error) {
	local, err := filepath.Rel(r.dir, filepath.Clean(name))
	if err != nil || !filepath.IsLocal(local) {
		return "", &fs.PathError{Op: op, Path: name, Err: ErrOutside}
	}
	return local, nil
}

// explain gives an error of the root the name that was asked for.
func explain(name string, err error) error {
	var at *fs.PathError
	if !errors.As(err, &at) {
		return err
	}
	return &fs.PathError{Op: at.Op, Path: name, Err: reason(at.Err)}
}

// reason says what can be done about a link that leads out. The root's own error for
// it has no name, only a text.
func reason(err error) error {
	if err.Error() == "path escapes from parent" {
		return ErrOutside
	}
	return err
}

// open opens a file of the operating system below the root.
func (r *rootFS) open(op, name string, flag int) (*os.File, error) {
	local, err := r.within(op, name)
	if err != nil {
		return nil, err
	}
	f, err := r.root.OpenFile(local, flag, fileMode)
	if err != nil {
		return nil, explain(name, err)
	}
	return f, nil
}

func (r *rootFS) file(op, name string, flag int) (File, error) {
	f, err := r.open(op, name, flag)
	if err != nil {
		return nil, err
	}
	return &osFile{f}, nil
}

func (r *rootFS) Create(name string) (File, error) {
	return r.file("create", name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (r *rootFS) Open(name string) (File, error) { return r.file("open", name, os.O_RDWR) }

func (r *rootFS) Remove(name string) error {
	local, err := r.within("remove", name)
	if err != nil {
		return err
	}
	return explain(name, r.root.Remove(local))
}

func (r *rootFS) Rename(oldName, newName string) error {
	from, err := r.within("rename", oldName)
	if err != nil {
		return err
	}
	to, err := r.within("rename", newName)
	if err != nil {
		return err
	}
	err = r.root.Rename(from, to)
	var at *os.LinkError
	if !errors.As(err, &at) {
		return err
	}
	return &os.LinkError{Op: at.Op, Old: oldName, New: newName, Err: reason(at.Err)}
}

func (r *rootFS) MkdirAll(dir string) error {
	local, err := r.within("mkdir", dir)
	if err != nil {
		return err
	}
	return explain(dir, r.root.MkdirAll(local, dirMode))
}

func (r *rootFS) ReadDir(dir string) ([]string, error) {
	d, err := r.open("readdir", dir, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

func (r *rootFS) SyncDir(dir string) error {
	d, err := r.open("syncdir", dir, os.O_RDONLY)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (r *rootFS) Lock(name string) (io.Closer, error) {
	f, err := r.open("lock", name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
