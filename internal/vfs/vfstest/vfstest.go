// Package vfstest is the contract of vfs.FS as a test suite. Every
// implementation that stores bytes passes it.
package vfstest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
)

// Run checks the contract. open returns a file system and an existing, empty
// directory in it.
func Run(t *testing.T, open func(t *testing.T) (fsys vfs.FS, dir string)) {
	for name, test := range map[string]func(*testing.T, vfs.FS, string){
		"create is exclusive":            createIsExclusive,
		"missing names":                  missingNames,
		"what is written is read":        readWrite,
		"writing past the end grows":     sparseWrite,
		"allocate extends with zeros":    allocate,
		"truncate cuts and extends":      truncate,
		"rename replaces":                rename,
		"a removed file stays open":      removeOpenFile,
		"directories":                    directories,
		"the lock is exclusive":          lock,
		"sync works on what was written": syncs,
	} {
		t.Run(name, func(t *testing.T) {
			fsys, dir := open(t)
			test(t, fsys, dir)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// put creates a file with the given content.
func put(t *testing.T, fsys vfs.FS, name, content string) vfs.File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	n, err := f.WriteAt([]byte(content), 0)
	must(t, err)
	if n != len(content) {
		t.Fatalf("WriteAt returned %d of %d bytes and no error", n, len(content))
	}
	return f
}

func wantContent(t *testing.T, f vfs.File, want string) {
	t.Helper()
	size, err := f.Size()
	must(t, err)
	got := make([]byte, size)
	if _, err := f.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("file holds %q, want %q", got, want)
	}
}

func createIsExclusive(t *testing.T, fsys vfs.FS, dir string) {
	name := filepath.Join(dir, "a")
	must(t, put(t, fsys, name, "one").Close())
	_, err := fsys.Create(name)
	wantErr(t, "second Create", err, fs.ErrExist)
	f, err := fsys.Open(name)
	must(t, err)
	wantContent(t, f, "one")
	must(t, f.Close())
}

func missingNames(t *testing.T, fsys vfs.FS, dir string) {
	missing := filepath.Join(dir, "missing")
	_, err := fsys.Open(missing)
	wantErr(t, "Open", err, fs.ErrNotExist)
	wantErr(t, "Remove", fsys.Remove(missing), fs.ErrNotExist)
	wantErr(t, "Rename", fsys.Rename(missing, filepath.Join(dir, "b")), fs.ErrNotExist)
	_, err = fsys.ReadDir(missing)
	wantErr(t, "ReadDir", err, fs.ErrNotExist)
	wantErr(t, "SyncDir", fsys.SyncDir(missing), fs.ErrNotExist)
	_, err = fsys.Create(filepath.Join(missing, "a"))
	wantErr(t, "Create below it", err, fs.ErrNotExist)
	_, err = fsys.Lock(filepath.Join(missing, "a"))
	wantErr(t, "Lock below it", err, fs.ErrNotExist)
}

func readWrite(t *testing.T, fsys vfs.FS, dir string) {
	f := put(t, fsys, filepath.Join(dir, "a"), "0123456789")
	_, err := f.WriteAt([]byte("ab"), 3)
	must(t, err)
	wantContent(t, f, "012ab56789")

	part := make([]byte, 4)
	n, err := f.ReadAt(part, 8)
	if n != 2 || !errors.Is(err, io.EOF) || string(part[:n]) != "89" {
		t.Errorf("ReadAt across the end: %d %q %v", n, part[:n], err)
	}
	n, err = f.ReadAt(part, 100)
	if n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("ReadAt behind the end: %d %v", n, err)
	}
	must(t, f.Close())
}

func sparseWrite(t *testing.T, fsys vfs.FS, dir string) {
	f := put(t, fsys, filepath.Join(dir, "a"), "ab")
	_, err := f.WriteAt([]byte("c"), 5)
	must(t, err)
	wantContent(t, f, "ab\x00\x00\x00c")
	must(t, f.Close())
}

func allocate(t *testing.T, fsys vfs.FS, dir string) {
	f := put(t, fsys, filepath.Join(dir, "a"), "abc")
	must(t, f.Allocate(6))
	wantContent(t, f, "abc\x00\x00\x00")
	must(t, f.Allocate(2))
	wantContent(t, f, "abc\x00\x00\x00")
	must(t, f.Close())
}

func truncate(t *testing.T, fsys vfs.FS, dir string) {
	f := put(t, fsys, filepath.Join(dir, "a"), "abcdef")
	must(t, f.Truncate(2))
	wantContent(t, f, "ab")
	must(t, f.Truncate(4))
	wantContent(t, f, "ab\x00\x00")
	must(t, f.Close())
}

func rename(t *testing.T, fsys vfs.FS, dir string) {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	must(t, put(t, fsys, a, "new").Close())
	must(t, put(t, fsys, b, "old").Close())
	must(t, fsys.Rename(a, b))
	_, err := fsys.Open(a)
	wantErr(t, "Open of the old name", err, fs.ErrNotExist)
	f, err := fsys.Open(b)
	must(t, err)
	wantContent(t, f, "new")
	must(t, f.Close())
}

func removeOpenFile(t *testing.T, fsys vfs.FS, dir string) {
	name := filepath.Join(dir, "a")
	f := put(t, fsys, name, "old")
	must(t, fsys.Remove(name))
	g := put(t, fsys, name, "another")
	wantContent(t, f, "old")
	wantContent(t, g, "another")
	must(t, f.Close())
	must(t, g.Close())
}

func directories(t *testing.T, fsys vfs.FS, dir string) {
	deep := filepath.Join(dir, "x", "y")
	must(t, fsys.MkdirAll(deep))
	must(t, fsys.MkdirAll(deep))
	for _, name := range []string{"c", "a", "b"} {
		must(t, put(t, fsys, filepath.Join(deep, name), name).Close())
	}
	must(t, fsys.SyncDir(deep))
	names, err := fsys.ReadDir(deep)
	must(t, err)
	if want := []string{"a", "b", "c"}; !slices.Equal(names, want) {
		t.Errorf("ReadDir: %q, want %q", names, want)
	}
	names, err = fsys.ReadDir(dir)
	must(t, err)
	if want := []string{"x"}; !slices.Equal(names, want) {
		t.Errorf("ReadDir of the parent: %q, want %q", names, want)
	}
	if err := fsys.MkdirAll(filepath.Join(deep, "a")); err == nil {
		t.Error("MkdirAll over a file succeeded")
	}
	if _, err := fsys.Open(deep); err == nil {
		t.Error("a directory was opened for writing")
	}
}

func lock(t *testing.T, fsys vfs.FS, dir string) {
	name := filepath.Join(dir, "LOCK")
	held, err := fsys.Lock(name)
	must(t, err)
	_, err = fsys.Lock(name)
	wantErr(t, "second Lock", err, vfs.ErrLocked)
	must(t, held.Close())
	held, err = fsys.Lock(name)
	must(t, err)
	must(t, held.Close())
}

func syncs(t *testing.T, fsys vfs.FS, dir string) {
	f := put(t, fsys, filepath.Join(dir, "a"), "abc")
	must(t, f.Sync())
	must(t, f.Allocate(1<<16))
	must(t, f.Sync())
	must(t, fsys.SyncDir(dir))
	want := append([]byte("abc"), bytes.Repeat([]byte{0}, 1<<16-3)...)
	wantContent(t, f, string(want))
	must(t, f.Close())
}
