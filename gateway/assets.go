package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
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

// contained counts a panic of a handler, which net/http would only log, and closes its
// connection, also one that has become a WebSocket.
func (g *Gateway) contained(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				g.stats.panics.Caught(g.log, "a connection", p, "client", r.RemoteAddr, "path", r.URL.Path)
			}
			if nc, ok := r.Context().Value(connKey{}).(net.Conn); ok {
				_ = nc.Close()
			}
			panic(http.ErrAbortHandler) // net/http has nothing more to say about that
		}()
		next.ServeHTTP(w, r)
	})
}

// assets serves files, and nothing but files: no listing, no dot files, no type
// that is guessed from the content.
type assets struct {
	files fs.FS
	tags  sync.Map // of edition to string: the ETags of files that were served before
}

// edition tells a file from what it was before. Files without times do not change.
type edition struct {
	path string
	size int64
	time time.Time
}

// kinds are the types of files that there are; any other is not served.
func kinds() map[string]string {
	return map[string]string{
		".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
		".css": "text/css; charset=utf-8", ".wasm": "application/wasm", ".json": "application/json", ".ts": "text/plain; charset=utf-8",
		".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon", ".webp": "image/webp", ".woff2": "font/woff2",
		".txt": "text/plain; charset=utf-8", ".webmanifest": "application/manifest+json",
	}
}

// fileTime is how long a browser may take over a file: a megabyte at 30 kbit a second.
const fileTime = 5 * time.Minute

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
	f, path, encoding, err := a.choose(name, r.Header.Get("Accept-Encoding"))
	if err != nil {
		refuse(w, r, err)
		return
	}
	defer func() { _ = f.Close() }()
	tag, err := a.tag(path, f)
	if err != nil {
		refuse(w, r, err)
		return
	}
	h.Add("Vary", "Accept-Encoding")
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
	}
	h.Set("ETag", tag)
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-cache")
	// A link that is too slow for this one file is not too slow for keys and values. A
	// writer without deadlines has none to put off.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(fileTime))
	http.ServeContent(w, r, name, time.Time{}, f)
}

// unavailable is an error of a file that belongs here and cannot be had now, such as
// one that is being built.
type unavailable interface {
	Unavailable() (reason string, soon bool)
}

// refuse says that a file is not there, or why not now.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	var later unavailable
	if !errors.As(err, &later) {
		http.NotFound(w, r)
		return
	}
	reason, soon := later.Unavailable()
	if soon {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, reason, http.StatusServiceUnavailable)
}

// seekable is a file that can be served in parts.
type seekable interface {
	fs.File
	io.Seeker
}

// choose opens the file, or its smallest twin that the browser takes.
func (a *assets) choose(name, accepted string) (f seekable, path, encoding string, err error) {
	for _, twin := range []struct{ encoding, suffix string }{{"br", ".br"}, {"gzip", ".gz"}} {
		if !accepts(accepted, twin.encoding) {
			continue
		}
		path = name + twin.suffix
		f, err = a.open(path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return f, path, twin.encoding, err
		}
	}
	f, err = a.open(name)
	return f, name, "", err
}

// open opens a file that is one.
func (a *assets) open(name string) (seekable, error) {
	f, err := a.files.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	s, ok := f.(seekable)
	if err == nil && !ok {
		err = errors.New("a file that cannot be read in parts: " + name)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return s, nil
}

// tag is the file's ETag: it is read through once, and not again until it changes.
func (a *assets) tag(path string, f seekable) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	id := edition{path, info.Size(), info.ModTime()}
	if tag, ok := a.tags.Load(id); ok {
		return tag.(string), nil //nolint:forcetypeassert // nothing else is stored
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	tag := `"` + hex.EncodeToString(sum.Sum(nil)[:16]) + `"`
	a.tags.Store(id, tag)
	return tag, nil
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
