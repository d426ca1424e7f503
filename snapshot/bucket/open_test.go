package bucket_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/snapshot/bucket"
)

func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "bucket")
	for _, location := range []string{"file://" + dir, "file://localhost" + dir, "file://" + dir + "/"} {
		b, err := bucket.Open(t.Context(), location)
		if err != nil {
			t.Fatalf("Open(%q): %v", location, err)
		}
		mustPut(t, b, "object", location)
		wantBody(t, opened(t, dir), "object", location)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for location, want := range map[string]string{
		"":                          "file:///absolute/path",
		"/var/lib/quoit":            "file:///absolute/path",
		"gs://bucket":               `"gs" is not supported`,
		"file://relative/path":      "three slashes",
		"file:relative":             "three slashes",
		"file:///path?versioned=no": "nothing after the path",
		"file:///path#fragment":     "nothing after the path",
		"://":                       "bucket URL",
		"file://" + file:            "not a directory",
		"s3://bucket?endpoint=":     "endpoint",
	} {
		b, err := bucket.Open(t.Context(), location)
		if err == nil {
			t.Errorf("Open(%q) = %v", location, b)
			continue
		}
		if b != nil {
			t.Errorf("Open(%q) gives a bucket of type %T beside its error", location, b)
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q): %q does not say %q", location, err, want)
		}
	}
}

func TestIsRetryable(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{bucket.ErrUnavailable, true},
		{&bucket.OpError{Op: "get", Key: "k", Err: fmt.Errorf("503: %w", bucket.ErrUnavailable)}, true},
		{errors.Join(bucket.ErrUnavailable, bucket.ErrInDoubt), false},
		{bucket.ErrInDoubt, false},
		{bucket.ErrConditionFailed, false},
		{bucket.ErrNotFound, false},
	} {
		if got := bucket.IsRetryable(c.err); got != c.want {
			t.Errorf("IsRetryable(%v) = %v", c.err, got)
		}
	}
}

func ExampleValidateKey() {
	fmt.Println(bucket.ValidateKey("cluster/document.json"))
	fmt.Println(bucket.ValidateKey("cluster/../document.json"))
	// Output:
	// <nil>
	// invalid key "cluster/../document.json": a part must not begin with a dot
}
