package bucket_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// wired returns a bucket on a fake store, what lies between them, and the same
// bucket on a line without faults.
func wired(t *testing.T) (faulty *bucket.S3, wire *buckettest.Wire, sound *bucket.S3) {
	t.Helper()
	var store http.Handler
	front := buckettest.NewFakeS3Behind(t, func(h http.Handler) http.Handler {
		store, wire = h, buckettest.NewWire(h)
		return wire
	})
	back := buckettest.ServeS3(t, store)
	return openS3(t, front.Config("p")), wire, openS3(t, back.Config("p"))
}

func openS3(t *testing.T, c bucket.S3Config) *bucket.S3 {
	t.Helper()
	b, err := bucket.OpenS3(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	b.Hurry()
	return b
}

// inTurn gives the requests of a method these fates one after the other, and the
// last one to all that follow.
func inTurn(method string, cuts ...buckettest.Cut) func(*http.Request) buckettest.Cut {
	n := 0
	return func(r *http.Request) buckettest.Cut {
		if r.Method != method {
			return buckettest.Cut{}
		}
		n++
		return cuts[min(n, len(cuts))-1]
	}
}

var (
	fine        = buckettest.Cut{}
	lostRequest = buckettest.Cut{Lost: true}
	lostReply   = buckettest.Cut{Done: true, Lost: true}
	flipped     = buckettest.Cut{Body: flip}
)

func answered(status int, code string) buckettest.Cut {
	return buckettest.Cut{Status: status, Code: code}
}

func flip(b []byte) {
	if len(b) > 0 {
		b[len(b)/2] ^= 1
	}
}

// errOther stands for an error that is none of this package's: nothing happened,
// and asking again will not help.
var errOther = errors.New("any other error")

func wantKind(t *testing.T, err, want error) {
	t.Helper()
	kinds := []error{bucket.ErrConditionFailed, bucket.ErrUnavailable, bucket.ErrInDoubt, bucket.ErrNotFound}
	for _, kind := range kinds {
		if is, should := errors.Is(err, kind), errors.Is(want, kind); is != should {
			t.Errorf("error is %v; is it %q: %v, want %v", err, kind, is, should)
		}
	}
	if (err == nil) != (want == nil) {
		t.Errorf("error is %v, want %v", err, want)
	}
	if err != nil && (strings.Contains(err.Error(), "quoit-test-secret") || len(err.Error()) > 1000) {
		t.Errorf("error says too much: %v", err)
	}
}

// TestConditionalWritesUnderFaults: each outcome has its class, the store holds what
// the class says, and a write that may have happened is never made a second time.
func TestConditionalWritesUnderFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		cuts  []buckettest.Cut
		want  error
		holds string
		sent  int
	}{
		{"no fault", []buckettest.Cut{fine}, nil, "new", 1},
		{"lost request", []buckettest.Cut{lostRequest}, bucket.ErrInDoubt, "old", 1},
		{"lost reply", []buckettest.Cut{lostReply}, bucket.ErrInDoubt, "new", 1},
		{"412", []buckettest.Cut{answered(412, "PreconditionFailed")}, bucket.ErrConditionFailed, "old", 1},
		{"404 for the object", []buckettest.Cut{answered(404, "NoSuchKey")}, bucket.ErrConditionFailed, "old", 1},
		{"404 for the bucket", []buckettest.Cut{answered(404, "NoSuchBucket")}, errOther, "old", 1},
		{"409, then free", []buckettest.Cut{answered(409, "ConditionalRequestConflict"), fine}, nil, "new", 2},
		{"409, then lost", []buckettest.Cut{answered(409, "ConditionalRequestConflict"), answered(412, "PreconditionFailed")}, bucket.ErrConditionFailed, "old", 2},
		{"409, then in doubt", []buckettest.Cut{answered(409, "ConditionalRequestConflict"), lostReply}, bucket.ErrInDoubt, "new", 2},
		{"409 for ever", []buckettest.Cut{answered(409, "ConditionalRequestConflict")}, bucket.ErrUnavailable, "old", 6},
		{"500", []buckettest.Cut{answered(500, "InternalError")}, bucket.ErrInDoubt, "old", 1},
		{"500 after it was done", []buckettest.Cut{{Done: true, Status: 500, Code: "InternalError"}}, bucket.ErrInDoubt, "new", 1},
		{"502 of a proxy", []buckettest.Cut{{Done: true, Status: 502, Code: "BadGateway"}}, bucket.ErrInDoubt, "new", 1},
		{"503", []buckettest.Cut{answered(503, "SlowDown")}, bucket.ErrInDoubt, "old", 1},
		{"408", []buckettest.Cut{answered(408, "RequestTimeout")}, bucket.ErrInDoubt, "old", 1},
		{"429", []buckettest.Cut{answered(429, "TooManyRequests")}, bucket.ErrInDoubt, "old", 1},
		{"denied", []buckettest.Cut{answered(403, "AccessDenied")}, errOther, "old", 1},
		{"not implemented", []buckettest.Cut{answered(501, "NotImplemented")}, errOther, "old", 1},
		{"a page of HTML", []buckettest.Cut{answered(200, "<html>")}, bucket.ErrInDoubt, "old", 1},
		{"flipped byte", []buckettest.Cut{flipped}, bucket.ErrUnavailable, "old", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			faulty, wire, sound := wired(t)
			tag, err := sound.PutIfAbsent(t.Context(), "object", []byte("old"))
			if err != nil {
				t.Fatal(err)
			}
			wire.Decide(inTurn(http.MethodPut, c.cuts...))
			_, err = faulty.PutIfMatch(t.Context(), "object", []byte("new"), tag)
			wantKind(t, err, c.want)
			wantBody(t, sound, "object", c.holds)
			if seen := wire.Seen(); len(seen) != c.sent {
				t.Errorf("%d requests, want %d: %q", len(seen), c.sent, seen)
			}
		})
	}
}

