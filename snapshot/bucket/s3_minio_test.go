package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// TestMinIO is what only a real store can show: how it says that something is
// wrong, what it does with damage and lost answers, and what it knows after its death.
func TestMinIO(t *testing.T) {
	server := buckettest.MinIO(t)
	t.Run("wrong settings", func(t *testing.T) { wrongSettings(t, server) })
	t.Run("upload over a bad line", func(t *testing.T) { uploadOverABadLine(t, server) })
	t.Run("flipped bytes", func(t *testing.T) { flippedBytes(t, server) })
	t.Run("killed", func(t *testing.T) { killed(t, server) })
}

func wrongSettings(t *testing.T, server *buckettest.Server) {
	for want, change := range map[string]func(*bucket.S3Config){
		"QUOIT_S3_SECRET_KEY": func(c *bucket.S3Config) { c.Keys.Secret = "not-" + c.Keys.Secret },
		"QUOIT_S3_ACCESS_KEY": func(c *bucket.S3Config) { c.Keys.Access = "nobody" },
		"create the bucket":   func(c *bucket.S3Config) { c.Bucket = "another" },
	} {
		c := server.Config("p")
		change(&c)
		b := openS3(t, c)
		_, getErr := b.Get(t.Context(), "object")
		_, headErr := b.Head(t.Context(), "object")
		_, putErr := b.PutIfAbsent(t.Context(), "object", []byte("x"))
		_, swapErr := b.PutIfMatch(t.Context(), "object", []byte("x"), "0123456789abcdef0123456789abcdef")
		for _, err := range []error{getErr, headErr, putErr, swapErr, b.Delete(t.Context(), "object")} {
			wantKind(t, err, errOther)
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), server.Keys.Secret) {
				t.Errorf("error is %v, want %q", err, want)
			}
		}
	}
	if created, err := openS3(t, server.Config("")).CreateBucket(t.Context()); err != nil || created {
		t.Errorf("creating a bucket that is one's own already: %v, %v", created, err)
	}
}

// behindWire returns a bucket on the server with a wire before it.
func behindWire(t *testing.T, server *buckettest.Server) (*bucket.S3, *buckettest.Wire) {
	var wire *buckettest.Wire
	s := buckettest.NewS3Behind(t, &server.S3, func(h http.Handler) http.Handler {
		wire = buckettest.NewWire(h)
		return wire
	})
	return openS3(t, s.Config("wired")), wire
}

func uploadOverABadLine(t *testing.T, server *buckettest.Server) {
	b, wire := behindWire(t, server)
	b.CutInto(partSize)
	body := bytes.Repeat([]byte("0123456789abcdef"), partSize/8+1)
	turn := map[string]int{}
	wire.Decide(func(r *http.Request) buckettest.Cut {
		step := uploads(r)
		turn[step]++
		switch {
		case step == "complete" && turn[step] == 1, step == "part 1" && turn[step] == 1:
			return lostReply
		case step == "part 2" && turn[step] == 1:
			return flipped
		}
		return fine
	})
	tag, err := b.Put(t.Context(), "upload", bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	info, err := b.Head(t.Context(), "upload")
	if err != nil || info.ETag != tag || info.Size != int64(len(body)) {
		t.Errorf("Head = %+v, %v; want ETag %s", info, err, tag)
	}
	got, err := b.GetRange(t.Context(), "upload", 0, info.Size)
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("GetRange: %d bytes, %v", len(got), err)
	}
	if turn["part 2"] < 2 || turn["complete"] != 1 {
		t.Errorf("requests: %v", turn)
	}
}

func flippedBytes(t *testing.T, server *buckettest.Server) {
	b, wire := behindWire(t, server)
	wire.Decide(inTurn(http.MethodPut, flipped))
	_, err := b.PutIfAbsent(t.Context(), "flipped", []byte("whole"))
	wantKind(t, err, bucket.ErrUnavailable)
	_, err = b.Get(t.Context(), "flipped")
	wantKind(t, err, bucket.ErrNotFound)
	wire.Decide(func(*http.Request) buckettest.Cut { return fine })
	mustPut(t, b, "flipped", "whole")
	wire.Decide(inTurn(http.MethodGet, buckettest.Cut{Answer: flip}))
	_, err = b.Get(t.Context(), "flipped")
	wantKind(t, err, bucket.ErrUnavailable)
}

// killed: what was acknowledged before the store died is there when it is back.
func killed(t *testing.T, server *buckettest.Server) {
	b := openS3(t, server.Config("killed"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stopping sync.WaitGroup
	acknowledged, doubtful := 0, 0
	for i := 0; doubtful == 0; i++ {
		if i == 50 {
			stopping.Go(server.Stop)
		}
		_, err := b.PutIfAbsent(ctx, fmt.Sprintf("object-%d", i), fmt.Appendf(nil, "body %d", i))
		switch {
		case err == nil:
			acknowledged++
		case errors.Is(err, bucket.ErrInDoubt), errors.Is(err, bucket.ErrUnavailable):
			doubtful++
		default:
			t.Fatal(err)
		}
	}
	stopping.Wait()
	_, err := b.Get(ctx, "object-0")
	wantKind(t, err, bucket.ErrUnavailable)
	server.Start(t)
	for i := range acknowledged {
		wantBody(t, b, fmt.Sprintf("object-%d", i), fmt.Sprintf("body %d", i))
	}
	if acknowledged < 50 {
		t.Errorf("%d objects acknowledged before the end", acknowledged)
	}
}
