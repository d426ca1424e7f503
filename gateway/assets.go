package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

// harden sets the headers that every answer has, and refuses what no page needs.
func harden(policy func() string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy())
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		asks := r.Method == http.MethodGet || r.Method == http.MethodHead
		if !asks && !(r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, movesPath)) {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// assets serves files, and nothing but files: no listing, no dot files, no type
// that is guessed from the content.
type assets struct{ files fs.FS }

// kinds are the types of files that there are; any other is not served.
func kinds() map[string]string {
	return map[string]string{
		".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
		".css": "text/css; charset=utf-8", ".wasm": "application/wasm", ".json": "application/json", ".ts": "text/plain; charset=utf-8",
		".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon", ".webp": "image/webp", ".woff2": "font/woff2",
		".txt": "text/plain; charset=utf-8", ".webmanifest": "application/manifest+json",
	}
}

func newAssets(files fs.FS) http.Handler {
	a, types := &assets{files: files}, kinds()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if name == "" || strings.HasSuffix(name, "/") {
			name += "index.html"
		}
		kind := types[path.Ext(name)]
		if a.files == nil || kind == "" || !fs.ValidPath(name) || hidden(name) {
			http.NotFound(w, r)
			return
		}
		a.serve(w, r, name, kind)
	})
}

func hidden(name string) bool {
	return slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool { return strings.HasPrefix(part, ".") })
}

// serve sends a file, or its compressed twin (name.br, name.gz) if there is one
// and the browser takes it. Browsers keep it and ask each time whether it is still
// the same.
func (a *assets) serve(w http.ResponseWriter, r *http.Request, name, kind string) {
	h := w.Header()
	content, err := a.read(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	h.Add("Vary", "Accept-Encoding")
	for _, twin := range []struct{ encoding, suffix string }{{"br", ".br"}, {"gzip", ".gz"}} {
		if !accepts(r.Header.Get("Accept-Encoding"), twin.encoding) {
			continue
		}
		if packed, err := a.read(name + twin.suffix); err == nil {
			content = packed
			h.Set("Content-Encoding", twin.encoding)
			break
		}
	}
	sum := sha256.Sum256(content)
	h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-cache")
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
}

// read returns a file that is one.
func (a *assets) read(name string) ([]byte, error) {
	f, err := a.files.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fs.ErrNotExist
	}
	return io.ReadAll(f)
}

// accepts says whether an Accept-Encoding names an encoding and does not refuse it.
func accepts(header, encoding string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, parameters, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), encoding) {
			weight := strings.TrimRight(strings.ReplaceAll(parameters, " ", ""), "0")
			return weight != "q=" && weight != "q=0." && weight != "q=."
		}
	}
	return false
}