// TestCreationLosesToItsOwnDoubt: a caller that asks again after a lost reply meets
// its own object, and says so instead of winning a second time.
func TestCreationLosesToItsOwnDoubt(t *testing.T) {
	faulty, wire, sound := wired(t)
	wire.Decide(inTurn(http.MethodPut, lostReply, fine))
	_, err := faulty.PutIfAbsent(t.Context(), "object", []byte("mine"))
	wantKind(t, err, bucket.ErrInDoubt)
	_, err = faulty.PutIfAbsent(t.Context(), "object", []byte("mine"))
	wantKind(t, err, bucket.ErrConditionFailed)
	wantBody(t, sound, "object", "mine")
}

// TestReadsUnderFaults: what passes is asked again, what does not is said.
func TestReadsUnderFaults(t *testing.T) {
	body := strings.Repeat("0123456789", 10)
	get := func(ctx context.Context, b bucket.Bucket) (string, error) {
		o, err := b.Get(ctx, "object")
		return string(o.Body), err
	}
	part := func(ctx context.Context, b bucket.Bucket) (string, error) {
		p, err := b.GetRange(ctx, "object", 0, 100)
		return string(p), err
	}
	head := func(ctx context.Context, b bucket.Bucket) (string, error) {
		if info, err := b.Head(ctx, "object"); err != nil || info.Size != 100 {
			return "", err
		}
		return body, nil
	}
	list := func(ctx context.Context, b bucket.Bucket) (string, error) {
		for info, err := range b.List(ctx, "", "") {
			if err != nil || info.Key != "object" {
				return "", err
			}
		}
		return body, nil
	}
	short := buckettest.Cut{Short: 50}
	calls := map[string]func(context.Context, bucket.Bucket) (string, error){"get": get, "range": part, "head": head, "list": list}
	all := []string{"get", "range", "head", "list"}
	for _, c := range []struct {
		name string
		only []string
		cuts []buckettest.Cut
		want error
	}{
		{"503, then free", all, []buckettest.Cut{answered(503, "SlowDown"), fine}, nil},
		{"503 for ever", all, []buckettest.Cut{answered(503, "SlowDown")}, bucket.ErrUnavailable},
		{"lost twice", all, []buckettest.Cut{lostRequest, lostReply, fine}, nil},
		{"lost for ever", all, []buckettest.Cut{lostReply}, bucket.ErrUnavailable},
		{"cut once", []string{"get", "range", "list"}, []buckettest.Cut{short, fine}, nil},
		{"cut for ever", []string{"get", "range", "list"}, []buckettest.Cut{short}, bucket.ErrUnavailable},
		{"flipped once", []string{"get"}, []buckettest.Cut{{Answer: flip}, fine}, nil},
		{"flipped for ever", []string{"get"}, []buckettest.Cut{{Answer: flip}}, bucket.ErrUnavailable},
		{"the whole object for a range", []string{"range"}, []buckettest.Cut{{Drop: []string{"Range"}}}, bucket.ErrUnavailable},
		{"no such object", []string{"get", "range", "head"}, []buckettest.Cut{answered(404, "NoSuchKey")}, bucket.ErrNotFound},
		{"no such bucket", all, []buckettest.Cut{answered(404, "NoSuchBucket")}, errOther},
		{"denied", all, []buckettest.Cut{answered(403, "AccessDenied")}, errOther},
	} {
		for _, name := range c.only {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				faulty, wire, sound := wired(t)
				mustPut(t, sound, "object", body)
				turns, mu := map[string]func(*http.Request) buckettest.Cut{}, sync.Mutex{}
				wire.Decide(func(r *http.Request) buckettest.Cut {
					mu.Lock()
					defer mu.Unlock()
					if turns[r.Method] == nil {
						turns[r.Method] = inTurn(r.Method, c.cuts...)
					}
					return turns[r.Method](r)
				})
				got, err := calls[name](t.Context(), faulty)
				wantKind(t, err, c.want)
				if err == nil && got != body {
					t.Errorf("read %q", got)
				}
			})
		}
	}
}

