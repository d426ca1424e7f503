package buckettest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// S3Bucket is the bucket that the stores of this package hold.
const S3Bucket = "quoit-test"

// S3 is an S3 store for tests, with one bucket in it.
type S3 struct {
	// Endpoint is its address, http://127.0.0.1:port.
	Endpoint string
	Keys     bucket.S3Keys
}

// Config returns how to reach the part of the bucket below a prefix.
func (s *S3) Config(prefix string) bucket.S3Config {
	return bucket.S3Config{Bucket: S3Bucket, Prefix: prefix, Endpoint: s.Endpoint, Keys: s.Keys}
}

// Location is Config as a URL. The keys are not in it: see Environ.
func (s *S3) Location(prefix string) string {
	return "s3://" + S3Bucket + "/" + prefix + "?endpoint=" + url.QueryEscape(s.Endpoint)
}

// Environ returns the variables that hold the keys, as os/exec takes them.
func (s *S3) Environ() []string {
	return []string{"QUOIT_S3_ACCESS_KEY=" + s.Keys.Access, "QUOIT_S3_SECRET_KEY=" + s.Keys.Secret}
}

// Open opens the part of the bucket below a prefix.
func (s *S3) Open(t testing.TB, prefix string) *bucket.S3 {
	t.Helper()
	b, err := bucket.OpenS3(s.Config(prefix))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Fresh is the open function that [Test] takes: each test gets a prefix of its own.
func (s *S3) Fresh(t *testing.T) func() bucket.Bucket {
	prefix := "fresh-" + strings.ToLower(rand.Text())
	return func() bucket.Bucket { return s.Open(t, prefix) }
}

// createBucket makes the bucket, as the owner of a store does before Quoit is started.
func (s *S3) createBucket(ctx context.Context) (err error) {
	b, err := bucket.OpenS3(s.Config(""))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	_, err = b.CreateBucket(ctx)
	return err
}

// NewFakeS3 starts an S3 store in memory. It is gofakes3 with two things put right:
// each body is compared with its sum, and an object in parts has one ETag. Its
// conditional writes are atomic as they are; signatures it does not check.
func NewFakeS3(t testing.TB) *S3 {
	t.Helper()
	return NewFakeS3Behind(t, func(h http.Handler) http.Handler { return h })
}

// NewFakeS3Behind is NewFakeS3 with a handler in front of it, such as a [Wire].
func NewFakeS3Behind(t testing.TB, wrap func(http.Handler) http.Handler) *S3 {
	t.Helper()
	fake := gofakes3.New(s3mem.New(), gofakes3.WithTimeSkewLimit(0))
	store := verifySums(oneETag(fake.Server()))
	direct := ServeS3(t, store)
	if err := direct.createBucket(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ServeS3(t, wrap(store))
}

// NewS3Behind returns a store reached through a handler: wrap is given one that
// passes requests on to the store.
func NewS3Behind(t testing.TB, s *S3, wrap func(http.Handler) http.Handler) *S3 {
	t.Helper()
	front := ServeS3(t, wrap(passOn(s.Endpoint)))
	front.Keys = s.Keys
	return front
}

// ServeS3 returns the store that a handler is.
func ServeS3(t testing.TB, h http.Handler) *S3 {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return &S3{Endpoint: server.URL, Keys: bucket.S3Keys{Access: "quoit-test", Secret: "quoit-test-secret"}}
}

// verifySums refuses a body that is not the one that was signed.
func verifySums(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.ContentLength > int64(len(body)) {
			answer(w, http.StatusBadRequest, "IncompleteBody")
			return
		}
		sum := sha256.Sum256(body)
		want := r.Header.Get("X-Amz-Content-Sha256")
		if len(want) == 2*sha256.Size && want != hex.EncodeToString(sum[:]) {
			answer(w, http.StatusBadRequest, "XAmzContentSHA256Mismatch")
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

// oneETag has the answer that completes an upload name the ETag that the object has
// from then on. gofakes3 names another one.
func oneETag(next http.Handler) http.Handler {
	etag := regexp.MustCompile(`<ETag>[^<]*</ETag>`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		done := httptest.NewRecorder()
		next.ServeHTTP(done, r)
		body := done.Body.Bytes()
		if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") && done.Code == http.StatusOK {
			head := httptest.NewRequest(http.MethodHead, r.URL.Path, nil)
			object := httptest.NewRecorder()
			next.ServeHTTP(object, head)
			body = etag.ReplaceAll(body, []byte("<ETag>"+html.EscapeString(object.Header().Get("ETag"))+"</ETag>"))
		}
		maps.Copy(w.Header(), done.Header())
		w.WriteHeader(done.Code)
		_, _ = w.Write(body)
	})
}

// answer is an error as S3 stores send it.
func answer(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>made up by a test</Message></Error>`, code)
}
