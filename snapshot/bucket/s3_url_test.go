package bucket_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// environ is a set of variables.
func environ(pairs ...string) func(string) string {
	m := map[string]string{}
	for _, p := range pairs {
		name, value, _ := strings.Cut(p, "=")
		m[name] = value
	}
	return func(name string) string { return m[name] }
}

var someKeys = environ("QUOIT_S3_ACCESS_KEY=access", "QUOIT_S3_SECRET_KEY=hush")

func TestParseS3(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := bucket.S3Keys{Access: "access", Secret: "hush"}
	for _, c := range []struct {
		location string
		env      func(string) string
		want     bucket.S3Config
	}{
		{"s3://quoit", someKeys, bucket.S3Config{Bucket: "quoit", Endpoint: "https://s3.amazonaws.com", Region: "us-east-1", Keys: keys}},
		{
			"s3://quoit/a/b/?endpoint=http://minio:9000&region=eu&addressing=path&timeout=5s", someKeys,
			bucket.S3Config{Bucket: "quoit", Prefix: "a/b", Endpoint: "http://minio:9000", Region: "eu", Addressing: "path", Timeout: 5 * time.Second, Keys: keys},
		},
		{
			"s3://quoit?endpoint=https://store&ca=/etc/ca.pem", environ("AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "AWS_SESSION_TOKEN=c", "AWS_REGION=r"),
			bucket.S3Config{Bucket: "quoit", Endpoint: "https://store", Region: "r", CAFile: "/etc/ca.pem", Keys: bucket.S3Keys{Access: "a", Secret: "b", Token: "c"}},
		},
		{ // What the URL says goes before the environment.
			"s3://quoit?endpoint=https://store&ca=/etc/ca.pem", environ("QUOIT_S3_ACCESS_KEY=access", "QUOIT_S3_SECRET_KEY=hush", "QUOIT_S3_CA_FILE=/other.pem"),
			bucket.S3Config{Bucket: "quoit", Endpoint: "https://store", Region: "us-east-1", CAFile: "/etc/ca.pem", Keys: keys},
		},
		{
			"s3://quoit?endpoint=https://store", environ("QUOIT_S3_ACCESS_KEY=access", "QUOIT_S3_SECRET_KEY=hush", "QUOIT_S3_CA_FILE=/other.pem"),
			bucket.S3Config{Bucket: "quoit", Endpoint: "https://store", Region: "us-east-1", CAFile: "/other.pem", Keys: keys},
		},
		{
			"s3://quoit", environ("MINIO_ROOT_USER=u", "MINIO_ROOT_PASSWORD_FILE="+file, "AWS_ENDPOINT_URL=http://one", "AWS_ENDPOINT_URL_S3=http://two", "AWS_DEFAULT_REGION=d"),
			bucket.S3Config{Bucket: "quoit", Endpoint: "http://two", Region: "d", Keys: bucket.S3Keys{Access: "u", Secret: "from-file"}},
		},
		{ // One's own pair goes before the others.
			"s3://quoit", environ("QUOIT_S3_ACCESS_KEY_FILE="+file, "QUOIT_S3_SECRET_KEY_FILE="+file, "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"),
			bucket.S3Config{Bucket: "quoit", Endpoint: "https://s3.amazonaws.com", Region: "us-east-1", Keys: bucket.S3Keys{Access: "from-file", Secret: "from-file"}},
		},
	} {
		got, err := bucket.ParseS3(c.location, c.env)
		if err != nil || got != c.want {
			t.Errorf("ParseS3(%q) = %+v, %v; want %+v", c.location, got, err, c.want)
		}
	}
}

func TestParseS3Refuses(t *testing.T) {
	for _, c := range []struct {
		location, want string
		env            func(string) string
	}{
		{"s3://access:hush@quoit", "do not belong in a URL", someKeys},
		{"s3://access:hu/sh@quoit", "not the URL", someKeys},
		{"s3://access:hush@quoit:port", "not the URL", someKeys},
		{"S3://access:hush@quoit", "do not belong in a URL", someKeys},
		{"s3:quoit", "not the URL", someKeys},
		{"s3://quoit#hush", "not the URL", someKeys},
		{"s3://", "bucket name", someKeys},
		{"s3://Quoit_Bucket", "lower-case", someKeys},
		{"s3://quoit/Prefix", "prefix", someKeys},
		{"s3://quoit?secret_key=hush", `unknown parameter "secret_key"`, someKeys},
		{"s3://quoit?region=a&region=b", `"region": want one value`, someKeys},
		{"s3://quoit?region=", `"region": want one value`, someKeys},
		{"s3://quoit?a;b", "cannot be read", someKeys},
		{"s3://quoit?timeout=5", "want a duration", someKeys},
		{"s3://quoit?timeout=1ms", "want a duration", someKeys},
		{"s3://quoit?addressing=left", "auto, path or virtual", someKeys},
		{"s3://quoit?endpoint=minio:9000", "want http://host:port", someKeys},
		{"s3://quoit?endpoint=ftp://minio", "want http://host:port", someKeys},
		{"s3://quoit?endpoint=http://minio/path", "nothing after it", someKeys},
		{"s3://quoit?endpoint=http://access:hush@minio", "do not belong in a URL", someKeys},
		{"s3://quoit?endpoint=access:hush@minio", "do not belong in a URL", someKeys},
		{"s3://quoit?endpoint=http://minio&ca=/ca.pem", "want https://", someKeys},
		{"s3://quoit", "set QUOIT_S3_ACCESS_KEY and QUOIT_S3_SECRET_KEY", environ()},
		{"s3://quoit", "belong together", environ("QUOIT_S3_SECRET_KEY=hush")},
		{"s3://quoit", "belong together", environ("AWS_ACCESS_KEY_ID=hush")},
		{"s3://quoit", "both set", environ("QUOIT_S3_ACCESS_KEY=a", "QUOIT_S3_SECRET_KEY=hush", "QUOIT_S3_SECRET_KEY_FILE=/hush")},
		{"s3://quoit", "QUOIT_S3_SECRET_KEY_FILE", environ("QUOIT_S3_ACCESS_KEY=a", "QUOIT_S3_SECRET_KEY_FILE=/no/such/file")},
	} {
		_, err := bucket.ParseS3(c.location, c.env)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParseS3(%q): %v, want %q", c.location, err, c.want)
		} else if strings.Contains(err.Error(), "hush") {
			t.Errorf("ParseS3(%q) tells a secret: %v", c.location, err)
		}
	}
	_, err := bucket.Open(t.Context(), "s3://access:hush@quoit")
	if err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("Open: %v", err)
	}
}

