package vfs_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
)

func TestInjectFailsTheChosenOperation(t *testing.T) {
	touch := func(fsys vfs.FS) error {
		f, err := fsys.Create("dir/a")
		if err != nil {
			return err
		}
		if _, err := f.WriteAt([]byte("abc"), 0); err != nil {
			return err
		}
		if err := f.Allocate(10); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		if err := fsys.Rename("dir/a", "dir/b"); err != nil {
			return err
		}
		return fsys.SyncDir("dir")
	}
	var kinds []vfs.OpKind
	must(t, touch(vfs.Inject(newMem(t), func(op vfs.Op) error {
		kinds = append(kinds, op.Kind)
		return nil
	})))
	if len(kinds) != 7 {
		t.Fatalf("%d operations seen: %v", len(kinds), kinds)
	}
	for n := range kinds {
		err := touch(vfs.Inject(newMem(t), func(op vfs.Op) error {
			if op.Seq == n+1 {
				return syscall.EIO
			}
			return nil
		}))
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("failing operation %d (%v): got %v", n+1, kinds[n], err)
		}
	}
}

func TestInjectShortWrite(t *testing.T) {
	m := newMem(t)
	fsys := vfs.Inject(m, func(op vfs.Op) error {
		if op.Kind == vfs.OpWriteAt {
			return &vfs.ShortWrite{N: 2, Err: syscall.ENOSPC}
		}
		return nil
	})
	f, err := fsys.Create("dir/a")
	must(t, err)
	n, err := f.WriteAt([]byte("abc"), 0)
	if n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("short write: %d, %v", n, err)
	}
	if got := read(t, m, "dir/a"); got != "ab" {
		t.Errorf("the file holds %q", got)
	}
}

// A failed sync must look as it does on real systems: the page cache goes on
// showing the bytes, the next sync succeeds, and the bytes are not on disk.
func TestInjectFailedSyncLosesThePages(t *testing.T) {
	m := newMem(t)
	fail := false
	fsys := vfs.Inject(m, func(op vfs.Op) error {
		if fail && op.Kind == vfs.OpSync {
			return syscall.EIO
		}
		return nil
	})
	f := create(t, fsys, "dir/a", "old")
	must(t, f.Sync())
	must(t, fsys.SyncDir("dir"))

	write(t, f, "new", 0)
	fail = true
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	fail = false
	must(t, f.Sync())
	if got := read(t, m, "dir/a"); got != "new" {
		t.Errorf("the page cache shows %q", got)
	}
	if got := read(t, m.CrashClone(all), "dir/a"); got != "old" {
		t.Errorf("after the crash: %q; a retried sync must not save what a failed one has lost", got)
	}
	write(t, f, "NEW", 0)
	must(t, f.Sync())
	if got := read(t, m.CrashClone(none), "dir/a"); got != "NEW" {
		t.Errorf("written again and synced, after the crash: %q", got)
	}
}

func TestOpString(t *testing.T) {
	op := vfs.Op{Seq: 7, Kind: vfs.OpWriteAt, Name: "wal/1", N: 512}
	if got := op.String(); got != "7 WriteAt wal/1 512" {
		t.Error(got)
	}
	if got := vfs.OpKind(200).String(); got != "?" {
		t.Error(got)
	}
}
