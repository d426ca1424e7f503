package bucket_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/quoitdb/quoit/snapshot/bucket"
	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

func TestS3OnFake(t *testing.T) {
	buckettest.Test(t, buckettest.NewFakeS3(t).Fresh)
}

func TestS3OnMinIO(t *testing.T) {
	buckettest.Test(t, buckettest.MinIO(t).Fresh)
}

// TestProbeRefusesVersityGW: this store takes conditions, looks at them and then
// writes, and in between others do the same.
func TestProbeRefusesVersityGW(t *testing.T) {
	b := buckettest.VersityGW(t).Open(t, "probed")
	defer b.Close()
	// Not every race is lost; a store that wins thirty times over is not this one.
	for range 30 {
		err := bucket.Probe(t.Context(), b)
		if refused := new(bucket.ProbeError); errors.As(err, &refused) {
			t.Log(err)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Error("versitygw passed 30 probes: is its posix backend atomic now?")
}

// TestProbeRefusesWhatDropsHeaders: a store, or something before it, that has never
// heard of conditions.
func TestProbeRefusesWhatDropsHeaders(t *testing.T) {
	for _, header := range []string{"If-Match", "If-None-Match"} {
		var wire *buckettest.Wire
		s := buckettest.NewFakeS3Behind(t, func(h http.Handler) http.Handler {
			wire = buckettest.NewWire(h)
			return wire
		})
		wire.Decide(func(*http.Request) buckettest.Cut { return buckettest.Cut{Drop: []string{header}} })
		b := s.Open(t, "probed")
		defer b.Close()
		var refused *bucket.ProbeError
		if err := bucket.Probe(t.Context(), b); !errors.As(err, &refused) {
			t.Errorf("without %s: Probe: %v, want a refusal", header, err)
		} else {
			t.Log(err)
		}
	}
}
