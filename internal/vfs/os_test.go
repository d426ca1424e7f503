package vfs

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestOSFilesArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	fsys := OS()
	if err := fsys.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Create(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for path, want := range map[string]fs.FileMode{dir: dirMode, filepath.Join(dir, "a"): fileMode} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
	}
}

// Where there is no fallocate, space is reserved by writing.
func TestWriteZerosReservesTheRest(t *testing.T) {
	m := NewMem()
	f, err := m.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("abc"), 0); err != nil {
		t.Fatal(err)
	}
	const size = 3<<20 + 17
	if err := writeZeros(f, 3, size); err != nil {
		t.Fatal(err)
	}
	if got, _ := f.Size(); got != size {
		t.Errorf("size %d, want %d", got, size)
	}
	m.SetCapacity(size)
	if err := writeZeros(f, size, size+1); err == nil {
		t.Error("reserved space that is not there")
	}
}

func TestOSSyncOfAClosedFileFails(t *testing.T) {
	f, err := OS().Create(filepath.Join(t.TempDir(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"Sync": f.Sync(), "Allocate": f.Allocate(1), "Truncate": f.Truncate(0)} {
		if err == nil {
			t.Errorf("%s of a closed file succeeded", name)
		}
	}
}
