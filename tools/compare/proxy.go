package main

import (
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
)

// tallies count requests by kind.
type tallies struct {
	mu     sync.Mutex
	counts map[kind]int // guarded by mu
}

func (t *tallies) add(k kind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[kind]int{}
	}
	t.counts[k]++
}

// take returns what was counted since the last call.
func (t *tallies) take() map[kind]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := maps.Clone(t.counts)
	clear(t.counts)
	return taken
}

// proxy counts the requests to an S3 store that come through it.
type proxy struct {
	*http.Server
	address string
}

func startProxy(target, from string, counts *tallies) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	behind := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			r.Out.Host = r.In.Host // it is part of the signature
		},
	}
	p := &proxy{address: l.Addr().String()}
	p.Server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		counts.add(kindOf(from, r))
		behind.ServeHTTP(w, r)
	})}
	go func() { _ = p.Serve(l) }() // it ends with Close
	return p, nil
}

// kindOf says what a request is about: the key's place in the bucket, and what is
// done there.
func kindOf(from string, r *http.Request) kind {
	k := kind{from: from, what: "other", method: r.Method}
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodGet && (query.Has("list-type") || query.Has("prefix")):
		k.method = "LIST"
	case r.Method == http.MethodPut && (r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != ""):
		k.method = "PUT on a condition"
	case r.Method == http.MethodGet && r.Header.Get("Range") != "":
		k.method = "GET of a range"
	case query.Has("uploads") || query.Has("uploadId"):
		k.method += " of several parts"
	}
	for _, place := range []struct{ in, what string }{
		{"/cluster/document.json", "cluster document"},
		{"/head.json", "head of a node's snapshots"},
		{"/manifests/", "manifests"},
		{"/parts/", "parts"},
		{"/log/", "log"},
		{"probe", "probe of the store"},
	} {
		if strings.Contains(r.URL.Path, place.in) {
			k.what = place.what
			break
		}
	}
	return k
}