// TestKeysDoNotShow: a configuration can be logged.
func TestKeysDoNotShow(t *testing.T) {
	c := bucket.S3Config{Bucket: "quoit", Keys: bucket.S3Keys{Access: "access", Secret: "hush", Token: "hush"}}
	b, err := json.Marshal(c)
	text := fmt.Sprintf("%v %+v %#v %s %q %s %v", c, c, c, c, &c, b, c.Keys)
	if err != nil || strings.Contains(text, "hush") || strings.Contains(text, "access") || !strings.Contains(text, "quoit") {
		t.Errorf("%s, %v", text, err)
	}
}

// TestErrorsSayWhatHelps: each wrong setting fails at the first call, with the way out.
func TestErrorsSayWhatHelps(t *testing.T) {
	for code, want := range map[string]string{
		"NoSuchBucket":                 "create the bucket",
		"InvalidAccessKeyId":           "QUOIT_S3_ACCESS_KEY",
		"SignatureDoesNotMatch":        "QUOIT_S3_SECRET_KEY",
		"AccessDenied":                 "s3:ListBucket",
		"RequestTimeTooSkewed":         "NTP",
		"ExpiredToken":                 "session token",
		"AuthorizationHeaderMalformed": "region=",
		"MethodNotAllowed":             "not that of its console",
	} {
		faulty, wire, _ := wired(t)
		wire.Decide(func(*http.Request) buckettest.Cut {
			if code == "NoSuchBucket" {
				return answered(404, code)
			}
			return answered(403, code)
		})
		_, err := faulty.Get(t.Context(), "object")
		wantKind(t, err, errOther)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", code, err, want)
		}
		_, err = faulty.PutIfAbsent(t.Context(), "object", nil)
		wantKind(t, err, errOther)
	}
}

