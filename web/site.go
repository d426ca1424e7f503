package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"embed"
	"errors"
	"io"
	"io/fs"
	"path"
	"sync"
	"time"
)

//go:embed *.js *.ts *.html console todo dist
var content embed.FS

// wasmName is the client; its compressed twins have a suffix more.
const (
	wasmName = "quoit.wasm"
	execName = "wasm_exec.js"
)

// UnavailableError means that a file belongs here and is not there now. Its text says
// what to do.
type UnavailableError struct {
	Reason string
	Soon   bool // it is being made: ask again
}

// Error is the reason.
func (e *UnavailableError) Error() string { return e.Reason }

// Unavailable is for servers: why, and whether to ask again in a while.
func (e *UnavailableError) Unavailable() (reason string, soon bool) { return e.Reason, e.Soon }

// Site is a file system of all that browsers load. Any number of goroutines may use it.
type Site struct {
	builder *builder // nil where everything was built before
	plain   func() ([]byte, error)
}

// New returns the site of this binary. Close it.
func New() *Site {
	s := &Site{plain: sync.OnceValues(unpacked)}
	if _, err := fs.Stat(content, path.Join("dist", wasmName+".gz")); err != nil {
		s.builder = newBuilder()
	}
	return s
}

// FromSource is New for tests: it builds the client whatever the binary has in it, which
// may be older than the source.
func FromSource() *Site { return &Site{builder: newBuilder()} }

// Close ends a build that is under way.
func (s *Site) Close() error {
	if s.builder != nil {
		s.builder.close()
	}
	return nil
}

// Open opens a file by the name that it has in a URL. The error of one that has to be
// built first, and is not, is an *UnavailableError.
func (s *Site) Open(name string) (fs.File, error) {
	switch {
	case !fs.ValidPath(name):
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	case name == wasmName, name == wasmName+".gz", name == wasmName+".br", name == execName:
		return s.openBuilt(name)
	case path.Ext(name) == ".go" || name == "dist" || path.Dir(name) == "dist":
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return content.Open(name)
}

func (s *Site) openBuilt(name string) (fs.File, error) {
	if s.builder != nil {
		data, err := s.builder.file(name)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return newFile(name, data), nil
	}
	if name != wasmName {
		return content.Open(path.Join("dist", name))
	}
	data, err := s.plain()
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return newFile(name, data), nil
}

// unpacked is the client as it is, for who takes no gzip.
func unpacked() ([]byte, error) {
	packed, err := content.ReadFile(path.Join("dist", wasmName+".gz"))
	if err != nil {
		return nil, err
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

// file is one in memory.
type file struct {
	*bytes.Reader
	name string
}

func newFile(name string, data []byte) *file { return &file{bytes.NewReader(data), name} }

func (f *file) Stat() (fs.FileInfo, error) { return f, nil }
func (f *file) Close() error               { return nil }
func (f *file) Name() string               { return f.name }
func (f *file) Mode() fs.FileMode          { return 0o444 }
func (f *file) ModTime() time.Time         { return time.Time{} }
func (f *file) IsDir() bool                { return false }
func (f *file) Sys() any                   { return nil }

// patience is how long a request waits for a build; then it is told to come again.
const patience = 20 * time.Second

// builder builds the client once, when it is first asked for.
type builder struct {
	source string // of the module; "" if it is not there
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	built chan struct{} // closed when the build has ended; nil before it has begun
	files map[string][]byte
	err   error // why there are none; read after built
}

func newBuilder() *builder {
	ctx, cancel := context.WithCancel(context.Background())
	return &builder{source: sourceFolder(), ctx: ctx, cancel: cancel}
}

func (b *builder) close() {
	b.cancel()
	b.mu.Lock()
	built := b.built
	b.mu.Unlock()
	if built != nil {
		<-built
	}
}

// file waits for the build, and begins it if nobody has.
func (b *builder) file(name string) ([]byte, error) {
	b.mu.Lock()
	if b.built == nil {
		b.built = make(chan struct{})
		go b.run()
	}
	built := b.built
	b.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-built:
	case <-timer.C:
		return nil, &UnavailableError{Reason: "the client for browsers is being built, which takes a minute the first time", Soon: true}
	}
	if b.err != nil {
		return nil, b.err
	}
	data, ok := b.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return data, nil
}

func (b *builder) run() {
	defer close(b.built)
	b.files, b.err = build(b.ctx, b.source)
}
