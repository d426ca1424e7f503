package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// trap is a folder whose neighbour must not be touched, with links to it in every
// form, and the same folder opened with Within.
func trap(t *testing.T) (fsys FS, dir, neighbour string) {
	t.Helper()
	above := t.TempDir()
	dir, neighbour = filepath.Join(above, "data"), filepath.Join(above, "neighbour")
	for _, d := range []string{dir, neighbour} {
		if err := os.Mkdir(d, dirMode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(neighbour, "secret"), []byte("mine"), fileMode); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"absolute": neighbour, "relative": "../neighbour", "file": "../neighbour/secret", "missing": "../neighbour/new", "twice": "relative",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	fsys, closer, err := Within(OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closer.Close() })
	return fsys, dir, neighbour
}

func TestNoLinkLeadsOutOfTheFolder(t *testing.T) {
	fsys, dir, neighbour := trap(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	own, err := fsys.Create(in("own"))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	second := func(_ any, err error) error { return err }
	for what, err := range map[string]error{
		"open through a link":         second(fsys.Open(in("absolute/secret"))),
		"open through a relative one": second(fsys.Open(in("relative/secret"))),
		"open a link to a file":       second(fsys.Open(in("file"))),
		"open through two":            second(fsys.Open(in("twice/secret"))),
		"create through a link":       second(fsys.Create(in("absolute/new"))),
		"lock through a link":         second(fsys.Lock(in("relative/LOCK"))),
		"lock a link to nothing":      second(fsys.Lock(in("missing"))),
		"remove through a link":       fsys.Remove(in("relative/secret")),
		"rename to":                   fsys.Rename(in("own"), in("relative/own")),
		"rename from":                 fsys.Rename(in("relative/secret"), in("own")),
		"make a folder":               fsys.MkdirAll(in("relative/deep")),
		"list":                        second(fsys.ReadDir(in("absolute"))),
		"sync":                        fsys.SyncDir(in("absolute")),
		"dots":                        second(fsys.Open(dir + "/../neighbour/secret")),
		"dots to create":              second(fsys.Create(dir + "/../neighbour/new")),
		"another folder":              second(fsys.Open(filepath.Join(neighbour, "secret"))),
		"one with the same beginning": second(fsys.Open(dir + "-2/secret")),
		"rename out by name":          fsys.Rename(in("own"), filepath.Join(neighbour, "own")),
		"remove by name":              fsys.Remove(filepath.Join(neighbour, "secret")),
	} {
		if !errors.Is(err, ErrOutside) {
			t.Errorf("%s: %v, want ErrOutside", what, err)
		}
	}
	// A link that is in the way itself can be taken away: it is in the folder.
	if _, err := fsys.Create(in("missing")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over a link to nothing: %v", err)
	}
	if err := fsys.Rename(in("own"), in("file")); err != nil {
		t.Errorf("replace a link: %v", err)
	}
	if err := fsys.Remove(in("absolute")); err != nil {
		t.Errorf("remove a link: %v", err)
	}
	entries, err := os.ReadDir(neighbour)
	if err != nil || len(entries) != 1 {
		t.Errorf("the neighbour holds %v, %v", entries, err)
	}
	if body, err := os.ReadFile(filepath.Join(neighbour, "secret")); err != nil || string(body) != "mine" {
		t.Errorf("the neighbour's file: %q, %v", body, err)
	}
}

func TestAnErrorWithinTheFolderHasTheWholeName(t *testing.T) {
	fsys, dir, _ := trap(t)
	name := filepath.Join(dir, "nothing")
	_, err := fsys.Open(name)
	var at *fs.PathError
	if !errors.As(err, &at) || at.Path != name || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := fsys.MkdirAll(dir); err != nil {
		t.Errorf("the folder itself: %v", err)
	}
}

func TestAFolderThatIsPutInItsPlaceIsNotServed(t *testing.T) {
	fsys, dir, neighbour := trap(t)
	if err := os.Rename(dir, dir+"-moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(neighbour, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.Open(filepath.Join(dir, "secret")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want the folder that was opened, which has no such file", err)
	}
}

func TestFilesWithinAreAsPrivate(t *testing.T) {
	fsys, dir, _ := trap(t)
	if err := fsys.MkdirAll(filepath.Join(dir, "deep", "er")); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Create(filepath.Join(dir, "deep", "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, want := range map[string]fs.FileMode{"deep": dirMode, "deep/er": dirMode, "deep/a": fileMode} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}