// TestNobodyListens: an endpoint without a store is worth waiting for, and nothing
// was sent to it.
func TestNobodyListens(t *testing.T) {
	address, release, err := freeport.Held()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	b := openS3(t, bucket.S3Config{Bucket: "quoit", Endpoint: "http://" + address, Keys: bucket.S3Keys{Access: "a", Secret: "hush"}})
	_, err = b.Get(t.Context(), "object")
	wantKind(t, err, bucket.ErrUnavailable)
	_, err = b.PutIfAbsent(t.Context(), "object", nil)
	wantKind(t, err, bucket.ErrUnavailable)
	if !strings.Contains(err.Error(), "does the store run") || !bucket.IsRetryable(err) {
		t.Error(err)
	}
}

// TestAnotherServerIsNoEmptyBucket: what answers "not found" to everything is not a
// store that holds nothing.
func TestAnotherServerIsNoEmptyBucket(t *testing.T) {
	page := func(status int) *bucket.S3 {
		return openS3(t, buckettest.ServeS3(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat))
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html><body>Welcome</body></html>")
		})).Config("p"))
	}
	for _, b := range []*bucket.S3{page(http.StatusNotFound), page(http.StatusOK)} {
		_, getErr := b.Get(t.Context(), "object")
		_, rangeErr := b.GetRange(t.Context(), "object", 0, 1)
		for _, err := range []error{getErr, rangeErr} {
			if wantKind(t, err, bucket.ErrUnavailable); err == nil || !strings.Contains(err.Error(), "is the endpoint the address of the S3 API") {
				t.Errorf("error is %v", err)
			}
		}
		_, err := b.PutIfMatch(t.Context(), "object", []byte("x"), "tag")
		wantKind(t, err, bucket.ErrInDoubt)
		_, err = b.PutIfAbsent(t.Context(), "object", []byte("x"))
		wantKind(t, err, bucket.ErrInDoubt)
	}
	missing := page(http.StatusNotFound)
	_, err := missing.Head(t.Context(), "object")
	wantKind(t, err, bucket.ErrUnavailable)
	for _, err = range missing.List(t.Context(), "", "") {
		wantKind(t, err, bucket.ErrUnavailable)
	}
	if err == nil {
		t.Error("List of another server's 404 ended well")
	}
}

// blackhole is a store that takes connections and says nothing.
func blackhole(t *testing.T) *buckettest.S3 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &buckettest.S3{Endpoint: "http://" + l.Addr().String(), Keys: bucket.S3Keys{Access: "a", Secret: "hush"}}
}

// TestSilenceEnds: calls come back from a store that says nothing, by themselves.
func TestSilenceEnds(t *testing.T) {
	c := blackhole(t).Config("")
	c.Timeout = 50 * time.Millisecond
	b := openS3(t, c)
	b.ConnectAtLeisure(c.Timeout)
	_, err := b.Get(t.Context(), "object")
	wantKind(t, err, bucket.ErrUnavailable)
	_, err = b.PutIfAbsent(t.Context(), "object", nil)
	wantKind(t, err, bucket.ErrInDoubt)
	// More than the connection takes without a reader.
	_, err = b.PutIfAbsent(t.Context(), "object", make([]byte, bucket.MaxConditional))
	wantKind(t, err, bucket.ErrInDoubt)
	for _, err = range b.List(t.Context(), "", "") {
		wantKind(t, err, bucket.ErrUnavailable)
	}
}

