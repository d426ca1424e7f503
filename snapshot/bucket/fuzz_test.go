package bucket

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzNote opens a folder whose locks hold whatever was left there: the note of a
// writer that was killed, or anything else.
func FuzzNote(f *testing.F) {
	f.Add([]byte{noteDirty, 0, 6, 'o', 'b', 'j', 'e', 'c', 't'})
	f.Add([]byte{noteDirty, 255, 255})
	f.Add([]byte{noteDirty, 0, 5, '.', '.', '/', '.', '.'})
	f.Add([]byte{noteClean})
	f.Add([]byte{})
	dir := f.TempDir()
	folder, err := OpenFolder(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { folder.Close() })
	if _, err := folder.PutIfAbsent(f.Context(), "object", []byte("body")); err != nil {
		f.Fatal(err)
	}
	lock := filepath.Join(dir, folder.stripeOf("object").name)
	f.Fuzz(func(t *testing.T, note []byte) {
		if err := os.WriteFile(lock, note, fileMode); err != nil {
			t.Fatal(err)
		}
		key, err := folder.stripeOf("object").dirty(mustOpen(t, lock))
		if err != nil || key != "" && ValidateKey(key) != nil {
			t.Fatalf("%q notes %q, %v", note, key, err)
		}
		o, err := folder.Get(t.Context(), "object")
		if err != nil || string(o.Body) != "body" {
			t.Fatalf("with the note %q: %q, %v", note, o.Body, err)
		}
	})
}

func mustOpen(t *testing.T, name string) *os.File {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}
