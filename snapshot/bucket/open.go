package bucket

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Open opens the bucket that a URL names. "file:///var/lib/quoit/bucket" is a
// folder of this machine, "s3://bucket/prefix?endpoint=http://host:9000" a bucket
// of an object store: [ParseS3] tells the whole of it, and which environment
// variables hold the keys. Nothing is sent to a store yet.
func Open(_ context.Context, location string) (Bucket, error) {
	if scheme, _, _ := strings.Cut(location, ":"); strings.EqualFold(scheme, "s3") {
		c, err := ParseS3(location, os.Getenv)
		if err != nil {
			return nil, err
		}
		return orNone(OpenS3(c))
	}
	u, err := url.Parse(location)
	if err != nil {
		return nil, errors.New("bucket URL: not a URL: want file:///absolute/path or s3://bucket/prefix")
	}
	if u.Scheme != "file" {
		return nil, fmt.Errorf("bucket URL %q: scheme %q is not supported: use file:///absolute/path or s3://bucket/prefix", u.Redacted(), u.Scheme)
	}
	if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("bucket URL %q: want file:///absolute/path, with three slashes and nothing after the path", location)
	}
	return orNone(OpenFolder(filepath.FromSlash(u.Path)))
}

// orNone is a bucket, or nil and why there is none: a pointer that is nil would be a
// Bucket that is not.
func orNone[B Bucket](b B, err error) (Bucket, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}
