package vfs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
)

func none() bool { return false }
func all() bool  { return true }

func create(t *testing.T, m vfs.FS, name, content string) vfs.File {
	t.Helper()
	f, err := m.Create(name)
	must(t, err)
	write(t, f, content, 0)
	return f
}

func write(t *testing.T, f vfs.File, content string, off int64) {
	t.Helper()
	_, err := f.WriteAt([]byte(content), off)
	must(t, err)
}

// read returns a file's content, or "missing".
func read(t *testing.T, m vfs.FS, name string) string {
	t.Helper()
	f, err := m.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "missing"
	}
	must(t, err)
	size, err := f.Size()
	must(t, err)
	b := make([]byte, size)
	if size > 0 {
		_, err = f.ReadAt(b, 0)
		must(t, err)
	}
	return string(b)
}

func TestCrashLosesWhatWasNotSynced(t *testing.T) {
	for _, c := range []struct {
		name              string
		do                func(t *testing.T, m *vfs.Mem)
		wantNone, wantAll string
	}{
		{"nothing synced", func(t *testing.T, m *vfs.Mem) {
			create(t, m, "dir/a", "x")
		}, "missing", "x"},
		{"file synced, name not", func(t *testing.T, m *vfs.Mem) {
			must(t, create(t, m, "dir/a", "x").Sync())
		}, "missing", "x"},
		{"name synced, file not", func(t *testing.T, m *vfs.Mem) {
			create(t, m, "dir/a", "x")
			must(t, m.SyncDir("dir"))
		}, "", "x"},
		{"both synced", func(t *testing.T, m *vfs.Mem) {
			must(t, create(t, m, "dir/a", "x").Sync())
			must(t, m.SyncDir("dir"))
		}, "x", "x"},
		{"overwritten after the sync", func(t *testing.T, m *vfs.Mem) {
			f := create(t, m, "dir/a", "x")
			must(t, f.Sync())
			must(t, m.SyncDir("dir"))
			write(t, f, "yz", 0)
		}, "x", "yz"},
		{"cut after the sync", func(t *testing.T, m *vfs.Mem) {
			f := create(t, m, "dir/a", "abc")
			must(t, f.Sync())
			must(t, m.SyncDir("dir"))
			must(t, f.Truncate(1))
		}, "abc", "a"},
		{"cut and extended after the sync", func(t *testing.T, m *vfs.Mem) {
			f := create(t, m, "dir/a", "abc")
			must(t, f.Sync())
			must(t, m.SyncDir("dir"))
			must(t, f.Truncate(1))
			must(t, f.Allocate(3))
		}, "abc", "a\x00\x00"},
		{"removed, name not synced", func(t *testing.T, m *vfs.Mem) {
			must(t, create(t, m, "dir/a", "x").Sync())
			must(t, m.SyncDir("dir"))
			must(t, m.Remove("dir/a"))
		}, "x", "missing"},
		{"replaced by a rename", func(t *testing.T, m *vfs.Mem) {
			must(t, create(t, m, "dir/a", "old").Sync())
			must(t, m.SyncDir("dir"))
			must(t, create(t, m, "dir/b", "new").Sync())
			must(t, m.Rename("dir/b", "dir/a"))
		}, "old", "new"},
		{"in a directory that was not synced", func(t *testing.T, m *vfs.Mem) {
			must(t, m.MkdirAll("other"))
			must(t, create(t, m, "other/a", "x").Sync())
			must(t, m.SyncDir("other"))
			must(t, m.Rename("other/a", "dir/a"))
		}, "missing", "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMem(t)
			c.do(t, m)
			if got := read(t, m.CrashClone(none), "dir/a"); got != c.wantNone {
				t.Errorf("keeping nothing: %q, want %q", got, c.wantNone)
			}
			if got := read(t, m.CrashClone(all), "dir/a"); got != c.wantAll {
				t.Errorf("keeping all: %q, want %q", got, c.wantAll)
			}
		})
	}
}

func TestCrashKeepsBlocksIndependently(t *testing.T) {
	m := newMem(t)
	before := strings.Repeat("a", 8*vfs.BlockSize)
	f := create(t, m, "dir/a", before)
	must(t, f.Sync())
	must(t, m.SyncDir("dir"))
	write(t, f, strings.Repeat("b", 8*vfs.BlockSize), 0)

	seen := map[string]bool{}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		got := read(t, m.CrashClone(func() bool { return rng.IntN(2) == 0 }), "dir/a")
		pattern := ""
		for block := range 8 {
			piece := got[block*vfs.BlockSize : (block+1)*vfs.BlockSize]
			if strings.Trim(piece, piece[:1]) != "" {
				t.Fatalf("block %d is mixed", block)
			}
			pattern += piece[:1]
		}
		seen[pattern] = true
	}
	if len(seen) < 100 {
		t.Errorf("only %d of 256 outcomes in 200 crashes", len(seen))
	}
}

func TestCrashCloneSharesNothing(t *testing.T) {
	m := newMem(t)
	f := create(t, m, "dir/a", "before")
	c := m.CrashClone(all)
	write(t, f, "after!", 0)
	if got := read(t, c, "dir/a"); got != "before" {
		t.Errorf("the clone sees a later write: %q", got)
	}
	if got := read(t, c.CrashClone(none), "dir/a"); got != "before" {
		t.Errorf("what a crash has kept is durable, but a second crash leaves %q", got)
	}
}

func TestKillStopsEverything(t *testing.T) {
	m := newMem(t)
	f := create(t, m, "dir/a", "x")
	_, err := m.Lock("dir/LOCK")
	must(t, err)
	m.Kill()
	_, createErr := m.Create("dir/b")
	_, writeErr := f.WriteAt([]byte("y"), 0)
	_, readErr := f.ReadAt(make([]byte, 1), 0)
	for op, err := range map[string]error{
		"create": createErr, "write": writeErr, "read": readErr, "sync": f.Sync(), "syncdir": m.SyncDir("dir"),
		"rename": m.Rename("dir/a", "dir/b"), "remove": m.Remove("dir/a"), "allocate": f.Allocate(9), "truncate": f.Truncate(0),
	} {
		if !errors.Is(err, vfs.ErrKilled) {
			t.Errorf("%s after Kill: %v", op, err)
		}
	}
	c := m.CrashClone(all)
	if got := read(t, c, "dir/a"); got != "x" {
		t.Errorf("the dead process changed the file to %q", got)
	}
	if _, err := c.Lock("dir/LOCK"); err != nil {
		t.Errorf("the dead process still holds its lock: %v", err)
	}
}

func TestCapacity(t *testing.T) {
	m := newMem(t)
	m.SetCapacity(1000)
	f := create(t, m, "dir/a", strings.Repeat("x", 600))
	n, err := f.WriteAt(bytes.Repeat([]byte("y"), 600), 600)
	if n != 400 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write past the capacity: %d, %v", n, err)
	}
	if _, err := f.WriteAt([]byte("z"), 10); err != nil {
		t.Errorf("overwriting on a full disk: %v", err)
	}
	g := create(t, m, "dir/b", "")
	if err := g.Allocate(1); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("allocate on a full disk: %v", err)
	}
	must(t, m.Remove("dir/a"))
	if err := g.Allocate(1000); err != nil {
		t.Errorf("allocate after making room: %v", err)
	}
	if m.Used() != 1000 {
		t.Errorf("used: %d", m.Used())
	}
}
