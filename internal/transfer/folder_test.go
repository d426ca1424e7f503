package transfer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree makes a folder with files by path.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFolderYieldsEveryRegularFile(t *testing.T) {
	dir := tree(t, map[string]string{
		"index.html": "<html>", "css/site.css": "body{}", "a b/c\nd": "odd name", "empty": "", ".hidden/x": "1", "deep/er/and/deeper": "2",
	})
	if err := os.Symlink(filepath.Join(dir, "index.html"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "broken")); err != nil {
		t.Fatal(err)
	}
	got, err := collect(Folder(dir, 100))
	if err != nil {
		t.Fatal(err)
	}
	want := []Item{
		{Key: ".hidden/x", Value: []byte("1")},
		{Key: "a b/c\nd", Value: []byte("odd name")},
		{Key: "css/site.css", Value: []byte("body{}")},
		{Key: "deep/er/and/deeper", Value: []byte("2")},
		{Key: "empty"},
		{Key: "index.html", Value: []byte("<html>")},
	}
	slices.SortFunc(got, func(a, b Item) int { return strings.Compare(a.Key, b.Key) })
	sameItems(t, got, want)
}

// GOROOT/src of Debian's Go is a symbolic link.
func TestTheFolderItselfMayBeALink(t *testing.T) {
	dir := tree(t, map[string]string{"a": "1"})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	got, err := collect(Folder(link, 100))
	if err != nil {
		t.Fatal(err)
	}
	sameItems(t, got, []Item{{Key: "a", Value: []byte("1")}})
}

func TestAFileMayBeAsLargeAsAValueAndNoLarger(t *testing.T) {
	dir := tree(t, map[string]string{"fits": strings.Repeat("x", 100)})
	if _, err := collect(Folder(dir, 100)); err != nil {
		t.Fatal(err)
	}
	_, err := collect(Folder(dir, 99))
	mustContain(t, err, filepath.Join("fits"), "99 bytes")
}

func TestAFolderThatIsNotThereIsAnError(t *testing.T) {
	_, err := collect(Folder(filepath.Join(t.TempDir(), "nothing"), 100))
	mustContain(t, err, "nothing", "no such file")
}

func TestFilesWhoseSizeIsNotKnownBeforehandAreReadToTheEnd(t *testing.T) {
	const name = "/proc/self/status"
	if _, err := os.Stat(name); err != nil {
		t.Skip("no /proc here: there is no file that says it is empty and is not")
	}
	item, err := readFile("/proc/self", name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if item.Key != "status" || !strings.Contains(string(item.Value), "Name:") {
		t.Errorf("%s reads as %q", name, item.Value)
	}
}

func TestNobodyReadsOnWhenTheReceiverHasEnough(t *testing.T) {
	dir := tree(t, map[string]string{"a": "1", "b": "2", "c": "3"})
	n := 0
	for _, err := range Folder(dir, 100) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d items after a break", n)
	}
}
