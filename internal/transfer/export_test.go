package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoitdb/quoit/client"
)

// shelf is a cluster that holds what it is given.
type shelf struct {
	entries []client.Entry
	ttl     func(key string) (time.Duration, error)
	after   func(n int) error // called before the n-th entry; may end the scan

	asked, atOnce, most atomic.Int64
}

func (s *shelf) Scan(context.Context, client.ScanOptions) iter.Seq2[client.Entry, error] {
	return func(yield func(client.Entry, error) bool) {
		for i, e := range s.entries {
			if s.after != nil {
				if err := s.after(i); err != nil {
					yield(client.Entry{}, err)
					return
				}
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (s *shelf) TTL(ctx context.Context, key string) (time.Duration, error) {
	s.asked.Add(1)
	now := s.atOnce.Add(1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	defer s.atOnce.Add(-1)
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if s.ttl == nil {
		return client.NoExpiry, nil
	}
	return s.ttl(key)
}

func shelfOf(n int) *shelf {
	s := &shelf{}
	for i := range n {
		s.entries = append(s.entries, client.Entry{Key: fmt.Sprint("key:", i), Value: fmt.Append(nil, "value ", i)})
	}
	return s
}

func TestAnExportComesBackWhole(t *testing.T) {
	for _, n := range []int{0, 1, pageKeys, 3*pageKeys + 7} {
		s := shelfOf(n)
		s.entries = append(s.entries, client.Entry{Key: "\xff\x00", Value: []byte{0xfe}}, client.Entry{Key: "", Value: []byte{}})
		var out bytes.Buffer
		var last Progress
		p, err := Export(t.Context(), s, client.ScanOptions{}, &out, func(p Progress) { last = p })
		if err != nil {
			t.Fatal(err)
		}
		if want := int64(n + 2); p.Keys != want || last.Keys != want || s.asked.Load() != want {
			t.Errorf("%d keys: %d counted, %d reported, %d asked for their time to live", n+2, p.Keys, last.Keys, s.asked.Load())
		}
		got, err := collect(JSONLines(&out))
		if err != nil {
			t.Fatal(err)
		}
		want := make([]Item, 0, n+2)
		for _, e := range s.entries {
			want = append(want, Item{Key: e.Key, Value: e.Value})
		}
		sameItems(t, got, want)
	}
}

func TestTimesToLiveAreExported(t *testing.T) {
	s := shelfOf(4)
	s.ttl = func(key string) (time.Duration, error) {
		switch key {
		case "key:0":
			return 90 * time.Second, nil
		case "key:1":
			return 0, client.ErrNotFound // deleted since it was read
		case "key:2":
			return 0, nil // ends now
		}
		return client.NoExpiry, nil
	}
	var out bytes.Buffer
	p, err := Export(t.Context(), s, client.ScanOptions{}, &out, nil)
	if err != nil || p.Keys != 2 {
		t.Fatalf("%d keys, %v", p.Keys, err)
	}
	got, err := collect(JSONLines(&out))
	if err != nil {
		t.Fatal(err)
	}
	sameItems(t, got, []Item{{Key: "key:0", Value: []byte("value 0"), TTL: 90 * time.Second}, {Key: "key:3", Value: []byte("value 3")}})
}

// Asking one key after the other costs a round trip for each.
func TestTimesToLiveAreAskedForManyAtOnce(t *testing.T) {
	s := shelfOf(pageKeys)
	full, waiting := make(chan struct{}), atomic.Int64{}
	s.ttl = func(string) (time.Duration, error) {
		if waiting.Add(1) == askers {
			close(full)
		}
		<-full
		return client.NoExpiry, nil
	}
	if _, err := Export(t.Context(), s, client.ScanOptions{}, &bytes.Buffer{}, nil); err != nil {
		t.Fatal(err)
	}
	if s.most.Load() > askers {
		t.Errorf("%d at once, want at most %d", s.most.Load(), askers)
	}
}

func TestPagesAreBoundedInBytes(t *testing.T) {
	s := &shelf{}
	for i := range 6 {
		s.entries = append(s.entries, client.Entry{Key: fmt.Sprint(i), Value: make([]byte, pageBytes/2)})
	}
	s.after = func(n int) error {
		if held := int64(n) - s.asked.Load(); held > 2 {
			t.Errorf("%d values of half a page each are held", held)
		}
		return nil
	}
	if _, err := Export(t.Context(), s, client.ScanOptions{}, &bytes.Buffer{}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestAnExportThatBreaksOffSaysSo(t *testing.T) {
	broken := errors.New("node gone")
	for name, s := range map[string]*shelf{
		"while scanning": {entries: shelfOf(2000).entries, after: func(n int) error {
			if n == 1500 {
				return broken
			}
			return nil
		}},
		"while asking": {entries: shelfOf(2000).entries, ttl: func(key string) (time.Duration, error) {
			if key == "key:900" {
				return 0, broken
			}
			return client.NoExpiry, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Export(t.Context(), s, client.ScanOptions{}, &bytes.Buffer{}, nil); !errors.Is(err, broken) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestAFullDiskIsAnErrorAlsoForASmallExport(t *testing.T) {
	_, err := Export(t.Context(), shelfOf(1), client.ScanOptions{}, full{}, nil)
	mustContain(t, err, "no space left")
}

func TestAnExportFileIsThereWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "all.jsonl")
	if _, err := ExportFile(t.Context(), shelfOf(3), client.ScanOptions{}, name, nil); err != nil {
		t.Fatal(err)
	}
	before := read(t, name)
	if n := strings.Count(before, "\n"); n != 3 {
		t.Fatalf("%d lines, want 3", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	interrupted := shelfOf(5000)
	interrupted.after = func(n int) error {
		if n == 3000 {
			cancel() // as Ctrl-C does
		}
		return ctx.Err()
	}
	if _, err := ExportFile(ctx, interrupted, client.ScanOptions{}, name, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	if read(t, name) != before {
		t.Error("an interrupted export changed the file")
	}
	onlyFile(t, dir, "all.jsonl")
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func onlyFile(t *testing.T, dir, want string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() != want {
			t.Errorf("%s is left behind", f.Name())
		}
	}
}

func TestAnExportFileKeepsItsPermissionsAndANewOneIsPrivate(t *testing.T) {
	dir := t.TempDir()
	fresh, old := filepath.Join(dir, "new"), filepath.Join(dir, "old")
	if err := os.WriteFile(old, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{fresh: 0o600, old: 0o640} {
		if _, err := ExportFile(t.Context(), shelfOf(1), client.ScanOptions{}, name, nil); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has permissions %o, want %o", filepath.Base(name), info.Mode().Perm(), want)
		}
	}
}

func TestAnExportGoesThroughALinkAndIntoADevice(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if _, err := ExportFile(t.Context(), shelfOf(1), client.ScanOptions{}, link, nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(read(t, target), "key:0") {
		t.Error("the file behind the link was not written")
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is no link any more: %v %v", info, err)
	}
	if _, err := ExportFile(t.Context(), shelfOf(1), client.ScanOptions{}, os.DevNull, nil); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Fatalf("%s is a regular file now", os.DevNull)
	}
}

func TestAnExportIntoAFolderOrNowhereIsRefused(t *testing.T) {
	dir := t.TempDir()
	_, err := ExportFile(t.Context(), shelfOf(1), client.ScanOptions{}, dir, nil)
	mustContain(t, err, "is a folder")
	_, err = ExportFile(t.Context(), shelfOf(1), client.ScanOptions{}, filepath.Join(dir, "no", "such"), nil)
	mustContain(t, err, "no such file")
}