// TestListGoesOnWhereItBroke: a page that fails costs no object and repeats none.
func TestListGoesOnWhereItBroke(t *testing.T) {
	faulty, wire, sound := wired(t)
	var want, got []string
	for i := range 1200 { // A page has a thousand.
		key := fmt.Sprintf("object-%04d", i)
		mustPut(t, sound, key, "x")
		want = append(want, key)
	}
	wire.Decide(inTurn(http.MethodGet, fine, answered(503, "SlowDown"), lostReply, fine))
	for info, err := range faulty.List(t.Context(), "object", "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Key)
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %d objects, want %d", len(got), len(want))
	}
	if n := len(wire.Seen()); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
}

// TestListEndsWithItsContext: half a listing does not look like a whole one.
func TestListEndsWithItsContext(t *testing.T) {
	_, _, sound := wired(t)
	for i := range 3 {
		mustPut(t, sound, fmt.Sprint(i), "x")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range sound.List(ctx, "", "") {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("the listing ended with %v, want context.Canceled", last)
	}
}

// partSize is the least that every store takes; the fake takes less, which is quicker.
const (
	partSize  = 5 << 20
	smallPart = 64 << 10
)

// uploads tells the requests of an upload apart.
func uploads(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "begin"
	case r.Method == http.MethodPut && q.Has("partNumber"):
		return "part " + q.Get("partNumber")
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return "complete"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "abort"
	}
	return "other"
}

