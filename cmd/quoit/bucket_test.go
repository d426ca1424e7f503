package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/local"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// keysOf puts the keys of a store where commands find them.
func keysOf(t *testing.T, s *buckettest.S3) {
	t.Helper()
	for _, pair := range s.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
}

// another is the URL of a bucket in the store that nobody has created.
func another(s *buckettest.S3) string {
	return strings.Replace(s.Location("p"), buckettest.S3Bucket, "another", 1)
}

func TestABucketIsCreatedOnce(t *testing.T) {
	store := buckettest.NewFakeS3(t)
	keysOf(t, store)
	for name, url := range map[string]string{
		"folder": "file://" + filepath.Join(t.TempDir(), "deep", "bucket"),
		"store":  another(store),
	} {
		t.Run(name, func(t *testing.T) {
			o := quoit(t, "bucket", "check", url)
			if o.code != exitFailure || !strings.Contains(o.err, "quoit bucket create") {
				t.Errorf("a check of what is not there: %d, %s", o.code, o.err)
			}
			mustSay(t, must(t, "bucket", "create", url), "created "+url)
			mustSay(t, must(t, "bucket", "create", "--bucket", url), "is there already: "+url)
			var said struct{ Created bool }
			if err := json.Unmarshal([]byte(must(t, "bucket", "create", url, "--json")), &said); err != nil || said.Created {
				t.Errorf("in JSON: %+v, %v", said, err)
			}
			mustSay(t, must(t, "bucket", "check", url), "ok: ", "no cluster lives there yet")
			mustSay(t, must(t, "snapshot", "list", "--bucket", url), "no node has a snapshot")
		})
	}
}

func TestAFolderThatIsSomethingElseIsNoBucket(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "diary.txt"), []byte("dear diary"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"create", "check"} {
		o := quoit(t, "bucket", command, "file://"+dir)
		if o.code == 0 || !strings.Contains(o.err, "diary.txt") {
			t.Errorf("%s: %d, %s", command, o.code, o.err)
		}
	}
}

// TestAStoreThatIgnoresConditionsIsRefused says what was seen.
func TestAStoreThatIgnoresConditionsIsRefused(t *testing.T) {
	var wire *buckettest.Wire
	store := buckettest.NewFakeS3Behind(t, func(next http.Handler) http.Handler {
		wire = buckettest.NewWire(next)
		return wire
	})
	keysOf(t, store)
	wire.Decide(func(*http.Request) buckettest.Cut { return buckettest.Cut{Drop: []string{"If-Match", "If-None-Match"}} })
	o := quoit(t, "bucket", "check", store.Location("p"))
	if o.code != exitFailure || !strings.Contains(o.err, "cannot be trusted") || !strings.Contains(o.err, "succeeded, although its condition did not hold") {
		t.Errorf("%d, %s", o.code, o.err)
	}
}

// TestTheCheckNamesTheClusterThatLivesThere, and changes nothing of it.
func TestTheCheckNamesTheClusterThatLivesThere(t *testing.T) {
	dir := t.TempDir()
	c, err := local.Start(t.Context(), local.Options{Dir: dir, Nodes: 1, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("QUOIT_SERVERS", c.Manager())
	must(t, "put", "a", "b")
	mustSay(t, must(t, "bucket", "check", "file://"+filepath.Join(dir, "bucket")), "ok: ", "it is the home of cluster ", "1 node")
	mustSay(t, must(t, "get", "a"), "b")
	if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}