// TestSilenceWithinABody: an answer that stops in the middle ends too.
func TestSilenceWithinABody(t *testing.T) {
	stop := make(chan struct{})
	s := buckettest.ServeS3(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		w.Header().Set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat))
		_, _ = w.Write([]byte("12345"))
		_ = http.NewResponseController(w).Flush()
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}))
	defer close(stop)
	c := s.Config("")
	c.Timeout = 50 * time.Millisecond
	_, err := openS3(t, c).Get(t.Context(), "object")
	wantKind(t, err, bucket.ErrUnavailable)
}

// TestCallersDoNotWait: the end of the caller's context ends a call that is under
// way. A write is in doubt then, a read is not answered.
func TestCallersDoNotWait(t *testing.T) {
	for _, c := range []struct {
		name string
		call func(context.Context, bucket.Bucket) error
		want error
	}{
		{"get", func(ctx context.Context, b bucket.Bucket) error { _, err := b.Get(ctx, "object"); return err }, errOther},
		{"write", func(ctx context.Context, b bucket.Bucket) error {
			_, err := b.PutIfAbsent(ctx, "object", []byte("x"))
			return err
		}, bucket.ErrInDoubt},
		{"delete", func(ctx context.Context, b bucket.Bucket) error { return b.Delete(ctx, "object") }, bucket.ErrInDoubt},
	} {
		faulty, wire, _ := wired(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		wire.Decide(func(*http.Request) buckettest.Cut {
			cancel()
			return buckettest.Cut{Wait: make(chan struct{}), Lost: true}
		})
		err := c.call(ctx, faulty)
		if wantKind(t, err, c.want); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want that the context was canceled", c.name, err)
		}
	}
}

// TestTLS: a store with a certificate of one's own authority is trusted with ca=.
func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"tag"`)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // It complains about clients that hang up.
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	c := bucket.S3Config{Bucket: "quoit", Endpoint: server.URL, CAFile: ca, Keys: bucket.S3Keys{Access: "a", Secret: "hush"}}
	if tag, err := openS3(t, c).PutIfAbsent(t.Context(), "object", []byte("x")); err != nil || tag != "tag" {
		t.Errorf("with the authority: %q, %v", tag, err)
	}
	c.CAFile = ""
	_, err := openS3(t, c).PutIfAbsent(t.Context(), "object", []byte("x"))
	if wantKind(t, err, errOther); err == nil || !strings.Contains(err.Error(), "ca=/path") {
		t.Errorf("without it: %v", err)
	}
	plain := buckettest.ServeS3(t, http.NotFoundHandler())
	c.Endpoint = strings.Replace(plain.Endpoint, "http://", "https://", 1)
	_, err = openS3(t, c).PutIfAbsent(t.Context(), "object", []byte("x"))
	if wantKind(t, err, errOther); err == nil || !strings.Contains(err.Error(), "endpoint=http://") {
		t.Errorf("https to a store without: %v", err)
	}
	for _, file := range []string{ca + "-missing", os.Args[0]} {
		c.CAFile = file
		if _, err := bucket.OpenS3(c); err == nil || !strings.Contains(err.Error(), "ca: ") {
			t.Errorf("ca=%s: %v", file, err)
		}
	}
}

// TestNoRedirectIsFollowed: a store that sends requests elsewhere would have the signed
// ones, and bodies, go to whoever it names.
func TestNoRedirectIsFollowed(t *testing.T) {
	strayed := make(chan string, 10)
	elsewhere := buckettest.ServeS3(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { strayed <- r.Method + " " + r.URL.Path }))
	for _, code := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		store := buckettest.ServeS3(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.Endpoint+r.URL.Path, code)
		}))
		b := openS3(t, store.Config(""))
		if _, err := b.Get(t.Context(), "object"); err == nil {
			t.Errorf("%d: a reading call succeeds", code)
		}
		if _, err := b.PutIfAbsent(t.Context(), "object", []byte("x")); err == nil {
			t.Errorf("%d: a writing call succeeds", code)
		}
	}
	select {
	case request := <-strayed:
		t.Errorf("%s went elsewhere", request)
	default:
	}
}