// TestUploadUnderFaults: an upload in parts arrives whole or not at all, and leaves
// no parts behind.
func TestUploadUnderFaults(t *testing.T) {
	for _, c := range []struct {
		name, step string
		cuts       []buckettest.Cut
		want       error
		aborted    bool
	}{
		{"begin fails once", "begin", []buckettest.Cut{answered(503, "SlowDown"), fine}, nil, false},
		{"begin is denied", "begin", []buckettest.Cut{answered(403, "AccessDenied")}, errOther, false},
		{"begin fails for ever", "begin", []buckettest.Cut{lostRequest}, bucket.ErrUnavailable, false},
		{"a part fails once", "part 2", []buckettest.Cut{answered(500, "InternalError"), fine}, nil, false},
		{"a part is sent twice", "part 2", []buckettest.Cut{lostReply, fine}, nil, false},
		{"a part is flipped once", "part 2", []buckettest.Cut{flipped, fine}, nil, false},
		{"a part is flipped for ever", "part 2", []buckettest.Cut{flipped}, bucket.ErrUnavailable, true},
		{"a part fails for ever", "part 1", []buckettest.Cut{answered(503, "SlowDown")}, bucket.ErrUnavailable, true},
		{"completing is lost", "complete", []buckettest.Cut{lostRequest, fine}, nil, false},
		{"the reply to completing is lost", "complete", []buckettest.Cut{lostReply}, nil, false},
		{"completing fails for ever", "complete", []buckettest.Cut{answered(500, "InternalError")}, bucket.ErrInDoubt, true},
		{"completing is denied", "complete", []buckettest.Cut{answered(403, "AccessDenied")}, errOther, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			faulty, wire, sound := wired(t)
			faulty.CutInto(smallPart)
			turn, aborted := 0, atomic.Bool{}
			wire.Decide(func(r *http.Request) buckettest.Cut {
				step := uploads(r)
				if step == "abort" {
					aborted.Store(true)
				}
				if step != c.step {
					return fine
				}
				turn++
				return c.cuts[min(turn, len(c.cuts))-1]
			})
			body := bytes.Repeat([]byte("0123456789abcdef"), smallPart/8+1) // Two parts and a little.
			tag, err := faulty.Put(t.Context(), "object", bytes.NewReader(body), int64(len(body)))
			wantKind(t, err, c.want)
			if aborted.Load() != c.aborted {
				t.Errorf("aborted: %v, want %v", aborted.Load(), c.aborted)
			}
			info, headErr := sound.Head(t.Context(), "object")
			if err != nil {
				wantKind(t, headErr, bucket.ErrNotFound)
				return
			}
			part, rangeErr := sound.GetRange(t.Context(), "object", 0, int64(len(body)))
			if headErr != nil || rangeErr != nil || info.ETag != tag || !bytes.Equal(part, body) {
				t.Errorf("Head %+v, %v (want ETag %s); %d bytes, %v", info, headErr, tag, len(part), rangeErr)
			}
		})
	}
}

// TestUploadOfBrokenBodies: what is wrong with a body in parts shows before there is
// an object, and the parts go.
func TestUploadOfBrokenBodies(t *testing.T) {
	cause := errors.New("cable cut")
	body := bytes.Repeat([]byte("x"), 2*smallPart)
	for _, c := range []struct {
		name string
		size int64
		want error
	}{
		{"too short", 2*smallPart + 1, bucket.ErrSize},
		{"too long", 2*smallPart - 1, bucket.ErrSize},
		{"fails", 3 * smallPart, cause},
	} {
		t.Run(c.name, func(t *testing.T) {
			faulty, wire, sound := wired(t)
			faulty.CutInto(smallPart)
			end := io.EOF
			if errors.Is(c.want, cause) {
				end = cause
			}
			_, err := faulty.Put(t.Context(), "object", io.MultiReader(bytes.NewReader(body), iotest.ErrReader(end)), c.size)
			if !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
			if !slices.ContainsFunc(wire.Seen(), func(s string) bool { return strings.HasPrefix(s, "DELETE") }) {
				t.Errorf("the upload was not aborted: %q", wire.Seen())
			}
			_, err = sound.Head(t.Context(), "object")
			wantKind(t, err, bucket.ErrNotFound)
		})
	}
}

// TestNothingIsLostOrWonTwice: writers append their nonces to one object over a bad
// line. What was acknowledged is there once, what was refused is not.
func TestNothingIsLostOrWonTwice(t *testing.T) {
	var wire *buckettest.Wire
	wrap := func(h http.Handler) http.Handler {
		wire = buckettest.NewWire(h)
		return wire
	}
	t.Run("fake", func(t *testing.T) { appendOverABadLine(t, buckettest.NewFakeS3Behind(t, wrap), wire) })
	t.Run("minio", func(t *testing.T) {
		appendOverABadLine(t, buckettest.NewS3Behind(t, &buckettest.MinIO(t).S3, wrap), wire)
	})
}

