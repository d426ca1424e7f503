package vfs_test

import (
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/internal/vfs/vfstest"
)

func TestContract(t *testing.T) {
	t.Run("OS", func(t *testing.T) {
		vfstest.Run(t, func(t *testing.T) (vfs.FS, string) { return vfs.OS(), t.TempDir() })
	})
	t.Run("Within", func(t *testing.T) {
		vfstest.Run(t, func(t *testing.T) (vfs.FS, string) {
			dir := t.TempDir()
			fsys, closer, err := vfs.Within(vfs.OS(), dir)
			must(t, err)
			t.Cleanup(func() { must(t, closer.Close()) })
			return fsys, dir
		})
	})
	t.Run("Mem", func(t *testing.T) {
		vfstest.Run(t, func(t *testing.T) (vfs.FS, string) { return newMem(t), "dir" })
	})
	t.Run("Inject", func(t *testing.T) {
		vfstest.Run(t, func(t *testing.T) (vfs.FS, string) {
			return vfs.Inject(newMem(t), func(vfs.Op) error { return nil }), "dir"
		})
	})
}

// newMem returns a disk with a durable directory "dir".
func newMem(t *testing.T) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem()
	must(t, m.MkdirAll("dir"))
	must(t, m.SyncDir("."))
	return m
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
