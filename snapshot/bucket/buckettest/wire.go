package buckettest

import (
	"bytes"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
)

// Cut is what becomes of one HTTP request. The zero Cut lets it through.
type Cut struct {
	// Wait holds the request back until it is closed, or the client has gone.
	Wait <-chan struct{}
	// Body changes the body on its way to the store.
	Body func([]byte)
	// Lost breaks the connection, and the store never sees the request.
	Lost bool
	// Reset has the other end told of a broken connection by a reset.
	Reset bool
	// Status and Code, if set, are answered instead of asking the store.
	Status int
	Code   string
	// Done has the store do it first, and then Lost, Status or Wait happen all the same.
	Done bool
	// Answer changes the body of the answer.
	Answer func([]byte)
	// Short, if it is not 0, breaks the connection after so many bytes of the answer's body.
	Short int
	// Drop lists headers of the request that do not arrive.
	Drop []string
}

// Wire is an HTTP handler that does to requests what a network does. Make one with
// [NewWire].
type Wire struct {
	next http.Handler

	mu     sync.Mutex
	decide func(r *http.Request) Cut
	seen   []string
}

// NewWire returns a wire that lets everything through; see Decide.
func NewWire(next http.Handler) *Wire {
	return &Wire{next: next, decide: func(*http.Request) Cut { return Cut{} }}
}

// Decide sets what becomes of each request from now on; one is decided at a time.
func (w *Wire) Decide(fn func(r *http.Request) Cut) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.decide, w.seen = fn, nil
}

// Seen returns method and path of the requests since the last Decide.
func (w *Wire) Seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.seen...)
}

func (w *Wire) plan(r *http.Request) Cut {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, r.Method+" "+r.URL.RequestURI())
	return w.decide(r)
}

// ServeHTTP passes a request on, or does not.
func (w *Wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	cut := w.plan(r)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if cut.Body != nil {
		cut.Body(body)
	}
	for _, name := range cut.Drop {
		r.Header.Del(name)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var done *httptest.ResponseRecorder
	if cut.Done {
		done = w.ask(r)
	}
	if cut.Wait != nil {
		select {
		case <-cut.Wait:
		case <-r.Context().Done():
		}
	}
	switch {
	case cut.Reset:
		reset(rw)
		return
	case cut.Lost:
		panic(http.ErrAbortHandler)
	case cut.Status != 0:
		answer(rw, cut.Status, cut.Code)
		return
	case done == nil:
		done = w.ask(r)
	}
	reply(rw, done, cut)
}

// reset ends the connection without the courtesy of a FIN.
func reset(rw http.ResponseWriter) {
	c, _, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (w *Wire) ask(r *http.Request) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	w.next.ServeHTTP(recorder, r)
	return recorder
}

// reply sends what the store answered, or a part of it.
func reply(rw http.ResponseWriter, done *httptest.ResponseRecorder, cut Cut) {
	body := done.Body.Bytes()
	if cut.Answer != nil {
		cut.Answer(body)
	}
	maps.Copy(rw.Header(), done.Header())
	if len(body) > 0 {
		rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	rw.WriteHeader(done.Code)
	if cut.Short > 0 && cut.Short < len(body) {
		_, _ = rw.Write(body[:cut.Short])
		_ = http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = rw.Write(body)
}

// passOn is a reverse proxy that keeps the Host, which is part of the signature.
func passOn(endpoint string) http.Handler {
	target, err := url.Parse(endpoint)
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			if err == nil {
				r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
			}
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
	}
}