func appendOverABadLine(t *testing.T, s *buckettest.S3, wire *buckettest.Wire) {
	b := openS3(t, s.Config("p"))
	mustPut(t, b, "list", "")
	faults := []buckettest.Cut{
		lostRequest, fine, lostReply, answered(409, "ConditionalRequestConflict"), fine, answered(503, "SlowDown"),
		{Done: true, Status: 500, Code: "InternalError"},
		flipped, fine, fine, fine,
	}
	n := 0
	wire.Decide(func(r *http.Request) buckettest.Cut {
		if r.Method != http.MethodPut {
			return fine
		}
		n++
		return faults[n%len(faults)]
	})
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		fate = map[string]error{}
	)
	for range 6 {
		wg.Go(func() {
			for range 15 {
				o, err := b.Get(t.Context(), "list")
				if err != nil {
					t.Error(err)
					return
				}
				nonce := rand.Text()
				_, err = b.PutIfMatch(t.Context(), "list", append(o.Body, nonce+"\n"...), o.ETag)
				mu.Lock()
				fate[nonce] = err
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	wire.Decide(func(*http.Request) buckettest.Cut { return fine })
	o, err := b.Get(t.Context(), "list")
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for nonce, err := range fate {
		have := strings.Count(string(o.Body), nonce)
		switch {
		case err == nil:
			count["won"]++
			if have != 1 {
				t.Errorf("%s was acknowledged and is there %d times", nonce, have)
			}
		case errors.Is(err, bucket.ErrInDoubt):
			count["in doubt"]++
			if have > 1 {
				t.Errorf("%s is there %d times", nonce, have)
			}
		default:
			count["refused"]++
			if have != 0 {
				t.Errorf("%s was refused with %v and is there", nonce, err)
			}
		}
	}
	t.Log(count)
	if count["won"] == 0 || count["in doubt"] == 0 || count["refused"] == 0 {
		t.Errorf("not every fate was met: %v", count)
	}
}

// TestAnErrorReadsTheSameAtEveryTry: each connection has a port of its own at this end,
// which made every error another one, and news for every log.
func TestAnErrorReadsTheSameAtEveryTry(t *testing.T) {
	faulty, wire, _ := wired(t)
	wire.Decide(inTurn(http.MethodGet, buckettest.Cut{Reset: true}))
	seen := map[string]bool{}
	for range 3 {
		_, err := faulty.Get(t.Context(), "object")
		wantKind(t, err, bucket.ErrUnavailable)
		seen[err.Error()] = true
	}
	if len(seen) != 1 {
		t.Errorf("%d texts of one and the same error: %v", len(seen), seen)
	}
}

// TestCreatingABucketSaysWhatBecameOfIt: a bucket whose creation was answered to nobody
// was said to have been there already; somebody else's was asked for again and again,
// and a key that may not look got the advice of those who read and write.
func TestCreatingABucketSaysWhatBecameOfIt(t *testing.T) {
	for name, c := range map[string]struct {
		method  string
		fate    buckettest.Cut
		created bool
		said    string
		puts    int // -1: as many as it takes
	}{
		"the reply is lost":                {http.MethodPut, buckettest.Cut{Done: true, Lost: true}, true, "", -1},
		"somebody else's, which is told":   {http.MethodPut, buckettest.Cut{Status: 409, Code: "BucketAlreadyExists"}, false, "belongs to somebody else", 1},
		"somebody else's, which is hidden": {http.MethodHead, buckettest.Cut{Status: 403, Code: "AccessDenied"}, false, "belongs to somebody else", 0},
		"not allowed to":                   {http.MethodPut, buckettest.Cut{Status: 403, Code: "AccessDenied"}, false, "s3:CreateBucket", 1},
	} {
		t.Run(name, func(t *testing.T) {
			var wire *buckettest.Wire
			front := buckettest.NewFakeS3Behind(t, func(h http.Handler) http.Handler {
				wire = buckettest.NewWire(h)
				return wire
			})
			config := front.Config("p")
			config.Bucket = "another"
			b := openS3(t, config)
			puts, fate := 0, inTurn(c.method, c.fate, fine)
			if c.said != "" {
				fate = inTurn(c.method, c.fate)
			}
			wire.Decide(func(r *http.Request) buckettest.Cut {
				if r.Method == http.MethodPut {
					puts++
				}
				return fate(r)
			})
			created, err := b.CreateBucket(t.Context())
			switch {
			case created != c.created, (err == nil) != c.created, c.puts >= 0 && puts != c.puts:
				t.Errorf("created: %v, %v, by %d requests", created, err, puts)
			case err != nil && !strings.Contains(err.Error(), c.said):
				t.Errorf("it said %v", err)
			}
		})
	}
}
