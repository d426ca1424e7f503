package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// remedy is what to do where the client cannot be built.
const remedy = "Build it into the binary: `task wasm` and then `task build`, in a clone of the source with Go installed."

// sourceFolder is where the module's source was when this binary was built, if it is
// there still; "" if not. A binary that was built with -trimpath does not know.
func sourceFolder() string {
	_, here, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(here) {
		return ""
	}
	root := filepath.Dir(filepath.Dir(here))
	if _, err := os.Stat(filepath.Join(root, "wasmclient", "main.go")); err != nil {
		return ""
	}
	return root
}

// build makes what `task wasm` makes, but for the .br: to compress that well takes
// longer than to load it. Go's build cache makes it cheap when nothing has changed.
func build(ctx context.Context, source string) (files map[string][]byte, err error) {
	if source == "" {
		return nil, &UnavailableError{Reason: "this binary was built without the client for browsers, and its source is not here. " + remedy}
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		return nil, &UnavailableError{Reason: "this binary was built without the client for browsers, and there is no Go here to build it with. " + remedy}
	}
	defer func() {
		if err != nil {
			err = &UnavailableError{Reason: "the client for browsers cannot be built: " + err.Error() + "\n" + remedy}
		}
	}()
	dir, err := os.MkdirTemp("", "quoit-wasm-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	out := filepath.Join(dir, wasmName)
	if _, err := goTool(ctx, tool, source, "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./wasmclient"); err != nil {
		return nil, err
	}
	home, err := goTool(ctx, tool, source, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	return collect(out, filepath.Join(strings.TrimSpace(home), "lib", "wasm", execName))
}

// goTool runs Go for a browser.
func goTool(ctx context.Context, tool, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", errors.Join(err, errors.New(strings.TrimSpace(stderr.String())))
	}
	return string(out), nil
}

func collect(wasm, exec string) (map[string][]byte, error) {
	plain, err := os.ReadFile(wasm)
	if err != nil {
		return nil, err
	}
	script, err := os.ReadFile(exec)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return map[string][]byte{wasmName: plain, wasmName + ".gz": packed.Bytes(), execName: script}, nil
}
