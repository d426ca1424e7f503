package bucket

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// FuzzLocation: a key that somebody has written into a bucket's URL, or into that of its
// endpoint, is refused and is not told: URLs and errors end up in logs.
func FuzzLocation(f *testing.F) {
	for _, parts := range [][2]string{
		{"", "quoit"}, {"user", "bucket/prefix?endpoint=http://127.0.0.1:9000"}, {"http://user", "127.0.0.1:9000"}, {"https://", "a"}, {"user", "[::1"}, {"%zz", "a"}, {"us er", "a"}, {"ftp://a", "b"}, {"a", "?x=1&x=2"}, {"a", "#f"},
	} {
		f.Add(parts[0], parts[1])
	}
	const secret = "n0b0dy-is-t0ld"
	env := func(name string) string {
		return map[string]string{"QUOIT_S3_ACCESS_KEY": "quoit", "QUOIT_S3_SECRET_KEY": "quoit-quoit"}[name]
	}
	if c, err := ParseS3("s3://bucket?endpoint=http://127.0.0.1:9000", env); err != nil {
		f.Fatalf("what is right is not taken: %+v, %v", c.Bucket, err)
	}
	f.Fuzz(func(t *testing.T, user, rest string) {
		locations := []string{"s3://bucket?endpoint=" + url.QueryEscape(user+":"+secret+"@"+rest)}
		if !strings.ContainsAny(user, "/?#") {
			locations = append(locations, "s3://"+user+":"+secret+"@"+rest)
		}
		for _, location := range locations {
			c, err := ParseS3(location, env)
			if err == nil {
				t.Fatalf("%q is taken: %+v", location, c.Bucket)
			}
			if strings.Contains(err.Error(), secret) {
				t.Fatalf("%q: the key is told: %v", location, err)
			}
		}
	})
}

// FuzzContentRange: a part of an object is taken only if the store says that it is the part
// that was asked for, all of it.
func FuzzContentRange(f *testing.F) {
	for _, have := range []string{"bytes 5-14/100", "bytes 5-9/10", "bytes 5-14/*", "bytes */10", "5-14/100", "bytes 5-14/-1", "bytes 5-14/99999999999999999999", "", "/", "bytes 05-14/100", "bytes 5-14/015"} {
		f.Add(have, uint32(5), uint32(10))
	}
	f.Fuzz(func(t *testing.T, have string, from, n uint32) {
		offset, length := int64(from), int64(n)+1
		if checkRange(have, offset, length) != nil {
			return
		}
		var first, last, size int64
		if _, err := fmt.Sscanf(strings.TrimPrefix(have, "bytes "), "%d-%d/%d", &first, &last, &size); err != nil || first != offset || last != offset+length-1 || last >= size {
			t.Fatalf("%d bytes from %d on: %q is taken (%v)", length, offset, have, err)
		}
	})
}
