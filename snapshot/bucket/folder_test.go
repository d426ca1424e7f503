package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// opened opens a folder for as long as the test runs.
func opened(t testing.TB, dir string) *bucket.Folder {
	t.Helper()
	f, err := bucket.OpenFolder(dir)
	if err != nil {
		t.Fatalf("OpenFolder: %v", err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func mustCreate(t testing.TB, b bucket.Bucket, key, body string) bucket.ETag {
	t.Helper()
	tag, err := b.PutIfAbsent(t.Context(), key, []byte(body))
	if err != nil {
		t.Fatalf("PutIfAbsent: %v", err)
	}
	return tag
}

func mustPut(t testing.TB, b bucket.Bucket, key, body string) {
	t.Helper()
	if _, err := b.Put(t.Context(), key, strings.NewReader(body), int64(len(body))); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

// bodyOf returns what a key holds, "" for nothing.
func bodyOf(t testing.TB, b bucket.Bucket, key string) string {
	t.Helper()
	o, err := b.Get(t.Context(), key)
	if err != nil && !errors.Is(err, bucket.ErrNotFound) {
		t.Fatalf("Get(%q): %v", key, err)
	}
	return string(o.Body)
}

func wantBody(t testing.TB, b bucket.Bucket, key, want string) {
	t.Helper()
	if got := bodyOf(t, b, key); got != want {
		t.Errorf("%s holds %.60q, want %.60q", key, got, want)
	}
}

// leftovers are the bodies under way in a folder.
func leftovers(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, ".quoit", "writing", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestFolder(t *testing.T) {
	buckettest.Test(t, func(t *testing.T) func() bucket.Bucket {
		dir := t.TempDir()
		return func() bucket.Bucket { return opened(t, dir) }
	})
}

// TestFolderKeepsObjectsAsFiles: what is in a bucket can be looked at with cat.
func TestFolderKeepsObjectsAsFiles(t *testing.T) {
	dir := t.TempDir()
	f := opened(t, dir)
	mustCreate(t, f, "cluster/document.json", "{}")
	got, err := os.ReadFile(filepath.Join(dir, "cluster", "document.json"))
	if err != nil || string(got) != "{}" {
		t.Errorf("the file holds %q, %v", got, err)
	}
	if names := leftovers(t, dir); len(names) > 0 {
		t.Errorf("left under way: %q", names)
	}
}

// TestFolderFailsAtEveryStep fails each step of each kind of write once: either
// nothing has happened and the error says nothing else, or the write is in doubt.
// Afterwards everything works.
func TestFolderFailsAtEveryStep(t *testing.T) {
	cause := errors.New("disk on fire")
	for _, kind := range []string{"put", "swap", "delete"} {
		for _, step := range bucket.Steps {
			t.Run(kind+" at "+step, func(t *testing.T) {
				dir := t.TempDir()
				f := opened(t, dir)
				mustCreate(t, f, "object", "old")
				failed := false
				f.OnStep(func(s string) error {
					if s != step || failed {
						return nil
					}
					failed = true
					return cause
				})
				err := change(f, kind)
				if !failed {
					return // A deletion has no body.
				}
				if !errors.Is(err, cause) || bucket.IsRetryable(err) {
					t.Errorf("error is %v, want one of %v that is not retryable", err, cause)
				}
				done := step == "sync-dir" || step == "clear"
				if errors.Is(err, bucket.ErrInDoubt) != done {
					t.Errorf("error is %v; in doubt should be %v", err, done)
				}
				if !done {
					wantBody(t, f, "object", "old")
				}
				mustPut(t, f, "object", "next")
				wantBody(t, opened(t, dir), "object", "next")
				if names := leftovers(t, dir); len(names) > 0 {
					t.Errorf("left under way: %q", names)
				}
			})
		}
	}
}

// Every write takes every step, in order: the bytes are synced before their name, and
// the name is noted before it changes.
func TestFolderTakesEveryStepInOrder(t *testing.T) {
	for _, kind := range []string{"put", "swap", "delete"} {
		t.Run(kind, func(t *testing.T) {
			f := opened(t, t.TempDir())
			mustCreate(t, f, "object", "old")
			var steps []string
			f.OnStep(func(s string) error { steps = append(steps, s); return nil })
			if err := change(f, kind); err != nil {
				t.Fatal(err)
			}
			want := bucket.Steps
			if kind == "delete" { // It has no body.
				want = want[3:]
			}
			if !slices.Equal(steps, want) {
				t.Errorf("it took the steps %q, want %q", steps, want)
			}
		})
	}
}

// TestFolderHidesWhatIsNotDurable: after a rename whose directory could not be
// synced nobody is shown the object, nor its absence, until a sync has succeeded.
func TestFolderHidesWhatIsNotDurable(t *testing.T) {
	cause := errors.New("disk on fire")
	for _, kind := range []string{"put", "swap", "delete"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			writer, reader := opened(t, dir), opened(t, dir)
			mustCreate(t, writer, "object", "old")
			failing := func(s string) error {
				if s == "sync-dir" {
					return cause
				}
				return nil
			}
			writer.OnStep(failing)
			if err := change(writer, kind); !errors.Is(err, bucket.ErrInDoubt) {
				t.Fatalf("write: %v, want ErrInDoubt", err)
			}
			reader.OnStep(failing)
			for range 2 {
				if o, err := reader.Get(t.Context(), "object"); !errors.Is(err, cause) {
					t.Errorf("Get = %q, %v before the sync", o.Body, err)
				}
				if _, err := reader.PutIfAbsent(t.Context(), "object", nil); !errors.Is(err, cause) {
					t.Errorf("PutIfAbsent: %v before the sync", err)
				}
			}
			synced := 0
			reader.OnStep(func(s string) error {
				if s == "sync-dir" {
					synced++
				}
				return nil
			})
			bodyOf(t, reader, "object")
			if synced != 1 {
				t.Errorf("the directory was synced %d times by a read, want once", synced)
			}
			mustPut(t, reader, "object", "next")
			synced = 0
			if wantBody(t, reader, "object", "next"); synced != 0 {
				t.Errorf("the directory was synced %d times by a read of what is durable", synced)
			}
		})
	}
}

// TestFolderReadersWaitForNobody: a reader that meets a writer between rename and
// sync, stopped there for ever, makes durable what it sees by itself. Writers of
// the same key have to wait, for as long as their context lets them.
func TestFolderReadersWaitForNobody(t *testing.T) {
	dir := t.TempDir()
	writer, reader := opened(t, dir), opened(t, dir)
	mustCreate(t, writer, "object", "old")
	renamed, goOn := make(chan struct{}), make(chan struct{})
	writer.OnStep(func(s string) error {
		if s == "sync-dir" {
			close(renamed)
			<-goOn
		}
		return nil
	})
	done := make(chan error)
	go func() { done <- change(writer, "put") }()
	<-renamed
	synced := 0
	reader.OnStep(func(s string) error {
		if s == "sync-dir" {
			synced++
		}
		return nil
	})
	if wantBody(t, reader, "object", "new"); synced != 1 {
		t.Errorf("the directory was synced %d times, want once", synced)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := reader.PutIfAbsent(ctx, "object", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("PutIfAbsent: %v while another writes", err)
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantBody(t, reader, "object", "new")
}

// TestFolderSurvivesRemovedLocks: who removes the lock files of a bucket in use
// does not split the writers into two camps.
func TestFolderSurvivesRemovedLocks(t *testing.T) {
	dir := t.TempDir()
	a := opened(t, dir)
	mustCreate(t, a, "counter", "0")
	for range 5 {
		names, err := filepath.Glob(filepath.Join(dir, ".quoit", "locks", "*"))
		if err != nil || len(names) == 0 {
			t.Fatalf("no lock files: %v", err)
		}
		for _, name := range names {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		b := opened(t, dir)
		done := make(chan error)
		for _, f := range []*bucket.Folder{a, b} {
			go func() {
				var err error
				for range 10 {
					err = errors.Join(err, buckettest.Increment(context.Background(), f, "counter"))
				}
				done <- err
			}()
		}
		if err := errors.Join(<-done, <-done); err != nil {
			t.Fatal(err)
		}
	}
	wantBody(t, a, "counter", "100")
}

// TestFolderRefusesKeysInTheWayOfEachOther: a file cannot be a folder too.
func TestFolderRefusesKeysInTheWayOfEachOther(t *testing.T) {
	f := opened(t, t.TempDir())
	mustCreate(t, f, "a", "object")
	mustCreate(t, f, "b/c", "object")
	for _, key := range []string{"a/b", "b"} {
		if _, err := f.PutIfAbsent(t.Context(), key, nil); !errors.Is(err, bucket.ErrInvalidKey) {
			t.Errorf("PutIfAbsent(%q): %v, want ErrInvalidKey", key, err)
		}
		if _, err := f.Get(t.Context(), key); !errors.Is(err, bucket.ErrNotFound) {
			t.Errorf("Get(%q): %v, want ErrNotFound", key, err)
		}
	}
	wantBody(t, f, "a", "object")
	wantBody(t, f, "b/c", "object")
}

func TestOpenFolderRefuses(t *testing.T) {
	for _, c := range []struct {
		name, file, content, want string
	}{
		{"a folder of something else", "node.json", "{}", "is no bucket"},
		{"a format from the future", ".quoit/format", "quoit-folder 2\n", `format is "2"`},
		{"a damaged format", ".quoit/format", "", "is damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			name := filepath.Join(dir, filepath.FromSlash(c.file))
			if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(c.content), 0o600)); err != nil {
				t.Fatal(err)
			}
			f, err := bucket.OpenFolder(dir)
			if err == nil {
				_ = f.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error %q does not name the folder, or lacks %q", err, c.want)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.OpenFolder(file); err == nil {
		t.Error("opened a file as a folder")
	}
}

// TestOpenFolderBesideOneWhoIsQuicker: who finds no format, and then objects, because
// another process has laid the folder out and written them in between, does not take
// it for a folder of something else.
func TestOpenFolderBesideOneWhoIsQuicker(t *testing.T) {
	f := opened(t, t.TempDir())
	mustCreate(t, f, "object", "of the quicker one")
	if err := f.Create(); err != nil {
		t.Error(err)
	}
	wantBody(t, f, "object", "of the quicker one")
}

// TestOpenFolderSweeps: what killed writers left is removed; what a living one
// writes is not, however long that takes.
func TestOpenFolderSweeps(t *testing.T) {
	dir := t.TempDir()
	f := opened(t, dir)
	old := time.Now().Add(-time.Hour)
	aged := func(names []string) {
		for _, name := range names {
			if err := os.Chtimes(name, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 3 {
		name := filepath.Join(dir, ".quoit", "writing", fmt.Sprint("dead", i))
		if err := os.WriteFile(name, []byte("half a bo"), 0o600); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			aged([]string{name})
		}
	}
	alive := make(chan struct{})
	f.OnStep(func(s string) error {
		if s == "sync" {
			names := leftovers(t, dir)
			aged(slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(filepath.Base(name), "dead") }))
			opened(t, dir) // Sweeps.
			close(alive)
		}
		return nil
	})
	mustPut(t, f, "object", "slowly written")
	<-alive
	wantBody(t, f, "object", "slowly written")
	if names := leftovers(t, dir); len(names) != 1 || filepath.Base(names[0]) != "dead0" {
		t.Errorf("left under way: %q, want only the young one", names)
	}
}

func TestClosedFolderRefuses(t *testing.T) {
	f := opened(t, t.TempDir())
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(t.Context(), "object"); err == nil || errors.Is(err, bucket.ErrNotFound) {
		t.Errorf("Get on a closed folder: %v; nothing found is not what it can say", err)
	}
	if _, err := f.PutIfAbsent(t.Context(), "object", nil); err == nil {
		t.Error("PutIfAbsent on a closed folder succeeded")
	}
}
