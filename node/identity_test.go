package node

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/vfs"
)

const testAddress = "127.0.0.1:7401"

func TestAFreshFolderGetsAnIdentityForEver(t *testing.T) {
	disk := vfs.NewMem()
	f := mustOpenFolder(t, disk)
	first, err := f.identify(testAddress)
	if err != nil || first.ID == "" || first.Cluster != "" || first.Address != testAddress {
		t.Fatalf("got %+v, %v", first, err)
	}
	first.Cluster = "c1"
	if err := f.save(first); err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	f = mustOpenFolder(t, disk.CrashClone(func() bool { return false }))
	if again, err := f.identify(testAddress); err != nil || again != first {
		t.Errorf("after a crash: %+v, %v; want %+v", again, err, first)
	}
	if a, b := newNodeID(), newNodeID(); a == b || len(a) != 36 {
		t.Errorf("ids %s and %s", a, b)
	}
}

func TestAFolderIsUsedByOneProcess(t *testing.T) {
	disk := vfs.NewMem()
	mustOpenFolder(t, disk)
	_, err := openFolder(disk, "/data")
	wantFolderError(t, err, "another process works on it", "QUOIT_NODE_DATA")
}

func TestAForeignFolderIsRefused(t *testing.T) {
	disk := vfs.NewMem()
	f := mustOpenFolder(t, disk)
	if _, err := f.identify("10.0.0.9:7401"); err != nil {
		t.Fatal(err)
	}
	_, err := f.identify(testAddress)
	wantFolderError(t, err, "it belongs to node 10.0.0.9:7401 and this is "+testAddress, "QUOIT_NODE_ADVERTISE=10.0.0.9:7401")
}

func TestALogWithoutAnIdentityIsRefused(t *testing.T) {
	disk := vfs.NewMem()
	f := mustOpenFolder(t, disk)
	if err := disk.MkdirAll(f.logDir()); err != nil {
		t.Fatal(err)
	}
	_, err := f.identify(testAddress)
	wantFolderError(t, err, "it holds a log and no node.json", "backup")
}

func TestABadIdentityIsRefused(t *testing.T) {
	for body, want := range map[string]string{
		"":   "not JSON",
		"{":  "not JSON",
		"[]": "not JSON",
		`{"format":2,"id":"x","address":"` + testAddress + `","shape":"new"}`: "format 2, and this version of quoit reads format 1",
		`{"format":1,"id":"x","address":"` + testAddress + `","shape":"new"}`: "unknown field",
		`{"format":1}`: "id or address is missing",
		`{"format":1,"id":"x","address":"a:1","cluster":` + strings.Repeat(" ", identityLimit) + `"c"}`: "is no identity",
	} {
		disk := vfs.NewMem()
		f := mustOpenFolder(t, disk)
		if err := f.write("/data/node.json", []byte(body)); err != nil {
			t.Fatal(err)
		}
		if _, err := f.identify(testAddress); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", body, err, want)
		}
	}
}

// TestEveryFailureOfTheDiskIsReported: whichever operation fails, identify or save
// says so, and what is on the disk afterwards is the old identity or the new one.
func TestEveryFailureOfTheDiskIsReported(t *testing.T) {
	broken := errors.New("broken")
	for n := 1; ; n++ {
		disk := vfs.NewMem()
		reached := false
		f, err := openFolder(vfs.Inject(disk, func(op vfs.Op) error {
			if op.Seq == n {
				reached = true
				return broken
			}
			return nil
		}), "/data")
		if err == nil {
			var id identity
			if id, err = f.identify(testAddress); err == nil {
				id.Cluster = "c1"
				err = f.save(id)
			}
		}
		if !reached {
			if err != nil || n < 10 {
				t.Fatalf("%d operations, then %v", n, err)
			}
			return
		}
		if !errors.Is(err, broken) {
			t.Errorf("operation %d failed and nobody said so: %v", n, err)
		}
		after := disk.CrashClone(func() bool { return n%2 == 0 })
		if _, err := (&folder{fs: after, dir: "/data"}).identify(testAddress); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after operation %d failed: %v", n, err)
		}
	}
}

// Whoever has been told an identity finds it again, whatever the power takes away.
func TestAnIdentitySurvivesAPowerFailure(t *testing.T) {
	disk := vfs.NewMem()
	f := mustOpenFolder(t, disk)
	id, err := f.identify(testAddress)
	if err != nil {
		t.Fatal(err)
	}
	lose := func() bool { return false }
	check := func() {
		t.Helper()
		after, err := mustOpenFolder(t, disk.CrashClone(lose)).identify(testAddress)
		if err != nil || after != id {
			t.Fatalf("%+v, %v, want %+v", after, err, id)
		}
	}
	check()
	id.Cluster = "c1"
	if err := f.save(id); err != nil {
		t.Fatal(err)
	}
	check()
}

func mustOpenFolder(t *testing.T, disk vfs.FS) *folder {
	t.Helper()
	f, err := openFolder(disk, "/data")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func wantFolderError(t *testing.T, err error, words ...string) {
	t.Helper()
	var bad *FolderError
	if !errors.As(err, &bad) {
		t.Fatalf("got %v, want a FolderError", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

func FuzzDecodeIdentity(f *testing.F) {
	f.Add([]byte(`{"format":1,"cluster":"c","id":"x","address":"a:1"}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if id, err := decodeIdentity(body); err == nil && (id.ID == "" || id.Address == "" || id.Format != identityFormat) {
			t.Errorf("accepted %+v", id)
		}
	})
}
