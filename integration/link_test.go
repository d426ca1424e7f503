package integration

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/quoitdb/quoit/snapshot/bucket/buckettest"
)

// link is one member's way to the object store: a TCP proxy that can do to
// connections what a network does, and behind it an HTTP proxy that can do to
// requests what stores and their front doors do.
type link struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
	wire  *buckettest.Wire
	s3    buckettest.S3 // at the near end
}

// newLink makes a way to the store that is sound at first. It ends after the
// processes that use it, if those are made later.
func newLink(t *testing.T, store *buckettest.S3) *link {
	t.Helper()
	l := &link{t: t}
	far := buckettest.NewS3Behind(t, store, func(next http.Handler) http.Handler {
		l.wire = buckettest.NewWire(next)
		return l.wire
	})
	near := freeAddress(t)
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l.proxy = toxiproxy.NewProxy(server, "store", near, strings.TrimPrefix(far.Endpoint, "http://"))
	if err := l.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.proxy.Stop)
	l.s3 = buckettest.S3{Endpoint: "http://" + near, Keys: store.Keys}
	return l
}

// environ is what a server is started with to use this way. What makes no progress
// for two seconds is given up there, so that a test need not wait for half a minute.
func (l *link) environ(prefix string) []string {
	return append(l.s3.Environ(), "QUOIT_BUCKET="+l.s3.Location(prefix)+"&timeout=2s")
}

// storeFault is something that can become of a link.
type storeFault struct {
	name   string
	inject func(l *link)
}

// The directions of a link.
const (
	requests = "upstream"
	answers  = "downstream"
)

// toxic has the TCP proxy do something to one direction.
func (l *link) toxic(kind, stream string, attributes map[string]int64) {
	l.t.Helper()
	text, err := json.Marshal(map[string]any{"type": kind, "stream": stream, "attributes": attributes})
	if err == nil {
		_, err = l.proxy.Toxics.AddToxicJson(strings.NewReader(string(text)))
	}
	if err != nil {
		l.t.Fatalf("toxic %s: %v", kind, err)
	}
}

func toxic(name, kind, stream string, attributes map[string]int64) storeFault {
	return storeFault{name, func(l *link) { l.toxic(kind, stream, attributes) }}
}

func onTheWire(name string, decide func(*http.Request) buckettest.Cut) storeFault {
	return storeFault{name, func(l *link) { l.wire.Decide(decide) }}
}

// nowAndThen is what becomes of a third of the requests.
func nowAndThen(cut buckettest.Cut) func(*http.Request) buckettest.Cut {
	random := rand.New(rand.NewPCG(1, 2))
	return func(*http.Request) buckettest.Cut {
		if random.IntN(3) == 0 {
			return cut
		}
		return buckettest.Cut{}
	}
}

// heal makes the link sound again.
func (l *link) heal() {
	l.t.Helper()
	l.wire.Decide(func(*http.Request) buckettest.Cut { return buckettest.Cut{} })
	l.proxy.Toxics.ResetToxics(context.Background())
	if !l.proxy.Enabled {
		if err := l.proxy.Start(); err != nil {
			l.t.Fatal(err)
		}
	}
}

// refused is a store whose port nobody listens on.
func refused() storeFault { return storeFault{"refused", func(l *link) { l.proxy.Stop() }} }

// blackhole swallows what goes one way, and breaks no connection.
func blackhole(stream string) storeFault {
	return toxic("blackhole of the "+map[string]string{requests: "requests", answers: "answers"}[stream], "timeout", stream, map[string]int64{"timeout": 0})
}

func flip(b []byte) {
	if len(b) > 0 {
		b[len(b)/2] ^= 1
	}
}
